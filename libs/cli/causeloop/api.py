"""The public HTTP API as the commands use it: a token, patience with 429 and 503, and clear errors."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import msgspec
from msgspec import Struct

from causeloop.exits import CliError, NotAvailableError, RefusedError
from causeloop.running import read_running

R = TypeVar("R")

DEFAULT_URL: Final = "http://127.0.0.1:4000"
REQUEST_TIMEOUT_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 90.0
FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 10.0
VISIBLE_WITHIN_SECONDS: Final = 10
"""How long a change may take to be shown, the longest that the API waits for it."""
SUBJECT: Final = "causeloop-cli"
BUSY: Final = frozenset({429, 502, 503, 504})


class Token(Struct, frozen=True):
    """The answer to a token exchange, as far as the commands use it."""

    access_token: str
    workspace_id: str = ""
    expires_in: int = 0
    refresh_token: str = ""


class ErrorBody(Struct, frozen=True):
    """The error inside an answer."""

    code: str = ""
    message: str = ""
    details: dict[str, object] | None = None


class Accepted(Struct, frozen=True):
    """An answer to a change that is made and cannot be read yet."""

    location: str


class Problem(Struct, frozen=True):
    """An answer that is an error."""

    error: ErrorBody = ErrorBody()
    detail: object = ""


class Api:
    """A client of one Causeloop."""

    def __init__(self, client: httpx.AsyncClient, token: Token, *, rng: random.Random) -> None:
        self._client = client
        self._rng = rng
        self.token = token
        self._renewing = asyncio.Lock()

    @property
    def url(self) -> str:
        """Address of the API."""
        return str(self._client.base_url).rstrip("/")

    async def get(self, path: str, reply: type[R], *, params: Mapping[str, str] | None = None) -> R:
        """The decoded answer to a GET."""
        return _decoded(await self.send("GET", path, params=params), reply)

    async def post(self, path: str, body: bytes, reply: type[R]) -> R:
        """The decoded answer to a POST of JSON."""
        return _decoded(await self.send("POST", path, content=body), reply)

    async def change(self, method: str, path: str, body: bytes, reply: type[R]) -> R:
        """The decoded answer to a change that happens once. Raises NotShownError where it can be read only later."""
        return _decoded(await self.send(method, path, content=body, is_once=True), reply)

    async def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        is_once: bool = False,
    ) -> httpx.Response:
        """The successful answer; waits and repeats while the API is busy or away, up to PATIENCE_SECONDS.

        is_once: what is asked for happens once, however often it is repeated.
        Raises NotAvailableError, RefusedError (401, 403), or ResponseError for any other error.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        pause = FIRST_PAUSE_SECONDS
        own = {"Idempotency-Key": str(uuid4())} if is_once else {}
        if method != "GET":
            own["Prefer"] = f"wait={VISIBLE_WITHIN_SECONDS}"
        while True:
            response: httpx.Response | None = None
            used = self.token
            headers = {"Authorization": f"Bearer {used.access_token}", "Content-Type": "application/json"}
            headers |= own
            try:
                response = await self._client.request(
                    method, path, content=content, params=params, headers=headers
                )
            except httpx.TransportError as error:
                wait, cause = pause, _unreachable(self.url, error)
            else:
                if response.status_code == 401 and await self._renew(used):
                    continue
                if response.status_code not in BUSY:
                    return _successful(response)
                wait, cause = _retry_after(response, pause), _busy(self.url, response)
            wait += self._rng.uniform(0, min(wait, 0.5))
            if asyncio.get_running_loop().time() + wait > deadline:
                raise cause
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _renew(self, used: Token) -> bool:
        """Whether there is a newer token than the one that was refused.

        Many requests are under way at once, and a refresh token that is used twice ends the session.
        """
        async with self._renewing:
            if self.token is not used:
                return True
            if not used.refresh_token:
                return False
            try:
                refreshed = await self._client.post(
                    "/v1/auth/refresh", json={"refresh_token": used.refresh_token}
                )
            except httpx.TransportError as error:
                raise _unreachable(self.url, error) from error
            if refreshed.status_code in BUSY:
                raise _busy(self.url, refreshed)
            if not refreshed.is_success:
                return False
            self.token = _decoded(refreshed, Token)
            return True


class ResponseError(CliError):
    """The API answered with an error that repeating does not mend."""

    def __init__(self, response: httpx.Response) -> None:
        problem = _problem(response)
        text = problem.error.message or str(problem.detail) or response.reason_phrase
        super().__init__(
            f"{response.request.method} {response.request.url.path}: {response.status_code} {text}"
        )
        self.status = response.status_code


class NotShownError(NotAvailableError):
    """A change is made and durable, and what is read does not show it yet."""

    def __init__(self, location: str) -> None:
        super().__init__(
            f"it is done, but not shown after {VISIBLE_WITHIN_SECONDS} s",
            advice=f"Do not repeat it: {location} will show it. `causeloop status` shows what is behind.",
        )


@asynccontextmanager
async def connected(*, url: str | None, token: str | None, folder: Path) -> AsyncIterator[Api]:
    """An API client: at the given address, or where the data folder says that Causeloop runs.

    Without a token it exchanges one as the quickstart does, which a mock or development gateway grants.
    """
    base_url = find_url(url, folder)
    limits = httpx.Limits(max_connections=16)
    async with httpx.AsyncClient(base_url=base_url, timeout=REQUEST_TIMEOUT_SECONDS, limits=limits) as client:
        granted = Token(access_token=token) if token else await exchange(client)
        yield Api(client, granted, rng=random.Random())


def find_url(url: str | None, folder: Path) -> str:
    """The API's address: the one given, the data folder's, or the default."""
    if url:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise NotAvailableError(f"{url} is no http address", advice=f"Give one such as {DEFAULT_URL}.")
        return url.rstrip("/")
    running = read_running(folder)
    return DEFAULT_URL if running is None else running.urls["gateway"]


async def exchange(client: httpx.AsyncClient) -> Token:
    """A platform token for this machine's user; raises RefusedError where a real identity is needed."""
    try:
        response = await client.post("/v1/auth/exchange", json={"subject_token": SUBJECT})
    except httpx.TransportError as error:
        raise _unreachable(str(client.base_url).rstrip("/"), error) from error
    if response.is_success:
        return _decoded(response, Token)
    if response.status_code in BUSY:
        raise _busy(str(client.base_url).rstrip("/"), response)
    problem = _problem(response)
    raise RefusedError(
        f"{client.base_url} gave no token: {problem.error.message or response.reason_phrase}",
        advice="Give one with --token, or set CAUSELOOP_TOKEN.",
    )


def _successful(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    if response.status_code in {401, 403}:
        problem = _problem(response)
        raise RefusedError(
            f"the API refused: {problem.error.message or response.reason_phrase}",
            advice="Give a valid token with --token, or set CAUSELOOP_TOKEN; `causeloop token` prints a new one.",
        )
    raise ResponseError(response)


def _problem(response: httpx.Response) -> Problem:
    try:
        return msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        return Problem(detail=response.text[:200])


def _decoded(response: httpx.Response, reply: type[R]) -> R:
    try:
        return msgspec.json.decode(response.content, type=reply)
    except msgspec.DecodeError as error:
        if response.status_code == 202 and (accepted := _accepted(response)) is not None:
            raise NotShownError(accepted.location) from error
        raise CliError(
            f"{response.request.url} answered something unexpected: {error}",
            advice="Is it a Causeloop, and of the same version as this command?",
        ) from error


def _accepted(response: httpx.Response) -> Accepted | None:
    try:
        return msgspec.json.decode(response.content, type=Accepted)
    except msgspec.DecodeError:
        return None


def _retry_after(response: httpx.Response, pause: float) -> float:
    try:
        return max(float(response.headers.get("Retry-After", pause)), 0.05)
    except ValueError:
        return pause


def _unreachable(url: str, error: httpx.TransportError) -> NotAvailableError:
    reason = str(error) or type(error).__name__
    return NotAvailableError(
        f"Causeloop does not answer at {url} ({reason})",
        advice="Start it with `make up`, or say where it is with --url or CAUSELOOP_URL.",
    )


def _busy(url: str, response: httpx.Response) -> NotAvailableError:
    problem = _problem(response)
    text = problem.error.message or response.reason_phrase
    return NotAvailableError(
        f"{url} is busy or not ready: {response.status_code} {text}",
        advice="`causeloop status` shows what is wrong.",
    )
