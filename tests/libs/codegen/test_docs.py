"""Code blocks of pages are copied from the source."""

from pathlib import Path

import pytest
from codegen import docs

SOURCE = '''
class Box:
    @property
    def size(self) -> int:
        """Its size."""
        return 3
'''
QUERIES = """-- First.
-- name: First :exec
DELETE FROM a;

-- Second, on
-- two lines.
-- name: Second :one
SELECT 1
FROM b;

-- Third.
-- name: Third :exec
DELETE FROM c;
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "box.py").write_text(SOURCE)
    (tmp_path / "queries.sql").write_text(QUERIES)
    (tmp_path / "shop.proto").write_text("// Other.\nmessage A {\n}\n\n// Sold.\nmessage B {\n  // X.\n}\n")
    return tmp_path


def page(marked: str) -> str:
    return f"# Page\n\n<!-- code: {marked} -->\n```\nold\n```\n\nText.\n"


@pytest.mark.parametrize(
    ("marked", "code"),
    [
        ("box.py::Box.size", 'python\n@property\ndef size(self) -> int:\n    """Its size."""\n    return 3'),
        (
            "queries.sql::Second",
            "sql\n-- Second, on\n-- two lines.\n-- name: Second :one\nSELECT 1\nFROM b;",
        ),
        ("shop.proto::B", "proto\n// Sold.\nmessage B {\n  // X.\n}"),
    ],
)
def test_block_becomes_what_the_source_says(root: Path, marked: str, code: str) -> None:
    """The comment above comes along, the neighbours do not."""
    (root / "docs/page.md").write_text(page(marked))
    assert docs.fill(root) == [Path("docs/page.md")]
    assert f"```{code}\n```\n\nText." in (root / "docs/page.md").read_text()
    assert docs.fill(root) == []


@pytest.mark.parametrize(
    "marked", ["box.py::Box.weight", "gone.py::Box", "queries.sql::Fourth", "shop.proto::C"]
)
def test_block_without_a_source_is_refused(root: Path, marked: str) -> None:
    """A page never shows code that is gone."""
    (root / "docs/page.md").write_text(page(marked))
    with pytest.raises(docs.SnippetError):
        docs.fill(root)
