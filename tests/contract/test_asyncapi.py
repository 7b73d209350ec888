"""The AsyncAPI document is valid, complete and true of real payloads."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import msgspec.yaml
import pytest
from asyncapi3 import AsyncAPI3
from codegen import image, model, samples
from contracts import AGGREGATES, EVENT_TYPES
from eventlog import subjects
from pydantic import ValidationError

ROOT = Path(__file__).parents[2]
DOCUMENT = msgspec.yaml.decode((ROOT / "docs/reference/asyncapi.yaml").read_bytes(), type=dict[str, object])


def section(*names: str) -> dict[str, dict[str, object]]:
    found: object = DOCUMENT
    for name in names:
        assert isinstance(found, dict)
        found = found[name]
    return msgspec.convert(found, type=dict[str, dict[str, object]])


def payload_validator(event: str) -> jsonschema_rs.Validator:
    schema = {"$ref": f"#/components/messages/{event}/payload", "components": DOCUMENT["components"]}
    return jsonschema_rs.validator_for(schema, validate_formats=True)


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from [value] if name == "$ref" else references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_document_follows_the_model_of_asyncapi() -> None:
    """A validator of AsyncAPI 3.0 that is not ours finds nothing wrong, and would."""
    AsyncAPI3.model_validate(DOCUMENT)
    channel = {**section("channels")["issue"], "colour": "red"}
    with pytest.raises(ValidationError):
        AsyncAPI3.model_validate({**DOCUMENT, "channels": {**section("channels"), "issue": channel}})


def test_document_refers_only_to_what_it_has() -> None:
    """Every $ref leads to a part of the document."""
    for reference in references(DOCUMENT):
        found: object = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            assert isinstance(found, dict), reference
            assert name in found, reference
            found = found[name]


def test_document_has_every_event_once_and_nothing_else() -> None:
    """Messages are the events, each on the channel of its aggregate."""
    expected = {event.__name__: aggregate for event, aggregate in AGGREGATES.items()}
    channels = section("channels")
    listed = [
        (message, aggregate)
        for aggregate, channel in channels.items()
        for message in msgspec.convert(channel["messages"], type=dict[str, object])
    ]
    assert sorted(expected.items()) == sorted(listed)
    assert sorted(expected) == sorted(section("components", "messages"))


def test_document_addresses_are_the_subjects_that_the_log_writes() -> None:
    """An integrator who fills in an address gets the subject that the event log uses."""
    for aggregate, channel in section("channels").items():
        address = str(channel["address"]).format(partition=3, workspace_id="ws_1", aggregate_id="x_1")
        assert subjects.subject_of(3, "ws_1", aggregate, "x_1") == address


@pytest.fixture(scope="module")
def payloads() -> tuple[samples.Sample, ...]:
    return samples.samples(model.contexts(image.load(ROOT / "proto")))


def test_document_accepts_the_payload_of_every_event(payloads: tuple[samples.Sample, ...]) -> None:
    """The document describes what really goes over the wire."""
    assert len(payloads) == 2 * len(EVENT_TYPES)
    for sample in payloads:
        payload_validator(sample.file_name.split(".")[1]).validate(json.loads(sample.payload))


def test_document_refuses_a_payload_without_a_required_field(payloads: tuple[samples.Sample, ...]) -> None:
    """The schemas are not so loose that anything passes."""
    for sample in payloads:
        body = json.loads(sample.payload)
        # The first field of every event is the id that it is about.
        body["data"].pop(next(iter(body["data"])))
        assert not payload_validator(sample.file_name.split(".")[1]).is_valid(body)
