"""Every setting is explained, and nothing is explained that is no setting."""

import importlib
import re
from pathlib import Path

import msgspec
import pytest
import yaml
from causeloop.up.settings import UpSettings
from runtime.settings import ServiceSettings

from tests.architecture.tree import ROOT

SERVICES = ("gateway", "ingest", "pattern", "prediction", "recommendation")
READ_BY_THE_CLI = {"CAUSELOOP_URL", "CAUSELOOP_TOKEN"}
SET_BY_UP = {"SERVICE_URLS"}
LEFT_TO_THE_IMAGE = {"CAUSELOOP_DATA", "LOG_FORMAT", "SERVICE_URLS", "USE_MOCK"}
"""Exports have a volume, logs are JSON, dashboards are inside, and production has no mock."""


def example() -> set[str]:
    """The variables that .env.example names, set or commented out."""
    text = (ROOT / ".env.example").read_text()
    return set(re.findall(r"^(?:# ?)?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))


def structs(module: str) -> list[type[msgspec.Struct]]:
    """The settings Structs that a module defines."""
    found = importlib.import_module(module)
    return [
        kind
        for kind in vars(found).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__name__.endswith("Settings")
    ]


def variables() -> set[str]:
    """Every variable that any settings Struct reads."""
    kinds: list[type[msgspec.Struct]] = [UpSettings]
    for service in SERVICES:
        if (ROOT / "services" / service / "settings.py").exists():
            kinds += structs(f"services.{service}.settings")
    kinds += structs("runtime.settings")
    return {field.upper() for kind in kinds for field in kind.__struct_fields__}


def test_the_example_file_names_every_setting_and_no_other() -> None:
    """`.env.example` is complete."""
    expected = variables() | READ_BY_THE_CLI
    assert expected - SET_BY_UP == example() - SET_BY_UP


def test_the_reference_explains_every_setting_and_no_other() -> None:
    """The table in docs/reference/configuration.md has the same variables."""
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    explained = set(re.findall(r"^\| `([A-Z][A-Z0-9_]+)`", text, re.MULTILINE))
    assert example() == explained


def test_no_service_reads_the_environment_by_itself() -> None:
    """Settings are read once, by runtime.process; a program of its own in a service is another entry."""
    readers = [
        str(path.relative_to(ROOT))
        for path in Path(ROOT / "services").rglob("*.py")
        if re.search(r"os\.(environ|getenv)", path.read_text()) and "__main__" not in path.read_text()
    ]
    assert readers == []


@pytest.mark.parametrize("service", SERVICES)
def test_the_compose_file_hands_each_service_all_that_it_reads_and_nothing_else(service: str) -> None:
    """A variable in .env that is not handed on has no effect, and neither has a misspelt one."""
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    handed = set(composed["services"][service]["environment"])
    kinds = [ServiceSettings, *structs(f"services.{service}.settings")]
    read = {field.upper() for kind in kinds for field in kind.__struct_fields__}
    assert read - handed <= LEFT_TO_THE_IMAGE
    assert handed - read <= {"JWT_SECRET", "CAUSELOOP_MASTER_KEY", "CAUSELOOP_MASTER_KEY_PREVIOUS"}
