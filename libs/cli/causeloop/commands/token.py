"""`causeloop token`: a token for curl."""

from pathlib import Path
from typing import Final

import typer

from causeloop.api import Token, connected
from causeloop.console import print_json, run_async
from causeloop.options import DEFAULT_FOLDER, AccessToken, AsJson, Folder, Url

HELP: Final = """Print an access token, for curl and scripts.

  export TOKEN=$(causeloop token)
  curl -s localhost:4000/v1/patterns -H "Authorization: Bearer $TOKEN"

It comes from POST /v1/auth/exchange, which a demo or development gateway answers without an identity provider.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("token", help=HELP)(token_)


def token_(
    url: Url = None, token: AccessToken = None, data: Folder = DEFAULT_FOLDER, as_json: AsJson = False
) -> None:
    """Print a token."""
    granted = run_async(_granted(url, token, data))
    if as_json:
        print_json(granted)
    else:
        typer.echo(granted.access_token)


async def _granted(url: str | None, token: str | None, folder: Path) -> Token:
    async with connected(url=url, token=token, folder=folder) as api:
        return api.token
