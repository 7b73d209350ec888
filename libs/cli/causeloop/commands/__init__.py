"""One module per command: its arguments, its help, and what it prints."""
