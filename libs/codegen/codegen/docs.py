"""Code blocks in the documentation, copied from the source that they show.

A page marks a block with `<!-- code: path::name -->` and a fence behind it. The name is a Python
function or class (Class.method too), a proto message or a named SQL query.
"""

import ast
import re
from pathlib import Path

_BLOCK = re.compile(
    r"(<!-- code: (?P<path>[^:>]+)::(?P<name>[^ >]+) -->\n\n?)```\w*\n.*?^```$", re.DOTALL | re.MULTILINE
)
_LANGUAGES = {".py": "python", ".proto": "proto", ".sql": "sql"}


class SnippetError(Exception):
    """A page shows code that the source does not have."""


def filled(page: str, root: Path) -> str:
    """The page with every marked block replaced by what the source says now.

    Raises SnippetError when a path or a name is not there.
    """

    def block(found: re.Match[str]) -> str:
        path = root / found["path"]
        code = _extract(path, found["name"])
        return f"{found[1]}```{_LANGUAGES[path.suffix]}\n{code.rstrip()}\n```"

    return _BLOCK.sub(block, page)


def fill(root: Path) -> list[Path]:
    """Fill every page of the repository; gives the pages that changed, relative to the root.

    Raises SnippetError when a path or a name is not there.
    """
    changed: list[Path] = []
    for page in sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")]):
        text = page.read_text(encoding="utf-8")
        if filled(text, root) != text:
            page.write_text(filled(text, root), encoding="utf-8")
            changed.append(page.relative_to(root))
    return changed


def _extract(path: Path, name: str) -> str:
    if not path.is_file() or path.suffix not in _LANGUAGES:
        raise SnippetError(f"{path}: no such source")
    text = path.read_text(encoding="utf-8")
    found = {".py": _python, ".proto": _proto, ".sql": _sql}[path.suffix](text, name)
    if found is None:
        raise SnippetError(f"{path}: has no {name}")
    return found


def _python(text: str, name: str) -> str | None:
    nodes: list[ast.stmt] = ast.parse(text).body
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next((node for node in nodes if getattr(node, "name", None) == part), None)
        if found is None:
            return None
        nodes = getattr(found, "body", [])
    decorators = getattr(found, "decorator_list", [])
    first = min([found.lineno, *(decorator.lineno for decorator in decorators)]) if found else 0
    lines = text.splitlines()[first - 1 : found.end_lineno if found else 0]
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines)


def _proto(text: str, name: str) -> str | None:
    found = re.search(rf"((?:^//[^\n]*\n)*)^message {name} {{.*?^}}$", text, re.DOTALL | re.MULTILINE)
    return found[0] if found else None


def _sql(text: str, name: str) -> str | None:
    # The sentence above the name belongs to the query, the next query's does not.
    pattern = rf"(?:^--[^\n]*\n)*^-- name: {re.escape(name)} .*?;$"
    found = re.search(pattern, text, re.DOTALL | re.MULTILINE)
    return found[0] if found else None
