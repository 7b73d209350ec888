"""Texts without what must not leave: secrets always, e-mail and IP addresses as the workspace wants.

A net, not a proof: it knows the shapes that keys, tokens and addresses commonly have.
"""

import re
from ipaddress import ip_address
from typing import Final

from msgspec import Struct

SECRET: Final = "«secret»"  # noqa: S105  # what stands in a secret's place
EMAIL: Final = "«e-mail»"
IP: Final = "«ip»"
LINK: Final = "«link»"

_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.{0,8192}?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.S
)
# Prefixes that providers give their keys, so that scanners find them; ours among them.
_PREFIXED = re.compile(
    r"\b(?:sk-|sk_live_|rk_live_|pk_live_|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|AKIA|ASIA|AIza|ya29\.|npm_|pypi-"
    r"|dop_v1_|SG\.|hf_|clp_|cl_|whsec_|eyJ[\w-]{6,}\.)[\w.\-+/=]{8,}"
)
_HEADER = re.compile(r"\b(bearer|basic|digest|token)\s+[\w.\-+/=~]{8,}", re.I)
_NAMED = re.compile(
    r"""(?ix)
    (?<![\w.-])([\w.-]{0,60}(?:passw(?:or)?d|passwd|pwd|secret|token|api[_-]?key|apikey|access[_-]?key|private[_-]?key
        |credential|authorization|cookie|session[_-]?id|signature)[\w.-]{0,20}["']?\s{0,3}(?:=|:|=>)\s{0,3})
    ("[^"\n]{1,400}"|'[^'\n]{1,400}'|[^\s,;&"')\]}]{3,400})""",
)
_USERINFO = re.compile(r"\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@:]{1,100}:[^\s/@]{1,200}@", re.I)
# Forty characters and more of an alphabet for keys, with digits and letters: no word, and rarely an id worth telling.
_LONG = re.compile(r"(?<![\w/+-])(?=[\w+/-]*\d)(?=[\w+/-]*[A-Za-z])[A-Za-z0-9_+/-]{40,}={0,2}")
_EMAIL = re.compile(r"\b[\w.%+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}\b")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])", re.I)
_LINK = re.compile(
    r"!?\[([^\]\n]{0,200})\]\([^)\n]{0,2000}\)|\b(?:https?|ftp|data|javascript):[^\s<>\"')\]]+", re.I
)


class Redaction(Struct, frozen=True, kw_only=True):
    """What is taken out besides secrets."""

    emails: bool = True
    ip_addresses: bool = True


def redact(text: str, kinds: Redaction) -> str:
    """The text with a word in the place of everything that must not leave."""
    text = _BLOCK.sub(SECRET, text)
    text = _USERINFO.sub(rf"\1{SECRET}@", text)
    text = _PREFIXED.sub(SECRET, text)
    text = _HEADER.sub(rf"\1 {SECRET}", text)
    text = _NAMED.sub(rf"\1{SECRET}", text)
    text = _LONG.sub(SECRET, text)
    if kinds.emails:
        text = _EMAIL.sub(EMAIL, text)
    if kinds.ip_addresses:
        text = _IPV6.sub(_address, _IPV4.sub(_address, text))
    return text


def without_links(text: str) -> str:
    """The text without addresses that a reader, or a page, could follow."""
    return _LINK.sub(LINK, text)


def _address(found: re.Match[str]) -> str:
    try:
        ip_address(found[0])
    except ValueError:
        return found[0]
    return IP
