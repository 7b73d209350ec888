"""HTTP to addresses that strangers name: bounded in time and size, without redirects, and never to addresses inside."""

import asyncio
import socket
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote_plus

import httpx

BODY_BYTES_MAX = 1024 * 1024
SECONDS = 5.0
_TRANSLATED = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address behind a translator


class OutboundError(OSError):
    """The address may not be asked, or did not answer with a good status, in time, in size.

    An OSError, as every way in which a network fails is. status: what was answered instead of 200.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Outbound:
    """Asks one address at a time.

    allows_private: also plain http and addresses inside, for development and for the operator's own provider.
    """

    def __init__(self, *, allows_private: bool) -> None:
        self._allows_private = allows_private

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
        target, host = await self._checked(url)
        # No proxy from the environment: it would resolve the name again, to who knows what.
        try:
            async with (
                asyncio.timeout(seconds),
                httpx.AsyncClient(
                    timeout=httpx.Timeout(seconds, connect=min(seconds, SECONDS)),
                    follow_redirects=False,
                    trust_env=False,
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
                body = await _bounded(response)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise OutboundError(f"{host} cannot be reached: {type(error).__name__}") from error
        if response.status_code != 200:
            raise OutboundError(f"{host} answered {response.status_code}", status=response.status_code)
        return body

    async def _checked(self, url: str) -> tuple[httpx.URL, str]:
        """The address with the IP address that is connected to in place of the name, and the Host header.

        The name is resolved once, so that what was checked is what is connected to.
        """
        try:
            asked = httpx.URL(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise OutboundError("not an address") from error
        if asked.scheme != "https" and not (self._allows_private and asked.scheme == "http"):
            raise OutboundError("the address has to begin with https://")
        if not asked.host or asked.userinfo:
            raise OutboundError("the address has to have a host, and no user")
        port = asked.port or {"https": 443, "http": 80}[asked.scheme]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(asked.host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise OutboundError(f"{asked.host} is not known") from error
        addresses = [ip_address(str(place[0]).partition("%")[0]) for *_, place in found]
        if not self._allows_private and not all(is_public(address) for address in addresses):
            raise OutboundError(f"{asked.host} is not an address on the internet")
        # IPv4 first: what it reaches is known to be the same, and more networks have it.
        chosen = min(addresses, key=lambda address: address.version)
        return asked.copy_with(host=str(chosen)), asked.netloc.decode()


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is on the internet rather than inside: private, loopback, link-local, multicast."""
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
    return address.is_global and not address.is_multicast


def _named(url: str) -> dict[str, str]:
    """The name that the certificate has to be for, though an IP address is connected to."""
    return {"sni_hostname": httpx.URL(url).host}


async def _bounded(response: httpx.Response) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        # A few kilobytes can unfold to gigabytes before they are counted.
        raise OutboundError("the answer is compressed, which it was asked not to be")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise OutboundError(f"the answer has more than {BODY_BYTES_MAX} bytes")
    return bytes(body)
