"""What was decided of a token, kept as long as nothing that it depends on has changed."""

from collections import defaultdict

from msgspec import Struct

from services.gateway.identity.tokens import Principal

DECISIONS_KEPT_MAX = 10_000
DECISION_SECONDS_MAX = 30.0
"""Changes are heard at once; this is for the one that is not."""


class _Kept(Struct):
    principal: Principal
    made_at: float


class Decisions:
    """A bounded memory of token → principal; forgets whatever a changed row may have decided.

    is_informed: whether changes are heard; while they are not, nothing is kept.
    revision: grows with every change, so that what was read before one is not kept after it.
    """

    def __init__(self, *, size: int = DECISIONS_KEPT_MAX, seconds: float = DECISION_SECONDS_MAX) -> None:
        self._size = size
        self._seconds = seconds
        self._kept: dict[bytes, _Kept] = {}
        self._dependents: defaultdict[str, set[bytes]] = defaultdict(set)
        self.is_informed = False
        self.revision = 0

    def __len__(self) -> int:
        return len(self._kept)

    def has(self, key: bytes) -> bool:
        """Whether a decision was made of the token with this key, however long ago, that nothing has undone."""
        return key in self._kept

    def get(self, key: bytes, *, at: float) -> Principal | None:
        """What was decided of the token with this key, as of the monotonic time `at`."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if at - kept.made_at >= self._seconds:
            self._drop(key)
            return None
        return kept.principal

    def keep(self, key: bytes, principal: Principal, *, revision: int, at: float) -> None:
        """Remember a decision whose rows were read when the revision was this one."""
        if not self.is_informed or revision != self.revision:
            return
        self._drop(key)
        while len(self._kept) >= self._size:
            self._drop(next(iter(self._kept)))
        self._kept[key] = _Kept(principal, at)
        for subject in _subjects(principal):
            self._dependents[subject].add(key)

    def forget(self, subjects: tuple[str, ...]) -> None:
        """Something about these organizations, workspaces, people, machines, sessions or tokens is new."""
        self.revision += 1
        for subject in subjects:
            for key in tuple(self._dependents.get(subject, ())):
                self._drop(key)

    def inform(self) -> None:
        """Changes are heard from now on."""
        self.is_informed = True

    def distrust(self) -> None:
        """Changes are not heard any more: forget everything, and keep nothing."""
        self.is_informed = False
        self.revision += 1
        self._kept.clear()
        self._dependents.clear()

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        for subject in _subjects(kept.principal):
            keys = self._dependents[subject]
            keys.discard(key)
            if not keys:
                del self._dependents[subject]


def _subjects(principal: Principal) -> set[str]:
    """The ids of the rows that a decision depends on; triggers tell of their changes by these."""
    return {
        principal.organization_id,
        principal.workspace_id,
        principal.user_id,
        principal.session_id or principal.token_id,
    }
