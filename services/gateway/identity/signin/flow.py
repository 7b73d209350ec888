"""One sign-in on its way to the provider and back, pure: it travels sealed in the browser's cookie."""

import re
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe
from urllib.parse import urlencode

import msgspec
from msgspec import Struct
from runtime.errors import ValidationFailedError
from runtime.sealing import MasterKeys, Place, SealError

from services.gateway.errors import InvalidGrantError
from services.gateway.identity.signin.providers import SCOPES

FLOW_SECONDS = 600
PATH_PATTERN = r"^/(?:[A-Za-z0-9_.~!$&'()*+,;=:@%?#-][A-Za-z0-9_.~!$&'()*+,;=:@%/?#-]*)?$(?!\n)"
"""A path of ours: no second slash or backslash at its beginning, which a browser would take for another host."""
_PATH = re.compile(PATH_PATTERN)
_PLACE = Place("cookie", "sign-in", "flow")


class Flow(Struct, frozen=True, kw_only=True):
    """What has to come back unchanged.

    connection_id: the workspace's provider that is asked; empty: the platform's. workspace_id: where to; empty: the
    person's first. consenting: the signed-in person who agrees to be this provider's subject; empty: nobody.
    invitation_token: of an invitation that is accepted with it, or empty. code_verifier: of PKCE (RFC 7636). expires_at: Unix time.
    """

    state: str
    nonce: str
    code_verifier: str
    connection_id: str
    workspace_id: str
    consenting: str
    invitation_token: str
    redirect_to: str
    expires_at: int

    @classmethod
    def begun(
        cls,
        *,
        connection_id: str,
        workspace_id: str,
        consenting: str,
        redirect_to: str,
        now: datetime,
        invitation_token: str = "",
    ) -> "Flow":
        """A new one. Raises ValidationFailedError unless redirect_to is a path of ours."""
        if not _PATH.fullmatch(redirect_to):
            raise ValidationFailedError(
                "redirect_to has to be a path.", details={"redirect_to": "expected a path"}
            )
        return cls(
            state=token_urlsafe(32),
            nonce=token_urlsafe(32),
            code_verifier=token_urlsafe(48),
            connection_id=connection_id,
            workspace_id=workspace_id,
            consenting=consenting,
            invitation_token=invitation_token,
            redirect_to=redirect_to,
            expires_at=int((now + timedelta(seconds=FLOW_SECONDS)).timestamp()),
        )

    def sealed(self, keys: MasterKeys) -> str:
        """As the cookie has it."""
        return keys.seal(msgspec.json.encode(self), _PLACE)

    @classmethod
    def returned(cls, cookie: str, state: str, keys: MasterKeys, *, now: datetime) -> "Flow":
        """The one that the cookie holds. Raises InvalidGrantError unless it is this one, and in time."""
        try:
            flow = msgspec.json.decode(keys.open(cookie, _PLACE), type=cls)
        except (SealError, msgspec.DecodeError) as error:
            raise InvalidGrantError("The sign-in did not begin in this browser. Begin again.") from error
        if not compare_digest(flow.state.encode(), state.encode()):
            raise InvalidGrantError("The answer belongs to another sign-in (state). Begin again.")
        if flow.expires_at <= now.timestamp():
            raise InvalidGrantError("The sign-in took too long. Begin again.")
        return flow

    def address(
        self, authorization_endpoint: str, *, client_id: str, redirect_uri: str, login_hint: str
    ) -> str:
        """Where the browser is sent to."""
        challenge = urlsafe_b64encode(sha256(self.code_verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": SCOPES,
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **({"login_hint": login_hint} if login_hint else {}),
        }
        separator = "&" if "?" in authorization_endpoint else "?"
        return f"{authorization_endpoint}{separator}{urlencode(asked)}"
