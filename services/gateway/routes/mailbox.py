"""The letters that development catches, on a page for whoever sits at this machine."""

import re
from html import escape
from ipaddress import ip_address

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from runtime.errors import NotFoundError

from services.gateway.mail import Catcher, Caught
from services.gateway.routes.sheets import sheet

AnyRequest = Request[object, object, State]

_LINK = re.compile(r"https?://[^\s<>\"]+")
_STYLE = """
article { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 18px 22px; margin-bottom: 16px; }
article h2 { font-size: 17px; color: var(--ink); margin-bottom: 2px; }
article pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; margin-top: 14px; }
article a { color: var(--good); }
"""
_FOOTER = (
    "<footer><p>Caught in development; nothing was sent. The newest 100 are kept until the gateway stops.</p>"
    '<p><a href="/dev/mail.json">JSON</a> · <a href="/status">Gateway</a> · <a href="/docs">API</a></p></footer>'
)


def mailbox_routes(catcher: Catcher) -> list[HTTPRouteHandler]:
    """The page /dev/mail, and the same as JSON; not to be served where others can reach it."""

    @get("/dev/mail", include_in_schema=False, sync_to_thread=False)
    def page(request: AnyRequest) -> Response[str]:
        """The letters, newest first."""
        _check_is_here(request)
        letters = "".join(_article(caught) for caught in catcher.caught)
        nothing = '<p class="dim">No letter yet. Invite somebody, then reload.</p>'
        return sheet("Mail", f"<main>{letters or nothing}</main>{_FOOTER}", style=_STYLE)

    @get("/dev/mail.json", include_in_schema=False, sync_to_thread=False)
    def as_json(request: AnyRequest) -> Response[bytes]:
        """The same for programs."""
        _check_is_here(request)
        body = msgspec.json.encode(catcher.caught)
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    return [page, as_json]


def _check_is_here(request: AnyRequest) -> None:
    """Raise NotFoundError unless a browser of this machine asks, by an address that is this machine's.

    The name is looked at because a foreign page can make its own name lead here (DNS rebinding).
    """
    name = request.url.hostname or ""
    peer = request.client.host if request.client else ""
    try:
        is_here = ip_address(peer).is_loopback and (name == "localhost" or ip_address(name).is_loopback)
    except ValueError:
        is_here = False
    if not is_here:
        raise NotFoundError("There is nothing at /dev/mail.")


def _article(caught: Caught) -> str:
    letter = caught.letter
    text = _LINK.sub(lambda found: f'<a href="{found.group()}">{found.group()}</a>', escape(letter.text))
    return (
        f'<article><h2>{escape(letter.subject)}</h2><p class="dim">to {escape(letter.to)} ·'
        f" <time>{caught.caught_at:%Y-%m-%d %H:%M:%S}</time> UTC</p><pre>{text}</pre></article>"
    )
