"""Clients, their plans, and what the log must know of them."""
