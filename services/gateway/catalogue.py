"""The types of sources, as ingest describes them; asked for once and kept for a while, for they change with a release."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from contracts import connector
from nats.aio.client import Client
from runtime.broker import CommandContext, ask

KEPT_SECONDS: Final = 300.0


class Catalogue:
    """What ingest's manifests say, by type. clock: seconds that only grow."""

    def __init__(self, nc: Client, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._nc = nc
        self._clock = clock
        self._types: Mapping[str, connector.SourceType] = {}
        self._good_until = float("-inf")

    async def types(self, context: CommandContext) -> Mapping[str, connector.SourceType]:
        """All types by their slugs, in this order. Raises UnavailableError while ingest does not answer."""
        if self._clock() >= self._good_until:
            described = await ask(
                self._nc,
                connector.DescribeSources(),
                endpoint=connector.ENDPOINTS[connector.DescribeSources],
                reply=connector.SourcesDescribed,
                context=context,
            )
            self._types = {each.type: each for each in sorted(described.types, key=lambda each: each.type)}
            self._good_until = self._clock() + KEPT_SECONDS
        return self._types
