"""Letters: to an SMTP server, or in development into a box that a page shows."""

import ssl
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib
from msgspec import Struct

CAUGHT_MAX = 100
TIMEOUT_SECONDS = 20.0
REASON_LENGTH_MAX = 300
_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


class Letter(Struct, frozen=True, kw_only=True):
    """A message to one address, in two forms that say the same."""

    to: str
    subject: str
    text: str
    html: str


class MailError(Exception):
    """A letter was not taken; the message is what the server said. is_final: trying again is pointless."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message[:REASON_LENGTH_MAX])
        self.is_final = is_final


class Transport(Protocol):
    """Where letters go."""

    async def send(self, letter: Letter, *, message_id: str, now: datetime) -> None:
        """Hand a letter over. message_id: the same each time it is tried. Raises MailError."""


class SmtpServer(Struct, frozen=True, kw_only=True):
    """A mail server as SMTP_URL names it.

    is_tls: encrypted from the first byte. needs_starttls: encrypted before anything is said; otherwise when offered.
    """

    host: str
    port: int
    username: str | None
    password: str | None
    is_tls: bool
    needs_starttls: bool


def read_smtp_url(url: str) -> SmtpServer:
    """The server behind smtp://, smtp+starttls:// or smtps://user:password@host:port. Raises ValueError.

    A password is never sent in the clear over a network: with one, smtp:// needs STARTTLS too unless the host is this
    machine.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("SMTP_URL begins with smtp://, smtp+starttls:// or smtps://")
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("SMTP_URL is scheme://user:password@host:port and nothing after that")
    if bool(parts.username) != bool(parts.password):
        raise ValueError("SMTP_URL has a user without a password, or a password without a user")
    return SmtpServer(
        host=parts.hostname,
        port=parts.port or _PORTS[parts.scheme],
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        is_tls=parts.scheme == "smtps",
        needs_starttls=parts.scheme == "smtp+starttls"
        or (parts.scheme == "smtp" and bool(parts.username) and not _is_this_machine(parts.hostname)),
    )


def is_address(text: str) -> bool:
    """Whether MAIL_FROM can be a sender: an address, with a name before it or without."""
    address = parseaddr(text)[1]
    return "@" in address and "\n" not in text and "\r" not in text


class Smtp:
    """Hands letters to a mail server, one connection each: invitations are few.

    authorities: whose certificates are believed (PEM) beside those of this machine.
    """

    def __init__(self, server: SmtpServer, *, sender: str, authorities: str = "") -> None:
        self._server = server
        self._sender = sender
        self._authorities = authorities

    async def send(self, letter: Letter, *, message_id: str, now: datetime) -> None:
        """Hand a letter over. Raises MailError."""
        server = self._server
        try:
            await aiosmtplib.send(
                self._message(letter, message_id, now),
                hostname=server.host,
                port=server.port,
                username=server.username,
                password=server.password,
                use_tls=server.is_tls,
                # None: when the server offers it.
                start_tls=False if server.is_tls else server.needs_starttls or None,
                tls_context=self._trusted(),
                timeout=TIMEOUT_SECONDS,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            refused = error.recipients[0]
            raise MailError(_said(refused), is_final=_is_final(refused.code)) from error
        except aiosmtplib.SMTPAuthenticationError as error:
            # Not final: whoever runs the gateway can put the password right.
            raise MailError(f"The mail server refused our user name or password: {_said(error)}") from error
        except aiosmtplib.SMTPResponseException as error:
            raise MailError(_said(error), is_final=_is_final(error.code)) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise MailError(f"The mail server cannot be reached safely: {error}") from error

    def _trusted(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._authorities:
            context.load_verify_locations(cadata=self._authorities)
        return context

    def _message(self, letter: Letter, message_id: str, now: datetime) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = letter.to
        message["Subject"] = letter.subject
        message["Date"] = format_datetime(now)
        domain = parseaddr(self._sender)[1].rpartition("@")[2]
        message["Message-ID"] = f"<{message_id}@{domain}>" if message_id else make_msgid(domain=domain)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        message.add_alternative(letter.html, subtype="html")
        return message


class Caught(Struct, frozen=True):
    """A letter that nobody sent. caught_at: when it would have gone."""

    letter: Letter
    caught_at: datetime


class Catcher:
    """Keeps the last letters in memory instead of sending them; for development only."""

    def __init__(self) -> None:
        self._caught: deque[Caught] = deque(maxlen=CAUGHT_MAX)

    async def send(self, letter: Letter, *, message_id: str, now: datetime) -> None:
        """Keep a letter."""
        del message_id
        self._caught.append(Caught(letter, now))

    @property
    def caught(self) -> Sequence[Caught]:
        """The last letters, newest first."""
        return tuple(reversed(self._caught))


def _said(error: aiosmtplib.SMTPResponseException) -> str:
    return f"{error.code} {error.message}"


def _is_final(code: int) -> bool:
    """RFC 5321, 4.2.1: 5yz is for good, 4yz may pass."""
    return 500 <= code < 600


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
