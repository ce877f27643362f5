"""An invented laboratory to develop against: API, SFTP drop, webhook calls, and a page to look at.

It takes packages, works them off on its own clock, tells what it did by signed calls, writes
invoices, and breaks on command. No laboratory's system works exactly like it.
"""
