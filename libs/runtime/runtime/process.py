"""The main function of every service: `serve`, `replay` and `verify`, with honest exit codes."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

import msgspec
import psycopg
import structlog
import uvloop
from eventlog import Certificate, EventLogError, Projection, rebuild, verify

from runtime import VERSION, logs, telemetry
from runtime.errors import StartError, described
from runtime.service import Resources, Service
from runtime.serving import connected, ensure_schema, serve
from runtime.settings import ServiceSettings, load

log = structlog.get_logger()

S = TypeVar("S", bound=ServiceSettings)

EXIT_BROKEN = 1
EXIT_DIFFERENT = 3
EXIT_CANNOT_START = 78
"""EX_CONFIG: trying again without changing anything will not help."""


def main(
    service: str,
    build: Callable[[S, Resources], Service],
    *,
    settings: type[S],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run a service as `python -m services.<service> [serve|replay|verify] [--json]`; never returns.

    Exit codes: 0 done or stopped as asked, 1 a part broke, 3 verify found a difference, 78 cannot start.
    """
    options = _parser(service).parse_args(arguments)
    try:
        loaded = load(settings, os.environ)
        as_json = loaded.log_format == "json"
        logs.configure(service, level=loaded.log_level, as_json=as_json)
        telemetry.configure(service, endpoint=loaded.otel_exporter_otlp_endpoint, version=VERSION)
        sys.exit(_run(_work(options.action, service, loaded, build, as_json=options.json)))
    except StartError as error:
        print(f"{service}: {error}", file=sys.stderr)
        sys.exit(EXIT_CANNOT_START)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # the outermost edge: a bug is logged once, with its trace
        log.exception("service.crashed", error=described(error))
        sys.exit(EXIT_BROKEN)


def _run(work: Coroutine[None, None, int]) -> int:
    return asyncio.Runner(loop_factory=uvloop.new_event_loop).run(work)


def _parser(service: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{service}", description=f"The {service} service of Causeloop."
    )
    parser.add_argument(
        "action",
        nargs="?",
        default="serve",
        choices=("serve", "replay", "verify"),
        help="serve: run it. replay: rebuild its read model from the log and switch. "
        "verify: rebuild beside and compare with the live one.",
    )
    parser.add_argument("--json", action="store_true", help="print the result of replay or verify as JSON")
    return parser


async def _work(
    action: str, name: str, settings: S, build: Callable[[S, Resources], Service], *, as_json: bool
) -> int:
    if action == "serve":
        return await serve(name, settings, build)
    if not settings.database_owner_url:
        raise StartError(f"{action} needs DATABASE_OWNER_URL, the role that owns the read models.")
    async with connected(name, settings) as resources:
        projection = build(settings, resources).projection
        if projection is None:
            raise StartError(f"{name} has no read model.")
        await ensure_schema(resources, settings, projection)
        try:
            if action == "replay":
                return await _replay(resources, settings, projection, as_json=as_json)
            return await _verify(resources, settings, projection, as_json=as_json)
        except (EventLogError, psycopg.OperationalError) as error:
            raise StartError(f"{action} did not finish: {error}") from error


async def _replay(
    resources: Resources, settings: ServiceSettings, projection: Projection, *, as_json: bool
) -> int:
    positions = await rebuild(
        resources.event_log,
        projection,
        owner_url=settings.database_owner_url,
        projector_url=settings.database_projector_url,
    )
    if as_json:
        report = {"service": projection.name, "version": projection.version, "positions": positions}
        print(msgspec.json.encode(report).decode())
    else:
        reached = ", ".join(f"partition {number} at {position}" for number, position in positions.items())
        print(f"{projection.name}: rebuilt and switched; {reached}.")
    return 0


async def _verify(
    resources: Resources, settings: ServiceSettings, projection: Projection, *, as_json: bool
) -> int:
    certificate = await verify(
        resources.event_log,
        projection,
        owner_url=settings.database_owner_url,
        projector_url=settings.database_projector_url,
    )
    if as_json:
        body = {**msgspec.to_builtins(certificate), "is_equal": certificate.is_equal}
        print(msgspec.json.encode(body).decode())
    else:
        print(_describe(certificate))
    return 0 if certificate.is_equal else EXIT_DIFFERENT


def _describe(certificate: Certificate) -> str:
    """The certificate for people: one line per workspace and table that differs, and the sum."""
    different = [
        f"  {table.workspace_id} {table.table}: live {table.live_rows} rows ({table.live_sha256}), "
        f"rebuilt {table.rebuilt_rows} rows ({table.rebuilt_sha256})"
        for table in certificate.tables
        if not table.is_equal
    ]
    rows = sum(table.live_rows for table in certificate.tables)
    word = "differs from" if different else "equals"
    first = f"{certificate.service}: the live read model {word} its replay; {rows} rows, positions {certificate.positions}."
    return "\n".join([first, *different])
