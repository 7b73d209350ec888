"""Composition root: builds everything, nothing else constructs."""

from eventlog import Reaction
from runtime.service import Resources, Service
from threadpoolctl import threadpool_limits

from .endpoints import Leader, PatternEndpoints
from .errors import NotReadyError
from .projections import PROJECTION
from .reactions import PatternReaction
from .reactions.clustering import ROWS_SECONDS
from .settings import PatternSettings


def build(settings: PatternSettings, resources: Resources) -> Service:
    """The pattern service."""
    # Our products take microseconds; a second thread spins between them, for twice the CPU.
    threadpool_limits(1, user_api="blas")
    # The leader loads the rows of every workspace of its partition, so it reads as the projector.
    pool = resources.pool(PROJECTION.name, url=settings.database_projector_url, max_size=4)
    reactions: dict[int, PatternReaction] = {}

    def reaction(partition: int) -> Reaction:
        reactions[partition] = PatternReaction(
            resources.event_log,
            pool,
            clock=resources.clock,
            reached=lambda workspace_id, seq: resources.reached(workspace_id, seq, timeout=ROWS_SECONDS),
        )
        return reactions[partition]

    def leader_of(workspace_id: str) -> Leader:
        found = reactions.get(resources.event_log.partition_of(workspace_id))
        if found is None:
            raise NotReadyError("the pattern service is starting")
        return found

    return Service(
        name=PROJECTION.name,
        projection=PROJECTION,
        reaction=reaction,
        alarms=lambda: [alarm for each in reactions.values() for alarm in each.alarms()],
        endpoints_on_leader=PatternEndpoints(leader_of, clock=resources.clock).all(),
    )
