"""What flows on from a signature: hooks, approvals and one file a workflow."""
