"""Composition root: builds everything, nothing else constructs."""

from pathlib import Path

from eventlog import Projection, Reaction
from runtime.errors import StartError
from runtime.service import Resources, Service

from services.recommendation import projections
from services.recommendation.endpoints import Desk, PlaybookDesk
from services.recommendation.engine.matching import Matcher
from services.recommendation.engine.playbook import Playbook, PlaybookError, load
from services.recommendation.reactions import SERVICE, Recommender
from services.recommendation.settings import RecommendationSettings

HERE = Path(__file__).parent
SHIPPED_PLAYBOOK = HERE / "playbook"
ROWS_SECONDS = 2.0
"""How long a change of plays waits until the rows hold the one before."""


def build(settings: RecommendationSettings, resources: Resources) -> Service:
    """The recommendation service; raises StartError when the playbook cannot be used."""
    matcher = Matcher(read_playbook(settings.playbook_dir))
    # A leader reads the rows of all workspaces, which the app role must not see.
    own_rows = resources.pool(SERVICE, url=settings.database_projector_url, max_size=2)

    def reaction(partition: int) -> Reaction:
        return Recommender(resources.event_log, own_rows, matcher, clock=resources.clock)

    async def reached(workspace_id: str, seq: int) -> bool:
        return await resources.reached(workspace_id, seq, timeout=ROWS_SECONDS)

    plays = PlaybookDesk(
        resources.event_log, own_rows, matcher.playbook, clock=resources.clock, reached=reached
    )
    return Service(
        name=SERVICE,
        projection=projection(),
        reaction=reaction,
        endpoints=[
            *Desk(resources.event_log, clock=resources.clock).endpoints(),
            *plays.endpoints(),
        ],
    )


def projection() -> Projection:
    """The read model of this service."""
    return Projection(
        name=SERVICE,
        aggregates=projections.AGGREGATES,
        project=projections.project,
        schema_sql=(HERE / "schema.sql").read_text(encoding="utf-8"),
        linger_seconds=0.25,
    )


def read_playbook(own: Path | None = None) -> Playbook:
    """The shipped playbook with the plays of one's own folder; raises StartError with every mistake."""
    folders = [_read_folder(SHIPPED_PLAYBOOK)]
    if own is not None:
        if not own.is_dir():
            raise StartError(f"PLAYBOOK_DIR is {own}, which is not a folder.")
        folders.append(_read_folder(own))
    try:
        return load(*folders)
    except PlaybookError as error:
        raise StartError(f"{error}\nHow to write a play: docs/reference/playbook.md") from error


def _read_folder(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.glob("*.y*ml"))}
