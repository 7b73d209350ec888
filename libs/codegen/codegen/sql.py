"""Runs sqlc for the services that have queries, each by itself."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import msgspec
import msgspec.yaml
from msgspec import Struct

from codegen.sqlc import FILE_NAME

CONFIG = "sqlc.yaml"


class SqlcError(Exception):
    """sqlc refused a schema or a query; its own words are the message."""


class Package(Struct, frozen=True):
    """One entry of sqlc.yaml."""

    engine: str
    schema: str | tuple[str, ...]
    queries: str
    codegen: tuple[dict[str, str], ...]

    @property
    def service(self) -> str:
        """The service that the queries belong to."""
        return Path(self.queries).parts[1]

    @property
    def output(self) -> Path:
        """The folder that the generated module goes to."""
        return Path(self.codegen[0]["out"])


class Config(Struct, frozen=True):
    """The whole of sqlc.yaml."""

    version: str
    plugins: tuple[dict[str, object], ...]
    sql: tuple[Package, ...]


def load(root: Path) -> Config:
    """The configuration at the root of the repository."""
    return msgspec.yaml.decode((root / CONFIG).read_bytes(), type=Config)


def present(config: Config, root: Path, services: Collection[str] = ()) -> tuple[Package, ...]:
    """The entries whose queries exist, of the named services or of all."""
    return tuple(
        package
        for package in config.sql
        if (root / package.queries).exists() and (not services or package.service in services)
    )


def generate(root: Path, services: Collection[str] = ()) -> tuple[Path, ...]:
    """Write `_queries.py` of the named services, or of all that have queries; gives the files.

    Raises SqlcError with sqlc's messages when a schema or a query is wrong.
    """
    config = load(root)
    packages = present(config, root, services)
    if packages:
        run(msgspec.structs.replace(config, sql=packages), root)
    return tuple(root / package.output / FILE_NAME for package in packages)


def preview(root: Path) -> dict[Path, str]:
    """What `generate` would write now for every service, by path relative to the root."""
    config = load(root)
    packages = present(config, root)
    if not packages:
        return {}
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(index) for index in range(len(packages))]
        # sqlc takes output folders relative to its configuration only.
        redirected = [
            msgspec.structs.replace(
                package, codegen=({**package.codegen[0], "out": os.path.relpath(folder, root)},)
            )
            for package, folder in zip(packages, folders, strict=True)
        ]
        run(msgspec.structs.replace(config, sql=tuple(redirected)), root)
        return {
            package.output / FILE_NAME: (folder / FILE_NAME).read_text(encoding="utf-8")
            for package, folder in zip(packages, folders, strict=True)
        }


def run(config: Config, root: Path) -> None:
    """Run sqlc once with this configuration, its paths relative to the root."""
    program = Path(sys.executable).parent / "sqlc"
    # sqlc reads paths relative to its configuration, so the temporary one stands beside the real one.
    with tempfile.NamedTemporaryFile(dir=root, prefix=".sqlc-", suffix=".yaml") as file:
        file.write(msgspec.yaml.encode(config))
        file.flush()
        environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        command = [str(program), "generate", "-f", file.name]
        outcome = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
    if outcome.returncode != 0:
        raise SqlcError((outcome.stdout + outcome.stderr).strip())
