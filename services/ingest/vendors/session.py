"""HTTP to vendors: only to addresses that may be asked, bounded in time and size, at the account's pace, never redirected.

A `requests.Session`, because that is what dlt takes.
"""

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from io import BytesIO
from socket import socket
from ssl import SSLContext
from typing import Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from runtime.outbound import OutboundError, Reach
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as SlowError
from urllib3.util.connection import create_connection

from services.ingest.connectors.payloads import n_values
from services.ingest.errors import AccountBusyError, VendorError
from services.ingest.vendors.rate_limiter import RateLimiter
from services.ingest.vendors.redaction import words
from services.ingest.vendors.tls import trusting
from services.ingest.vendors.watchdog import Watchdog

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
VALUES_MAX: Final = 500_000
"""Of one answer, and of what a page is made of: tiny values are many times as large in memory as in JSON."""
TURN_SECONDS_MAX: Final = 60.0
GIVING_WAY_SECONDS: Final = 0.25
"""How long a thread waits for its account's turn, and where it gives way; longer is for whoever plans runs, and no turn
is taken then."""
CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 45.0
PAGE_SECONDS: Final = 120.0
"""For a whole answer, from the look-up of the name to the last byte; and for all that a page is made of."""
WORDS_BYTES: Final = 256 * 1024
"""How much of a refusal is read for its words: they are cut only after what is secret in them is hidden."""

_CHUNK: Final = 64 * 1024
_RESET_HEADERS: Final = (
    "retry-after",
    "x-ratelimit-reset",
    "ratelimit-reset",
    "x-rate-limit-reset",
    "x-ratelimit-requests-reset",
    "x-ratelimit-retryafter",
    "x-ratelimit-retry-after",
)
"""When asking is allowed again: GitHub, PagerDuty, Okta, Linear, CrowdStrike and Help Scout each have their own."""
_REMAINING: Final = re.compile(r"(x-)?rate-?limit.*remaining", re.IGNORECASE)
_STATUS_PAGE: Final = 203
_STATUS_ELSEWHERE: Final = frozenset({302, 303, 307})
_SIGN_IN: Final = re.compile(r"/[^/?]*(?:sign|log)[_-]?in\b|/oauth2?/authorize\b|/saml2?/", re.IGNORECASE)
"""Each part of a path is looked at once, for whoever answers chooses how many there are."""
_RENEWED: Final = frozenset({"access_token", "session_token"})
_LASTING: Final = frozenset({"client_secret", "service_account_key", "secret_access_key"})
"""Secrets that tokens are got with; an id, an address or a name beside a token is known to many."""
_EPOCH_MIN: Final = 1_000_000_000
_EPOCH_MS_MIN: Final = 1_000_000_000_000


class GuardedSession(requests.Session):
    """Asks one vendor on behalf of one connector; an answer without success is a VendorError.

    secrets: what must not come back in a vendor's words. account, per_minute: whose pace is kept.
    authority: whose certificates are believed (PEM), and nobody else's; empty: those of the reach.
    pause: sleeps for so many seconds, and raises what it likes where there is no more time.
    """

    def __init__(
        self,
        reach: Reach,
        *,
        rate_limiter: RateLimiter,
        account: str = "",
        per_minute: int = 300,
        secrets: Iterable[str] = (),
        authority: str = "",
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self.reach = reach
        self.watchdog = Watchdog()
        self.trust_env = False  # no proxy and no .netrc from the environment
        self.headers.update(
            {"Accept-Encoding": "gzip", "Accept": "application/json", "User-Agent": "causeloop"}
        )
        self.mount("https://", _GuardedAdapter(reach, self.watchdog, authority))
        self.mount("http://", _GuardedAdapter(reach, self.watchdog, authority))
        self._rate_limiter, self._account, self._per_minute = rate_limiter, account, per_minute
        self._secrets = tuple(secrets)
        self._pause = pause
        self._patience = TURN_SECONDS_MAX
        self._page_ends_at = math.inf

    def give_way(self) -> None:
        """A page is begun that has to be there in PAGE_SECONDS.

        Let its first request fail with AccountBusyError where its turn is not soon; those behind it wait for theirs.
        """
        self._patience = GIVING_WAY_SECONDS
        self._page_ends_at = time.monotonic() + PAGE_SECONDS

    def stand_back(self) -> None:
        """A test is begun: until one of its requests had a turn, each fails with AccountBusyError if none is to spare.

        So whoever polls comes first, however many tests there are; requests behind that one wait for their turns.
        """
        self._patience = 0.0

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """The request as it is sent. Raises VendorError where what was given makes none."""
        try:
            return super().prepare_request(request)
        except (requests.RequestException, ValueError) as error:
            # Its words repeat the header that cannot be sent.
            raise _unmakeable(error) from None

    def send(self, request: requests.PreparedRequest, **kwargs: object) -> requests.Response:
        """The answer, read to its end. Raises VendorError."""
        patience = self._patience
        is_test = patience == 0
        self._patience = 0.0 if is_test else TURN_SECONDS_MAX
        wait = self._rate_limiter.wait(self._account, self._per_minute, most=patience, is_spare=is_test)
        if wait > patience:
            raise AccountBusyError(wait)
        self._patience = TURN_SECONDS_MAX
        if wait > 0:
            self._pause(wait)
            # Its turn is our pace, not the vendor's slowness.
            self._page_ends_at += wait
        kwargs |= {"allow_redirects": False, "stream": True, "timeout": (CONNECT_SECONDS, READ_SECONDS)}
        kwargs |= {"verify": True, "proxies": {}}
        host = urlsplit(request.url or "").hostname or "?"
        left = self._page_ends_at - time.monotonic()
        if left <= 0:
            raise VendorError("unreachable", f"{host} did not give a page in time")
        try:
            with self.watchdog.within(min(ANSWER_SECONDS, left), host):
                response = super().send(request, **kwargs)  # type: ignore[arg-type]  # requests' stubs name each
                with response:
                    body = _read(response, host)
        except requests.Timeout as error:
            raise VendorError("unreachable", f"{host} did not answer in time") from error
        except requests.exceptions.SSLError as error:
            raise VendorError(
                "unreachable", f"the certificate of {host} is not for this name, or of nobody who is trusted"
            ) from error
        except UnicodeError as error:
            # A header beyond Latin-1; the error holds all of it.
            raise _unmakeable(error) from None
        except HTTPError as error:
            # It had begun: what is sent before an answer fails as requests' own.
            is_slow = isinstance(error, SlowError)
            said = "did not answer in time" if is_slow else "broke off in the middle of its answer"
            raise VendorError("unreachable", f"{host} {said}") from error
        except (requests.RequestException, OSError) as error:
            raise VendorError("unreachable", f"{host} cannot be reached: {type(error).__name__}") from error
        response.raw = BytesIO(body)
        response.headers.pop("Content-Encoding", None)
        self._judge(response, body, host)
        if n_values(body) > VALUES_MAX:
            raise VendorError("bad_answer", f"{host} answered with more than {VALUES_MAX} values at once")
        return response

    def close(self) -> None:
        """End it, from any thread: what it is asking fails at once, and so does whatever is asked later."""
        self.watchdog.end()
        super().close()

    def _judge(self, response: requests.Response, body: bytes, host: str) -> None:
        """Raises VendorError for an answer without success."""
        status = response.status_code
        if wants_sign_in(status, response.headers):
            raise VendorError("credentials_rejected", f"{host} answered {status}: a page to sign in")
        if 200 <= status < 300:
            return
        said = words(body[:WORDS_BYTES].decode("utf-8", "replace"), self._secrets)
        detail = f"{host} answered {status}" + (f": {said}" if said else "")
        if status == 429 or (status in (400, 403) and is_spent(response.headers)):
            raise VendorError("rate_limited", detail, retry_after=retry_after(response.headers))
        if 300 <= status < 400:
            raise VendorError("bad_answer", f"{host} answered {status}: it points to another address")
        if status in (401, 403):
            raise VendorError("credentials_rejected", detail, status=status)
        if status >= 500 or status == 408:
            wait = retry_after(response.headers) if "retry-after" in response.headers else None
            raise VendorError("vendor_failed", detail, retry_after=wait)
        raise VendorError("not_configured", detail, status=status)


def account_of(type_: str, base_url: str, secrets: Mapping[str, str], workspace_id: str) -> str:
    """Names an account of a vendor by all that signs in to it, so that nobody shares its pace by a name that they know.

    Tokens that are renewed do not count beside the secret that they are got with. Where nothing signs in, each
    workspace has an account of its own: the pace that one chooses is none of another's.
    """
    left_out = _RENEWED if _LASTING & secrets.keys() else frozenset()
    proof = sorted((name, text) for name, text in secrets.items() if name not in left_out)
    digest = sha256(repr((type_, urlsplit(base_url).netloc, proof or workspace_id)).encode())
    return digest.hexdigest()


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds until a vendor wants to be asked again, by whichever header it has for that."""
    stated = headers.get("date")
    moment = now or (_moment(stated) if stated else None) or datetime.now(UTC)
    for name in _RESET_HEADERS:
        text = headers.get(name, "").strip()
        try:
            number = float(text)
        except ValueError:
            until = _moment(text) if text else None
            if until is not None:
                return max(0.0, (until - moment).total_seconds())
            continue
        if not math.isfinite(number):
            continue
        if number >= _EPOCH_MS_MIN:
            number /= 1000
        return max(0.0, number - moment.timestamp() if number >= _EPOCH_MIN else number)
    return None


def _unmakeable(error: Exception) -> VendorError:
    """A value that was given makes no header or no address."""
    return VendorError("not_configured", f"the request cannot be made: {type(error).__name__}")


def _moment(text: str) -> datetime | None:
    try:
        read = parsedate_to_datetime(text)
    except ValueError:
        return None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read


def is_spent(headers: Mapping[str, str]) -> bool:
    """Whether a refusal that does not say 429 means it."""
    return "retry-after" in headers or any(
        _REMAINING.fullmatch(name) and value.strip() == "0" for name, value in headers.items()
    )


def wants_sign_in(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer is a page where people sign in, or points to one: how Azure DevOps, and proxies, refuse a token.

    headers: found in any case, or by their small letters.
    """
    if status == _STATUS_PAGE:
        return "html" in headers.get("content-type", "")
    return status in _STATUS_ELSEWHERE and _SIGN_IN.search(headers.get("location", "")) is not None


def _read(response: requests.Response, host: str) -> bytes:
    """The body, unpacked; counted while it unfolds, since a few kilobytes can unfold to gigabytes."""
    body = bytearray()
    if response.status_code == 204:
        return b"null"
    for part in response.raw.stream(_CHUNK, decode_content=True):
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise VendorError("bad_answer", f"{host} answered with more than {BODY_BYTES_MAX} bytes")
    return bytes(body)


class _GuardedAdapter(HTTPAdapter):
    """Connects to the address that was checked, while Host, SNI and the certificate keep the name."""

    def __init__(self, reach: Reach, watchdog: Watchdog, authority: str) -> None:
        self._reach, self._watchdog, self._authority = reach, watchdog, authority
        self._trusted: SSLContext | None = None
        super().__init__()

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        """Every connection of every pool is dialled by us."""
        super().init_poolmanager(*args, **kwargs)  # type: ignore[arg-type]  # handed on as they came
        reach, watchdog = self._reach, self._watchdog

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket:
                return _dial(self, "http", reach, watchdog)

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket:
                return _dial(self, "https", reach, watchdog)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def cert_verify(
        self, conn: HTTPConnectionPool, url: str, verify: bool | str, cert: str | tuple[str, str] | None
    ) -> None:
        """Of whom we believe, instead of a file; made when it is needed, and for this session alone."""
        super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
        if isinstance(conn, HTTPSConnectionPool):
            conn.ca_certs = conn.ca_cert_dir = None
            if self._trusted is None:
                self._trusted = trusting(self._authority, self._reach)
            conn.conn_kw["ssl_context"] = self._trusted


def _dial(connection: HTTPConnection, scheme: str, reach: Reach, watchdog: Watchdog) -> socket:
    """A socket to the one address that the name stood for when it was looked up and judged."""
    try:
        address = reach.resolve(scheme, connection.host)
    except OutboundError as error:
        raise VendorError("address_refused" if error.is_refused else "unreachable", str(error)) from error
    try:
        dialled = create_connection(
            (address, connection.port), connection.timeout, socket_options=connection.socket_options
        )
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"{connection.host} did not answer in time") from error
    except OSError as error:
        raise NewConnectionError(connection, f"{connection.host}: {error}") from error
    watchdog.hold((scheme, connection.host, connection.port), dialled.fileno())
    return dialled
