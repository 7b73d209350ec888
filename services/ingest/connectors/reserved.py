"""What a connector's secrets are called that are kept by us: a manifest may ask for none of these."""

from typing import Final

from contracts import WEBHOOK_SECRET

WEBHOOK_PREVIOUS: Final = "webhook_secret_previous"
"""The one before, behind the second (UTC) until which it counts and a colon."""
WEBHOOK_UNREAD: Final = "webhook_secret_unread"
"""A secret that the vendor gave and that a person has to give back to it: shown once."""
WEBHOOK_FIRST_UNTIL: Final = "webhook_secret_first_until"
"""Until which second (UTC) a vendor's first call may bring a secret in place of the one there is."""
OF_WEBHOOKS: Final = frozenset({WEBHOOK_SECRET, WEBHOOK_PREVIOUS, WEBHOOK_UNREAD, WEBHOOK_FIRST_UNTIL})
"""What proves a connector's webhooks: no request is signed in with it, and it stays where credentials go."""
GIVEN_FOR: Final = "given-for"
"""Beside a connector's credentials: the address that they were given for. No placeholder can have that name."""
TOKEN: Final = "oauth_token"  # noqa: S105 - the name of a secret

RESERVED: Final = OF_WEBHOOKS | {TOKEN, GIVEN_FOR}
"""None of a request's; any other name is a manifest's to choose."""
