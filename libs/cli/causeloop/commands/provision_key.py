"""`causeloop provision-key`: a key for provisioning clients over HTTP."""

from hashlib import sha256
from secrets import token_urlsafe
from typing import Final

import typer
from msgspec import Struct

from causeloop.console import answers, messages, print_json
from causeloop.options import AsJson

HELP: Final = """Make a key for POST /v1/provisioning/clients, and the hash that the gateway has to know.

  causeloop provision-key
  causeloop provision-key --json | jq -r .hash

The key is shown once and kept nowhere. Add the hash to CAUSELOOP_PROVISION_KEY_HASHES, a comma list, and restart the \
gateway; remove it there to end the key.
"""

PREFIX: Final = "clp_admin_"


class ProvisionKey(Struct, frozen=True):
    """A key, and its SHA-256 in hex."""

    key: str
    hash: str


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("provision-key", help=HELP)(provision_key)


def provision_key(as_json: AsJson = False) -> None:
    """Make a key."""
    key = PREFIX + token_urlsafe(32)
    made = ProvisionKey(key=key, hash=sha256(key.encode()).hexdigest())
    if as_json:
        print_json(made)
        return
    answers().print(f"key   {made.key}\nhash  {made.hash}", soft_wrap=True)
    messages().print("The key is shown only now. Put the hash into CAUSELOOP_PROVISION_KEY_HASHES.")
