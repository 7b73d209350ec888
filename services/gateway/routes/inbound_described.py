"""What the OpenAPI document says of vendors' calls, which are no operation: bytes come in, and answers of several kinds."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]  # Any: JSON

TEMPLATE: Final = "/v1/webhooks/inbound/{connector_id}"
HEADERS: Final[Mapping[str, str]] = {
    "X-Causeloop-Signature": "Any source: HMAC-SHA256 of the raw body in hex",
    "X-Causeloop-Timestamp": "Any source: Unix seconds; signed then is `<timestamp>.<body>`",
    "X-Hub-Signature-256": "Any source, and GitHub: `sha256=` and HMAC-SHA256 of the raw body in hex",
    "X-Causeloop-Token": "Sources that sign nothing: the secret itself",
    "Authorization": "Sources with HTTP basic, a token of their own, or a JSON Web Token",
    "webhook-signature": "Standard Webhooks (GitLab, incident.io, your own), with `webhook-id` and `webhook-timestamp`",
    "svix-signature": "Vanta, with `svix-id` and `svix-timestamp`",
    "cf-webhook-auth": "Cloudflare",
    "circleci-signature": "CircleCI",
    "fh-signature": "FireHydrant",
    "Gitguardian-Signature": "GitGuardian, with `Timestamp`",
    "Linear-Signature": "Linear",
    "Payload-Signature": "Shortcut",
    "Sentry-Hook-Signature": "Sentry",
    "Timestamp": "GitGuardian",
    "X-Buildkite-Signature": "Buildkite",
    "X-Buildkite-Token": "Buildkite, where it does not sign",
    "x-checkly-signature": "Checkly",
    "X-CS-Primary-Signature": "CrowdStrike, with `X-CS-Delivery-Timestamp`",
    "X-CS-Delivery-Timestamp": "CrowdStrike",
    "X-Fivetran-Signature-256": "Fivetran",
    "X-Front-Request-Timestamp": "Front",
    "X-Front-Signature": "Front",
    "X-Gitlab-Token": "GitLab, where it does not sign",
    "X-Grafana-Alerting-Signature": "Grafana",
    "X-Grafana-Alerting-Timestamp": "Grafana",
    "X-HelpScout-Signature": "Help Scout",
    "X-Honeycomb-Webhook-Token": "Honeycomb",
    "X-Hook-Secret": "Asana's first call: the secret, which the answer repeats",
    "X-Hook-Signature": "Asana",
    "X-Hub-Signature": "Bitbucket, Jira, Snyk (`sha256=`), Intercom (`sha1=`)",
    "X-HubSpot-Request-Timestamp": "HubSpot",
    "X-HubSpot-Signature": "HubSpot, first version",
    "X-HubSpot-Signature-v3": "HubSpot",
    "X-LD-Signature": "LaunchDarkly",
    "X-MMS-Signature": "MongoDB Atlas",
    "X-Notion-Signature": "Notion",
    "X-Okta-Verification-Challenge": "Okta's first call, by GET: the answer repeats it",
    "X-PagerDuty-Signature": "PagerDuty",
    "X-Rootly-Signature": "Rootly",
    "X-Signature": "ClickUp",
    "X-Semaphore-Signature-256": "Semaphore",
    "X-Slack-Request-Timestamp": "Slack",
    "X-Slack-Signature": "Slack",
    "X-TFE-Notification-Signature": "HCP Terraform",
    "X-Trello-Webhook": "Trello",
    "X-Vercel-Signature": "Vercel",
    "X-Webhook-Key": "Dynamics 365",
    "X-Webhook-Signature": "Netlify",
    "X-Zendesk-Webhook-Signature": "Zendesk",
    "X-Zendesk-Webhook-Signature-Timestamp": "Zendesk",
}
"""What a call is proved with, or makes sure of us with, and whose it is; the manifests say the rest."""

_REFUSALS: Final[Mapping[int, str]] = {
    400: "Proved, but neither JSON nor a form.",
    401: "No signature, a wrong one, one that is too old, or a connector without a secret: all alike.",
    404: "The address is nobody's, or the type sends no webhooks.",
    409: "The connector is paused.",
    413: "The body is longer than 1 MiB.",
    414: "Path and query are longer than 8 KiB.",
    415: "The body is compressed.",
    429: "Too many calls in this minute; see Retry-After.",
    431: "The headers are longer than 32 KiB.",
    500: "A bug of ours; the log has more under the same trace id.",
    503: "It could not be kept, or not be checked yet: send it again after Retry-After.",
}
_DESCRIPTION: Final = (
    "Needs no token: the call is proved as its source proves it, `webhook_schemes` of its type in"
    " `/v1/connector-catalog/{type}`, or by `X-Causeloop-Signature`. What was accepted is durable, and taken once by the"
    " id that the source gives it. Handshakes of Slack, Asana, Notion, Okta, Microsoft Graph, Trello and Amazon SNS are"
    " answered with 200."
)


def inbound_item() -> Json:
    """The path item: `post`, and `get` and `head` for those that make sure of us so."""
    post: Json = {
        "operationId": "receiveWebhook",
        "summary": "Take what a source posts.",
        "description": _DESCRIPTION,
        "requestBody": {
            "required": False,
            "description": "As the source sends it, at most 1 MiB; its raw bytes are what is signed.",
            "content": {
                "application/json": {"schema": {}},
                "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
                "text/plain": {"schema": {"type": "string"}},
            },
        },
        "responses": _responses(tuple(_REFUSALS), is_delivery=True),
    }
    # Without a body there is no delivery.
    asked = (401, 404, 413, 414, 415, 429, 431, 500, 503)
    get: Json = {
        "operationId": "answerWebhookChallenge",
        "summary": "Answer a source that makes sure of this address.",
        "responses": _responses(asked, is_delivery=False),
    }
    head: Json = {
        "operationId": "showWebhookAddress",
        "summary": "Tell a source that this address exists.",
        "responses": _responses(asked, is_delivery=False, has_body=False),
    }
    common: Json = {"tags": ["Connectors"], "security": []}
    return {
        "parameters": [
            {
                "name": "connector_id",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1},
            },
            {
                "name": "validationToken",
                "in": "query",
                "required": False,
                "description": "Microsoft Graph's first call: the answer repeats it.",
                "schema": {"type": "string", "maxLength": 1000},
            },
            *(
                {
                    "name": name,
                    "in": "header",
                    "required": False,
                    "description": f"{whose}.",
                    "schema": {"type": "string"},
                }
                for name, whose in HEADERS.items()
                if name != "Authorization"  # OpenAPI ignores a parameter of this name
            ),
        ],
        "post": {**common, **post},
        "get": {**common, **get},
        "head": {**common, **head},
    }


def _responses(refusals: Sequence[int], *, is_delivery: bool, has_body: bool = True) -> Json:
    words = {"description": "A handshake, answered as its source wants it."}
    greeted: Json = {
        **words,
        **(
            {"content": {kind: {"schema": {}} for kind in ("application/json", "text/plain")}}
            if has_body
            else {}
        ),
    }
    status = {"type": "object", "properties": {"status": {"const": "accepted"}}, "required": ["status"]}
    taken: Json = {
        "description": "It is durable; issues follow.",
        "content": {"application/json": {"schema": status}},
    }
    problem: Json = {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
    }
    after: Json = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    return {
        "200": greeted,
        **({"202": taken} if is_delivery else {}),
        **{
            str(status): {
                "description": _REFUSALS[status],
                **({"headers": after} if status in (429, 503) else {}),
                **({"content": problem} if has_body else {}),
            }
            for status in refusals
        },
    }
