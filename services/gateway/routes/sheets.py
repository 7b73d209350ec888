"""Pages for people, in the dress of the dashboards and with nothing from another host."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from litestar import MediaType, Response

_MARK = (
    '<svg viewBox="0 0 32 32" class="loop" aria-hidden="true"><path d="M26.4 10.4A12 12 0 1 0 28 16"/>'
    '<circle cx="26.6" cy="8" r="3.4"/></svg>'
)


def sheet(title: str, body: str, *, style: str = "", script: str = "", status: int = 200) -> Response[str]:
    """A page that runs only this style and this script. body: what is below the head, as HTML."""
    whole_style = _house_style() + style
    policy = (
        f"default-src 'none'; style-src '{_hash(whole_style)}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
    if script:
        policy += f"; script-src '{_hash(script)}'; connect-src 'self'"
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Causeloop</title>
<style>{whole_style}</style>
</head>
<body data-state="ready">
<header><div class="name">{_MARK}<div><p class="brand">Causeloop</p><h1>{title}</h1></div></div></header>
{body}
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return Response(page, status_code=status, media_type=MediaType.HTML, headers=headers)


@cache
def _house_style() -> str:
    return (files("runtime") / "dashboard" / "page.css").read_text()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
