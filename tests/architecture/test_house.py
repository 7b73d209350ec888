"""Rules of the house that no linter knows."""

import ast
import re
import tomllib

from tests.architecture.tree import ROOT, files, name_of, python_files

# Put together here, so that this file does not name them itself.
WORKPLACE = tuple(
    "/".join(parts) for parts in (("..", "shared"), ("/work", ""), ("/tmp", "causeloop"), ("/opt", "wheels"))
)
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yml",
    ".yaml",
    ".sql",
    ".proto",
    ".sh",
    ".json",
    ".conf",
    ".lock",
    ".html",
    ".js",
    ".css",
    "",
}


def test_no_file_names_a_path_of_the_place_where_it_was_written() -> None:
    """The repository stands by itself."""
    found = [
        f"{name_of(path)}: {place}"
        for path in files()
        if path.suffix in TEXT
        for place in WORKPLACE
        if place in path.read_text(errors="replace")
    ]
    assert found == []


def test_every_package_can_be_installed_without_a_compiler() -> None:
    """Everything in the lock has a wheel; only our own packages are built, in pure Python."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    without = [
        package["name"]
        for package in lock["package"]
        if not {"editable", "virtual"} & set(package["source"]) and not package.get("wheels")
    ]
    assert without == []


def test_packages_come_from_the_public_index_only() -> None:
    """A lock made behind a mirror would not install elsewhere."""
    registries = set(re.findall(r'registry = "([^"]+)"', (ROOT / "uv.lock").read_text()))
    assert {"https://pypi.org/simple"} == registries


def test_the_makefile_installs_the_uv_that_the_lock_names() -> None:
    """Otherwise the set-up would replace the uv it runs with."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    locked = next(package["version"] for package in lock["package"] if package["name"] == "uv")
    assert f"UV_VERSION := {locked}\n" in (ROOT / "Makefile").read_text()


def test_continuous_integration_runs_what_people_run() -> None:
    """`.ci/run` calls `make test` and nothing else."""
    script = ROOT / ".ci" / "run"
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands == ["set -e", 'cd "$(dirname "$0")/.."', "exec make test"]
    assert script.stat().st_mode & 0o100


def test_every_library_and_service_has_a_readme() -> None:
    """Its one-page interface."""
    folders = [
        path
        for top in ("libs", "services")
        for path in (ROOT / top).iterdir()
        if (path / "pyproject.toml").exists()
    ]
    assert [name_of(path) for path in folders if not (path / "README.md").exists()] == []


def test_no_pattern_lets_a_line_break_in_at_its_end() -> None:
    """`$` also matches before a last line break; `$(?!\\n)` does not, in Python as in JSON Schema. Texts may have one."""
    ends = re.compile(r"(?<!\\)\$(?!\(\?!\\n\))(?=[|)]|$)")
    texts = (r"[^\x00]*$", r"[^\x00]+$")
    found = [
        f"{name_of(path)}:{node.lineno}: {node.value}"
        for path in python_files()
        if name_of(path).startswith("services/")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.startswith("^") and ends.search(node.value) and not node.value.endswith(texts)
    ]
    assert found == []
