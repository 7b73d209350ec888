"""What `causeloop up` reads from the environment and from a `.env` file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from causeloop.exits import UsageError


class UpSettings(Struct, frozen=True, kw_only=True):
    """Variables that `up` itself acts on; all others go to the services as they are.

    port: of the gateway; the other services take the four ports after it.
    database_url: a PostgreSQL to use instead of the embedded one: with a role that may create roles and
    databases, or together with database_projector_url and database_owner_url, which are then used as they are.
    nats_url: a nats-server with JetStream to use instead of the embedded one.
    postgres_port, nats_port: of the embedded servers; 0 takes a free one.
    nats_sync_interval: "always", or how many seconds of accepted writes a crash of the machine may cost.
    jwt_secret, causeloop_master_key: made once and kept in the data folder when empty.
    """

    port: Annotated[int, Meta(ge=1, le=65531)] = 4000
    host: str = "127.0.0.1"
    causeloop_data: Path = Path(".causeloop")
    database_url: str = ""
    database_projector_url: str = ""
    database_owner_url: str = ""
    nats_url: str = ""
    postgres_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    nats_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    nats_sync_interval: str = "1s"
    use_mock: bool = False
    jwt_secret: str = ""
    causeloop_master_key: str = ""


def with_env_file(environment: Mapping[str, str], path: Path) -> dict[str, str]:
    """The environment, completed by the lines of a `.env` file when it exists; what is set already wins.

    Raises UsageError for a line that is neither a comment nor NAME=value.
    """
    completed = dict(environment)
    if not path.is_file():
        return completed
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.removeprefix("export ").partition("=")
        if not equals or not name.strip().isidentifier():
            raise UsageError(f"{path} line {number} is not NAME=value: {text}", advice="See .env.example.")
        if not completed.get(name.strip()):
            completed[name.strip()] = _unquoted(value.strip())
    return completed


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value.partition(" #")[0].rstrip()
