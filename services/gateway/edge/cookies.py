"""Cookies of a signed-in browser, pure: their names and scopes, and which pages may use them to change something.

Scripts cannot read them (HttpOnly), other sites cannot send them (SameSite), and what changes something must also say that
it comes from a page of ours.
"""

from collections.abc import Collection, Mapping
from typing import Literal

from msgspec import Struct

ACCESS = "causeloop_access"
REFRESH = "causeloop_refresh"
FLOW = "causeloop_flow"
GRANT = "causeloop_grant"
REFRESH_PATH = "/v1/auth/refresh"
FLOW_PATH = "/v1/auth/callback"
GRANT_PATH = "/v1/connectors/oauth/callback"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class SetCookie(Struct, frozen=True, kw_only=True):
    """A cookie that the browser is to keep; all are HttpOnly.

    seconds: for how long; 0: it is to be forgotten.
    """

    name: str
    value: str
    path: str
    seconds: int
    is_secure: bool
    same_site: Literal["strict", "lax"] = "strict"


def read_cookies(header: bytes | None) -> Mapping[str, str]:
    """A request's cookies by name. Whatever else a host has set does not matter, so no part spoils another."""
    if not header:
        return {}
    pairs = (part.strip().partition("=") for part in header.decode("latin-1").split(";"))
    return {name: value for name, _, value in pairs if name}


def is_from_own_page(method: str, headers: Mapping[bytes, bytes], origins: Collection[str]) -> bool:
    """Whether a request may act with cookies: it changes nothing, or comes from a page of one of these origins.

    Browsers add Origin to every request that can change something; where one does not, Sec-Fetch-Site must say
    same-origin (Fetch, section 3.2; Fetch Metadata, section 2.3).
    """
    if method in _SAFE:
        return True
    origin = headers.get(b"origin")
    if origin is not None:
        return origin.decode("latin-1").lower() in origins
    return headers.get(b"sec-fetch-site") == b"same-origin"


def session_cookies(
    access_token: str, refresh_token: str, *, access_seconds: int, refresh_seconds: int, is_secure: bool
) -> tuple[SetCookie, ...]:
    """What keeps a browser signed in; the refresh token is sent to where it is used only."""
    return (
        SetCookie(name=ACCESS, value=access_token, path="/", seconds=access_seconds, is_secure=is_secure),
        SetCookie(
            name=REFRESH,
            value=refresh_token,
            path=REFRESH_PATH,
            seconds=refresh_seconds,
            is_secure=is_secure,
        ),
    )


def flow_cookie(sealed: str, *, seconds: int, is_secure: bool) -> SetCookie:
    """What a sign-in is remembered by until the provider sends the browser back, which is from another site."""
    return SetCookie(
        name=FLOW, value=sealed, path=FLOW_PATH, seconds=seconds, is_secure=is_secure, same_site="lax"
    )


def grant_cookie(proof: str, *, seconds: int, is_secure: bool) -> SetCookie:
    """What the browser is known by in which a source's sign-in began, until the vendor sends it back."""
    return SetCookie(
        name=GRANT, value=proof, path=GRANT_PATH, seconds=seconds, is_secure=is_secure, same_site="lax"
    )


def forgotten_session(*, is_secure: bool) -> tuple[SetCookie, ...]:
    """What signs a browser out."""
    return session_cookies("", "", access_seconds=0, refresh_seconds=0, is_secure=is_secure)
