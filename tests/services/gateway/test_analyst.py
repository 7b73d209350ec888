"""The analyst without its world: who is served when, and what is never asked twice."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from contracts import ingest
from msgspec import Struct
from runtime.errors import UnavailableError

from services.gateway import _queries
from services.gateway.explaining import analyst as module
from services.gateway.explaining.analyst import AT_ONCE_MAX, OF_A_WORKSPACE_MAX, Analyst

NOW = datetime(2026, 11, 22, tzinfo=UTC)
EVIDENCE = ingest.Analysis(
    root_cause=ingest.AnalysisClaim(text="Few failures.", evidence_ids=("e1",)),
    contributing_factors=(),
    why_recurring=ingest.AnalysisClaim(text="Unknown.", evidence_ids=("e1",)),
    confidence=0.1,
    model="evidence",
    model_version="evidence@2026-11-22",
    evidence=(ingest.AnalysisEvidence(id="e1", kind="extent", text="1 failure.", issue_ids=("iss_1",)),),
)


class Places(Struct):
    """What a resource of the analyst's would do. reached: how often the rows are asked before they are there."""

    leads: Callable[[int], bool] = lambda _: True
    reached_after: int = 0
    n_reached: int = 0

    @property
    def event_log(self) -> Any:
        async def last_seq(_: int) -> int:
            return 7

        return SimpleNamespace(partition_of=lambda workspace_id: int(workspace_id[-1]), last_seq=last_seq)

    nc: None = None

    def clock(self) -> datetime:
        return NOW

    async def reached(self, workspace_id: str, seq: int, *, timeout: float) -> bool:  # noqa: ASYNC109  # as it has
        self.n_reached += 1
        return self.n_reached > self.reached_after


async def at_once(_: float) -> None:
    """No back-off."""


def never(*_: object) -> Any:
    raise AssertionError("nobody is to be asked")


def analyst(places: Places) -> Analyst:
    nobody: Any = SimpleNamespace(connection=never)
    resources: Any = places
    return Analyst(resources, everywhere=nobody, rows=nobody, models=nobody, advice=nobody, wait=at_once)


def waiting(workspace_id: str, number: int) -> _queries.ListRunningAnalysesRow:
    requested_at = NOW + timedelta(seconds=number)
    return _queries.ListRunningAnalysesRow(
        workspace_id, f"ana_{workspace_id}_{number}", "iss_1", "deep", requested_at
    )


def test_a_workspace_with_a_slow_model_waits_alone() -> None:
    """Nobody gets a second place before everybody has one, nor a third; and who was served last comes last."""
    fair, greedy = analyst(Places()), [waiting("ws_1", number) for number in range(50)]
    late = waiting("ws_2", 99)
    chosen = fair._fair([*greedy, late])
    assert chosen == [greedy[0], late, greedy[1]]
    assert len(chosen) == 1 + OF_A_WORKSPACE_MAX < AT_ONCE_MAX
    fair._places["ws_1"] = OF_A_WORKSPACE_MAX
    assert fair._fair([*greedy, late]) == [late]
    fair._places.clear()
    fair._served["ws_1"] = 4
    assert fair._fair([greedy[0], late]) == [late, greedy[0]]


def test_what_others_lead_is_left_to_them() -> None:
    """However old it is, it takes no place."""
    mine = waiting("ws_2", 99)
    led = analyst(Places(leads=lambda partition: partition == 2))
    assert led._fair([waiting("ws_1", 0), mine]) == [mine]


async def test_what_has_an_answer_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are waited for, and then they say that it has ended: no advice, no model."""
    places = Places(reached_after=3)
    row = waiting("ws_1", 0)

    async def ended(_: object, *, workspace_id: str, analysis_id: str) -> Any:
        assert places.n_reached == 4, "asked before the rows were there"
        return _queries.GetAnalysisRow(analysis_id, "iss_1", "deep", NOW, NOW, None)

    class Rows:
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(module, "tenant", lambda *_: Rows())
    monkeypatch.setattr(_queries, "get_analysis", ended)
    worker = analyst(places)
    await worker._end(row)
    assert worker._resting == {}


@pytest.mark.parametrize("n_refused", [0, 1, 3])
async def test_an_answer_that_cannot_be_written_down_ends_with_the_evidence(
    monkeypatch: pytest.MonkeyPatch, n_refused: int
) -> None:
    """The same answer a few times, for the log may be away; then without what the model said."""
    exchange = ingest.ModelExchange(model="m", host="h", prompt_version="p", messages=(), attempts=())
    wanted = ingest.RecordAnalysis(
        issue_id="iss_1", analysis_id="ana_1", analysis=EVIDENCE, exchange=exchange
    )
    otherwise = ingest.RecordAnalysis(issue_id="iss_1", analysis_id="ana_1", analysis=EVIDENCE)
    told: list[ingest.RecordAnalysis] = []

    async def ask(_: object, request: ingest.RecordAnalysis, **__: object) -> Any:
        told.append(request)
        if len(told) <= n_refused:
            raise UnavailableError("The log does not take it.")
        return SimpleNamespace(sequence=8)

    monkeypatch.setattr(module, "ask", ask)
    assert await analyst(Places())._record("ws_1", wanted, otherwise=otherwise) == 8
    expected: Sequence[ingest.RecordAnalysis] = [wanted] * min(n_refused + 1, 3) + [otherwise] * (
        n_refused == 3
    )
    assert told == expected
