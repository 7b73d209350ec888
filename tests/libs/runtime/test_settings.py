from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta, Struct
from runtime.settings import Port, ServiceSettings, SettingsError, load


class Sample(Struct, frozen=True, kw_only=True):
    port: Port
    folder: Path
    ratio: Annotated[float, Meta(ge=0, le=1)] = 0.5
    is_on: bool = False
    names: tuple[str, ...] = ()
    limit: int | None = None
    secret: str = "none"


def test_load_reads_each_type() -> None:
    found = load(
        Sample,
        {
            "PORT": "4000",
            "FOLDER": "/tmp/x",
            "RATIO": "0.25",
            "IS_ON": "1",
            "NAMES": "a, b,,c",
            "LIMIT": "7",
            "OTHER": "ignored",
        },
    )

    assert found == Sample(
        port=4000, folder=Path("/tmp/x"), ratio=0.25, is_on=True, names=("a", "b", "c"), limit=7
    )


def test_load_takes_an_empty_variable_as_absent() -> None:
    assert load(Sample, {"PORT": "1", "FOLDER": "x", "LIMIT": " ", "RATIO": ""}).limit is None


def test_load_reports_all_mistakes_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load(Sample, {"PORT": "70000", "IS_ON": "perhaps", "RATIO": "much"})

    for part in ("PORT is wrong", "FOLDER is missing", "IS_ON is wrong", "RATIO is wrong"):
        assert part in str(caught.value)


def test_service_settings_need_only_what_has_no_safe_default() -> None:
    env = {"PORT": "4001", "NATS_URL": "nats://x", "DATABASE_URL": "a", "DATABASE_PROJECTOR_URL": "b"}

    settings = load(ServiceSettings, env)

    assert (settings.host, settings.partitions, settings.database_owner_url) == ("127.0.0.1", 1, "")


def test_an_environment_that_is_none_of_ours_is_refused() -> None:
    """A misspelled production must not be taken for something laxer."""
    env = {"PORT": "4001", "NATS_URL": "nats://x", "DATABASE_URL": "a", "DATABASE_PROJECTOR_URL": "b"}

    for name in ("development", "test", "production"):
        assert load(ServiceSettings, {**env, "ENVIRONMENT": name}).environment == name
    for name in ("prod", "Production", "staging"):
        with pytest.raises(SettingsError, match="ENVIRONMENT is wrong"):
            load(ServiceSettings, {**env, "ENVIRONMENT": name})
