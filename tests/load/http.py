"""The smallest HTTP/1.1 client that keeps its connections: a load test must not measure its own client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self, cast

import httptools


class HttpError(Exception):
    """An answer that the load did not expect."""


class Connection:
    """One keep-alive connection; one request at a time."""

    def __init__(self, host: str, port: int, headers: dict[str, str]) -> None:
        self._host, self._port = host, port
        self._headers = "".join(
            f"{name}: {value}\r\n" for name, value in {"Host": f"{host}:{port}", **headers}.items()
        )
        self._wire = _Wire()

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().create_connection(lambda: self._wire, self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._wire.close()

    async def request(
        self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer. headers: of this request alone."""
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = (
            f"{method} {path} HTTP/1.1\r\n{self._headers}{more}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return await self._wire.answer_to(head.encode() + body)

    async def expect(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of the answer. Raises HttpError at another status."""
        got, answer = await self.request(method, path, body, headers=headers)
        if got != status:
            raise HttpError(f"{method} {path}: {got} {answer[:500]!r}")
        return answer


class _Wire(asyncio.Protocol):
    """A connection's bytes; answers are read by llhttp, which calls what is named on_…."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parts: list[bytes] = []

    async def answer_to(self, request: bytes) -> tuple[int, bytes]:
        if self._transport is None:
            raise HttpError("not connected")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one without saying so.
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(HttpError(f"the connection ended: {exc!r}"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._parts)
        self._parts.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), body))
