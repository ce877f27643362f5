"""An invented clearinghouse and payer on the loopback interface, faults included."""
