"""Structured logs: one line per event on stderr, JSON or for people, always with the trace id."""

import logging
import sys
from typing import TextIO

import msgspec
import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from runtime.telemetry import current_trace_id

_QUIET_LOGGERS = ("uvicorn.access", "uvicorn.error", "httpx", "httpcore", "nats", "asyncio")


def configure(
    service: str, *, level: str = "info", as_json: bool = True, stream: TextIO | None = None
) -> None:
    """Set up structlog, and route the standard library's loggers through it.

    level: debug, info, warning or error. stream: where lines go, stderr by default.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    target = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace_id,
        _Named(service),
    ]
    rendering: list[Processor] = _json_rendering() if as_json else [_console(target)]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        # A stream of their own is for tests, which set up logging more than once.
        cache_logger_on_first_use=stream is None,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def _json_rendering() -> list[Processor]:
    # Without locals: they hold tokens and passwords.
    tracebacks = ExceptionRenderer(ExceptionDictTransformer(show_locals=False, max_frames=20))
    return [tracebacks, structlog.processors.JSONRenderer(_to_json)]


def _console(target: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=28
    )


def _to_json(line: EventDict, **_: object) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()


def _add_trace_id(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    trace_id = current_trace_id()
    if trace_id is not None:
        line.setdefault("trace_id", trace_id)
    return line


class _Named:
    """Adds the service's name to each line."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _: WrappedLogger, __: str, line: EventDict) -> EventDict:
        line.setdefault("service", self._service)
        return line
