"""Every example of GitHub's webhooks, signed and taken through GitHub's manifest; by hand, no part of `make test`.

    npm install --ignore-scripts @octokit/webhooks-examples
    python -m tests.services.ingest.webhook_examples node_modules/@octokit/webhooks-examples/api.github.com/index.json

Prints per event how many examples there are, how many records were found, and what became of them.
"""

import argparse
import hmac
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from services.ingest.connectors.mapping import Ignored, Mapped, Rejected, map_record
from services.ingest.connectors.payloads import payload_of, read_delivery
from services.ingest.connectors.registry import manifest_of
from services.ingest.connectors.verification import Believed, Call, judge_any

_SECRET = "It's a Secret to Everybody"


class Event(Struct, frozen=True):
    """One of the file's events with its examples."""

    name: str
    examples: tuple[msgspec.Raw, ...]


def taken(event: Event, *, now: datetime) -> tuple[Counter[str], list[str]]:
    """What became of an event's examples, and why records were rejected."""
    manifest = manifest_of("github")
    assert manifest.webhook is not None
    counts, reasons = Counter[str](), []
    for body in map(bytes, event.examples):
        signature = hmac.digest(_SECRET.encode(), body, "sha256").hex()
        call = Call(
            body=body, headers={"x-github-event": event.name, "x-hub-signature-256": f"sha256={signature}"}
        )
        assert isinstance(judge_any(manifest.webhook.verify, call, secrets=[_SECRET], now=now), Believed)
        counts["examples"] += 1
        for record in read_delivery(
            manifest.webhook, payload_of(body, "application/json"), call.headers
        ).records:
            match map_record(manifest, record, now=now):
                case Mapped():
                    counts["mapped"] += 1
                case Ignored():
                    counts["ignored"] += 1
                case Rejected() as rejected:
                    counts["rejected"] += 1
                    reasons.append(rejected.problem)
    return counts, reasons


def main() -> None:
    """Print a line per event whose records are followed, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "index", type=Path, help="index.json of the package, such as api.github.com/index.json"
    )
    events = msgspec.json.decode(parser.parse_args().index.read_bytes(), type=list[Event])
    now = datetime.now(UTC)
    total: Counter[str] = Counter()
    others = 0
    for event in events:
        counts, reasons = taken(event, now=now)
        total += counts
        if set(counts) == {"examples"}:
            others += counts["examples"]
            continue
        print(f"{event.name:24} {_line(counts)}")
        for reason, n in Counter(reasons).most_common(3):
            print(f"{'':24}   {n} × {reason}")
    print(f"{'all':24} {_line(total)}; {others} examples of events that are not followed")


def _line(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in ("examples", "mapped", "ignored", "rejected"))


if __name__ == "__main__":
    main()
