"""The environment of `up`."""

from pathlib import Path

import pytest
from causeloop.exits import UsageError
from causeloop.up.settings import with_env_file


def test_a_variable_that_is_set_wins_over_the_file(tmp_path: Path) -> None:
    """The file completes the environment."""
    file = tmp_path / ".env"
    file.write_text("# a comment\nPORT=5000\nexport LOG_LEVEL='debug'\nJWT_SECRET=abc=d  # mine\n\n")
    completed = with_env_file({"PORT": "6000", "LOG_LEVEL": ""}, file)
    assert completed == {"PORT": "6000", "LOG_LEVEL": "debug", "JWT_SECRET": "abc=d"}


def test_without_a_file_the_environment_is_as_it_is(tmp_path: Path) -> None:
    """No file is needed."""
    assert with_env_file({"A": "1"}, tmp_path / ".env") == {"A": "1"}


def test_a_line_that_is_no_assignment_is_refused_with_its_number(tmp_path: Path) -> None:
    """A typing error would change nothing silently."""
    file = tmp_path / ".env"
    file.write_text("PORT=1\nPORT 2\n")
    with pytest.raises(UsageError, match="line 2"):
        with_env_file({}, file)
