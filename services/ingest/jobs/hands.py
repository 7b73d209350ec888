"""How much of what vendors send is in the hands of one process, whose it is, and how often it failed there. Pure."""

from collections import Counter as Tally
from collections import OrderedDict
from typing import Final

IN_HAND_MAX: Final = 4096
IN_HAND_BYTES_MAX: Final = 64 * 1024 * 1024
"""Deliveries that are worked on or wait for those before them, beyond which no more are taken from the queue."""
SHARE_OF_WORKSPACE: Final = 2
SHARE_OF_CONNECTOR: Final = 4
"""One workspace has at most half of that in hand, one connector a quarter."""
DELAY_SECONDS: Final = 2.0
STEP_SECONDS: Final = 0.02
DELAY_SECONDS_MAX: Final = 60.0
"""When something is offered again that went back, and how much later for each other of its workspace that did: what is
offered again comes before what is new, so it must not come all at once."""
LATE_SECONDS: Final = 10.0
"""What did not come again for so long after its time was taken by another process."""
_PUT_BACK_MAX: Final = 3_000
"""Of one workspace; more would make no wait longer."""
_CROWDED_MAX: Final = 32
"""Workspaces of which something went back."""
FAILING_MAX: Final = 65_536
"""Deliveries whose failures are counted, such as all that wait of four workspaces; beyond them, the one that failed longest
ago begins anew."""


class InHand:
    """Counts what is taken and given back, and what went back untried."""

    def __init__(self) -> None:
        self._n: Tally[str] = Tally()
        self._n_bytes: Tally[str] = Tally()
        self._put_back: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    @property
    def is_full(self) -> bool:
        """Whether nobody may take more."""
        return not self._has_room("", 1)

    def has_room(self, workspace_id: str) -> bool:
        """Whether a workspace is within its share, and all are within theirs."""
        return not self.is_full and self._has_room(workspace_id, SHARE_OF_WORKSPACE)

    def has_any(self, workspace_id: str) -> bool:
        """Whether anything of a workspace is in hand."""
        return workspace_id in self._n

    def take(self, workspace_id: str, connector_id: str, n_bytes: int) -> bool:
        """Whether a delivery is within the shares of its workspace and its connector; it is counted then."""
        connector = f"{workspace_id}/{connector_id}"
        if not (
            self._has_room(workspace_id, SHARE_OF_WORKSPACE) and self._has_room(connector, SHARE_OF_CONNECTOR)
        ):
            return False
        for name in ("", workspace_id, connector):
            self._n[name] += 1
            self._n_bytes[name] += n_bytes
        return True

    def give_back(self, workspace_id: str, connector_id: str, n_bytes: int) -> None:
        """Count a delivery no more that was taken."""
        for name in ("", workspace_id, f"{workspace_id}/{connector_id}"):
            self._n[name] -= 1
            self._n_bytes[name] -= n_bytes
            if not self._n[name]:
                del self._n[name], self._n_bytes[name]

    def put_back(self, workspace_id: str, subject: str, *, now: float) -> float:
        """Note that a delivery went back untried, at a monotonic time; in how many seconds it may come again."""
        waiting = self._put_back.setdefault(workspace_id, OrderedDict())
        self._put_back.move_to_end(workspace_id)
        waiting.pop(subject, None)
        late = now - LATE_SECONDS
        while waiting and next(iter(waiting.values())) < late:
            waiting.popitem(last=False)
        while (of := next(iter(self._put_back))) != workspace_id and _were_due(self._put_back[of], late):
            del self._put_back[of]
        wait = min(DELAY_SECONDS + STEP_SECONDS * (len(waiting) + 1), DELAY_SECONDS_MAX)
        waiting[subject] = now + wait
        if len(waiting) > _PUT_BACK_MAX:
            waiting.popitem(last=False)
        if len(self._put_back) > _CROWDED_MAX:
            self._put_back.popitem(last=False)
        return wait

    def forget(self, workspace_id: str, subject: str) -> None:
        """It is done."""
        waiting = self._put_back.get(workspace_id)
        if waiting is not None and waiting.pop(subject, None) is not None and not waiting:
            del self._put_back[workspace_id]

    def _has_room(self, name: str, share: int) -> bool:
        """Something is always within a share of which nothing is used, however large it is."""
        return self._n[name] < IN_HAND_MAX // share and self._n_bytes[name] < IN_HAND_BYTES_MAX // share


def _were_due(waiting: OrderedDict[str, float], moment: float) -> bool:
    """Whether the last of these to go back was to come again before a moment."""
    return waiting[next(reversed(waiting))] < moment


class Failures:
    """Counts how often each delivery failed by itself, in the hands of this process.

    How often it was offered says something else: others had no room for it, or ended, or something of ours was away.
    """

    def __init__(self) -> None:
        self._n: OrderedDict[str, int] = OrderedDict()

    def add(self, subject: str) -> int:
        """Count one more; how many there are now."""
        n = self._n.pop(subject, 0) + 1
        self._n[subject] = n
        if len(self._n) > FAILING_MAX:
            self._n.popitem(last=False)
        return n

    def of(self, subject: str) -> int:
        """How many there are."""
        return self._n.get(subject, 0)

    def forget(self, subject: str) -> None:
        """It is done."""
        self._n.pop(subject, None)
