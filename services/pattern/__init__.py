"""The pattern service: groups issues that share a root cause."""

import os

# Read when numpy is loaded. Our products take microseconds; a second thread spins between them, for twice the CPU.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
