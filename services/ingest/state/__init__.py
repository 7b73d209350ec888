"""The folds: events give issues, connectors, runs and tickets as they are now. Pure."""

from services.ingest.state.issues import OPTIONAL_FIELDS, Issue, evolve, fold
from services.ingest.state.sources import (
    FAILED_RUNS_MAX,
    NOTHING_YET,
    Connector,
    Standing,
    SyncRun,
    Ticket,
    evolve_connector,
    evolve_run,
    fold_connector,
    fold_run,
    fold_ticket,
)

__all__ = [
    "FAILED_RUNS_MAX",
    "NOTHING_YET",
    "OPTIONAL_FIELDS",
    "Connector",
    "Issue",
    "Standing",
    "SyncRun",
    "Ticket",
    "evolve",
    "evolve_connector",
    "evolve_run",
    "fold",
    "fold_connector",
    "fold_run",
    "fold_ticket",
]
