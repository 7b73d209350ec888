"""The pictures of the documentation come from the engines, and each is shown somewhere."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
# The forecast takes seconds of fitting.
QUICK = ("grouping", "proof", "explanation")


@pytest.mark.parametrize("picture", sorted(PICTURES.glob("*.svg")), ids=lambda path: path.stem)
def test_every_picture_is_shown(picture: Path) -> None:
    """In how-it-decides.md, and it is an SVG."""
    assert f"pictures/{picture.name}" in (ROOT / "docs" / "how-it-decides.md").read_text(encoding="utf-8")
    assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"  # our own file


def test_the_engines_still_draw_them(tmp_path: Path) -> None:
    """The script runs against the engines of today."""
    script = tmp_path / "docs" / "pictures" / "draw.py"
    script.parent.mkdir(parents=True)
    script.write_text((PICTURES / "draw.py").read_text(encoding="utf-8"), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, script, *QUICK],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert all((script.parent / f"{name}.svg").stat().st_size > 1000 for name in QUICK)
