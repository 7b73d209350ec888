"""Composition root of the prediction service: builds everything, nothing else constructs."""

from runtime.service import Resources, Service

from services.prediction.endpoints import Endpoints
from services.prediction.projections import PROJECTION
from services.prediction.reactions import Forecaster, Rules
from services.prediction.settings import PredictionSettings

NAME = "prediction"


def build(settings: PredictionSettings, resources: Resources) -> Service:
    """The service: its rows, its forecaster per partition, its two commands."""
    rules = Rules.of(settings)
    # The forecaster reads its own rows across workspaces, as the role that wrote them.
    pool = resources.pool(NAME, url=settings.database_projector_url, max_size=2)

    def forecaster(partition: int) -> Forecaster:
        return Forecaster(resources.event_log, pool, rules=rules, clock=resources.clock)

    return Service(
        name=NAME,
        projection=PROJECTION,
        reaction=forecaster,
        endpoints=Endpoints(resources.event_log, clock=resources.clock).all,
    )
