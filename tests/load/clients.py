"""How soon a client that an operator makes in SQL, while everything runs, is usable over HTTP and known in the log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from uuid import uuid4

import msgspec
import psycopg
from testkit.stack import Stack

from .http import Connection

CLIENTS = 50


async def measure(stack: Stack) -> str:
    """Median and most from the commit of `onboard_client()` on, in words.

    Usable: its owner has signed in, reported an issue and read it.
    """
    usable, told = [], []
    async with await psycopg.AsyncConnection.connect(stack.database.owner_url, autocommit=True) as owner:
        for _ in range(CLIENTS):
            slug = f"c-{uuid4().hex[:12]}"
            await owner.execute("SELECT identity.onboard_client('Load', %s, %s)", (slug, f"o@{slug}.example"))
            begun = time.perf_counter()
            await _use(stack.services["gateway"].port, slug)
            usable.append(time.perf_counter() - begun)
            while await _is_untold(owner, slug):
                continue
            told.append(time.perf_counter() - begun)
    return f"usable after {_shown(usable)}, in the log by {_shown(told)}; {CLIENTS}, one after the other"


async def _use(port: int, slug: str) -> None:
    async with Connection("127.0.0.1", port, {}) as door:
        subject = msgspec.json.encode({"subject_token": f"o@{slug}.example"})
        pair = msgspec.json.decode(await door.expect("POST", "/v1/auth/exchange", subject))
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        body = msgspec.json.encode({"title": slug})
        made = msgspec.json.decode(await door.expect("POST", "/v1/issues", body, status=201, headers=headers))
        await door.expect("GET", f"/v1/issues/{made['id']}", headers=headers)


async def _is_untold(owner: psycopg.AsyncConnection, slug: str) -> bool:
    cursor = await owner.execute(
        "SELECT FROM identity.outbox JOIN identity.workspaces AS w USING (workspace_id) WHERE w.slug = %s",
        (slug,),
    )
    return await cursor.fetchone() is not None


def _shown(seconds: Sequence[float]) -> str:
    return f"{median(seconds) * 1000:.0f} ms (at most {max(seconds) * 1000:.0f})"
