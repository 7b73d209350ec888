"""The REST, WebSocket and identity edge."""
