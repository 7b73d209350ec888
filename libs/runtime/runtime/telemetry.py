"""Traces: W3C traceparent in and out, spans where they pay, an exporter only where one is configured."""

import importlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UUID_MARKS = (0x4 << 76) | (0x8 << 60)
_UUID_MASK = ~((0xF << 76) | (0xC << 60))

# Ids must differ, not be unguessable, and the system's generator costs a call each.
_rng = random.Random(random.SystemRandom().getrandbits(256))


class _Exporting:
    """Where spans are recorded in this process; nowhere at first."""

    tracer: Tracer | None = None


_exporting = _Exporting()


def configure(service: str, *, endpoint: str = "", version: str = "0.0.0") -> Tracer:
    """The process's tracer; exports by OTLP over HTTP when `endpoint` is set.

    Without an endpoint the SDK is not even imported: ids still flow through logs and envelopes.
    """
    if endpoint:
        importlib.import_module("runtime.trace_export").start(service, endpoint=endpoint, version=version)
        _exporting.tracer = trace.get_tracer("causeloop")
    return trace.get_tracer("causeloop")


def parse(traceparent: str | None) -> SpanContext | None:
    """The span context that a traceparent names, or None when there is none or it is malformed."""
    if traceparent is None or len(traceparent) != 55 or traceparent[:3] != "00-":
        return None
    try:
        found = SpanContext(
            trace_id=int(traceparent[3:35], 16),
            span_id=int(traceparent[36:52], 16),
            is_remote=True,
            trace_flags=TraceFlags(int(traceparent[53:55], 16)),
        )
    except ValueError:
        return None
    return found if found.is_valid else None


def format_traceparent(span: SpanContext) -> str:
    """The W3C traceparent of a span context."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"


def current_traceparent() -> str | None:
    """The traceparent of the span around this call, to put into an envelope or a header."""
    span = trace.get_current_span().get_span_context()
    return format_traceparent(span) if span.is_valid else None


def current_trace_id() -> str | None:
    """The trace id around this call as 32 hex digits."""
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid else None


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id inside a traceparent, without parsing the rest."""
    return traceparent[3:35] if traceparent is not None and len(traceparent) == 55 else None


@contextmanager
def span_from(
    traceparent: str | None,
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    links: Sequence[str | None] = (),
) -> Iterator[Span]:
    """A span that continues `traceparent`, or begins a new trace, and is current inside the block.

    links: traceparents of what this span works on without being its child, as a batch on its events.
    """
    parent = parse(traceparent)
    if _exporting.tracer is None:
        # Nobody records spans, so only the ids go on: this is on every request's path.
        span: Span = NonRecordingSpan(_child_of(parent))
    else:
        parent_context = None if parent is None else trace.set_span_in_context(NonRecordingSpan(parent))
        linked = [Link(found) for found in map(parse, links) if found is not None]
        span = _exporting.tracer.start_span(name, context=parent_context, kind=kind, links=linked)
    token = context.attach(trace.set_span_in_context(span))
    try:
        yield span
    finally:
        context.detach(token)
        span.end()


def _child_of(parent: SpanContext | None) -> SpanContext:
    """New ids under a parent: what the SDK would do, without recording anything."""
    current = parent or trace.get_current_span().get_span_context()
    trace_id = current.trace_id if current.is_valid else _new_trace_id()
    return SpanContext(trace_id, _rng.getrandbits(64) or 1, is_remote=False, trace_flags=_SAMPLED)


def _new_trace_id() -> int:
    """A random trace id with the marks of a UUID 4, since HTTP shows it as one."""
    return (_rng.getrandbits(128) & _UUID_MASK) | _UUID_MARKS
