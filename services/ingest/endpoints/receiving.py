"""Calls of vendors: believed or not, greeted, and put into the queue before they are answered with 202."""

import asyncio
from base64 import b64decode
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
import structlog
from contracts import connector
from eventlog import LogUnavailableError
from prometheus_client import Counter
from runtime import metrics
from runtime.broker import CommandContext, Endpoint
from runtime.errors import ValidationFailedError
from runtime.outbound import Outbound, OutboundError
from runtime.sealing import SealError

from services.ingest.connectors.handshakes import Greeting, greet
from services.ingest.connectors.payloads import TooManyValuesError, UnreadableError, payload_of
from services.ingest.connectors.verification import (
    Believed,
    Call,
    CertificateNeeded,
    Judgement,
    Refusal,
    Refused,
    judge_any,
)
from services.ingest.endpoints.webhook_secrets import WebhookSecrets
from services.ingest.jobs.directory import Addressee, Directory
from services.ingest.jobs.outbox import Delivery, Outbox, delivery_of
from services.ingest.vault import Vault

DELIVERIES = Counter(
    "causeloop_ingest_deliveries",
    "Calls of vendors, by what they were answered.",
    ["outcome"],
    registry=metrics.REGISTRY,
)

FETCHED_MAX: Final = 64
FETCHED_SECONDS: Final = 3600.0
FETCH_WAIT_SECONDS: Final = 0.5
"""How long calls wait within FETCH_WAITS_EVERY, altogether, for what has to be fetched: those that travel with them wait
as long. Beyond that they are to be sent again, and it is fetched meanwhile."""
FETCH_WAITS_EVERY: Final = 120.0
GREETINGS_AT_ONCE: Final = 4
"""A connection to the database each; calls come 64 at once."""
GREETING_SECONDS: Final = 2.0
"""How long a vendor's first secret may take to be kept; no vendor is waited for meanwhile, only what is ours. Beyond that
it is ended without its call, and cut only behind GREETING_ENDS_SECONDS, when a connection must be gone."""
GREETING_ENDS_SECONDS: Final = 30.0
STOP_SECONDS: Final = 1.0
"""How long what was begun may take to end when the process does."""
FETCHES_MAX: Final = 5
"""What is fetched for one connector within FETCHES_SECONDS, so that nobody has us fetch at their pace."""
FETCHES_SECONDS: Final = 60.0

_DECOY: Final = "nobody-has-this-secret-and-nothing-is-signed-with-it"
_JSON: Final = "application/json"

log = structlog.get_logger()

Waiting = tuple[str, Delivery]


class Reception:
    """Answers vendors' calls.

    Whoever is not believed learns no more than that: a wrong signature, none at all, and a connector without a secret
    are answered alike; so are all addresses that are nobody's.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        directory: Directory,
        secrets: WebhookSecrets,
        outbox: Outbox,
        outbound: Outbound,
        clock: Callable[[], datetime],
    ) -> None:
        self._vault = vault
        self._directory = directory
        self._secrets = secrets
        self._outbox = outbox
        self._certificates = Fetches(outbound, clock=clock)
        self._confirmations = Fetches(outbound, clock=clock)
        self._greeting = asyncio.Semaphore(GREETINGS_AT_ONCE)
        self._begun: set[asyncio.Task[bool]] = set()
        self._clock = clock

    def endpoints(self) -> tuple[Endpoint, ...]:
        """What vendors' calls need."""
        name = connector.ENDPOINTS[connector.ReceiveDelivery]
        return (Endpoint(name, connector.ReceiveDelivery, self.receive_delivery),)

    async def stop(self) -> None:
        """Let what calls have begun end, for a moment."""
        if self._begun:
            await asyncio.wait(self._begun, timeout=STOP_SECONDS)

    async def receive_delivery(
        self, cmd: connector.ReceiveDelivery, context: CommandContext
    ) -> connector.DeliveryAnswered:
        """Answer each call. Raises ValidationFailedError where they cannot be opened."""
        try:
            opened = self._vault.received(
                cmd.sealed_calls, workspace_id=context.workspace_id, what="vendor_calls"
            )
            calls = msgspec.json.decode(opened, type=connector.VendorCalls).calls
        except (SealError, msgspec.DecodeError) as error:
            raise ValidationFailedError("the calls cannot be opened") from error
        directory = await self._directory.find([call.connector_id for call in calls])
        outcomes = await asyncio.gather(*(self._answered(call, directory, context) for call in calls))
        waiting = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
        is_kept = iter(await self._kept(waiting))
        answers = tuple(
            outcome if isinstance(outcome, connector.VendorAnswer) else _taken(is_kept=next(is_kept))
            for outcome in outcomes
        )
        for answer in answers:
            DELIVERIES.labels(str(answer.status)).inc()
        return connector.DeliveryAnswered(answers=answers)

    async def _kept(self, waiting: Sequence[Waiting]) -> list[bool]:
        if not waiting:
            return []
        try:
            return await self._outbox.put(waiting)
        except LogUnavailableError as error:
            log.warning("deliveries.not_kept", n=len(waiting), error=str(error))
            return [False] * len(waiting)

    async def _answered(
        self,
        said: connector.VendorCall,
        directory: Mapping[str, Addressee | None],
        context: CommandContext,
    ) -> connector.VendorAnswer | Waiting:
        if said.connector_id not in directory:
            return _unread()
        try:
            return await self._judged(said, directory[said.connector_id], context)
        except Exception as error:  # noqa: BLE001  # edge: calls of others came with this one
            log.warning("delivery.not_judged", connector_id=said.connector_id, error=type(error).__name__)
            return _unread()

    async def _judged(
        self, said: connector.VendorCall, known: Addressee | None, context: CommandContext
    ) -> connector.VendorAnswer | Waiting:
        call = Call(
            body=b64decode(said.body),
            headers=said.headers,
            method=said.method,
            url=said.url,
            query=said.query,
        )
        now = self._clock()
        if known is None:
            # As much work as for one that exists, so that the time tells nothing either.
            judge_any((), call, secrets=[_DECOY], now=now)
            return _refusal(404, "there is nothing at this address")
        payload = _payload(call) if known.webhook.handshake else None
        secrets = known.secrets(now)
        greeting = greet(
            known.webhook,
            call,
            payload,
            is_proved=False,
            has_secret=bool(secrets) and now >= known.first_until,
        )
        if greeting is not None:
            return await self._greeted(greeting, known, context)
        judgement = await self._judgement(known, call, secrets, now)
        if isinstance(judgement, CertificateNeeded):
            return _refusal(503, "the certificate of this call is not at hand yet; send it again")
        if not isinstance(judgement, Believed):
            return _refusal(401, "the signature or the token is missing or wrong")
        payload = _payload(call) if payload is None else payload
        greeting = greet(known.webhook, call, payload, is_proved=True, has_secret=True)
        if greeting is not None:
            return await self._greeted(greeting, known, context)
        if known.is_paused:
            return _refusal(409, "this connector is paused and takes nothing; resume it first")
        if payload is None and not _is_too_much(call):
            return _refusal(400, "the body is neither JSON nor a form")
        # Vendors send nothing again that was refused so; what is too much becomes a dead letter.
        return known.workspace_id, delivery_of(known, known.webhook, call, payload, now=now)

    async def _judgement(
        self, known: Addressee, call: Call, secrets: Sequence[str], now: datetime
    ) -> Judgement:
        """CertificateNeeded where it cannot be had in time."""
        if call.method != "POST":
            return Refused(Refusal.MALFORMED)
        verify = known.webhook.verify
        judgement = judge_any(verify, call, secrets=secrets, now=now, certificates=self._certificates.kept)
        if isinstance(judgement, CertificateNeeded):
            found = await self._certificates.fetch(judgement.url, known.source.connector_id)
            judgement = judge_any(verify, call, secrets=secrets, now=now, certificates=found)
        return judgement

    async def _greeted(
        self, greeting: Greeting, known: Addressee, context: CommandContext
    ) -> connector.VendorAnswer:
        if greeting.secret and not await self._took_first(greeting, known, context):
            return _refusal(401, "the signature or the token is missing or wrong")
        if greeting.confirm_at:
            confirmed = await self._confirmations.fetch(greeting.confirm_at, known.source.connector_id)
            if greeting.confirm_at not in confirmed:
                return _refusal(503, "the subscription is not confirmed yet; send it again")
        return connector.VendorAnswer(
            status=200,
            content_type=greeting.content_type,
            body=greeting.body,
            headers=dict(greeting.headers),
        )

    async def _took_first(self, greeting: Greeting, known: Addressee, context: CommandContext) -> bool:
        """Whether a secret that a vendor brought is the connector's now.

        Raises TimeoutError where that takes too long. It is not cut in half then: the log would tell of a secret that the
        vault does not have.
        """
        async with asyncio.timeout(GREETING_SECONDS):
            await self._greeting.acquire()
            taking = self._begin(self._take_first(greeting, known, context))
            taking.add_done_callback(lambda _: self._greeting.release())
            try:
                return await asyncio.shield(taking)
            except asyncio.CancelledError:
                self._begin(self._end_unanswered(taking, greeting, known))
                raise

    async def _take_first(self, greeting: Greeting, known: Addressee, context: CommandContext) -> bool:
        async with asyncio.timeout(GREETING_ENDS_SECONDS):
            return await self._secrets.take_first(
                known.workspace_id,
                known.source.connector_id,
                greeting.secret,
                is_read=greeting.is_read,
                context=context,
            )

    async def _end_unanswered(self, taking: asyncio.Task[bool], greeting: Greeting, known: Addressee) -> bool:
        """A vendor that was not answered brings another secret the next time; whether it may in place of this one."""
        workspace_id, connector_id = known.workspace_id, known.source.connector_id
        try:
            async with asyncio.timeout(GREETING_ENDS_SECONDS):
                return await taking and await self._secrets.let_begin_again(
                    workspace_id, connector_id, greeting.secret
                )
        except Exception as error:  # noqa: BLE001  # edge: nobody waits for it
            log.warning("greeting.not_ended", connector_id=connector_id, error=type(error).__name__)
            return False

    def _begin(self, work: Coroutine[None, None, bool]) -> asyncio.Task[bool]:
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return task


class Fetches:
    """What stands at vendors' addresses that came with a call, such as a certificate; kept for an hour.

    The addresses are of whoever calls, so each is fetched once at a time, and not many for one connector.
    """

    def __init__(self, outbound: Outbound, *, clock: Callable[[], datetime]) -> None:
        self._outbound = outbound
        self._clock = clock
        self._fetched: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._n_fetches: Tally[str] = Tally()
        self._counted_since = 0.0
        self._waited = 0.0
        self._waited_since = 0.0

    @property
    def kept(self) -> Mapping[str, bytes]:
        """Those that are at hand."""
        good_since = self._clock().timestamp() - FETCHED_SECONDS
        return {url: content for url, (at, content) in self._fetched.items() if at > good_since}

    async def fetch(self, url: str, connector_id: str) -> Mapping[str, bytes]:
        """Those at hand and this one; without it where it cannot be had, or not at once: it is fetched on."""
        if url in (kept := self.kept):
            return kept
        fetching = self._fetching.get(url)
        if fetching is None:
            now = self._clock().timestamp()
            if now - self._counted_since >= FETCHES_SECONDS:
                self._n_fetches.clear()
                self._counted_since = now
            if self._n_fetches[connector_id] >= FETCHES_MAX:
                return self.kept
            self._n_fetches[connector_id] += 1
            fetching = self._fetching[url] = asyncio.create_task(self._fetch(url))
            fetching.add_done_callback(lambda _: self._fetching.pop(url, None))
        await self._wait(fetching)
        return self.kept

    async def _wait(self, fetching: asyncio.Task[None]) -> None:
        """For as long as calls may still wait."""
        now, loop = self._clock().timestamp(), asyncio.get_running_loop()
        if now - self._waited_since >= FETCH_WAITS_EVERY:
            self._waited, self._waited_since = 0.0, now
        began = loop.time()
        if (left := FETCH_WAIT_SECONDS - self._waited) > 0:
            await asyncio.wait({fetching}, timeout=left)
            self._waited += loop.time() - began

    async def _fetch(self, url: str) -> None:
        try:
            content = await self._outbound.get(url)
        except OutboundError as error:
            log.warning("call.not_fetched", error=str(error))
            return
        self._fetched[url] = (self._clock().timestamp(), content)
        self._fetched.move_to_end(url)
        if len(self._fetched) > FETCHED_MAX:
            self._fetched.popitem(last=False)


def _payload(call: Call) -> object:
    """The decoded body; None where it cannot be read, for null holds nothing either."""
    try:
        return payload_of(call.body, call.header("content-type") or "")
    except UnreadableError:
        return None


def _is_too_much(call: Call) -> bool:
    """Whether a body has more values than are read."""
    try:
        payload_of(call.body, call.header("content-type") or "")
    except TooManyValuesError:
        return True
    except UnreadableError:
        pass
    return False


def _taken(*, is_kept: bool) -> connector.VendorAnswer:
    if not is_kept:
        return _refusal(503, "the delivery could not be kept; send it again")
    return connector.VendorAnswer(status=202, content_type=_JSON, body='{"status":"accepted"}', headers={})


def _unread() -> connector.VendorAnswer:
    return _refusal(503, "the delivery could not be read; send it again")


def _refusal(status: int, message: str) -> connector.VendorAnswer:
    return connector.VendorAnswer(status=status, content_type="", body=message, headers={})
