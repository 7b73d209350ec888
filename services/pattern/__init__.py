"""Groups issues that share a root cause."""
