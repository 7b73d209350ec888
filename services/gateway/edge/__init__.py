"""What holds for every request whatever it asks: whose it is, how many there may be, and what to do with a repeat."""
