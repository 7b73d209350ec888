"""The audit log: reading it, and proving that nobody changed it."""
