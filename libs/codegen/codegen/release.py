"""Keeps what a release promised: its contract as an image, and one payload of every event."""

from pathlib import Path

from codegen import image, model, samples

RELEASES = Path("proto/releases")
GOLDEN = Path("tests/contract/golden")


class ReleaseExistsError(Exception):
    """A release is kept for ever and never written twice."""


def keep(root: Path, version: str) -> tuple[Path, ...]:
    """Write the image and the golden payloads of a release; gives the paths.

    Raises ReleaseExistsError when the version was released before.
    """
    target = root / RELEASES / f"{version}.binpb"
    folder = root / GOLDEN / version
    if target.exists() or folder.exists():
        raise ReleaseExistsError(f"{version} was released before")
    found = model.contexts(image.load(root / "proto"))
    target.parent.mkdir(parents=True, exist_ok=True)
    # Without comments: they may change, and the image is only compared.
    image.buf("build", "--exclude-source-info", "-o", str(target), cwd=root / "proto")
    folder.mkdir(parents=True)
    for sample in samples.samples(found):
        (folder / sample.file_name).write_bytes(sample.payload)
    return target, folder


def latest(root: Path) -> Path | None:
    """The image of the newest release, or None before the first."""
    images = sorted((root / RELEASES).glob("*.binpb"), key=_order)
    return images[-1] if images else None


def check(root: Path) -> None:
    """Compare proto/ with the newest release.

    Raises image.BufError naming every change that an old reader cannot take.
    """
    newest = latest(root)
    if newest is not None:
        image.buf("breaking", "--against", str(newest), cwd=root / "proto")


def _order(path: Path) -> list[int]:
    return [int(part) for part in path.stem.split(".")]
