"""Settings: environment variables → one frozen Struct, with all mistakes reported together."""

from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import FieldInfo

from runtime.errors import StartError

S = TypeVar("S", bound=Struct)

Port = Annotated[int, Meta(ge=1, le=65535)]
Environment = Literal["development", "test", "production"]


class SettingsError(StartError):
    """One or more environment variables are missing or wrong; names all of them."""


class ServiceSettings(Struct, frozen=True, kw_only=True):
    """What every service process reads from its environment.

    port: where its dashboard, probes and routes listen, on `host`.
    nats_url: the broker and event log, nats://user:password@host:port.
    database_url: the role that reads under row-level security.
    database_projector_url: the role that writes read models.
    database_owner_url: the role that owns them; makes schemas, replays, verifies; empty where another does it.
    partitions: number of event streams, fixed when the log is made.
    service_urls: dashboards of all services as name=url pairs, for the links on the page.
    operations_token: asked for by dashboard, /status.json and /metrics; while it is empty they are open, in
        production not there.
    """

    port: Port
    nats_url: str
    database_url: str
    database_projector_url: str
    database_owner_url: str = ""
    host: str = "127.0.0.1"
    partitions: Annotated[int, Meta(ge=1, le=64)] = 1
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    environment: Environment = "development"
    use_mock: bool = False
    log_level: str = "info"
    log_format: str = "json"
    otel_exporter_otlp_endpoint: str = ""
    service_urls: tuple[str, ...] = ()
    database_pool_size: Annotated[int, Meta(ge=1, le=200)] = 8
    operations_token: Annotated[str, Meta(min_length=16)] = ""


def load(kind: type[S], env: Mapping[str, str]) -> S:
    """Read every field of `kind` from the variable of the same name in upper case.

    An empty variable counts as absent. Raises SettingsError with every mistake at once.
    """
    values: dict[str, object] = {}
    mistakes: list[str] = []
    for field in msgspec.structs.fields(kind):
        name = field.name.upper()
        raw = env.get(name, "").strip()
        if not raw:
            if _is_required(field):
                mistakes.append(f"{name} is missing")
            continue
        try:
            values[field.name] = _convert(raw, field.type)
        except (msgspec.ValidationError, ValueError) as error:
            mistakes.append(f"{name} is wrong: {error}")
    if mistakes:
        raise SettingsError("Settings: " + "; ".join(mistakes) + ". See .env.example.")
    return kind(**values)


def _is_required(field: FieldInfo) -> bool:
    return field.default is NODEFAULT and field.default_factory is NODEFAULT


def _convert(raw: str, kind: object) -> object:
    """One variable's text as a value of the field's type."""
    plain = _plain(kind)
    if plain is Path:
        return Path(raw).expanduser()
    if plain is bool:
        return _as_bool(raw)
    if get_origin(plain) is tuple:
        parts = [part.strip() for part in raw.split(",") if part.strip()]
        return msgspec.convert(parts, plain, strict=False)
    return msgspec.convert(raw, kind, strict=False)


def _plain(kind: object) -> object:
    """The type without Annotated and without `| None`."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        rest = [arg for arg in get_args(kind) if arg is not type(None)]
        return _plain(rest[0]) if len(rest) == 1 else kind
    return kind


def _as_bool(raw: str) -> bool:
    match raw.lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
        case _:
            raise ValueError(f"expected true or false, got {raw!r}")
