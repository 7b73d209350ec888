"""Places are shared out among owners, and those whose work lasts are kept to half of them."""

from runtime.places import SLOW_FOR_SECONDS, Places


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_owner_has_so_many_places_and_all_together_so_many() -> None:
    places = Places(3, each=2, monotonic=Clock())
    for owner in ("a", "a"):
        assert places.may_take(owner)
        places.take(owner)
    assert (places.may_take("a"), places.may_take("b"), places.without()) == (False, True, {"a"})
    places.take("b")
    assert not places.may_take("c")
    places.give_back("a")
    assert (places.may_take("a"), places.may_take("c"), places.without()) == (True, True, frozenset())


def test_slow_owners_have_half_of_the_places_together_until_they_are_slow_no_more() -> None:
    """Whoever became slow while it had more is beyond its share, and others have what is left."""
    clock = Clock()
    places = Places(8, each=4, monotonic=clock)
    for owner in ("a", "a", "a", "b", "b", "b"):
        places.take(owner)
    assert not places.is_beyond("a")
    places.note_slow("a")
    assert (places.is_beyond("a"), places.may_take("a"), places.without()) == (False, True, frozenset())
    places.note_slow("b")
    assert (places.is_beyond("a"), places.is_beyond("b"), places.is_beyond("c")) == (True, True, False)
    assert (places.without(), places.may_take("c")) == ({"a", "b"}, True)
    places.give_back("a")
    places.give_back("a")
    assert (places.is_beyond("b"), places.may_take("b"), places.may_take("c")) == (False, False, True)
    clock.now += SLOW_FOR_SECONDS
    assert (places.without(), places.may_take("b")) == (frozenset(), True)
