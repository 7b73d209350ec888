"""What is in hand and what went back: whoever has more of it waits longer, and only while it is so."""

from services.ingest.jobs import hands
from services.ingest.jobs.hands import Failures, InHand

FIRST = hands.DELAY_SECONDS + hands.STEP_SECONDS


def test_the_more_went_back_the_later_it_comes_again() -> None:
    """Of one workspace, and once for each; no more is kept than makes waits longer."""
    in_hand = InHand()
    waits = [in_hand.put_back("ws_1", f"job.{number}", now=0.0) for number in range(10_000)]
    assert (waits[0], waits[-1]) == (FIRST, hands.DELAY_SECONDS_MAX)
    assert waits == sorted(waits)
    assert len(in_hand._put_back["ws_1"]) < 5_000
    assert [in_hand.put_back("ws_2", "job.a", now=0.0) for _ in range(3)] == [FIRST] * 3
    in_hand.forget("ws_2", "job.a")
    assert in_hand.put_back("ws_2", "job.b", now=0.0) == FIRST


def test_what_another_process_took_lengthens_no_wait() -> None:
    """What does not come again here would be waited for ever longer, until everything waits a minute."""
    in_hand = InHand()
    for second in range(1_000):
        for number in range(10):
            assert in_hand.put_back("ws_1", f"job.{second}-{number}", now=float(second)) < 15.0
    for number in range(100):
        in_hand.put_back(f"ws_{number}", "job.a", now=1_000.0)
    assert len(in_hand._put_back) < 50
    assert in_hand.put_back("ws_1", "job.b", now=2_000.0) == FIRST
    assert set(in_hand._put_back) == {"ws_1"}


def test_failures_that_are_counted_are_bounded() -> None:
    failures = Failures()
    assert [failures.add("job.a"), failures.add("job.b"), failures.add("job.a")] == [1, 1, 2]
    for number in range(hands.FAILING_MAX - 1):
        failures.add(f"job.{number}")
    # Only the one that failed longest ago begins anew.
    assert [failures.of(each) for each in ("job.a", "job.b", "job.0")] == [2, 0, 1]
    failures.forget("job.a")
    assert failures.of("job.a") == 0
