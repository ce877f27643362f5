"""One file a workflow; each says what starts it, what it writes and who approves."""
