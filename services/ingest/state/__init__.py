"""The folds: events give issues, connectors, runs and tickets as they are now. Pure."""

from services.ingest.state.issues import OPTIONAL_FIELDS, Issue, evolve, fold

__all__ = ["OPTIONAL_FIELDS", "Issue", "evolve", "fold"]
