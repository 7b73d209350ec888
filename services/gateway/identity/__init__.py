"""People, workspaces and their tokens: relational rows, not events."""
