"""The smallest HTTP/1.1 client that keeps its connections: a load test must not measure its own client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self


class HttpError(Exception):
    """An answer that the load did not expect."""


class Connection:
    """One keep-alive connection; one request at a time."""

    def __init__(self, host: str, port: int, headers: dict[str, str]) -> None:
        self._host, self._port = host, port
        self._headers = "".join(
            f"{name}: {value}\r\n" for name, value in {"Host": f"{host}:{port}", **headers}.items()
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 24)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._streams:
            self._streams[1].close()

    async def request(
        self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer. headers: of this request alone."""
        if self._streams is None:
            raise HttpError("not connected")
        reader, writer = self._streams
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = (
            f"{method} {path} HTTP/1.1\r\n{self._headers}{more}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(answer.split(" ", 2)[1])
        fields = dict(line.lower().split(": ", 1) for line in answer.split("\r\n")[1:] if ": " in line)
        if fields.get("transfer-encoding") == "chunked":
            return status, await _chunks(reader)
        return status, await reader.readexactly(int(fields.get("content-length", "0")))

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


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body
