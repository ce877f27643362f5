"""Roll-out: who let what into the practice, and the one filter of everything that is shown."""
