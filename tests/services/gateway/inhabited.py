"""A tenant that somebody has lived in: one of everything that the API can make, and every id that it showed."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pyotp
from contracts import derived_id, prediction
from msgspec import Struct
from testkit.stack import Stack

from services.gateway.routes.operation import AnyOperation
from tests.services.gateway import builders, sources
from tests.services.gateway.authenticator import Authenticator
from tests.services.gateway.identity_provider import IdentityProvider
from tests.services.gateway.tenants import execute, join, onboard, sign_in

_ID = re.compile(r"\b(?:((?:[a-z]+_)+)[0-9A-HJKMNP-TV-Z]{26}|(ing_job_)[\w-]{20,})\b")
SCIM = "/v1/scim/v2"
_SCIM_USER = "urn:ietf:params:scim:schemas:core:2.0:User"
_SCIM_GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"


class Inhabited:
    """A client with data of every kind; every text of it has `word` in it, which nobody else's has.

    ids: prefix, as `iss_` → ids that its own answers have shown. owner: its owner's session.
    directory: its SCIM token. keyholder: a member with second factors.
    """

    def __init__(self, stack: Stack, provider: IdentityProvider) -> None:
        self.word = "w" + "".join(chr(ord("a") + int(digit, 16)) for digit in uuid4().hex[:12])
        self.stack = stack
        self.tenant = asyncio.run(onboard(stack.database.owner_url, seats=1000))
        self.ids: dict[str, list[str]] = defaultdict(list)
        self._provider = provider
        self._clients: list[httpx.Client] = []
        self.owner = self.client(sign_in(stack.url, self.tenant.owner_email))
        self.keyholder_id, self._keyholder_email = asyncio.run(
            join(stack.database.owner_url, self.tenant, "analyst")
        )
        self.keyholder = self.client(sign_in(stack.url, self._keyholder_email))
        self.directory: httpx.Client

    def client(self, token: str) -> httpx.Client:
        """A client with this token, whose answers are looked through for ids."""
        made = httpx.Client(
            base_url=self.stack.url,
            headers={"Authorization": f"Bearer {token}", "Prefer": "wait=10"},
            timeout=30,
            event_hooks={"response": [self._note]},
        )
        self._clients.append(made)
        return made

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def sql(self, statement: str, *values: object) -> list[Any]:
        return asyncio.run(execute(self.stack.database.owner_url, statement, *values))

    def fill(self, operations: tuple[AnyOperation, ...]) -> Self:
        """Make one of everything, then read everything there is to read."""
        self._report()
        self._staff()
        self._machines()
        self._secure()
        self._settle()
        self._read(operations)
        return self

    def _note(self, answer: httpx.Response) -> None:
        for found in _ID.finditer(answer.read().decode(errors="replace")):
            known = self.ids[found[1] or found[2]]
            if found[0] not in known:
                known.append(found[0])

    def _did(self, client: httpx.Client, method: str, path: str, body: object = None, **more: Any) -> Any:
        answer = client.request(method, path, **({} if body is None else {"json": body}), **more)
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def _wait(self, found: Callable[[], Any], *, seconds: float = 30.0) -> Any:
        give_up_at = time.monotonic() + seconds
        while not (value := found()):
            assert time.monotonic() < give_up_at, "it did not happen in time"
            time.sleep(0.05)
        return value

    def _report(self) -> None:
        """Issues that become a pattern with predictions and a recommendation, and an ingestion job."""
        word = self.word
        key = {"Idempotency-Key": "the-same-for-all"}
        # A machine's reports: what people write alike with a rare word in it may be joined.
        body = {
            "title": f"{word} alone",
            "external_id": "the same for all",
            "body": word,
            "team": word,
            "source": "datadog",
        }
        self._did(self.owner, "POST", "/v1/issues", body, headers=key)
        records = [
            {
                "external_id": f"{word}-{number}",
                "title": f"{word} connection pool exhausted",
                "source": "datadog",
                "service": word,
                "error_type": "PoolTimeout",
                "severity": "high",
                "metadata": {"customer": word},
            }
            for number in range(6)
        ]
        self._did(self.owner, "POST", "/v1/ingest/batch", {"records": records})
        for path in ("/v1/patterns", "/v1/predictions", "/v1/recommendations"):
            self._wait(lambda path=path: self._did(self.owner, "GET", path)["data"])
        pattern_id = self.ids["pat_"][0]
        # The last ones join after the pattern is found.
        path = f"/v1/patterns/{pattern_id}"
        self._wait(lambda: self._did(self.owner, "GET", path)["issue_count"] == len(records))
        self._did(self.owner, "PATCH", f"/v1/patterns/{pattern_id}", {"name": f"{word} pattern"})
        by_hand = {"title": f"{word} linked by hand", "source": "datadog"}
        lone = self._did(self.owner, "POST", "/v1/issues", by_hand)["id"]
        self._did(self.owner, "POST", f"/v1/issues/{lone}/link-pattern", {"pattern_id": pattern_id})
        # Whether it is open still or the one that was linked has made it come true.
        self._did(self.owner, "POST", f"/v1/predictions/{self.ids['prd_'][0]}/feedback", {"outcome": "hit"})
        recommended = self._did(self.owner, "GET", "/v1/recommendations")["data"][0]["id"]
        for status in ("in_progress", "implemented"):
            self._did(self.owner, "PATCH", f"/v1/recommendations/{recommended}", {"status": status})
        self._wait(lambda: self._did(self.owner, "GET", f"/v1/patterns/{pattern_id}/fixes")["fixes"])
        self._did(self.owner, "POST", f"/v1/issues/{lone}/comments", {"text": f"{word} was here"})
        self._did(self.owner, "POST", f"/v1/issues/{lone}/analyze", {"tier": "fast"})
        one = f"/v1/issues/{lone}"
        # One that a fault has interrupted is left alone for a minute.
        self._wait(lambda: self._did(self.owner, "GET", one)["analysis"], seconds=120.0)
        self._did(self.owner, "POST", f"/v1/issues/{lone}/unlink-pattern")
        again = self._did(self.owner, "POST", "/v1/issues", by_hand)["id"]
        self._did(self.owner, "POST", f"/v1/issues/{again}/link-pattern", {"pattern_id": pattern_id})
        self._did(self.owner, "PUT", f"/v1/playbook/{word}", _play(word))
        # Of a kind that no play is for, which is said.
        strange = {"title": f"{word} frobnicated twice", "source": "datadog", "service": f"{word} strange"}
        found = [self._did(self.owner, "POST", "/v1/issues", strange)["id"] for _ in range(4)]
        self._wait(lambda: self._did(self.owner, "GET", f"/v1/issues/{found[-1]}")["pattern_id"])
        of = self._did(self.owner, "GET", f"/v1/issues/{found[-1]}")["pattern_id"]
        asked = f"/v1/recommendations?pattern_id={of}"
        self._wait(lambda: (self._did(self.owner, "GET", asked)["reason"] or {}).get("code") == "withheld")
        # Sure enough of nothing, so that what is only alike is suggested.
        self._did(self.owner, "PATCH", "/v1/workspace", {"confidence_threshold": 1.0})
        near = {
            "title": f"{word} connection pool exhausted soon",
            "source": "datadog",
            "service": word,
            "error_type": "PoolTimeout",
        }
        self._did(self.owner, "POST", "/v1/issues", near)
        self._wait(lambda: self._did(self.owner, "GET", "/v1/suggestions")["data"])
        # A second pattern of the same service, so that two hang together.
        other = {"title": f"{word} certificate of the gate has expired", "source": "datadog", "service": word}
        for _ in range(3):
            self._did(self.owner, "POST", "/v1/issues", other)
        self._wait(lambda: len(self._did(self.owner, "GET", "/v1/patterns")["data"]) > 1)
        self._did(self.owner, "POST", "/v1/clusters/recompute")
        # One workspace at a time is clustered, and those of all other tests may be due.
        self._wait(lambda: self._did(self.owner, "GET", "/v1/clusters")["data"], seconds=120.0)

    def _staff(self) -> None:
        """Members, an invitation, preferences, settings."""
        word = self.word
        self._did(self.owner, "PATCH", "/v1/users/me", {"name": f"{word} Owner"})
        self._did(
            self.owner, "POST", "/v1/invitations", {"email": f"{word}@invited.example", "role": "viewer"}
        )
        self._did(self.owner, "PATCH", "/v1/settings/notifications", {"min_risk_score_for_alert": 80})
        self._did(self.owner, "PATCH", "/v1/settings/ai", {"model_enabled": False, "model_deep": word})
        space = {"name": f"{word} space", "description": word, "confidence_threshold": 0.3}
        self._did(self.owner, "PATCH", "/v1/workspace", space)
        self._did(self.owner, "PATCH", "/v1/organization", {"name": f"{word} organization"})
        self._did(self.owner, "POST", "/v1/audit/exports")
        self._did(self.owner, "POST", "/v1/governance/exports")
        request = {"subject": self.keyholder_id, "reason": word}
        self._did(self.owner, "POST", "/v1/governance/rtbf/requests", request)

    def _machines(self) -> None:
        """Tokens, a service account, a directory with a person and a group, an identity provider."""
        word = self.word
        self._did(self.owner, "POST", "/v1/api-tokens", {"name": word, "scopes": ["issues:read"]})
        account = self._did(self.owner, "POST", "/v1/service-accounts", {"name": word})["id"]
        token = {"name": word, "scopes": ["scim:write"]}
        made = self._did(self.owner, "POST", f"/v1/service-accounts/{account}/tokens", token)
        self.directory = self.client(made["secret"])
        self.directory.headers["Content-Type"] = "application/scim+json"
        person = {
            "schemas": [_SCIM_USER],
            "userName": f"{word}@directory.example",
            "emails": [{"value": f"{word}@directory.example", "primary": True}],
            "displayName": word,
            "active": True,
        }
        member = self._did(self.directory, "POST", f"{SCIM}/Users", person)["id"]
        group = {"schemas": [_SCIM_GROUP], "displayName": word, "members": [{"value": member}]}
        self._did(self.directory, "POST", f"{SCIM}/Groups", group)
        connection = {
            "name": word,
            "issuer": self._provider.issuer,
            "client_id": word,
            "client_secret": "of a provider",
            "domains": [f"{word}.example"],
        }
        self._did(self.owner, "POST", "/v1/sso/connections", connection)
        self.sql("SELECT approve_domain(%s, %s)", self.tenant.slug, f"{word}.example")

    def _secure(self) -> None:
        """An authenticator app, recovery codes, a passkey, and a challenge that nobody answers."""
        enrolled = self._did(self.keyholder, "POST", "/v1/mfa/totp", {})
        code = pyotp.TOTP(enrolled["secret"]).now()
        self._did(self.keyholder, "POST", "/v1/mfa/totp/confirm", {"code": code})
        start = "/v1/mfa/passkeys/registration"
        options = self._did(self.keyholder, "POST", start)
        page = f"http://localhost:{urlsplit(self.stack.url).port}"
        credential = Authenticator(page).create(options["public_key"])
        self._did(self.keyholder, "POST", "/v1/mfa/passkeys", {"name": self.word, "credential": credential})
        self._did(self.keyholder, "POST", start)
        assert self.keyholder.post("/v1/mfa/verify", json={"code": "000000"}).status_code == 422

    def _settle(self) -> None:
        """Rows that only time or an operator makes."""
        space = self.tenant.workspace_id
        self.sql(
            "INSERT INTO audit_anchors (workspace_id, entry_number, hash, purged_at) VALUES (%s, 0, '', now())",
            space,
        )
        self.sql(
            "INSERT INTO erasures (workspace_id, erasure_id, status, requested_at, completed_at)"
            " VALUES (%s, new_id('ers_'), 'completed', now() - interval '1 year', now() - interval '1 year')",
            space,
        )
        self.sql(
            "INSERT INTO mail_queue (workspace_id, mail_id, message_sealed, next_attempt_at, created_at)"
            " VALUES (%s, new_id('mail_'), 'x', now() + interval '1 year', now())",
            space,
        )
        self.sql(
            "INSERT INTO audit_intents (workspace_id, intent_id, begun_at, actor_id, action, category, target_type,"
            " target_id, metadata) VALUES (%s, 'x', now() + interval '1 year', 'x', 'x', 'other', 'x', 'x', '{}')",
            space,
        )
        hook = {
            "url": "http://127.0.0.1:9/hook",
            "event_types": ["issue.created"],
            "description": self.word,
            "is_active": False,
        }
        webhook = self._did(self.owner, "POST", "/v1/webhooks", hook)["id"]
        self._did(self.owner, "POST", f"/v1/webhooks/{webhook}/test")
        asyncio.run(self._tell())
        connected = sources.connect(self.stack, space, self.word, recommendation_id=self.ids["rec_"][0])
        asyncio.run(connected)
        self.sql(
            "INSERT INTO user_identities (provider, subject, user_id) VALUES ('https://idp.example', %s, %s)",
            self.word,
            self.keyholder_id,
        )

    async def _tell(self) -> None:
        """What only nights and years bring: a fit, and predictions that are purged; into the log, since rows are
        compared with it."""
        now, space = datetime.now(UTC), self.tenant.workspace_id
        fitted = prediction.ModelFitted(model_id=derived_id("mdl_", space), version="test", n_active=0)
        purged = tuple(
            prediction.PurgedPrediction(
                prediction_id=derived_id("prd_", space, key),
                pattern_id=derived_id("pat_", space),
                window_days=7,
                probability=0.5,
                model_probability=0.5,
                base_rate=0.5,
                is_base_rate_known=True,
                model="gamma_poisson",
                model_version="test",
                made_at=now,
                expires_at=now,
                outcome=None if is_prevented else prediction.Outcome.HIT,
                resolved_at=None if is_prevented else now,
                resolved_sequence=1,
                is_prevented=is_prevented,
            )
            for key, is_prevented in (("hit", False), ("prevented", True))
        )
        versions = builders.versioned(
            space, self.word, issue_id=self.ids["iss_"][0], pattern_id=self.ids["pat_"][0]
        )
        facts: list[sources.Fact] = [
            (fitted, fitted.model_id, "prediction"),
            (prediction.PredictionsPurged(workspace_id=space, predictions=purged), space, "prediction"),
            *((each, space, "pattern") for each in versions),
        ]
        await sources.tell(self.stack, space, facts, actor=self.tenant.owner_id)

    def _read(self, operations: tuple[AnyOperation, ...]) -> None:
        """Every list, and once more with its ids every single thing."""
        for client in (self.keyholder, self.owner, self.owner):
            for operation in operations:
                path = self.path_of(operation)
                if operation.method == "GET" and operation.scope is not None and path is not None:
                    client.get(path)

    def path_of(self, operation: AnyOperation, ids: Mapping[str, str] | None = None) -> str | None:
        """The operation's path with an id of this tenant for every parameter; None when one is not known."""
        path = operation.path
        for parameter in re.findall(r"{(\w+)}", path):
            value = (ids or {}).get(parameter) or self.an_id(parameter)
            if value is None:
                return None
            path = path.replace(f"{{{parameter}}}", value)
        return path

    def an_id(self, parameter: str) -> str | None:
        """One of this tenant's ids for a parameter of this name; None: it was never shown one."""
        if parameter in FREE_PARAMETERS:
            return FREE_PARAMETERS[parameter]
        known = self.ids.get(PREFIXES.get(parameter, ""), [])
        return known[0] if known else None


def _play(word: str) -> dict[str, Any]:
    """A play of a workspace's own."""
    return {
        "title": f"{word} play",
        "type": "process",
        "effort": "low",
        "holds": 0.5,
        "matches": {"terms": {f"{word} broke": 0.6}},
        "description": word,
        "steps": [{"title": word, "description": word}] * 3,
        "verification": word,
    }


PREFIXES = {
    "issue_id": "iss_",
    "pattern_id": "pat_",
    "source_pattern_id": "pat_",
    "prediction_id": "prd_",
    "recommendation_id": "rec_",
    "job_id": "ing_job_",
    "session_id": "ses_",
    "entry_id": "aud_",
    "export_id": "exp_",
    "request_id": "rtbf_",
    "group_id": "grp_",
    "token_id": "tok_",
    "service_account_id": "svc_",
    "connection_id": "sso_",
    "passkey_id": "pky_",
    "member_id": "mem_",
    "invitation_id": "inv_",
    "suggestion_id": "sug_",
    "contradiction_id": "ctr_",
    "analysis_id": "ana_",
    "cluster_id": "clu_",
    "version_id": "gvr_",
    "connector_id": "con_",
    "run_id": "syn_",
    "webhook_id": "whk_",
    "delivery_id": "whd_",
}
"""What the ids begin with that a parameter takes; a new parameter has to be added, or its routes are not proved."""

FREE_PARAMETERS = {
    "index": "0",
    "step": "connect_source",
    "source": "jira",
    "play_id": "add-missing-index",
    "type": "pagerduty",
}
"""Parameters that are no ids, with a value that is good."""


class Two(Struct, frozen=True):
    """Who asks, and whose everything is."""

    a: Inhabited
    b: Inhabited
