"""What is kept how long, what is taken away, and what is forgotten: retention, exports, erasures."""
