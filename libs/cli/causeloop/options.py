"""The options that commands share, declared once."""

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_FOLDER: Final = Path(".causeloop")

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="CAUSELOOP_URL", help="Address of the API; default: the one that runs here."
    ),
]
AccessToken = Annotated[
    str | None,
    typer.Option("--token", envvar="CAUSELOOP_TOKEN", help="Access token; default: a new one from the API."),
]
Folder = Annotated[
    Path, typer.Option("--data", envvar="CAUSELOOP_DATA", help="Data folder of the Causeloop that runs here.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]

WITH_VALUE: Final = frozenset({"--url", "--token", "--data"})
"""Shared options that take a value."""

FLAGS: Final = frozenset({"--json"})
"""Shared options that do not."""
