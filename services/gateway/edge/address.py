"""Where a request comes from: the peer, or what a proxy that we trust says of it."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from litestar.types import Scope

Address: TypeAlias = IPv4Address | IPv6Address

_KEPT_MAX = 4096
_NETWORK_BITS = 64
"""A household or a server has at least this much of IPv6, so counting single addresses would count nothing."""


class Addresses:
    """Callers' addresses, with X-Forwarded-For believed only as far as trusted proxies wrote it.

    trusted: networks of the proxies in front of us, as 10.0.0.0/8; none: the peer is the caller.
    Raises ValueError when one is no network.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._networks = tuple(ip_network(text) for text in trusted)
        self._resolve = lru_cache(maxsize=_KEPT_MAX)(self._behind_proxies)

    def of(self, scope: Scope) -> str:
        """The caller's address: the right-most hop that is none of our proxies; "" when unknown."""
        client = scope.get("client")
        peer = client[0] if client else ""
        if not self._networks:
            return peer
        forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return self._resolve(peer, b",".join(forwarded).decode("latin-1"))

    def _behind_proxies(self, peer: str, forwarded: str) -> str:
        nearest = _parse(peer)
        if nearest is None:
            return peer
        # Each proxy adds its peer on the right; what stands left of an untrusted hop may be invented.
        for text in reversed(forwarded.split(",") if forwarded else ()):
            if not self._is_trusted(nearest):
                break
            hop = _parse(text)
            if hop is None:
                break
            nearest = hop
        return str(nearest)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


@lru_cache(maxsize=_KEPT_MAX)
def network_of(address: str) -> str:
    """What is counted together with an address: itself, or the /64 that an IPv6 address is in."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, _NETWORK_BITS), strict=False).network_address)
    return address


def _parse(text: str) -> Address | None:
    """An address as proxies write it, with or without a port or brackets; None when it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    # The same caller, whichever kind of socket took the connection.
    return getattr(parsed, "ipv4_mapped", None) or parsed
