"""What AWS is asked for, held against the service models that its own library has."""

from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from services.ingest.connectors.manifest import Cursor, Manifest, Stream
from services.ingest.connectors.registry import catalogue

PREFIXES = {"AWSHealth_20160804": "health", "GraniteServiceVersion20100801": "cloudwatch"}


def asked() -> Iterator[tuple[Manifest, Stream]]:
    for manifest in catalogue():
        for stream in manifest.streams:
            if stream.endpoint is not None and "X-Amz-Target" in stream.endpoint.headers:
                yield manifest, stream


def plain(value: Any) -> Any:
    """With moments for what a run puts in."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return 1_795_000_000 if isinstance(value, str) and "{incremental." in value else value


@pytest.mark.parametrize(("manifest", "stream"), [pytest.param(*each, id=each[0].type) for each in asked()])
def test_a_request_is_one_that_the_service_takes(manifest: Manifest, stream: Stream) -> None:
    """Its name, its fields and their types; and the list, its cursor and its time are in the answer."""
    assert stream.endpoint is not None and stream.endpoint.incremental is not None
    pages = stream.endpoint.paginator
    assert isinstance(pages, Cursor)
    prefix, _, name = stream.endpoint.headers["X-Amz-Target"].partition(".")
    model = botocore.session.get_session().get_service_model(PREFIXES[prefix])
    assert model.metadata["targetPrefix"] == prefix
    operation = model.operation_model(name)
    report = ParamValidator().validate(plain(stream.endpoint.json), operation.input_shape)
    assert not report.has_errors(), report.generate_report()
    records = operation.output_shape.members[stream.endpoint.data_selector]
    assert stream.endpoint.incremental.cursor_path in records.member.members
    assert pages.cursor_path in operation.output_shape.members
    assert pages.cursor_body_path in operation.input_shape.members
