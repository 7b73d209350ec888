"""How each vendor proves its calls: for every `verify` of the catalogue a call as the vendor's documentation has it.

What is signed, with what and where it stands is written here once more, from the page that is named, and goes through
the manifest; so a header, a prefix, an algorithm or a moment that one of both has otherwise is seen.
"""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from services.ingest.connectors.manifest import Hmac, Scheme, StandardWebhooks
from services.ingest.connectors.registry import catalogue, manifest_of
from services.ingest.connectors.verification import Believed, Call, Refusal, Refused, judge, judge_any
from tests.services.ingest.test_webhook_verification import (
    CERTIFICATE_URL,
    TOPIC,
    certificate,
    signed_message,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECONDS, WRITTEN = str(int(NOW.timestamp())), "2026-11-22T12:00:00Z"
MILLIS = f"{SECONDS}000"
SECRET = "kept-between-the-two-of-us-and-long-enough"
BODY = b'{"event": {"id": "1", "bytes": "\xc3\xa9"}, "webhookTimestamp": %s}' % MILLIS.encode()
URL = "https://api.example.com/v1/webhooks/inbound/con_1"
SENDER = "alerts@project.iam.gserviceaccount.com"
GOOGLE_KEYS = "https://www.googleapis.com/oauth2/v3/certs"
GOOGLE = RSAKey.generate_key(2048, parameters={"kid": "1"})
AMAZON = rsa.generate_private_key(65537, 2048)
AT_HAND = {
    GOOGLE_KEYS: json.dumps(KeySet([GOOGLE]).as_dict(private=False)).encode(),
    CERTIFICATE_URL: certificate(AMAZON),
}


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A genuine call and where it is documented.

    docs: the vendor's page; for a header or parameter that a person chooses, ours. signs: the body is part of the proof.
    seconds: how long the call is good. others: headers that look alike and are no proof.
    """

    docs: str
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    body: bytes = BODY
    secret: str = SECRET
    signs: bool = True
    seconds: int | None = None
    others: tuple[dict[str, str], ...] = ()

    def call(self, **changes: object) -> Call:
        return msgspec.structs.replace(
            Call(body=self.body, headers=self.headers, query=self.query, url=URL), **changes
        )


def mac(signed: bytes = BODY, algorithm: str = "sha256", key: bytes = SECRET.encode()) -> bytes:
    return hmac.digest(key, signed, algorithm)


def hexed(signed: bytes = BODY, algorithm: str = "sha256", key: bytes = SECRET.encode()) -> str:
    return mac(signed, algorithm, key).hex()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def at(time: str, joint: str = "") -> bytes:
    return time.encode() + joint.encode() + BODY


def signed(docs: str, header: str, value: str, seconds: int | None = None, **more: str) -> Evidence:
    return Evidence(docs=docs, headers={header: value, **more}, seconds=seconds)


def standard(docs: str, start: str = "webhook") -> Evidence:
    signature = b64(mac(b"msg_1." + at(SECONDS, ".")))
    names = {"id": "msg_1", "timestamp": SECONDS, "signature": f"v1a,zz v1,{signature}"}
    headers = {f"{start}-{name}": value for name, value in names.items()}
    return Evidence(docs=docs, headers=headers, secret="whsec_" + b64(SECRET.encode()), seconds=300)


def token(header: str, prefix: str = "", docs: str = "docs/how-to/receive-webhooks.md") -> Evidence:
    return Evidence(docs=docs, headers={header: prefix + SECRET}, signs=False)


def in_query(name: str = "token", docs: str = "docs/how-to/receive-webhooks.md") -> Evidence:
    return Evidence(docs=docs, query={name: SECRET}, signs=False)


def in_body(docs: str, body: object) -> Evidence:
    return Evidence(docs=docs, body=json.dumps(body).encode(), signs=False)


def told(header: str, prefix: str = "", key: str = SECRET, **claims: object) -> dict[str, str]:
    return {header: prefix + jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(key))}


def google(**changes: object) -> dict[str, str]:
    said = {"iss": "https://accounts.google.com", "aud": URL, "email": SENDER, "exp": int(SECONDS) + 60}
    claims = {name: value for name, value in {**said, **changes}.items() if value is not None}
    return {"Authorization": "Bearer " + jwt.encode({"alg": "RS256", "kid": "1"}, claims, GOOGLE)}


BASIC = Evidence(
    docs="https://www.rfc-editor.org/rfc/rfc7617",
    headers={"Authorization": "Basic " + b64(f"user:{SECRET}".encode())},
    secret=f"user:{SECRET}",
    signs=False,
)
SNS = Evidence(
    docs="https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html",
    body=json.dumps(signed_message(AMAZON, Timestamp=WRITTEN)).encode(),
    secret=TOPIC,
    seconds=3600,
)
GRAPH = in_body(
    "https://learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks",
    {"value": [{"clientState": SECRET}]},
)
CHOSEN, BEARER = token("X-Causeloop-Token"), token("Authorization", "Bearer ")
EXPIRES = int(SECONDS) + 60
SHA = hashlib.sha256(BODY).hexdigest()

# fmt: off
EVIDENCE: dict[str, tuple[Evidence, ...]] = {
    **dict.fromkeys(
        ["airflow", "appdynamics", "argocd", "betterstack", "datadog", "datadog_security", "freshdesk", "freshservice", "gorgias", "grafana_oncall", "ilert", "instana", "jsm_ops", "kustomer", "logz_io", "microsoft_sentinel", "newrelic", "opsgenie", "pagertree", "pylon", "servicenow", "squadcast", "sumologic", "victorops", "wazuh", "youtrack", "zabbix"], (CHOSEN,)),
    **dict.fromkeys(
        ["airbyte", "azure_monitor", "bugsnag", "checkmk", "graylog", "healthchecks", "honeybadger", "jenkins", "librenms", "pingdom", "rollbar", "site24x7", "splunk", "splunk_observability", "statuspage", "uptimerobot", "zenduty", "zoho_desk"], (in_query(),)),
    **dict.fromkeys(["aws_cloudwatch", "aws_guardduty", "aws_health", "aws_security_hub"], (SNS,)),
    **dict.fromkeys(["auth0", "wiz"], (BEARER,)),
    "alertmanager": (BEARER, BASIC),
    "asana": (signed("https://developers.asana.com/docs/webhooks-guide", "X-Hook-Signature", hexed()),),
    "azure_devops": (BASIC, CHOSEN),
    "bitbucket": (signed("https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/", "X-Hub-Signature", f"sha256={hexed()}"),),
    "buildkite": (
        signed("https://buildkite.com/docs/apis/webhooks/pipelines", "X-Buildkite-Signature", f"timestamp={SECONDS},signature={hexed(at(SECONDS, '.'))}", 300),
        token("X-Buildkite-Token", docs="https://buildkite.com/docs/apis/webhooks/pipelines"),
    ),
    "checkly": (signed("https://www.checklyhq.com/docs/alerting-and-retries/webhooks", "x-checkly-signature", hexed()), CHOSEN),
    "circleci": (signed("https://circleci.com/docs/outbound-webhooks", "circleci-signature", f"v1={hexed()},v2=00"),),
    "clickup": (signed("https://developer.clickup.com/docs/webhooksignature", "X-Signature", hexed()),),
    "cloudflare": (token("cf-webhook-auth", docs="https://developers.cloudflare.com/notifications/get-started/configure-webhooks/"),),
    "coralogix": (in_body("https://coralogix.com/docs/user-guides/alerting/outbound-webhooks/", {"uuid": SECRET}), CHOSEN),
    # CrowdStrike's page is for customers alone; two receivers of others, written apart, agree that the time follows the body.
    "crowdstrike": (signed("https://marketplace.crowdstrike.com/listings/webhook", "X-CS-Primary-Signature", b64(mac(BODY + WRITTEN.encode())), 300, **{"X-CS-Delivery-Timestamp": WRITTEN}),),
    "custom_api": (
        signed("docs/how-to/receive-webhooks.md", "x-causeloop-signature", hexed()),
        signed("docs/how-to/receive-webhooks.md", "x-hub-signature-256", f"sha256={hexed()}"),
        standard("https://www.standardwebhooks.com"),
    ),
    "databricks": (BASIC,),
    "dbt": (signed("https://docs.getdbt.com/docs/deploy/webhooks", "Authorization", hexed()),),
    "dynamics365": (
        token("x-webhook-key", docs="https://learn.microsoft.com/en-us/power-apps/developer/data-platform/register-web-hook"),
        in_query("code", docs="https://learn.microsoft.com/en-us/power-apps/developer/data-platform/register-web-hook"),
    ),
    "dynatrace": (CHOSEN, BASIC),
    "elastic": (CHOSEN, BASIC),
    "entra_id": (GRAPH,),
    "firehydrant": (signed("https://help.firehydrant.io/en/articles/4288252-sending-a-webhook-from-a-runbook", "fh-signature", hexed()),),
    "fivetran": (signed("https://fivetran.com/docs/rest-api/webhooks", "X-Fivetran-Signature-256", hexed().upper()),),
    "front": (
        signed("https://dev.frontapp.com/docs/application-webhooks", "X-Front-Signature", b64(mac(at(MILLIS, ":"))), 300, **{"X-Front-Request-Timestamp": MILLIS}),
        signed("https://dev.frontapp.com/docs/rule-webhooks", "X-Front-Signature", b64(mac(algorithm="sha1"))),
    ),
    "gcp_monitoring": (
        BASIC,
        in_query("auth_token", docs="https://cloud.google.com/monitoring/support/notification-options"),
        Evidence(
            docs="https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions",
            headers=google(), secret=SENDER, signs=False, seconds=59,
            others=(google(iss="https://evil.example.com"), google(aud=URL + "2"), google(email="a@b.iam.gserviceaccount.com"), google(email=None, sub=SENDER), google(exp=None)),
        ),
    ),
    "gitguardian": (signed("https://docs.gitguardian.com/platform/configure-alerting/notifiers-integrations/custom-webhook", "Gitguardian-Signature", f"sha256={hexed(key=(SECONDS + SECRET).encode())}", 300, Timestamp=SECONDS),),
    "github": (signed("https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries", "X-Hub-Signature-256", f"sha256={hexed()}"),),
    "gitlab": (standard("https://docs.gitlab.com/user/project/integrations/webhooks/"), token("X-Gitlab-Token", docs="https://docs.gitlab.com/user/project/integrations/webhooks/")),
    "grafana": (
        signed("https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/", "X-Grafana-Alerting-Signature", hexed()),
        signed("https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/", "X-Grafana-Alerting-Signature", hexed(at(SECONDS, ":")), 300, **{"X-Grafana-Alerting-Timestamp": SECONDS}),
        BEARER,
    ),
    "helpscout": (signed("https://developer.helpscout.com/webhooks", "X-HelpScout-Signature", b64(mac(algorithm="sha1"))),),
    "honeycomb": (token("X-Honeycomb-Webhook-Token", docs="https://docs.honeycomb.io/notify/alert/triggers/"),),
    "hubspot": (
        signed("https://developers.hubspot.com/docs/api/webhooks/validating-requests", "X-HubSpot-Signature-v3", b64(mac(b"POST" + URL.encode() + BODY + MILLIS.encode())), 300, **{"X-HubSpot-Request-Timestamp": MILLIS}),
        signed("https://developers.hubspot.com/docs/api/webhooks/validating-requests", "X-HubSpot-Signature", hashlib.sha256(SECRET.encode() + BODY).hexdigest()),
    ),
    "incident_io": (standard("https://docs.incident.io/integrations/webhooks"),),
    "intercom": (signed("https://developers.intercom.com/docs/webhooks/setting-up-webhooks", "X-Hub-Signature", f"sha1={hexed(algorithm='sha1')}"),),
    "jira": (
        signed("https://developer.atlassian.com/cloud/jira/platform/webhooks/", "X-Hub-Signature", f"sha256={hexed()}"),
        Evidence(docs="https://developer.atlassian.com/cloud/jira/platform/understanding-jwt-for-connect-apps/", headers=told("Authorization", "Bearer ", exp=EXPIRES), signs=False, seconds=59, others=(told("Authorization", "Bearer ", sub="1"),)),
    ),
    "jira_dc": (signed("https://confluence.atlassian.com/adminjiraserver/managing-webhooks-938846912.html", "X-Hub-Signature", f"sha256={hexed()}"), in_query()),
    "launchdarkly": (signed("https://launchdarkly.com/docs/home/infrastructure/webhooks", "X-LD-Signature", hexed()),),
    "linear": (signed("https://linear.app/developers/webhooks", "Linear-Signature", hexed(), 60),),
    "logicmonitor": (BASIC, in_query()),
    "microsoft_defender": (GRAPH,),
    "monday": (
        Evidence(docs="https://developer.monday.com/api-reference/reference/webhooks", headers=told("Authorization", exp=EXPIRES), signs=False, seconds=59, others=(told("Authorization", sub="1"),)),
        in_query(),
    ),
    "mongodb_atlas": (signed("https://www.mongodb.com/docs/atlas/tutorial/webhook-integration/", "X-MMS-Signature", b64(mac(algorithm="sha1"))),),
    "netlify": (Evidence(
        docs="https://docs.netlify.com/deploy/deploy-notifications/", headers=told("X-Webhook-Signature", iss="netlify", sha256=SHA),
        others=(told("X-Webhook-Signature", iss="other", sha256=SHA), told("X-Webhook-Signature", sha256=SHA), told("X-Webhook-Signature", iss="netlify")),
    ),),
    "notion": (signed("https://developers.notion.com/reference/webhooks", "X-Notion-Signature", f"sha256={hexed()}"),),
    "okta": (token("Authorization", docs="https://developer.okta.com/docs/concepts/event-hooks/"),),
    "pagerduty": (signed("https://developer.pagerduty.com/docs/verifying-webhook-signatures", "x-pagerduty-signature", f"v1={'0' * 64},v1={hexed()}"),),
    "rootly": (signed("https://docs.rootly.com/configuration/webhooks", "X-Rootly-Signature", f"t={SECONDS},v1={hexed(at(SECONDS))}", 300),),
    "semaphore": (signed("https://docs.semaphoreci.com/using-semaphore/notifications", "X-Semaphore-Signature-256", hexed()),),
    "sentry": (signed("https://docs.sentry.io/organization/integrations/integration-platform/webhooks/", "Sentry-Hook-Signature", hexed()),),
    "shortcut": (signed("https://help.shortcut.com/hc/en-us/articles/34734717380756", "Payload-Signature", hexed()),),
    "slack": (signed("https://docs.slack.dev/authentication/verifying-requests-from-slack", "X-Slack-Signature", f"v0={hexed(b'v0:' + at(SECONDS, ':'))}", 300, **{"X-Slack-Request-Timestamp": SECONDS}),),
    "snyk": (signed("https://docs.snyk.io/snyk-api/using-specific-snyk-apis/webhooks-apis/validation-and-versioning-of-payloads", "X-Hub-Signature", f"sha256={hexed()}"),),
    "statuscake": (
        Evidence(
            docs="https://www.statuscake.com/kb/knowledge-base/how-to-use-the-web-hook-url/", headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode({"URL": "https://shop.example", "Token": SECRET, "Status": "Down"}).encode(), signs=False,
        ),
        in_query(),
    ),
    "teams": (
        Evidence(
            docs="https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-outgoing-webhook",
            headers={"Authorization": "HMAC " + b64(mac())}, secret=b64(SECRET.encode()),
        ),
        GRAPH,
    ),
    "terraform": (signed("https://developer.hashicorp.com/terraform/cloud-docs/api-docs/notification-configurations", "X-TFE-Notification-Signature", hexed(algorithm="sha512")),),
    "thousandeyes": (BASIC, CHOSEN),
    "trello": (signed("https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/", "X-Trello-Webhook", b64(mac(BODY + URL.encode(), "sha1"))),),
    "vanta": (standard("https://developer.vanta.com/docs/webhooks", "svix"),),
    "vercel": (signed("https://vercel.com/docs/webhooks/webhooks-api", "x-vercel-signature", hexed(algorithm="sha1")),),
    "zendesk": (signed("https://developer.zendesk.com/documentation/webhooks/verifying/", "X-Zendesk-Webhook-Signature", b64(mac(at(WRITTEN))), 300, **{"X-Zendesk-Webhook-Signature-Timestamp": WRITTEN}),),
}
# fmt: on


CASES = [
    pytest.param(type_, index, each, id=f"{type_}-{index}")
    for type_, evidence in EVIDENCE.items()
    for index, each in enumerate(evidence)
]


def schemes_of(type_: str) -> tuple[Scheme, ...]:
    webhook = manifest_of(type_).webhook
    return () if webhook is None else webhook.verify


def test_every_way_to_prove_a_call_has_its_evidence() -> None:
    """A new type comes with a line here, and so does one more `verify` of an old one; each names a page."""
    wanted = {each.type: len(each.webhook.verify) for each in catalogue() if each.webhook is not None}
    assert wanted == {type_: len(evidence) for type_, evidence in EVIDENCE.items()}
    assert all(each.docs for evidence in EVIDENCE.values() for each in evidence)


@pytest.mark.parametrize(("type_", "index", "evidence"), CASES)
def test_a_call_as_the_vendor_documents_it_is_believed_and_nothing_near_it(
    type_: str, index: int, evidence: Evidence
) -> None:
    """By that scheme alone and among those of its type; changed, without a header, too late or of another secret not."""
    scheme, secret = schemes_of(type_)[index], evidence.secret

    def judged(call: Call, secret: str = secret, now: datetime = NOW) -> object:
        return judge(scheme, call, secrets=[secret], now=now, certificates=AT_HAND)

    good = evidence.call()
    assert judged(good) == Believed(0)
    among = judge_any(schemes_of(type_), good, secrets=[secret], now=NOW, certificates=AT_HAND)
    assert among == Believed(0)
    poorer = [
        evidence.call(headers={k: v for k, v in evidence.headers.items() if k != each})
        for each in evidence.headers
    ]
    changed = [evidence.call(body=evidence.body.replace(b"e", b"f"))] if evidence.signs else []
    bare = [evidence.call(query={}, headers={}, body=BODY)]
    for wrong in (*poorer, *changed, *bare, *(evidence.call(headers=each) for each in evidence.others)):
        assert isinstance(judged(wrong), Refused)
    assert isinstance(judged(good, b64(b"of-another-connector-and-long-enough")), Refused)
    if evidence.seconds is not None:
        assert judged(good, now=NOW + timedelta(seconds=evidence.seconds)) == Believed(0)
        late = judged(good, now=NOW + timedelta(seconds=evidence.seconds + 1))
        assert late == Refused(Refusal.STALE)
    assert (evidence.seconds is None) == (not isinstance(scheme, StandardWebhooks) and _is_timeless(scheme))


def _is_timeless(scheme: Scheme) -> bool:
    """Whether nothing in the scheme says when a call was made."""
    if isinstance(scheme, Hmac):
        return not (scheme.timestamp_header or scheme.timestamp_key or scheme.timestamp_path)
    kind = type(scheme).__name__
    return kind not in ("Sns", "Jwt") or bool(getattr(scheme, "body_hash_claim", None))
