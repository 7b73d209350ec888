"""A stream of failures in which nine of ten repeat a known one; the same seed gives the same stream."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

SERVICES = ("checkout", "payments", "search", "catalog", "login", "mail", "shipping", "reports")
VERBS = (
    "times out",
    "is refused",
    "runs out of memory",
    "returns 502",
    "loses its lock",
    "cannot parse",
    "is throttled",
    "hangs",
)
OBJECTS = (
    "the order",
    "a session",
    "the index",
    "an invoice",
    "the cart",
    "a token",
    "the queue",
    "a replica",
    "the cache",
)
SYLLABLES = (
    "ka",
    "lo",
    "mi",
    "ren",
    "to",
    "sil",
    "va",
    "dor",
    "ne",
    "pul",
    "gra",
    "fex",
    "zum",
    "hol",
    "bri",
    "cyn",
)


def failures(seed: int, *, n_known: int = 200, first: int = 0) -> Iterator[dict[str, object]]:
    """Records for POST /v1/ingest/batch, without end; titles of the known failures differ in numbers only.

    first: number of the first external id, so that two streams do not meet.
    """
    rng = random.Random(seed)
    known = [
        (rng.choice(SERVICES), f"{_words(rng, 2)} {rng.choice(VERBS)} for {rng.choice(OBJECTS)}")
        for _ in range(n_known)
    ]
    number = first
    while True:
        if rng.random() < 0.9:
            service, text = known[int(n_known * rng.random() ** 2)]
            title = f"{text} {rng.randrange(10_000)} after {rng.randrange(30_000)} ms"
        else:
            service = rng.choice(SERVICES)
            title = f"{_words(rng, 3)} {rng.choice(VERBS)} while {_words(rng, 2)} {rng.choice(OBJECTS)}"
        yield {
            "external_id": f"load-{number}",
            "source": "custom_api",
            "title": title,
            "body": f"request {rng.getrandbits(64):016x} on host-{rng.randrange(40)} failed in {service}",
            "severity": rng.choice(("p1", "p2", "p3", "p3", "p4")),
            "service": service,
            "environment": "production",
            "source_created_at": f"2026-0{rng.randrange(1, 10)}-{rng.randrange(10, 28)}T{rng.randrange(10, 24)}:00:00Z",
        }
        number += 1


def batches(records: Iterator[dict[str, object]], *, size: int = 500) -> Iterator[bytes]:
    """Bodies for POST /v1/ingest/batch."""
    while True:
        yield msgspec.json.encode({"records": [next(records) for _ in range(size)]})


def _words(rng: random.Random, count: int) -> str:
    return " ".join("".join(rng.choice(SYLLABLES) for _ in range(3)) for _ in range(count))
