"""Pure computation: which plays fit a pattern, and what each is worth. No I/O, no clock, no globals."""
