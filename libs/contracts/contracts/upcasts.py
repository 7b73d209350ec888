"""How events of old versions are read: one step per version, applied before decoding.

An event keeps its type for ever. When a change of its meaning is unavoidable, a new type is added to
proto/ (`causeloop.ingest.v2.IssueReported`), the old message leaves the generated modules, and a step
here turns the old data into the next version's. Steps chain until a known type is reached.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct


class Upcast(Struct, frozen=True):
    """One step: the type that the data has afterwards, and how it gets there."""

    new_type: str
    convert: Callable[[dict[str, object]], dict[str, object]]


UPCASTS: Mapping[str, Upcast] = {}
"""Old type to its step. Empty: no released event has been replaced yet."""
