"""HTTP to addresses that strangers name: bounded in time and size, without redirects, and never to addresses inside."""

import asyncio
import socket
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from ssl import SSLCertVerificationError, SSLContext, SSLError, create_default_context
from typing import Final, TypeAlias
from urllib.parse import quote_plus

import certifi
import httpx
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from msgspec import Struct
from msgspec.structs import replace

from runtime.errors import StartError
from runtime.names import Names

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

BODY_BYTES_MAX = 1024 * 1024
SECONDS = 5.0
AUTHORITIES_BYTES_MAX: Final = 1024 * 1024
_CONTEXTS: Final = 16
_TRANSLATED = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address behind a translator
_UNICAST = IPv6Network("2000::/3")  # RFC 4291, 2.4: all that has been given out of IPv6
_RELAYS = IPv4Network("192.88.99.0/24")  # RFC 7526: whoever is near forwards from there


class OutboundError(OSError):
    """The address may not be asked, or did not answer with a good status, in time, in size.

    An OSError, as every way in which a network fails is. status: what was answered instead of 200.
    is_refused: we may not ask there. is_sent: the other side may have got the request, and done what it asks.
    """

    def __init__(
        self, message: str, *, status: int | None = None, is_refused: bool = False, is_sent: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.is_refused = is_refused
        self.is_sent = is_sent


class UnmakeableError(OutboundError):
    """A value that was given makes no header, so nothing was sent."""


class Answer(Struct, frozen=True):
    """What was answered, whatever the status. headers: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Reach(Struct, frozen=True):
    """Which addresses may be connected to: those on the internet by https, and those of these networks also by http.

    authorities: whose certificates are believed there (PEM) beside those that browsers trust.
    tenant: who connects; only so many names are looked up at once for one. Empty: nobody's in particular.
    """

    allowed: tuple[Network, ...] = ()
    authorities: str = ""
    tenant: str = ""

    @classmethod
    def read(cls, networks: Sequence[str], *, authorities: str = "") -> "Reach":
        """The internet and these networks, written as 10.0.0.0/8. Raises ValueError."""
        return cls(tuple(ip_network(text) for text in networks), authorities)

    def of(self, tenant: str) -> "Reach":
        """The same, for one tenant."""
        return replace(self, tenant=tenant)

    def choose(self, scheme: str, host: str, found: Sequence[str]) -> str:
        """The one of a host's IP addresses to connect to; that host has no good one if any of them is bad.

        scheme: http or https. Raises OutboundError.
        """
        addresses = [ip_address(text.partition("%")[0]) for text in found]
        if scheme == "http" and not all(self._allows(address) for address in addresses):
            raise OutboundError("the address has to begin with https://", is_refused=True)
        if not addresses or not all(is_public(address) or self._allows(address) for address in addresses):
            raise OutboundError(f"{host} is not an address on the internet", is_refused=True)
        # IPv4 first: what it reaches is known to be the same, and more networks have it.
        return str(min(addresses, key=lambda address: address.version))

    def resolve(self, scheme: str, host: str) -> str:
        """The same for a name, which is looked up once: what was checked is what has to be connected to.

        Blocks for at most SECONDS, so it is for threads. Raises OutboundError.
        """
        self.check_scheme(scheme)
        looking = _names.find(host, tenant=self.tenant)
        try:
            found = looking.result(SECONDS)
        except TimeoutError as error:
            looking.cancel()
            raise OutboundError(f"{host} was not found in time") from error
        return self.choose(scheme, host, found)

    def check_scheme(self, scheme: str) -> None:
        """Refuse before anything is looked up what cannot be good. Raises OutboundError."""
        if scheme != "https" and not (scheme == "http" and self.allowed):
            raise OutboundError("the address has to begin with https://", is_refused=True)

    def _allows(self, address: Address) -> bool:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.allowed)


def read_authorities(file: str) -> str:
    """The certificates (PEM) of the operator's own authorities in a file, without what stands around them.

    file: its absolute path, empty for none. Raises StartError.
    """
    if not file:
        return ""
    path = Path(file).expanduser()
    if not path.is_absolute():
        raise StartError(f"OUTBOUND_CA_FILE={file} has to be an absolute path, such as /etc/ssl/company.pem.")
    try:
        with path.open("rb") as opened:
            written = opened.read(AUTHORITIES_BYTES_MAX + 1)
    except OSError as error:
        raise StartError(f"OUTBOUND_CA_FILE={file} cannot be read: {error.strerror}.") from error
    if len(written) > AUTHORITIES_BYTES_MAX:
        raise StartError(f"OUTBOUND_CA_FILE={file} has more than {AUTHORITIES_BYTES_MAX} bytes.")
    try:
        found = load_pem_x509_certificates(written)
        authorities = b"".join(each.public_bytes(Encoding.PEM) for each in found).decode("ascii")
        certificates(authorities)
    except (SSLError, ValueError) as error:
        raise StartError(
            f"OUTBOUND_CA_FILE={file} is no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----."
        ) from error
    return authorities


def public_file() -> str:
    """Where the certificates (PEM) that browsers trust stand."""
    return certifi.where()


def public_and(authorities: str) -> str:
    """The certificates (PEM) that browsers trust, and these."""
    return f"{certifi.contents()}\n{authorities}"


def certificates(authorities: str) -> SSLContext:
    """What a server has to prove: that it is of whom browsers trust, or of these authorities (PEM).

    A new one, which takes 30 ms of processor; for one thread, since libraries set it up further while they connect.
    Raises SSLError or ValueError for what is no certificate.
    """
    context = create_default_context(cafile=certifi.where())
    if authorities:
        context.load_verify_locations(cadata=authorities)
    return context


_kept_certificates: Final = lru_cache(maxsize=_CONTEXTS)(certificates)
"""For the loop's thread alone."""

INTERNET: Final = Reach()
EVERYWHERE: Final = Reach.read(["0.0.0.0/0", "::/0"])
"""Also addresses inside: for development, and for what the operator names."""


class Outbound:
    """Asks one address at a time."""

    def __init__(self, reach: Reach, *, authority: str = "") -> None:
        self._reach = reach
        self._authority = authority
        self._own: SSLContext | None = None

    def trusting(self, authority: str) -> "Outbound":
        """The same, for a server whose certificate has to be of this authority (PEM) alone; empty: of one of the reach."""
        return Outbound(self._reach, authority=authority)

    def of(self, tenant: str) -> "Outbound":
        """The same, for one tenant."""
        return Outbound(self._reach.of(tenant), authority=self._authority)

    async def get(self, url: str, *, token: str | None = None) -> bytes:
        """The body behind an address, asked with a bearer token if there is one. Raises OutboundError."""
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self._ask("GET", url, headers=headers)

    async def post(self, url: str, form: Mapping[str, str], *, basic: tuple[str, str] | None) -> bytes:
        """The answer to a form, sent with these credentials if there are any. Raises OutboundError."""
        headers = {"Accept": "application/json"}
        if basic is not None:
            # RFC 6749, 2.3.1: both are encoded as in a form first.
            pair = ":".join(quote_plus(part) for part in basic)
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        return await self._ask("POST", url, headers=headers, form=form)

    async def post_json(self, url: str, document: bytes, *, token: str, seconds: float) -> bytes:
        """The answer to a JSON document, sent with a bearer token unless that is empty. Raises OutboundError."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return await self._ask("POST", url, headers=headers, content=document, seconds=seconds)

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        seconds: float = SECONDS,
    ) -> bytes:
        answer = await self.send(method, url, headers=headers, form=form, content=content, seconds=seconds)
        if answer.status != 200:
            host = httpx.URL(url).netloc.decode()
            raise OutboundError(f"{host} answered {answer.status}", status=answer.status, is_sent=True)
        return answer.body

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        seconds: float = SECONDS,
        body_bytes: int | None = None,
    ) -> Answer:
        """What is answered to one request, whatever the status; a redirect is not followed. Raises OutboundError.

        seconds: from the look-up of the name to the last byte. body_bytes: read no more of the answer than that, and
        nothing that is compressed; None: all, and more than BODY_BYTES_MAX is an error.
        """
        ends_at = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(ends_at):
                target, host = await self._checked(url)
        except TimeoutError as error:
            raise OutboundError("the name of the host was not found in time") from error
        # No proxy from the environment: it would resolve the name again, to who knows what.
        try:
            async with (
                asyncio.timeout_at(ends_at),
                httpx.AsyncClient(
                    timeout=httpx.Timeout(seconds, connect=min(seconds, SECONDS)),
                    follow_redirects=False,
                    trust_env=False,
                    verify=self._trusted(),
                ) as client,
                client.stream(
                    method,
                    target,
                    headers={**headers, "Host": host, "Accept-Encoding": "identity"},
                    data=form,
                    content=content,
                    extensions=_named(url),
                ) as response,
            ):
                body = await (_bounded(response) if body_bytes is None else _beginning(response, body_bytes))
        except (UnicodeError, httpx.LocalProtocolError) as error:
            # Their words repeat the header that cannot be sent.
            raise UnmakeableError(f"the request cannot be made: {type(error).__name__}") from None
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            is_sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.InvalidURL)
            said = f"{host} cannot be reached: {type(error).__name__}"
            if _is_untrusted(error):
                said = f"the certificate of {host} is not for this name, or of nobody who is trusted"
            raise OutboundError(said, is_sent=is_sent) from error
        return Answer(
            response.status_code, {name.lower(): value for name, value in response.headers.items()}, body
        )

    def _trusted(self) -> SSLContext:
        """Whose certificates are good."""
        if not self._authority:
            return _kept_certificates(self._reach.authorities)
        if self._own is None:
            self._own = create_default_context(cadata=self._authority)
        return self._own

    async def check(self, url: str, *, seconds: float = SECONDS) -> None:
        """Raise OutboundError unless the address may be asked, and its name is known now."""
        try:
            async with asyncio.timeout(seconds):
                await self._checked(url)
        except TimeoutError as error:
            raise OutboundError("the name of the host was not found in time") from error

    async def _checked(self, url: str) -> tuple[httpx.URL, str]:
        """The address with the IP address that is connected to in place of the name, and the Host header.

        The name is resolved once, so that what was checked is what is connected to.
        """
        try:
            asked = httpx.URL(url)
            host = asked.host  # raises UnicodeError for an A-label (xn--…) that is none
        except (httpx.InvalidURL, TypeError, UnicodeError) as error:
            raise OutboundError("not an address", is_refused=True) from error
        self._reach.check_scheme(asked.scheme)
        if not host or asked.userinfo:
            raise OutboundError("the address has to have a host, and no user", is_refused=True)
        found = await asyncio.wrap_future(_names.find(host, tenant=self._reach.tenant))
        chosen = self._reach.choose(asked.scheme, host, found)
        return asked.copy_with(host=chosen), asked.netloc.decode()


def _look_up(host: str) -> list[str]:
    """A name's IP addresses; blocks for as long as the system likes. Raises OutboundError."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutboundError(f"{host} is not known") from error
    return [str(place[0]) for *_, place in found]


_names: Final = Names(_look_up)


def is_public(address: Address) -> bool:
    """Whether an address is on the internet rather than inside: private, loopback, link-local, multicast."""
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
        # Python 3.11 takes what is not listed for global: fec0::/10, ::/96, 64:ff9b:1::/48.
        if address not in _UNICAST:
            return False
    return address not in _RELAYS and address.is_global and not address.is_multicast


def _named(url: str) -> dict[str, str]:
    """The name that the certificate has to be for, though an IP address is connected to."""
    return {"sni_hostname": httpx.URL(url).host}


def _is_untrusted(error: BaseException | None) -> bool:
    """Whether it is a certificate that went wrong, below what the libraries make of that."""
    while error is not None and not isinstance(error, SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


async def _beginning(response: httpx.Response, n_bytes: int) -> bytes:
    """The first bytes of an answer of which nothing depends on the rest."""
    body = bytearray()
    if response.headers.get("Content-Encoding", "identity") == "identity":
        async for part in response.aiter_raw():
            body += part
            if len(body) >= n_bytes:
                break
    return bytes(body[:n_bytes])


async def _bounded(response: httpx.Response) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        # A few kilobytes can unfold to gigabytes before they are counted.
        raise OutboundError("the answer is compressed, which it was asked not to be", is_sent=True)
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise OutboundError(f"the answer has more than {BODY_BYTES_MAX} bytes", is_sent=True)
    return bytes(body)
