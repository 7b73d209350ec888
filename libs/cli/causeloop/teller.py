"""Tells the story to a running Causeloop through its public API: the past once, then life as it happens."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from contracts import ingest
from msgspec import Struct

from causeloop import story
from causeloop.api import Api
from causeloop.exits import CliError
from causeloop.importing import BATCH_RECORDS, BatchReply
from causeloop.running import write_private

FILE_NAME: Final = "story.json"
LIVE_PAUSE_SECONDS: Final = (10.0, 20.0)
RETRY_SECONDS: Final = 30.0


class Told(Struct, frozen=True, kw_only=True):
    """How far the story is; kept in the data folder."""

    began_at: datetime
    is_past_told: bool = False


class Teller:
    """Plays the story; the same data folder hears its past once."""

    def __init__(self, api: Api, folder: Path, *, clock: Callable[[], datetime], rng: random.Random) -> None:
        self._api = api
        self._path = folder / FILE_NAME
        self._clock = clock
        self._rng = rng

    def is_past_told(self) -> bool:
        """Whether this data folder has heard the past already."""
        return self._told().is_past_told

    async def tell_past(self) -> int:
        """Report the past, unless it was; gives how many failures were reported.

        Interrupted and repeated it reports the same failures again, which changes nothing.
        """
        told = self._told()
        if told.is_past_told:
            return 0
        write_private(self._path, msgspec.json.encode(told))
        reports = story.past(told.began_at)
        for start in range(0, len(reports), BATCH_RECORDS):
            await self._post(reports[start : start + BATCH_RECORDS])
        write_private(self._path, msgspec.json.encode(Told(began_at=told.began_at, is_past_told=True)))
        return len(reports)

    async def tell_live(self, on_trouble: Callable[[str], None]) -> None:
        """Report one failure every ten to twenty seconds, until cancelled."""
        in_trouble = False
        while True:
            await asyncio.sleep(self._rng.uniform(*LIVE_PAUSE_SECONDS))
            try:
                await self._post([story.live(self._clock(), self._rng)])
            except CliError as error:
                if not in_trouble:
                    on_trouble(f"the demo pauses: {error.message}")
                in_trouble = True
                await asyncio.sleep(RETRY_SECONDS)
            else:
                in_trouble = False

    def _told(self) -> Told:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Told)
        except (FileNotFoundError, msgspec.DecodeError):
            return Told(began_at=self._clock())

    async def _post(self, reports: list[ingest.IssueReport]) -> None:
        await self._api.post("/v1/ingest/batch", msgspec.json.encode({"records": reports}), BatchReply)


def utc_now() -> datetime:
    """The current time."""
    return datetime.now(UTC)
