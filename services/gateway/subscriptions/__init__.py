"""What clients are told without asking: the WebSocket."""
