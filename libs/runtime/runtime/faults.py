"""Faults of the world (database, log, broker) as the refusals a caller should see."""

import psycopg
from eventlog import ConflictError, LogUnavailableError
from nats.errors import Error as NatsError
from psycopg_pool import PoolTimeout

from runtime.errors import AppError, InternalError, StateConflictError, UnavailableError


def refusal_for(error: BaseException) -> AppError:
    """The refusal that answers an exception: itself, a 409 or 503 for a fault, InternalError for a bug."""
    match error:
        case AppError():
            return error
        case ConflictError():
            return StateConflictError("Somebody changed this at the same moment. Read it again and repeat.")
        case LogUnavailableError():
            return UnavailableError("The event log does not answer now. Try again.")
        case psycopg.OperationalError() | PoolTimeout():
            return UnavailableError("The database does not answer now. Try again.")
        case NatsError():
            return UnavailableError("The broker does not answer now. Try again.")
        case _:
            return InternalError("Something went wrong on our side.")
