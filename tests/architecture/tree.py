"""The repository as the architecture tests see it."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ("libs/contracts/contracts/generated/",)


@cache
def files() -> tuple[Path, ...]:
    """Every file of the repository, committed or about to be; without git, every file outside caches."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        skipped = {".git", ".venv", ".causeloop", "__pycache__"}
        found = (path for path in ROOT.rglob("*") if not skipped & set(path.relative_to(ROOT).parts))
        return tuple(sorted(path for path in found if path.is_file()))
    return tuple(sorted(ROOT / name for name in listed if (ROOT / name).is_file()))


def name_of(path: Path) -> str:
    """The path as people write it."""
    return path.relative_to(ROOT).as_posix()


def python_files() -> list[Path]:
    """Python that people wrote."""
    written = (path for path in files() if path.suffix == ".py" and not is_generated(path))
    return [path for path in written if name_of(path).startswith(("libs/", "services/", "tests/"))]


def is_generated(path: Path) -> bool:
    """Whether a generator wrote the file."""
    return path.name == "_queries.py" or name_of(path).startswith(GENERATED)


def modules() -> list[str]:
    """The dotted names of all modules of libraries and services, generated ones too."""
    names: list[str] = []
    for path in files():
        name = name_of(path)
        if path.suffix != ".py" or not name.startswith(("libs/", "services/")):
            continue
        parts = list(Path(name).with_suffix("").parts)
        parts = parts[2:] if parts[0] == "libs" else parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(name for name in set(names) if name)
