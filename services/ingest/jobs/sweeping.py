"""Deletes in the background what has reached its age, and what is left of workspaces that are erased."""

import asyncio
from typing import Final

import psycopg
import structlog
from eventlog.erasure import erased_workspaces
from psycopg_pool import PoolTimeout
from runtime.database import Pool
from runtime.errors import UnavailableError

from services.ingest.records import Records

SWEEP_SECONDS: Final = 5.0
"""The certificate of an erasure waits for as long, at most."""

log = structlog.get_logger("ingest.sweeping")


async def sweep(records: Records, everywhere: Pool) -> None:
    """Sweep again and again; several processes may.

    everywhere: ingest's read model as the role that writes it, which knows every workspace that is erased.
    """
    while True:
        try:
            n_rows = await records.sweep()
            if n_rows:
                log.info("sources.swept", rows=n_rows)
            async with everywhere.connection() as conn:
                gone = await erased_workspaces(conn)
            # All of them at every sweep: something may have been written after the workspace was gone.
            for workspace_id in await records.erase(gone):
                log.info("sources.erased", workspace_id=workspace_id)
        except (psycopg.Error, PoolTimeout, UnavailableError) as error:
            # The next round makes up for it.
            log.warning("sources.sweep_failed", error=repr(error))
        await asyncio.sleep(SWEEP_SECONDS)
