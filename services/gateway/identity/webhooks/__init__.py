"""Outbound webhooks: where to, what was sent, and how it is signed."""
