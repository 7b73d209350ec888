from collections.abc import Sequence

import pytest
from msgspec import Struct
from testkit.decisions import given


class Account(Struct, frozen=True):
    balance: int = 0


class Paid(Struct, frozen=True):
    amount: int


class TooLittleError(Exception):
    pass


def evolve(state: Account, event: Paid) -> Account:
    return Account(balance=state.balance + event.amount)


def withdraw(amount: int, state: Account) -> Sequence[Paid]:
    if amount > state.balance:
        raise TooLittleError
    return [Paid(-amount)] if amount else []


def test_when_a_decision_is_made_then_its_events_are_compared() -> None:
    given(Account(), evolve, Paid(5), Paid(5)).when(lambda state: withdraw(7, state)).then(Paid(-7))
    given(Account(), evolve).when(lambda state: withdraw(0, state)).then()


def test_when_a_decision_is_refused_then_the_refusal_is_compared() -> None:
    given(Account(), evolve, Paid(5)).when(lambda state: withdraw(7, state)).then_refused(TooLittleError)


def test_then_fails_when_something_else_happened() -> None:
    outcome = given(Account(), evolve, Paid(5)).when(lambda state: withdraw(3, state))

    with pytest.raises(AssertionError):
        outcome.then(Paid(-4))
    with pytest.raises(AssertionError, match="not refused"):
        outcome.then_refused(TooLittleError)
