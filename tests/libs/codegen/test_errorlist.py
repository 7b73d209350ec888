"""The page of errors says what the classes say."""

from pathlib import Path

import pytest
from codegen import errorlist

SHARED = '''
class AppError(Exception):
    """A refusal."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500


class ConflictError(AppError):
    """Somebody was faster."""

    code = "conflict"
    status = 409


class InternalError(AppError):
    """A bug."""
'''
FRAMEWORK = '_CODES = {405: "method_not_allowed", 413: "too_large"}\n_TITLES = {405: "Method not allowed", 413: "Too large"}\n'
SHOP = '''
class SoldError(ConflictError):
    """It is sold; has the code of its base."""


class EmptyError(AppError):
    """There is
    nothing left.

    More.
    """

    code = "empty"
    status = 422


class TooLargeError(AppError):
    """The basket is full."""

    code = "too_large"
    status = 413
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, text in (
        (errorlist.SHARED, SHARED),
        (errorlist.FRAMEWORK, FRAMEWORK),
        (Path("services/shop/errors.py"), SHOP),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_each_code_has_one_row(root: Path) -> None:
    """Whoever says it first explains it; the framework's bare title gives way to a service's sentence."""
    assert errorlist.page(root).partition("|---|---|---|---|\n")[2].splitlines() == [
        "| 405 | `method_not_allowed` | Method not allowed. | any |",
        "| 409 | `conflict` | Somebody was faster. | any |",
        "| 413 | `too_large` | The basket is full. | any |",
        "| 422 | `empty` | There is nothing left. | shop |",
        "| 500 | `internal_error` | A bug. | any |",
    ]
