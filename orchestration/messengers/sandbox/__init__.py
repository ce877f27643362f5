"""An invented mail server, text message provider and chat room, with faults on command."""
