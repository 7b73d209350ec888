"""The WebSocket /v1/stream: who may listen, heartbeats, and how it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import WebsocketRouteHandler
from msgspec import Struct
from runtime.errors import ForbiddenError, UnauthorizedError, UnavailableError
from runtime.service import Resources

from services.gateway.edge.address import Addresses
from services.gateway.edge.door import recognised
from services.gateway.edge.limits import Limits
from services.gateway.errors import MfaRequiredError, RateLimitedError
from services.gateway.identity.access.authority import Authority
from services.gateway.identity.scopes import ANYBODY
from services.gateway.identity.tokens import Principal
from services.gateway.subscriptions.frames import SCOPES, Frame, Packed
from services.gateway.subscriptions.hub import Hub, Subscriber
from services.gateway.subscriptions.tickets import Tickets

AnySocket = WebSocket[Any, Any, Any]  # Any: no user, auth or state of Litestar is used

PATH = "/v1/stream"
HEARTBEAT_SECONDS = 5.0
SEND_SECONDS = 10.0
CLOSE_UNAUTHORIZED, CLOSE_MISMATCH, CLOSE_SLOW, CLOSE_GOING_AWAY = 4401, 4003, 1013, 1001
CLOSE_TRY_LATER, CLOSE_TOO_MANY = 1013, 4429


class Gate(Struct, frozen=True, kw_only=True):
    """Who may listen. limits: count handshakes like requests."""

    access: Authority
    tickets: Tickets
    limits: Limits
    addresses: Addresses


def stream_handler(hub: Hub, resources: Resources, gate: Gate) -> WebsocketRouteHandler:
    """The handler of /v1/stream, open to every good token; what it is sent depends on the token's scopes."""

    async def stream(socket: AnySocket) -> None:
        shown, protocol = _credentials(socket)
        # A close code reaches a browser only after the handshake, so it is accepted first.
        await socket.accept(subprotocols=protocol)
        try:
            admission = await _Admission.present(gate, shown, address=gate.addresses.of(socket.scope))
        except RateLimitedError as error:
            await socket.close(CLOSE_TOO_MANY, reason=error.message[:100])
            return
        except (UnauthorizedError, ForbiddenError) as error:
            await socket.close(CLOSE_UNAUTHORIZED, reason=error.message[:100])
            return
        except UnavailableError as error:
            await socket.close(CLOSE_TRY_LATER, reason=error.message[:100])
            return
        principal = admission.principal
        if socket.query_params.get("workspace", principal.workspace_id) != principal.workspace_id:
            await socket.close(CLOSE_MISMATCH, reason="The token is for another workspace.")
            return
        try:
            subscriber = await hub.join(principal.workspace_id)
        except RateLimitedError as error:
            await socket.close(CLOSE_TOO_MANY, reason=error.message[:100])
            return
        try:
            await _Stream(socket, subscriber, admission, resources).run()
        finally:
            hub.leave(subscriber)

    return WebsocketRouteHandler(PATH, name="stream", scope=ANYBODY, frame_scopes=SCOPES)(stream)


class _Shown(Struct, frozen=True):
    """What somebody comes with. is_ticket: a ticket; else a token."""

    text: str
    is_ticket: bool


def _credentials(socket: AnySocket) -> tuple[_Shown, str | None]:
    """What is shown and the subprotocol to answer with: `ticket, <ticket>` or `bearer, <token>` first, then the query."""
    offered = [str(name) for name in socket.scope.get("subprotocols", ())]
    if len(offered) >= 2 and offered[0].lower() in ("ticket", "bearer"):
        return _Shown(offered[1], offered[0].lower() == "ticket"), offered[0]
    ticket = socket.query_params.get("ticket")
    if ticket is not None:
        return _Shown(ticket, is_ticket=True), None
    return _Shown(socket.query_params.get("token", ""), is_ticket=False), None


class _Admission:
    """What let a client in, looked at again as long as it is there."""

    def __init__(
        self, access: Authority, look: Callable[[], Awaitable[Principal]], principal: Principal, revision: int
    ) -> None:
        self._access = access
        self._look = look
        self._revision = revision
        self.principal = principal

    @classmethod
    async def present(cls, gate: Gate, shown: _Shown, *, address: str) -> "_Admission":
        """Count a handshake, like a request, and look at its token or ticket.

        Raises RateLimitedError when it is one too many, UnauthorizedError or ForbiddenError when the token does not let
        anybody in, UnavailableError.
        """
        access, limits = gate.access, gate.limits
        revision = access.revision
        look: Callable[[], Awaitable[Principal]]
        try:
            if shown.is_ticket:
                look = partial(access.claimed, await gate.tickets.take(shown.text))
                principal = await look()
            else:
                look = partial(access.principal, shown.text)
                principal = await recognised(shown.text, address=address, access=access, limits=limits)
        except (UnauthorizedError, ForbiddenError, RateLimitedError):
            await _count(limits, address, None)
            raise
        await _count(limits, address, principal)
        return cls(access, look, _admitted(principal), revision)

    async def renew(self, *, is_due: bool) -> None:
        """Look again when somebody's rights may have changed, or when it is time to. Raises what `present` does."""
        revision = self._access.revision
        if is_due or revision != self._revision:
            try:
                self.principal = _admitted(await self._look())
            except UnavailableError:
                # The rows cannot be read now; the next heartbeat looks again.
                return
            self._revision = revision


async def _count(limits: Limits, address: str, principal: Principal | None) -> None:
    ticket = limits.take(address=address, principal=principal)
    standing = await ticket.standing() if ticket is not None else None
    if standing is not None and standing.is_over:
        raise standing.refusal()


def _admitted(principal: Principal) -> Principal:
    if principal.kind == "platform":
        raise ForbiddenError("A provisioning key is for provisioning, and nothing else is.")
    if principal.owes_second_factor:
        raise MfaRequiredError("Give your second factor first.")
    return principal


class _Stream:
    """One connection while it lasts."""

    def __init__(
        self, socket: AnySocket, subscriber: Subscriber, admission: _Admission, resources: Resources
    ) -> None:
        self._socket = socket
        self._subscriber = subscriber
        self._admission = admission
        self._resources = resources

    async def run(self) -> None:
        """Send until the client leaves, the token ends, the client is too slow or the process stops."""
        listener = asyncio.create_task(self._listen())
        sender = asyncio.create_task(self._send())
        stopping = asyncio.create_task(self._resources.stopping.wait())
        tasks = (listener, sender, stopping)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() and not listener.done() and not sender.done():
                await self._socket.close(CLOSE_GOING_AWAY, reason="The service stops.")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        """Nothing is expected from clients; this ends when they go."""
        try:
            while True:
                await self._socket.receive_data(mode="text")
        except WebSocketDisconnect:
            return

    async def _send(self) -> None:
        try:
            await self._push("connected", self._connected())
            next_heartbeat = _monotonic() + HEARTBEAT_SECONDS
            while True:
                frame = await self._next(min(next_heartbeat, _monotonic() + self._seconds_left()))
                if self._seconds_left() <= 0:
                    await self._socket.close(CLOSE_UNAUTHORIZED, reason="The token has expired.")
                    return
                # Before anything is sent, so that nothing reaches who lost the right to it.
                await self._admission.renew(is_due=_monotonic() >= next_heartbeat)
                if self._subscriber.is_slow:
                    await self._socket.close(
                        CLOSE_SLOW, reason="Too slow; reconnect and read what was missed."
                    )
                    return
                if frame is not None:
                    if frame.scope in self._admission.principal.scopes:
                        await self._deliver(frame.body)
                elif self._subscriber.is_ended:
                    await self._socket.close(CLOSE_GOING_AWAY, reason="The stream broke; connect again.")
                    return
                if _monotonic() >= next_heartbeat:
                    await self._push("heartbeat", {"ok": True})
                    next_heartbeat += HEARTBEAT_SECONDS
        except (UnauthorizedError, ForbiddenError) as error:
            await self._socket.close(CLOSE_UNAUTHORIZED, reason=error.message[:100])
        except TimeoutError:
            await self._give_up()
        except WebSocketDisconnect:
            return

    async def _deliver(self, frame: bytes) -> None:
        """Hand a frame to the connection. Raises TimeoutError when the client does not take it in time."""
        async with asyncio.timeout(SEND_SECONDS):
            await self._socket.send_data(frame.decode(), mode="text")

    async def _give_up(self) -> None:
        """Close on a client that does not keep up, without waiting for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._socket.close(CLOSE_SLOW, reason="Too slow; reconnect and read what was missed.")

    def _connected(self) -> dict[str, object]:
        return {
            "workspace_id": self._admission.principal.workspace_id,
            "user_id": self._admission.principal.user_id,
        }

    async def _next(self, until: float) -> Packed | None:
        """The next frame, or None when it is time for something else."""
        try:
            async with asyncio.timeout_at(until):
                return await self._subscriber.queue.get()
        except TimeoutError:
            return None

    def _seconds_left(self) -> float:
        return (self._admission.principal.expires_at - self._now()).total_seconds()

    def _now(self) -> datetime:
        return self._resources.clock()

    async def _push(self, kind: str, payload: dict[str, object]) -> None:
        frame = Frame(kind, payload, self._now())
        await self._deliver(msgspec.json.encode(frame))


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
