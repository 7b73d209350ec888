"""The code that the documentation shows is the code."""

from __future__ import annotations

import pytest
from codegen.docs import SnippetError, filled

from .tree import ROOT

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_shows_the_source(page):
    """`make generate` copies a changed source into the pages that show it."""
    text = page.read_text(encoding="utf-8")
    assert filled(text, ROOT) == text


def test_page_that_shows_nothing_real_is_refused():
    """A block whose source is gone is an error, not an old text."""
    with pytest.raises(SnippetError):
        filled("<!-- code: libs/eventlog/eventlog/log.py::EventLog.forget -->\n```python\nx\n```", ROOT)
