"""How the command ends: exit codes that scripts can rely on, and the errors that carry them."""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the exit code of `causeloop` says."""

    OK = 0
    """Everything was done, nothing is wrong."""
    PROBLEM = 1
    """The command worked and found a problem: a rejected record, an unwell service, a difference."""
    USAGE = 2
    """The command line or a file named on it is wrong."""
    UNAVAILABLE = 69
    """Something that the command needs does not answer, or is taken by somebody else."""
    INTERNAL = 70
    """A bug in Causeloop itself."""
    STORAGE = 73
    """A file or folder cannot be written: no permission, or the disk is full."""
    REFUSED = 77
    """The API refused: the token is missing, wrong, or lacks a scope."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C."""


class CliError(Exception):
    """Something that ends the command; the message says what is wrong, the advice what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.PROBLEM

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


class UsageError(CliError):
    """The command line, or a file named on it, is wrong."""

    exit_code = ExitCode.USAGE


class NotAvailableError(CliError):
    """Something that the command needs does not answer or is taken."""

    exit_code = ExitCode.UNAVAILABLE


class StorageError(CliError):
    """A file or folder cannot be written."""

    exit_code = ExitCode.STORAGE


class RefusedError(CliError):
    """The API refused the request."""

    exit_code = ExitCode.REFUSED
