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

MARKS: Final = (SECRET, EMAIL, IP, LINK)

_BLOCK = re.compile(
    r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}.*?"
    r"(?:-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|\Z)"
    r"|PuTTY-User-Key-File-\d.*?(?:Private-MAC:[^\n]*|\Z)",
    re.S | re.I,
)
# Prefixes that providers give their keys, so that scanners find them; ours among them.
_PREFIXED = re.compile(
    r"\b(?:(?:sk-|sk_live_|rk_live_|pk_live_|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|AKIA|ASIA|AIza|ya29\.|npm_"
    r"|pypi-|dop_v1_|SG\.|hf_|clp_|cl_|whsec_|AGE-SECRET-KEY-|eyJ[\w-]{6,}\.)[\w.\-+/=]{8,}"
    r"|(?i:A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16})\b)"
)
_SCHEME = re.compile(r"\b(bearer|basic|digest|token)\s+[\w.\-+/=~]{8,}", re.I)
# A value in quotes, escaped as often as the one that opens it; a list or an object; to its end, wherever that is.
_QUOTED = r"""(?P<quote>\\*["']).*?(?:(?<!\\)(?P=quote)|$)|[\[{][^\]}]*[\]}]?"""
_SEPARATOR = r"""(?:%22|\\*["'])?\s{0,3}(?:=>|:=|[=:]|%3[ad])\s{0,3}"""
# What headers say has spaces and semicolons, so all of the line goes.
_HEADER = re.compile(
    rf"(?:\b|(?<=\\[rn]))((?:proxy-)?authorization|(?:set-)?cookies?2?)({_SEPARATOR})(?!{SECRET})"
    rf"(?:{_QUOTED}|[^\s](?:(?!\\[rn]).)*)",
    re.I | re.M,
)
_NAMES = (
    r"(?:passw(?:or)?d|passwd|passphrase|passcode|pwd|(?<!by)(?<!com)(?<!over)(?<!under)(?<!tres)(?<!sur)pass(?![a-z])"
    r"|secret|token|api[_-]?key|(?:access|private|account|auth|encryption|signing|master)[_-]?key"
    r"|credential|authorization|cookie|session[_-]?id|signature|jwt)[\w.-]{0,20}"
)
_NAMED = re.compile(rf"""({_NAMES}{_SEPARATOR})(?:{_QUOTED}|[^\s,;&"')\]}}]{{3,}})""", re.I | re.M)
# Beside each other: {"name": "DB_PASSWORD", "value": "…"}, <add key="Password" value="…"/>
_BESIDE = re.compile(
    rf"""(\b(?:key|name){_SEPARATOR}\\*["'][\w.-]{{0,60}}{_NAMES}\\*["'][\s,]{{0,20}}\\*["']?value{_SEPARATOR})"""
    rf"""(?:{_QUOTED})""",
    re.I | re.M,
)
_ELEMENT = re.compile(
    rf"((?:<|&lt;)[\w.:-]{{0,60}}{_NAMES}(?:\s[^<>]{{0,300}})?(?:>|&gt;)"
    rf"|<\w[^<>]{{0,100}}\b(?:key|name)=[\"'][\w.-]{{0,60}}{_NAMES}[\"'][^<>]{{0,300}}(?<!/)>)"
    r"(?:<!\[CDATA\[.*?(?:\]\]>|\Z)|[^<&]+)",
    re.I | re.S,
)
_ARGUMENT = re.compile(
    rf"(?<!\S)(--?[\w-]{{0,40}}{_NAMES}\s{{1,3}})[^\s-]\S*"
    r"|(\bmysql\w*\s[^\n]{0,200}?\s-p)\S+|(\bcurl\s[^\n]{0,200}?\s-u\s{0,3})\S+",
    re.I,
)
_USERINFO = re.compile(r"""\b([a-z][a-z0-9+.-]{1,20}://)[^\s/"'<>]{1,300}@""", re.I)
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
    text = _HEADER.sub(rf"\1\2{SECRET}", text)
    text = _USERINFO.sub(rf"\1{SECRET}@", text)
    text = _PREFIXED.sub(SECRET, text)
    text = _SCHEME.sub(rf"\1 {SECRET}", text)
    text = _ELEMENT.sub(rf"\1{SECRET}", text)
    text = _BESIDE.sub(rf"\1{SECRET}", text)
    text = _NAMED.sub(rf"\1{SECRET}", text)
    text = _ARGUMENT.sub(rf"\1\2\3{SECRET}", text)
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
