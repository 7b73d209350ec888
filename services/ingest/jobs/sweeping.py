"""Deletes in the background what has reached its age, and what is left of workspaces that are erased."""

import asyncio
from typing import Final

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from services.ingest.records import Records

SWEEP_SECONDS: Final = 10.0
"""The certificate of an erasure waits for as long, at most."""

log = structlog.get_logger("ingest.sweeping")


async def sweep(records: Records) -> None:
    """Sweep again and again; several processes may."""
    while True:
        try:
            n_rows = await records.sweep()
            if n_rows:
                log.info("sources.swept", rows=n_rows)
        except (psycopg.Error, PoolTimeout) as error:
            # The next round makes up for it.
            log.warning("sources.sweep_failed", error=repr(error))
        await asyncio.sleep(SWEEP_SECONDS)
