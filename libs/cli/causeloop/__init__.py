"""The causeloop command."""
