"""A tracker as it is asked over HTTP: make a ticket, look one up by its marker, ask where one stands."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import msgspec
from runtime.outbound import Answer, Outbound

from services.ingest.connectors import tickets
from services.ingest.connectors.connecting import Source
from services.ingest.connectors.expressions import ExpressionError
from services.ingest.connectors.manifest import (
    ApiKey,
    AuthorizationCode,
    Basic,
    ClientCredentials,
    Find,
    JwtBearer,
    Push,
    TicketStatus,
)
from services.ingest.connectors.templates import TemplateError, Values, fill_text, folders_of
from services.ingest.errors import VendorError
from services.ingest.vendors import atlassian
from services.ingest.vendors.error_codes import code_of
from services.ingest.vendors.oauth import trusting, values_of
from services.ingest.vendors.redaction import words
from services.ingest.vendors.session import is_spent, retry_after, wants_sign_in
from services.ingest.vendors.transport import send

_STATUS_REFUSED: Final = frozenset({401, 403})
_STATUS_LIMITED: Final = 429
_STATUS_SPENT: Final = frozenset({400, 403})
"""What some answer in its place, with headers that say so."""
_STATUS_UNKNOWN: Final = frozenset({408, 409, 425})
"""4xx that do not say that nothing was done."""


class RefusedError(VendorError):
    """A vendor says what is wrong with what was asked of it; nothing was done, and its connector is as good as before."""


class UnsettledError(VendorError):
    """The tracker may have made the ticket: the answer was lost, or says of a trouble of its own."""


class Tracker:
    """One connector's tracker. secrets: as Grants.fresh gives them."""

    def __init__(self, source: Source, push: Push, secrets: Mapping[str, str], outbound: Outbound) -> None:
        self._source = source
        self._push = push
        self._secrets = secrets
        self._outbound = trusting(outbound, source)

    async def create(self, given: Mapping[str, object]) -> tickets.Made:
        """Make a ticket. Raises UnsettledError where it may be there nevertheless, other VendorErrors where it is not."""
        request = self._request(self._push, given)
        base = await self._base()
        try:
            answer = await self._send(base, request)
        except VendorError as error:
            # Whatever was not sent is not done.
            if error.code == "unreachable" and getattr(error.__cause__, "is_sent", True):
                raise UnsettledError(error.code, error.detail) from error
            raise
        if answer.status >= 500 or answer.status in _STATUS_UNKNOWN:
            raise UnsettledError("vendor_failed", self._said(answer))
        if 400 <= answer.status < 500:
            raise _refusal(_told(answer), self._said(answer), answer)
        body = self._body(answer)
        found = self._made(self._push, body, given, answer)
        if found is None:
            # It took the request, yet says nothing that we understand.
            raise UnsettledError("bad_answer", "the tracker's answer names no ticket")
        return found

    async def find(self, given: Mapping[str, object]) -> tickets.Made | None:
        """The ticket that has the marker; None where there is none, or the tracker cannot be asked for it."""
        part = self._push.find
        if part is None:
            return None
        answer = await self._send(await self._base(), self._request(part, given))
        return self._made(part, self._body(answer), given, answer)

    async def standing(self, given: Mapping[str, object]) -> tuple[tickets.TicketState, str] | None:
        """Where the ticket `id` stands; None where the tracker does not say, or the manifest does not know how to ask."""
        part = self._push.status
        if part is None:
            return None
        body = self._body(await self._send(await self._base(), self._request(part, given)))
        try:
            return tickets.standing(part, body, given)
        except ExpressionError as error:
            raise VendorError("bad_answer", str(error)) from error

    def _request(self, part: Push | Find | TicketStatus, given: Mapping[str, object]) -> tickets.Request:
        return tickets.request(part, given, folders=folders_of(self._source.manifest))

    def _made(
        self, part: Push | Find, body: object, given: Mapping[str, object], answer: Answer
    ) -> tickets.Made | None:
        try:
            found = tickets.made(part, self._push, body, given)
        except ExpressionError as error:
            raise UnsettledError("bad_answer", str(error)) from error
        except TemplateError as error:
            raise UnsettledError("bad_answer", error.detail) from error
        refused = "" if found else _refused(body)
        if refused and part is self._push:
            raise _refusal(_told(answer), self._words(refused), answer)
        if refused:
            raise VendorError("vendor_failed", self._words(refused))
        return found

    async def _base(self) -> str:
        """What all paths stand behind. With a grant some vendors have another address for each account."""
        values = Values(self._source.manifest, self._source.settings.config)
        if isinstance(self._source.auth, AuthorizationCode):
            if "instance_url" in self._secrets:
                return self._secrets["instance_url"].rstrip("/")
            if self._source.manifest.adapter == "instance":
                request = tickets.Request("GET", atlassian.SITES, {}, None)
                sites = self._body(await self._send(atlassian.ADDRESS, request))
                return atlassian.jira_url(sites, values.option("site"))
        return values.base_url(self._source.manifest)

    async def _send(self, base: str, request: tickets.Request) -> Answer:
        headers = {"accept": "application/json", "user-agent": "Causeloop"}
        if request.json is not None:
            headers["content-type"] = "application/json"
        both = {**self._source.manifest.headers, **request.headers}
        headers |= {name.lower(): fill_text(text, values_of(self._source)) for name, text in both.items()}
        signed, params = self._signed()
        if not request.path.startswith("/"):
            # What follows the host would be part of its name.
            raise VendorError("not_configured", "a path begins with /")
        url = base + request.path
        for name, value in params.items():
            url += f"{'&' if '?' in url else '?'}{quote(name, safe='')}={quote(value, safe='')}"
        content = b"" if request.json is None else msgspec.json.encode(request.json)
        answer = await send(self._outbound, request.method, url, headers=headers | signed, content=content)
        if answer.status == _STATUS_LIMITED or (answer.status in _STATUS_SPENT and is_spent(answer.headers)):
            raise VendorError("rate_limited", self._said(answer), retry_after=retry_after(answer.headers))
        if wants_sign_in(answer.status, answer.headers):
            raise VendorError(
                "credentials_rejected", f"the tracker answered {answer.status}: a page to sign in"
            )
        if answer.status in _STATUS_REFUSED:
            raise VendorError("credentials_rejected", self._said(answer))
        return answer

    def _signed(self) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and parameters that say who asks."""
        auth = self._source.auth
        secrets = {f"secret.{name}": secret for name, secret in self._secrets.items()}
        given: dict[str, object] = {**values_of(self._source), **secrets}
        match auth:
            case ApiKey():
                headers = {name.lower(): fill_text(text, given) for name, text in auth.headers.items()}
                return headers, {name: fill_text(text, given) for name, text in auth.params.items()}
            case Basic():
                pair = f"{fill_text(auth.username, given)}:{fill_text(auth.password, given)}"
                return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}, {}
            case AuthorizationCode() | ClientCredentials() | JwtBearer():
                return {"authorization": f"Bearer {self._secrets['access_token']}"}, {}
            case _:
                return {}, {}

    def _body(self, answer: Answer) -> object:
        if not 200 <= answer.status < 300:
            raise VendorError("vendor_failed", self._said(answer))
        try:
            return msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UnsettledError("bad_answer", "the tracker answered something else than JSON") from error

    def _said(self, answer: Answer) -> str:
        return self._words(f"the tracker answered {answer.status}: {answer.body.decode(errors='replace')}")

    def _words(self, text: str) -> str:
        return words(text, self._secrets.values())


def _refusal(errors: object, said: str, answer: Answer) -> VendorError:
    """What an answer with errors means for the ticket that was asked for."""
    code = code_of(errors)
    if code == "rate_limited":
        return VendorError(code, said, retry_after=retry_after(answer.headers))
    if code == "vendor_failed":
        return UnsettledError(code, said)
    return RefusedError("not_configured", said)


def _errors(body: object) -> object:
    """What is wrong: GraphQL (https://spec.graphql.org, 7.1), Slack; None: nothing."""
    if not isinstance(body, dict):
        return None
    return body.get("errors") or (body.get("error", "refused") if body.get("ok") is False else None)


def _refused(body: object) -> str:
    """What is wrong, where it is said with status 200; empty: nothing."""
    errors = _errors(body)
    return msgspec.json.encode(errors).decode() if errors else ""


def _told(answer: Answer) -> object:
    """What an answer says is wrong; None where it cannot be read."""
    try:
        return _errors(msgspec.json.decode(answer.body))
    except (msgspec.DecodeError, RecursionError):
        return None
