"""The AsyncAPI document is valid, complete and true of real payloads."""

import json
from pathlib import Path

import jsonschema_rs
import msgspec.yaml
import pytest
from codegen import image, model, samples
from contracts import AGGREGATES, EVENT_TYPES
from eventlog import subjects

ROOT = Path(__file__).parents[2]
DOCUMENT = msgspec.yaml.decode((ROOT / "docs/reference/asyncapi.yaml").read_bytes(), type=dict[str, object])
VENDORED = Path(__file__).parent / "vendor/asyncapi-3.0.0.json"


def section(*names: str) -> dict[str, dict[str, object]]:
    found: object = DOCUMENT
    for name in names:
        assert isinstance(found, dict)
        found = found[name]
    return msgspec.convert(found, type=dict[str, dict[str, object]])


def payload_validator(event: str) -> jsonschema_rs.Validator:
    schema = {"$ref": f"#/components/messages/{event}/payload", "components": DOCUMENT["components"]}
    return jsonschema_rs.validator_for(schema, validate_formats=True)


def test_document_follows_the_json_schema_of_asyncapi() -> None:
    """The published schema of AsyncAPI 3.0.0 finds nothing wrong."""
    validator = jsonschema_rs.validator_for(json.loads(VENDORED.read_text(encoding="utf-8")))
    assert [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(DOCUMENT)] == []


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
