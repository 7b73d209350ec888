"""The AsyncAPI 3.0 document: every subject of the log, every event on it, every field of the event."""

from collections.abc import Sequence

import msgspec.yaml

from codegen import schemas
from codegen.model import Context, Message
from codegen.outline import ENVELOPE, SCHEMA_PREFIX, first_sentence, subject
from codegen.schemas import Schema

_DESCRIPTION = """\
Every fact of Causeloop is an event in NATS JetStream, kept for good, in one order per workspace. Subscribe with
wildcards, such as `evt.*.<workspace_id>.>` for all of one workspace. Each message is one CloudEvents 1.0 JSON
object in structured mode. Delivery is at least once: the same event always has the same `id`. Fields are only
ever added, so ignore what you do not know."""
_CONTENT_TYPE = "application/cloudevents+json"
_ENVELOPE_KEY = "Envelope"


def document(contexts: Sequence[Context], *, version: str) -> str:
    """The document as YAML.

    version: of the product, shown as the document's own.
    """
    events = [(context, event) for context in contexts for event in context.events]
    content = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Causeloop events",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": _CONTENT_TYPE,
        "servers": {"nats": _server()},
        "channels": _channels(events),
        "operations": _operations(events),
        "components": {
            "messages": {event.name: _message(context, event) for context, event in events},
            "schemas": {_ENVELOPE_KEY: _envelope(), **schemas.of_events(contexts)},
        },
    }
    note = "# Generated from proto/ by `causeloop-codegen asyncapi`; do not edit.\n"
    return note + msgspec.yaml.encode(content).decode()


def _server() -> Schema:
    return {
        "host": "{host}",
        "protocol": "nats",
        "description": "The NATS server of the deployment; `causeloop up` starts one by itself.",
        "variables": {
            "host": {"default": "127.0.0.1:4222", "description": "Address and port of the server."}
        },
    }


def _channels(events: Sequence[tuple[Context, Message]]) -> dict[str, Schema]:
    channels: dict[str, Schema] = {}
    for aggregate in dict.fromkeys(event.aggregate or "" for _, event in events):
        members = [event for _, event in events if event.aggregate == aggregate]
        channels[aggregate] = {
            "address": f"evt.{{partition}}.{{workspace_id}}.{aggregate}.{{aggregate_id}}",
            "title": f"All that happens to one {aggregate}",
            "parameters": {
                "partition": {"description": "Partition of the workspace, from 0; `*` when subscribing."},
                "workspace_id": {"description": "Id of the workspace."},
                "aggregate_id": {"description": f"Id of the {aggregate}; `*` for all of the workspace."},
            },
            "messages": {event.name: {"$ref": f"#/components/messages/{event.name}"} for event in members},
        }
    return channels


def _operations(events: Sequence[tuple[Context, Message]]) -> dict[str, Schema]:
    operations: dict[str, Schema] = {}
    for emitter, aggregate in dict.fromkeys((event.emitter, event.aggregate) for _, event in events):
        members = [e for _, e in events if (e.emitter, e.aggregate) == (emitter, aggregate)]
        operations[f"{emitter}_emits_{aggregate}"] = {
            "action": "send",
            "summary": f"What the service {emitter} says of a {aggregate}.",
            "channel": {"$ref": f"#/channels/{aggregate}"},
            "messages": [{"$ref": f"#/channels/{aggregate}/messages/{event.name}"} for event in members],
        }
    return operations


def _message(context: Context, event: Message) -> Schema:
    specific: Schema = {
        "type": "object",
        "properties": {
            "type": {"type": "string", "const": event.full_name},
            "dataschema": {"type": "string", "const": SCHEMA_PREFIX + event.full_name},
            "source": {"type": "string", "const": f"/causeloop/{event.emitter}"},
            "data": schemas.reference(context.name, event.name),
        },
        "required": ["data"],
    }
    return {
        "name": event.full_name,
        "title": event.name,
        "summary": first_sentence(event.comment),
        "description": f"On `{subject(event)}`.",
        "contentType": _CONTENT_TYPE,
        "payload": {"allOf": [{"$ref": f"#/components/schemas/{_ENVELOPE_KEY}"}, specific]},
    }


def _envelope() -> Schema:
    properties: dict[str, Schema] = {}
    for attribute in ENVELOPE:
        schema: Schema = {"type": "string", "description": attribute.meaning}
        properties[attribute.name] = schema | ({"format": "date-time"} if attribute.is_moment else {})
    return {
        "type": "object",
        "description": "The CloudEvents 1.0 attributes that every event has.",
        "properties": properties,
        "required": [attribute.name for attribute in ENVELOPE if attribute.is_required],
    }
