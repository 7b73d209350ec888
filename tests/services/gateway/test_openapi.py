"""The document that describes the API, and the page that explores it."""

import re
from typing import Any

import httpx
import msgspec

from services.gateway.app import OPERATIONS
from services.gateway.openapi import document

DOCUMENT = document(OPERATIONS, version="1.2.3")


def nodes(value: Any) -> Any:
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from nodes(child)


def test_every_reference_leads_somewhere() -> None:
    """No schema is missing, and none is there for nothing but queries."""
    names = {
        f"#/components/{kind}/{name}" for kind, parts in DOCUMENT["components"].items() for name in parts
    }
    references = {node["$ref"] for node in nodes(DOCUMENT) if isinstance(node, dict) and "$ref" in node}
    assert references <= names
    assert not [name for name in DOCUMENT["components"]["schemas"] if name.endswith("Query")]


def test_every_reply_states_all_of_its_fields() -> None:
    """A field that is listed is always there: replies have no optional fields."""
    for operation in OPERATIONS:
        for kind in filter(None, operation.replies.values()):
            assert all(field.required for field in msgspec.structs.fields(kind)), (operation.id, kind)


def test_operations_are_described() -> None:
    """Ids are unique; each has a summary that is a sentence."""
    ids = [operation.id for operation in OPERATIONS]
    assert len(ids) == len(set(ids))
    assert all(operation.summary.endswith(".") for operation in OPERATIONS)


def test_the_document_is_served(api: httpx.Client) -> None:
    """As it was made."""
    served = api.get("/openapi.json").json()
    assert served["paths"] == msgspec.json.decode(msgspec.json.encode(DOCUMENT["paths"]))


def test_the_explorer_needs_no_other_host(api: httpx.Client) -> None:
    """Every asset of the page comes from here, and the policy forbids the rest."""
    page = api.get("/docs")
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert assets
    assert all(asset.startswith("/docs/") for asset in assets)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for asset in assets:
        answer = api.get(asset)
        assert answer.status_code == 200
        assert len(answer.content) > 100
    assert api.get("/docs/../settings.py").status_code == 404
    assert api.get("/docs/nothing.js").status_code == 404
