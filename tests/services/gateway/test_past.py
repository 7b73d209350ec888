"""The past: what `as_of` says equals what was served then."""

import asyncio
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import nats
import pytest
from eventlog import EventLog
from msgspec import Struct
from runtime.errors import UnavailableError
from testkit.stack import Stack

from services.gateway import past
from services.gateway.past import Pasts, _Past
from services.gateway.proving import confidence, days_between
from tests.services.gateway.tenants import execute, onboard, sign_in
from tests.services.gateway.test_api import ingest, pattern_of, unique, words

N_MOMENTS = 5
LISTS = (
    "/v1/patterns?limit=100&sort=-issue_count",
    "/v1/patterns?status=merged",
    "/v1/predictions?limit=100&status=active,dismissed,resolved,superseded",
    "/v1/recommendations?limit=100",
)


class Moment(Struct, frozen=True):
    """What was served at a place of the log; at a time too, where nothing was under way."""

    as_of: int | str
    bodies: dict[str, Any]


class Clock:
    """Where the gateway's rows are, and where the log ends."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def position(self) -> int:
        statement = "SELECT max(position) FROM gateway.checkpoint"
        return int(asyncio.run(execute(self._stack.database.owner_url, statement))[0][0])

    def is_quiet(self) -> bool:
        async def end() -> int:
            nc = await nats.connect(self._stack.nats.url)
            try:
                return await (await EventLog.connect(nc, ensure_streams=False)).last_seq()
            finally:
                await nc.close()

        return asyncio.run(end()) == self.position()


@pytest.fixture
def owner(stack: Stack) -> Any:
    """Somebody with a workspace of their own, in which nothing has happened."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    headers = {"Authorization": f"Bearer {sign_in(stack.url, tenant.owner_email)}", "Prefer": "wait=10"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


def live(api: httpx.Client, rng: random.Random, done: threading.Event) -> None:
    """What a team does, in an order of its own: failures, names, merges, notes, steps, feedback."""
    for turn in range(10):
        kind = rng.randrange(4)
        records = [
            {
                "external_id": f"{turn}-{n}",
                "title": f"{('Pool exhausted', 'Disk full', 'Certificate expired', 'Queue stuck')[kind]} while serving",
                "service": f"service-{kind}",
                "severity": rng.choice(("p1", "p2", "p3")),
            }
            for n in range(rng.randint(2, 4))
        ]
        assert api.post("/v1/ingest/batch", json={"records": records}).status_code == 202
        patterns = api.get("/v1/patterns").json()["data"]
        predictions = api.get("/v1/predictions").json()["data"]
        recommended = api.get("/v1/recommendations").json()["data"]
        match rng.randrange(6):
            case 0 if patterns:
                api.patch(f"/v1/patterns/{rng.choice(patterns)['id']}", json={"name": f"Name {turn}"})
            case 1 if len(patterns) > 2:
                one, two = rng.sample(patterns, 2)
                api.post(f"/v1/patterns/{one['id']}/merge", json={"source_pattern_id": two["id"]})
            case 2 if patterns:
                api.post(
                    f"/v1/patterns/{rng.choice(patterns)['id']}/close", json={"closure_note": "Raised it."}
                )
            case 3 if recommended:
                chosen = rng.choice(recommended)["id"]
                api.put(f"/v1/recommendations/{chosen}/steps/0", json={"is_done": True})
            case 4 if recommended:
                chosen = rng.choice(recommended)["id"]
                api.patch(f"/v1/recommendations/{chosen}", json={"status": "in_progress", "reason": "mine"})
            case _ if predictions:
                chosen = rng.choice(predictions)["id"]
                api.post(f"/v1/predictions/{chosen}/feedback", json={"outcome": "prevented", "note": ""})
            case _:
                pass
    done.set()


def served(api: httpx.Client, as_of: int | str | None = None) -> dict[str, Any]:
    """Every body that is compared, by its path."""
    bodies: dict[str, Any] = {}

    def read(path: str) -> Any:
        sign = "&" if "?" in path else "?"
        answer = api.get(path if as_of is None else f"{path}{sign}as_of={as_of}")
        bodies[path] = (answer.status_code, answer.json())
        # A cursor is bound to its query, and as_of is part of that.
        if "page" in bodies[path][1]:
            bodies[path][1]["page"].pop("next_cursor")
        return bodies[path][1]

    for path in LISTS:
        for row in read(path)["data"][:2]:
            one = f"{path.partition('?')[0]}/{row['id']}"
            read(one)
            if "/patterns/" in one:
                read(f"{one}/members")
    return bodies


def at_moment(bodies: dict[str, Any], moment: datetime) -> dict[str, Any]:
    """The bodies with what counts quiet time up to the moment of the question, as if that had been asked then."""
    for _, body in bodies.values():
        for proof in [one.get("proof") for one in (body, *body.get("data", ()))]:
            if proof and proof["verdict"] == "proving":
                quiet = days_between(datetime.fromisoformat(proof["fixed_at"]), moment)
                rate_days = proof["gap_days"] + proof["exposure_days"]
                reached = confidence(
                    shape=1.0 + proof["n_recurrences_before"], rate_days=rate_days, quiet_days=quiet
                )
                proof["quiet_days"] = quiet
                proof["needs_quiet_days"] = round(max(0.0, proof["window_days"] - quiet), 6)
                proof["confidence"] = reached if proof["exposure_days"] else 0.0
    return bodies


def recorded_at(stack: Stack, workspace_id: str, as_of: int | str) -> datetime:
    """The time itself, or when the workspace's last event up to a sequence was recorded."""
    if isinstance(as_of, str):
        return datetime.fromisoformat(as_of)

    async def last() -> datetime:
        nc = await nats.connect(stack.nats.url)
        try:
            log = await EventLog.connect(nc, ensure_streams=False)
            batches = log.read(
                log.partition_of(workspace_id), after=0, aggregates=(), workspace_id=workspace_id, until=as_of
            )
            found = [event.recorded_at async for batch in batches for event in batch.events]
            return found[-1] if found else datetime.now(UTC)
        finally:
            await nc.close()

    return asyncio.run(last())


def test_the_past_is_what_was_served_then(stack: Stack, owner: httpx.Client) -> None:
    """Bodies kept at random moments of a run, and asked for again when it is over."""
    rng, clock, done = random.Random(20261122), Clock(stack), threading.Event()
    team = threading.Thread(target=live, args=(owner, random.Random(4), done))
    moments: list[Moment] = []
    team.start()
    give_up_at = time.monotonic() + 90
    while not done.is_set() or len(moments) < N_MOMENTS:
        assert time.monotonic() < give_up_at, f"{len(moments)} moments only"
        done.wait(rng.random() / 4)
        place = clock.position()
        bodies = served(owner)
        # What was projected in between would be in some bodies and not in others.
        if clock.position() == place and len(moments) < N_MOMENTS:
            moments.append(Moment(place, bodies))
    team.join()
    while True:
        assert time.monotonic() < give_up_at, "it is never quiet"
        if not clock.is_quiet():
            continue
        place = clock.position()
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        bodies = served(owner)
        # What came after that time, and was served, is none of its past.
        if clock.is_quiet() and clock.position() == place:
            moments.append(Moment(at, bodies))
            break
    assert sum(
        len(moment.bodies["/v1/patterns?limit=100&sort=-issue_count"][1]["data"]) for moment in moments
    )
    owner.post("/v1/ingest/batch", json={"records": [{"external_id": "later", "title": "Later"}]})
    workspace_id = owner.get("/v1/workspace").json()["id"]
    for moment in moments:
        now = recorded_at(stack, workspace_id, moment.as_of)
        assert served(owner, moment.as_of) == at_moment(moment.bodies, now)


def test_no_moment_is_asked_for_that_cannot_be_answered(api: httpx.Client) -> None:
    """What lies ahead is refused; before the beginning there was nothing; a word is no moment."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    for ahead in (later, 2**53 - 1):
        refused = api.get("/v1/patterns", params={"as_of": ahead})
        assert (refused.status_code, refused.json()["code"]) == (400, "validation_error")
        assert "ahead" in refused.json()["error"]["details"]["as_of"]
    assert api.get("/v1/patterns", params={"as_of": 0}).json()["page"]["total"] == 0
    assert api.get("/v1/recommendations", params={"as_of": "2020-01-01T00:00:00Z"}).json()["data"] == []
    for nonsense in ("yesterday", "-1", "null", str(2**53)):
        assert api.get("/v1/predictions", params={"as_of": nonsense}).status_code == 400


def test_a_pattern_says_what_sets_it_apart(api: httpx.Client) -> None:
    """Words and dimensions against the workspace's other failures, each with the issues that show it."""
    records = [
        {"external_id": unique("bg"), "title": words(), "service": f"other-{n % 7}"} for n in range(40)
    ]
    assert api.post("/v1/ingest/batch", json={"records": records}).status_code == 202
    service = unique("cause")
    pattern = pattern_of(api, ingest(api, 6, service=service))
    cause = pattern["root_cause"]
    assert f"“{service}”" in cause["summary"]
    assert {"extent", "terms", "dimension"} <= {statement["kind"] for statement in cause["statements"]}
    members = {row["issue_id"] for row in api.get(f"/v1/patterns/{pattern['id']}/members").json()["data"]}
    assert all(members.issuperset(statement["issue_ids"]) for statement in cause["statements"][:3])
    assert cause["confidence"] >= 0.5
    # Later failures do not change it, or If-Match would fail for a reason that is none of the pattern's.
    ingest(api, 3, service=unique("later"))
    assert api.get(f"/v1/patterns/{pattern['id']}").json()["root_cause"] == cause


class Building(Pasts):
    """Builds when it is told to, without a database."""

    def __init__(self) -> None:
        resources: Any = SimpleNamespace(clock=lambda: datetime.now(UTC))
        projection: Any = None
        super().__init__(resources, projection, url="")
        self.begun: list[tuple[str, int | datetime]] = []
        self.may_end = asyncio.Event()

    async def _build(self, wanted: Any) -> Any:
        self.begun.append((wanted.workspace_id, wanted.as_of))
        if wanted.workspace_id == "ws_greedy":
            await self.may_end.wait()

        async def close() -> None: ...

        conn: Any = SimpleNamespace(closed=False, close=close)
        now = datetime.now(UTC)
        return _Past(conn, conn, now, now, now)


async def test_a_past_that_is_asked_for_all_day_is_built_anew_each_hour() -> None:
    """Also while somebody reads it all the time; whoever reads the old one last closes it."""
    now, built = datetime(2026, 11, 22, tzinfo=UTC), list[Any]()

    async def reached(*_: object, **__: object) -> bool:
        return True

    class Day(Pasts):
        async def _build(self, wanted: Any) -> Any:
            conn = SimpleNamespace(closed=False)

            async def close() -> None:
                conn.closed = True

            conn.close = close
            built.append(conn)
            return _Past(conn, conn, now, now, now, is_long=True)  # type: ignore[arg-type]  # as far as it is used

    resources: Any = SimpleNamespace(clock=lambda: now, reached=reached)
    nothing: Any = None
    pasts = Day(resources, nothing, url="")
    for _ in range(10):
        async with pasts.at("ws_1", 5):
            now += timedelta(minutes=9)
            async with pasts.at("ws_1", 5):
                assert not built[-1].closed
            await pasts._sweep(keep=past.KEPT_MAX)
    assert [conn.closed for conn in built] == [True, False]


async def test_who_asks_for_many_pasts_keeps_nobody_waiting() -> None:
    """One of a workspace is built at a time, and it holds no more than its own places."""
    pasts = Building()

    async def ask(workspace_id: str, as_of: int) -> None:
        async with pasts.at(workspace_id, as_of):
            pass

    async with asyncio.timeout(30), asyncio.TaskGroup() as asked:
        for as_of in range(8):
            asked.create_task(ask("ws_greedy", as_of))
        await asyncio.sleep(0)
        for as_of in range(4):
            await ask("ws_other", as_of)
        assert [of for of, _ in pasts.begun] == ["ws_greedy", *["ws_other"] * 4]
        pasts.may_end.set()
    assert len(pasts.begun) == 12
    kept = [wanted.workspace_id for wanted in pasts._kept]
    assert sorted(kept) == ["ws_greedy"] * 2 + ["ws_other"] * 2


async def test_a_workspace_that_looks_at_many_pasts_is_refused_alone() -> None:
    """Its places are in use; another's are not."""
    pasts = Building()
    pasts.may_end.set()
    async with pasts.at("ws_greedy", 1), pasts.at("ws_greedy", 2):
        with pytest.raises(UnavailableError):
            async with pasts.at("ws_greedy", 3):
                pass
        async with pasts.at("ws_other", 1):
            pass


async def test_a_long_past_is_built_on_for_who_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time, beside the short ones; the question that it takes too long for is refused, not the work."""
    pasts = Building()

    async def build(wanted: Any) -> Any:
        if wanted.workspace_id != "ws_other":
            await pasts._go_long(wanted)
        return await Building._build(pasts, wanted)

    monkeypatch.setattr(pasts, "_build", build)
    with monkeypatch.context() as impatient, pytest.raises(UnavailableError, match="being built"):
        impatient.setattr(past, "_ANSWER_SECONDS", 0.2)
        async with pasts.at("ws_greedy", 1):
            pass
    for as_of in range(3):
        async with pasts.at("ws_other", as_of):
            pass
    with pytest.raises(UnavailableError, match="Another long past"):
        async with pasts.at("ws_third", 1):
            pass
    pasts.may_end.set()
    async with pasts.at("ws_greedy", 1):
        assert [of for of, _ in pasts.begun if of == "ws_greedy"] == ["ws_greedy"], "built once"
