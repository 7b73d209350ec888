"""Deletes in the background what has reached its age, and what is left of workspaces that are erased."""

import asyncio
import time
from typing import Final

import psycopg
import structlog
from eventlog.erasure import erased_workspaces
from psycopg_pool import PoolTimeout
from runtime.database import Pool
from runtime.errors import UnavailableError

from services.ingest.records import Records
from services.ingest.vendors.paces import SharedPaces

SWEEP_SECONDS: Final = 5.0
"""The certificate of an erasure waits for as long, at most."""
FULL_SECONDS: Final = 300.0
"""How often what has reached its age is deleted, and every workspace that ever was erased is looked at once more."""

log = structlog.get_logger("ingest.sweeping")


async def sweep(records: Records, everywhere: Pool, paces: SharedPaces) -> None:
    """Sweep again and again; several processes may.

    everywhere: ingest's read model as the role that writes it, which knows every workspace that is erased.
    """
    known: frozenset[str] = frozenset()
    full_at = time.monotonic()
    while True:
        try:
            is_full = time.monotonic() >= full_at
            if is_full and (n_rows := await records.sweep() + await paces.forget()):
                log.info("sources.swept", rows=n_rows)
            async with everywhere.connection() as conn:
                gone = await erased_workspaces(conn)
            # Every one at a full sweep: something may have been written after the workspace was gone.
            fresh = gone if is_full else gone - known
            for workspace_id in await records.erase(fresh) if fresh else ():
                log.info("sources.erased", workspace_id=workspace_id)
            if is_full:
                known, full_at = gone, time.monotonic() + FULL_SECONDS
        except (psycopg.Error, PoolTimeout, UnavailableError) as error:
            # The next round makes up for it.
            log.warning("sources.sweep_failed", error=repr(error))
        await asyncio.sleep(SWEEP_SECONDS)
