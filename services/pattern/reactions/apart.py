"""Computations in a process of their own, so that the leader goes on grouping."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

_ROOT = Path(__file__).parents[3]


async def run_apart(module: str, given: bytes, *, seconds: float) -> bytes:
    """What `python -m` of a module writes when it is given this. Raises RuntimeError, OSError and TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        # One thread: sums then have one order, and the same material gives the same bytes.
        *("env", "OPENBLAS_NUM_THREADS=1", sys.executable, "-m", module),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=_ROOT,
    )
    try:
        async with asyncio.timeout(seconds):
            output, problems = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(problems.decode(errors="replace")[-500:])
    return output
