"""What every document about events says alike: subjects, the envelope's attributes, names of types."""

from msgspec import Struct

from codegen.model import Message

SCHEMA_PREFIX = "urn:causeloop:schema:"


class EnvelopeAttribute(Struct, frozen=True):
    """One CloudEvents attribute of the envelope."""

    name: str
    meaning: str
    is_required: bool = True
    is_moment: bool = False


ENVELOPE: tuple[EnvelopeAttribute, ...] = (
    EnvelopeAttribute("type", "`causeloop.<context>.v1.<Event>`."),
    EnvelopeAttribute("id", "Unique within the log, prefix `evt_`; a repeated delivery has the same id."),
    EnvelopeAttribute("source", "`/causeloop/<service that emitted it>`."),
    EnvelopeAttribute("subject", "`<aggregate type>/<aggregate id>`."),
    EnvelopeAttribute("time", "When it happened.", is_moment=True),
    EnvelopeAttribute("dataschema", f"`{SCHEMA_PREFIX}<type>`."),
    EnvelopeAttribute("workspaceid", "The workspace, prefix `ws_`."),
    EnvelopeAttribute("recordedtime", "When it was decided to append it.", is_moment=True),
    EnvelopeAttribute("specversion", "Always `1.0`."),
    EnvelopeAttribute("datacontenttype", "Always `application/json`."),
    EnvelopeAttribute("actorid", "Who caused it (`usr_…`, `svc_…`); absent: the system.", is_required=False),
    EnvelopeAttribute("causationid", "Id of the event that it followed from.", is_required=False),
    EnvelopeAttribute("correlationid", "The same for all that follows from one request.", is_required=False),
    EnvelopeAttribute("traceparent", "W3C trace context of the work that emitted it.", is_required=False),
)
"""The attributes in the order in which they are written; `data` comes last."""


def subject(event: Message, *, left: str = "<", right: str = ">") -> str:
    """The NATS subject of an event, its variable tokens in the given brackets."""
    return ".".join(
        (
            "evt",
            f"{left}partition{right}",
            f"{left}workspace_id{right}",
            event.aggregate or "",
            f"{left}{event.aggregate_key}{right}",
        )
    )


def first_sentence(comment: str) -> str:
    """The first sentence of a comment, on one line."""
    text = " ".join(comment.split())
    return text.partition(". ")[0].removesuffix(".") + "."
