"""Deliveries of vendors that have been believed, put into the queue of jobs: no more of one workspace than its share."""

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
import nats.errors
import structlog
from eventlog.inbox import Ack, Inbox, Message
from msgspec import Struct
from nats.aio.client import Client
from nats.js.errors import APIError

from services.ingest.connectors.manifest import Hmac, StandardWebhooks, Webhook
from services.ingest.connectors.payloads import event_id_of
from services.ingest.connectors.verification import Call
from services.ingest.jobs.directory import Addressee
from services.ingest.jobs.queue import DELIVERIES, waits_already

KIND: Final = "delivery"

REPEAT_SECONDS: Final = 3600
"""Within so long equal bytes are a repetition, where a vendor gives deliveries no id or signs none; later they are news: a
monitor that goes down again may say so in the same words."""
SHARE_BYTES: Final = 64 * 1024 * 1024
"""What one workspace may have waiting, an eighth of the queue; looked at whenever a process has put a quarter of it."""
UNIT_BYTES: Final = 4096
"""What waits is counted in these; a smaller delivery is one."""
LOOK_SECONDS: Final = 1.0
LOOK_FULL_SECONDS: Final = 5.0
"""Between two looks at what waits of a workspace; the longer behind one that found its share used up, which costs most."""
LOOK_WAIT_SECONDS: Final = 1.0
"""How long a look is waited for, since others' calls travel with the one that needs it; without an answer there is none for
LOOK_SECONDS, of anybody."""
_KNOWN_MAX: Final = 4096

_PLAIN: Final = re.compile(r"[\w.:-]{1,100}", re.ASCII)

log = structlog.get_logger()


class Delivery(Struct, frozen=True, kw_only=True):
    """A delivery as it waits in the queue, in MessagePack; only such headers as its manifest reads, for others may be
    secrets.

    keys: what it is known by; if any of them was taken before, it is a repetition.
    """

    connector_id: str
    keys: tuple[str, ...]
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime


def delivery_of(
    known: Addressee, webhook: Webhook, call: Call, payload: object, *, now: datetime
) -> Delivery:
    """A call that was believed, as a job.

    An id in a header that nobody signed can be another's: such a delivery is also known by its bytes, for as long as one
    without an id.
    """
    names = {
        place.header.lower()
        for place in (webhook.event_id, webhook.event_type)
        if place is not None and place.header is not None
    }
    headers = {name: value for name in (*names, "content-type") if (value := call.header(name)) is not None}
    event_id = event_id_of(webhook, payload, headers)
    content = f"body-{hashlib.sha256(call.body).hexdigest()}-{int(now.timestamp()) // REPEAT_SECONDS}"
    if not event_id:
        keys: tuple[str, ...] = (content,)
    elif webhook.event_id is not None and webhook.event_id.header is not None and not _is_signed(webhook):
        keys = (_name(event_id), content)
    else:
        keys = (_name(event_id),)
    return Delivery(
        connector_id=known.source.connector_id, keys=keys, headers=headers, body=call.body, received_at=now
    )


def _is_signed(webhook: Webhook) -> bool:
    """Whether the header with the id is part of what is signed."""
    header = webhook.event_id.header if webhook.event_id is not None else None
    return header is not None and all(
        isinstance(scheme, StandardWebhooks)
        or (isinstance(scheme, Hmac) and f"{{h:{header}}}".lower() in scheme.signed.lower())
        for scheme in webhook.verify
    )


def _name(event_id: str) -> str:
    is_plain = _PLAIN.fullmatch(event_id) is not None
    return f"id-{event_id if is_plain else hashlib.sha256(event_id.encode(errors='replace')).hexdigest()}"


class Outbox:
    """Puts deliveries into the queue, many with one wait."""

    def __init__(self, nc: Client) -> None:
        self._inbox = Inbox(nc)
        self._shares = Shares(nc)

    async def start(self) -> None:
        """Listen for acknowledgements. Once, before anything else."""
        await self._inbox.start()

    async def put(self, deliveries: Sequence[tuple[str, Delivery]]) -> list[bool]:
        """Whether each (workspace, delivery) is in the queue now, durable; one that waits there already is.

        One is not where its workspace has its share waiting. Raises LogUnavailableError when it is unknown of some.
        """
        messages: list[Message] = []
        has_room: list[bool] = []
        for workspace_id, delivery in deliveries:
            payload = msgspec.msgpack.encode(delivery)
            n_units = -(-len(payload) // UNIT_BYTES)
            has_room.append(await self._shares.take(workspace_id, n_units))
            if has_room[-1]:
                messages.append(Message(_subject(workspace_id, delivery, n_units), payload))
        acks = await self._inbox.publish(messages) if messages else []
        refusals = [ack.error.description for ack in acks if ack.error is not None and not _is_kept(ack)]
        if refusals:
            log.warning("deliveries.not_kept", n=len(refusals), error=refusals[0])
        answers = iter(acks)
        return [is_put and _is_kept(next(answers)) for is_put in has_room]


def _is_kept(ack: Ack) -> bool:
    return ack.error is None or waits_already(ack.error.err_code, ack.error.description)


def _subject(workspace_id: str, delivery: Delivery, n_units: int) -> str:
    """One per delivery, so that a repetition is not put beside it; it says how much it is."""
    job_id = hashlib.sha256(f"{delivery.connector_id}/{delivery.keys[0]}".encode()).hexdigest()[:40]
    return f"job.{KIND}.{workspace_id}.{job_id}-{n_units}"


class _Share(Struct):
    """Units of a workspace: what waited at the last look, and what was put since. look_at: not before, in monotonic time."""

    waiting: int = 0
    put: int = 0
    look_at: float = float("-inf")


class Shares:
    """Keeps one workspace's deliveries from filling the queue of all.

    nc: of the queue. units: of UNIT_BYTES, that one workspace may have waiting; each process may be a quarter over it, and by
    what it is putting while it looks. While nobody says what waits, each keeps to a share of its own.
    """

    def __init__(
        self,
        nc: Client,
        *,
        units: int = SHARE_BYTES // UNIT_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._js = nc.jetstream(timeout=LOOK_WAIT_SECONDS)
        self._units = units
        self._monotonic = monotonic
        self._silent_until = float("-inf")
        self._known: OrderedDict[str, _Share] = OrderedDict()

    async def take(self, workspace_id: str, n_units: int) -> bool:
        """Whether a workspace may put so much more; counted as put then."""
        share = self._known.setdefault(workspace_id, _Share())
        self._known.move_to_end(workspace_id)
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        is_far = share.put + n_units > self._units // 4 or self._is_full(share, n_units)
        if is_far and self._monotonic() >= max(share.look_at, self._silent_until):
            await self._look(workspace_id, share, n_units)
        if self._is_full(share, n_units):
            log.warning("deliveries.share_used_up", workspace_id=workspace_id)
            return False
        share.put += n_units
        return True

    def _is_full(self, share: _Share, n_units: int) -> bool:
        return share.waiting + share.put + n_units > self._units

    async def _look(self, workspace_id: str, share: _Share, n_units: int) -> None:
        """Count what waits anew; where nobody answers, what was known counts on. Others do not wait for it."""
        put, pause = share.put, LOOK_SECONDS
        share.look_at = float("inf")
        try:
            found = await self._js.stream_info(DELIVERIES, subjects_filter=f"job.{KIND}.{workspace_id}.>")
            share.waiting = sum(int(subject.rpartition("-")[2]) for subject in found.state.subjects or ())
            # What was put meanwhile may not be among it.
            share.put -= put
            if share.waiting + n_units > self._units:
                pause = LOOK_FULL_SECONDS
        except (nats.errors.Error, APIError, TimeoutError) as error:
            log.warning("deliveries.not_counted", workspace_id=workspace_id, error=repr(error))
            self._silent_until = self._monotonic() + LOOK_SECONDS
        finally:
            share.look_at = self._monotonic() + pause
