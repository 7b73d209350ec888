"""The page of every error that the API answers with, from the classes that say so."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SHARED = Path("libs/runtime/runtime/errors.py")
FRAMEWORK = Path("libs/runtime/runtime/problems.py")
_HEAD = """\
# Errors

Written from the classes of errors by `make generate`; do not edit.

Every failed request is answered with `application/problem+json` (RFC 9457), whatever refused it: an operation, a limit,
the framework, or a path that does not exist.

```json
{
  "type": "urn:causeloop:problem:not_found",
  "title": "Not found",
  "status": 404,
  "detail": "There is no issue iss_x.",
  "instance": "/v1/issues/iss_x",
  "code": "not_found",
  "error": {
    "code": "not_found",
    "message": "There is no issue iss_x.",
    "trace_id": "9e2a850b-0132-4a19-9d8b-7caa6954fa58",
    "details": {"id": "iss_x"}
  }
}
```

`code` is for programs and stays; `message` is for people and may change. `trace_id` equals the header `X-Request-Id` and
the id in the logs. `details` is there when there is something to name: for a wrong body the path of each field,
such as `records[3].title`, with what is wrong with it (up to 20, one of each list; of a body of more than 64 KiB, and of a
query, the first); otherwise what the refusal is about. 409 `request_running`, 429
and 503 carry `Retry-After` in seconds. What belongs to another workspace is answered with 404, like what does not exist.

| Status | `code` | Means | Said by |
|---|---|---|---|
"""


class _Error(NamedTuple):
    """A class of errors; what it does not say itself it has from its base."""

    name: str
    base: str
    code: str | None
    status: int | None
    text: str
    source: str


def page(root: Path) -> str:
    """The page, from the sources below the root; one row per code and status."""
    shared = {error.name: error for error in _classes(root / SHARED, "runtime")}
    rows: dict[tuple[int, str], tuple[str, set[str]]] = {}
    for error in shared.values():
        if error.code is not None and error.status is not None:
            rows[error.status, error.code] = (error.text, {"any"})
    titles = _table(root / FRAMEWORK, "_TITLES")
    for status, code in _table(root / FRAMEWORK, "_CODES").items():
        rows.setdefault((status, code), (f"{titles[status]}.", {"any"}))
    for path in sorted(root.glob("services/*/errors.py")):
        for error in _with_bases(list(_classes(path, path.parent.name)), shared):
            if error.code is None or error.status is None:
                continue
            text, said_by = rows.setdefault((error.status, error.code), (error.text, set()))
            if "any" not in said_by:
                said_by.add(error.source)
            elif text == f"{titles.get(error.status)}.":
                rows[error.status, error.code] = (error.text, said_by)
    return _HEAD + "".join(
        f"| {status} | `{code}` | {text} | {', '.join(sorted(said_by))} |\n"
        for (status, code), (text, said_by) in sorted(rows.items())
    )


def _classes(path: Path, source: str) -> Iterator[_Error]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef) or not node.bases:
            continue
        base = node.bases[0]
        said = {
            target.id: statement.value.value
            for statement in node.body
            if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Constant)
            for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
            if isinstance(target, ast.Name)
        }
        code, status = said.get("code"), said.get("status")
        if node.name == "InternalError":
            code, status = "internal_error", 500
        yield _Error(
            name=node.name,
            base=base.id if isinstance(base, ast.Name) else "",
            code=code if isinstance(code, str) and node.name != "AppError" else None,
            status=status if isinstance(status, int) else None,
            text=" ".join((ast.get_docstring(node) or "").split("\n\n")[0].split()),
            source=source,
        )


def _with_bases(errors: list[_Error], shared: dict[str, _Error]) -> Iterator[_Error]:
    """The errors with the code and status of their bases, of the same file or the shared one."""
    known = dict(shared)
    for error in errors:
        base = known.get(error.base)
        found = error._replace(
            code=error.code or (base.code if base else None),
            status=error.status or (base.status if base else None),
        )
        known[error.name] = found
        yield found


def _table(path: Path, name: str) -> dict[int, str]:
    """A table of texts by status in runtime.problems."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return dict(ast.literal_eval(node.value))
    raise LookupError(f"{path} has no table {name}")
