"""The document that describes the API, and the page that explores it."""

import re
from typing import Any

import httpx
import msgspec

from services.gateway.app import OPERATIONS
from services.gateway.openapi import document
from services.gateway.routes.inbound_described import HEADERS, TEMPLATE, inbound_item
from services.ingest.connectors.manifest import BasicAuth, Digest, Hmac, Jwt, Scheme, StandardWebhooks, Token
from services.ingest.connectors.registry import catalogue

DOCUMENT = document(OPERATIONS, version="1.2.3", items={TEMPLATE: inbound_item()})


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


def test_every_group_of_operations_is_described_and_the_introduction_tells_how_to_hear_of_changes() -> None:
    described = {tag["name"] for tag in DOCUMENT["tags"]}
    assert described == {operation.tag for operation in OPERATIONS} | set(inbound_item()["post"]["tags"])
    for way in ("/v1/stream", "/v1/webhooks"):
        assert way in DOCUMENT["info"]["description"]


def headers_of(scheme: Scheme) -> set[str | None]:
    match scheme:
        case Hmac():
            return {scheme.header, scheme.timestamp_header}
        case Digest() | Token() | Jwt():
            return {scheme.header}
        case StandardWebhooks():
            return {"webhook-signature" if scheme.headers == "webhook" else "svix-signature"}
        case BasicAuth():
            return {"Authorization"}
    return set()


def test_vendors_calls_are_described_with_all_headers_that_prove_them() -> None:
    """Whatever a manifest reads stands in the document, and nothing else that no handshake has."""
    webhooks = [manifest.webhook for manifest in catalogue() if manifest.webhook is not None]
    read = {
        str(name).lower() for hook in webhooks for each in hook.verify for name in headers_of(each) if name
    }
    greeted = {
        str(name).lower()
        for hook in webhooks
        for each in hook.handshake
        if (name := getattr(each, "header", None))
    }
    always = {"x-causeloop-timestamp"}
    assert {name.lower() for name in HEADERS} == read | greeted | always
    assert set(DOCUMENT["paths"][TEMPLATE]) == {"parameters", "post", "get", "head"}


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
