"""Online grouping: pure and deterministic, without I/O and without a clock."""
