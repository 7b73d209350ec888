"""What vendors send, in `sources/TYPE.yaml`: each record makes the issue beside it, whichever way it comes in."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import yaml

from services.ingest.connectors.manifest import Manifest
from services.ingest.connectors.mapping import Ignored, Mapped, map_record
from services.ingest.connectors.payloads import Sample, read_delivery, records_in
from services.ingest.connectors.registry import manifest_of, types

NOW = datetime(2026, 12, 31, tzinfo=UTC)
FOLDER = Path(__file__).parent / "sources"
APART = {
    "cloudflare": "its history and its webhook name no id in common",
    "coralogix": "its list is of incidents, its webhook of alerts",
    "logz_io": "its list and its webhook write the moment of an alert in two ways",
    "site24x7": "its list is of alerts, its webhook of monitors",
}
"""Types whose list and webhook cannot give one failure one id; the manifest's notes say so."""


class Golden(msgspec.Struct, forbid_unknown_fields=True):
    """A vendor's record in one of the forms it arrives in, and the issue it becomes; null where it is left out.

    headers: of a webhook's request; with them nobody guesses what the payload is, and events are told apart by them.
    """

    payload: object
    form: str
    issue: dict[str, object] | None
    headers: dict[str, str] | None = None

    def record(self, manifest: Manifest) -> object:
        payload = msgspec.json.decode(msgspec.json.encode(self.payload))
        if self.headers is None:
            sample = records_in(manifest, payload)
        else:
            assert manifest.webhook is not None
            sample = Sample("webhook", read_delivery(manifest.webhook, payload, self.headers).records)
        assert (self.form, 1) == (sample.form, len(sample.records))
        return sample.records[0]


def goldens(type_: str) -> list[Golden]:
    """What a type's file holds, one document behind the other."""
    documents = yaml.safe_load_all((FOLDER / f"{type_}.yaml").read_bytes())
    return msgspec.convert(list(documents), list[Golden])


def test_every_type_has_a_record_to_prove_its_mapping() -> None:
    """And no record is left of a type that is gone."""
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == list(types())


@pytest.mark.parametrize("type_", types())
def test_a_vendors_record_becomes_the_issue_that_is_expected(type_: str) -> None:
    """All of the issue, so that a field that is mapped by mistake shows as well."""
    manifest = manifest_of(type_)
    for expected in goldens(type_):
        record = expected.record(manifest)
        outcome = map_record(manifest, record, now=NOW)
        if expected.issue is None:
            assert outcome == Ignored(record)
            continue
        assert isinstance(outcome, Mapped), outcome
        said = msgspec.to_builtins(outcome.issue)
        assert {**expected.issue, "source": type_} == {k: v for k, v in said.items() if v is not None}
        assert outcome.raw is record


@pytest.mark.parametrize("type_", types())
def test_every_mapping_and_every_way_in_has_a_record_and_both_ways_give_one_id(type_: str) -> None:
    """A list and a webhook that name a failure differently make two issues of it, of which one never ends."""
    manifest, expected = manifest_of(type_), goldens(type_)
    records = [each.record(manifest) for each in expected]
    fitting = [
        next(
            number for number, each in enumerate(manifest.mappings) if not each.when or each.when.find(record)
        )
        for record in records
    ]
    assert sorted(set(fitting)) == [*range(len(manifest.mappings))]
    ids: dict[bool, set[object]] = {
        is_hook: {
            each.issue["external_id"]
            for each in expected
            if each.issue and (each.form == "webhook") is is_hook
        }
        for is_hook in (True, False)
    }
    if manifest.streams and manifest.webhook is not None:
        assert {each.form == "webhook" for each in expected} == {True, False}
        is_one = not ids[True] or bool(ids[True] & ids[False])
        assert is_one is (type_ not in APART)
        assert is_one or manifest.notes
