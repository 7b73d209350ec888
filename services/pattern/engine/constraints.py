"""What people decided about grouping keys and patterns, and which decisions overrule which."""

from collections.abc import Collection, Container, Iterable, Set
from typing import Final

from contracts.generated.pattern import ConstraintKind
from msgspec import Struct

from .memory import ConstraintRow

_NONE: Final[frozenset[str]] = frozenset()


class Part(Struct, frozen=True):
    """A pattern in a merge, with the keys that its members have."""

    pattern_id: str
    keys: Collection[str]


class Constraints:
    """The decisions in force. On a key and a pattern the latest counts; a key has one "must" at most."""

    def __init__(self, rows: Iterable[ConstraintRow] = ()) -> None:
        self._must: dict[str, str] = {}
        self._cannot: dict[str, set[str]] = {}
        for row in rows:
            self.add(row.grouping_key, row.pattern_id, row.kind)

    def __len__(self) -> int:
        return len(self._must) + sum(map(len, self._cannot.values()))

    def rows(self) -> list[ConstraintRow]:
        """All of them, ascending."""
        musts = [ConstraintRow(k, p, ConstraintKind.MUST_LINK) for k, p in self._must.items()]
        nevers = [
            ConstraintRow(k, p, ConstraintKind.CANNOT_LINK) for k, ps in self._cannot.items() for p in ps
        ]
        return sorted(musts + nevers)

    def about(self, keys: Container[str], pattern_ids: Container[str]) -> list[ConstraintRow]:
        """Those on any of the keys or any of the patterns, ascending."""
        return [row for row in self.rows() if row.grouping_key in keys or row.pattern_id in pattern_ids]

    def must_of(self, key: str) -> str | None:
        """The pattern that issues with the key belong to."""
        return self._must.get(key)

    def nevers_of(self, key: str) -> Set[str]:
        """The patterns that issues with the key never belong to."""
        return self._cannot.get(key, _NONE)

    def overruled_by(self, key: str, pattern_id: str, kind: ConstraintKind) -> list[ConstraintRow]:
        """The decisions that end when this one is taken."""
        must = self._must.get(key)
        if kind is ConstraintKind.CANNOT_LINK:
            return [ConstraintRow(key, pattern_id, ConstraintKind.MUST_LINK)] if must == pattern_id else []
        ended = []
        if pattern_id in self.nevers_of(key):
            ended.append(ConstraintRow(key, pattern_id, ConstraintKind.CANNOT_LINK))
        if must is not None and must != pattern_id:
            ended.append(ConstraintRow(key, must, ConstraintKind.MUST_LINK))
        return ended

    def overruled_by_merge(self, one: Part, other: Part) -> list[ConstraintRow]:
        """The "nevers" that a merge ends, ascending: on a key that comes from the part that they are not about.

        A "never" about a part that has such members itself stands, for the merge brings it none.
        """
        return sorted(
            ConstraintRow(key, part.pattern_id, ConstraintKind.CANNOT_LINK)
            for part, guest in ((one, other), (other, one))
            for key, patterns in self._cannot.items()
            if part.pattern_id in patterns and (key in guest.keys or self._must.get(key) == guest.pattern_id)
        )

    def add(self, key: str, pattern_id: str, kind: ConstraintKind) -> None:
        """Obey one more decision."""
        if kind is ConstraintKind.MUST_LINK:
            self._must[key] = pattern_id
            self._allow(key, pattern_id)
        else:
            self._cannot.setdefault(key, set()).add(pattern_id)
            if self._must.get(key) == pattern_id:
                del self._must[key]

    def merge(self, target: Part, source: Part) -> None:
        """Let the target have the decisions of both parts, without those that the merge overrules."""
        for row in self.overruled_by_merge(target, source):
            self._allow(row.grouping_key, row.pattern_id)
        for key, pattern_id in self._must.items():
            if pattern_id == source.pattern_id:
                self._must[key] = target.pattern_id
        for patterns in self._cannot.values():
            if source.pattern_id in patterns:
                patterns.remove(source.pattern_id)
                patterns.add(target.pattern_id)

    def _allow(self, key: str, pattern_id: str) -> None:
        patterns = self._cannot.get(key)
        if patterns is not None:
            patterns.discard(pattern_id)
            if not patterns:
                del self._cannot[key]
