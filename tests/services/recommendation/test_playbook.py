"""The shipped playbook is valid, every play of it can be reached, and a wrong one is explained."""

from collections import Counter
from pathlib import Path

import pytest
from contracts import pattern
from runtime.errors import StartError

from services.recommendation.app import SHIPPED_PLAYBOOK, read_playbook
from services.recommendation.engine.matching import PLAYS_MAX, Matcher, Traits
from services.recommendation.engine.playbook import Play, PlaybookError, load

PLAYBOOK = read_playbook()
MATCHER = Matcher(PLAYBOOK)

SAMPLES = {
    "add-circuit-breaker-for-dependency": "Checkout fails: third-party outage of the payment provider",
    "add-missing-index": "Slow query on orders: full table scan, canceling statement due to statement timeout",
    "add-regression-test-first": "Regression: export button is still broken, reopened for the third time",
    "add-synthetic-probe": "Website down, page not loading for users in Europe",
    "agree-on-vendor-escalation": "Vendor outage: SMS supplier unavailable, SLA breach",
    "alert-on-pool-saturation": "FATAL: sorry, too many clients already; connection pool exhausted",
    "alert-on-replication-lag": "Replication stopped on db-3, replication slot grows",
    "annotate-changes-on-dashboards": "Recent change unknown, no change management record after deploy",
    "assign-owner": "Ticket ping-pong: unowned component, missing owner",
    "automate-certificate-renewal": "x509: certificate has expired or is not yet valid",
    "block-brute-force-logins": "sshd: Failed password for invalid user admin, possible break-in attempt",
    "bound-query-work": "N+1: too many queries on the report page, unbounded query",
    "bound-retry-storms": "Retry storm after the restart: thundering herd on the login service",
    "clean-up-disk": "OSError: [Errno 28] No space left on device, log rotation stopped",
    "close-file-handles": "java.io.IOException: Too many open files",
    "define-slo-burn-alerts": "Elevated error rate on the API, reported by customer before any alert",
    "detect-config-drift": "Misconfigured feature flag: config drift between staging and production",
    "drain-queue-backlog": "Kafka consumer lag: message backlog, delayed processing of orders",
    "fix-broken-build-reference": "java.lang.ClassNotFoundException: com.acme.Foo after version conflict",
    "fix-cache-invalidation": "Price page shows old value: stale cache, cache not cleared",
    "fix-crash-from-dump": "Segmentation fault (core dumped) in libimage",
    "fix-crash-loop": "CrashLoopBackOff: back-off restarting failed container",
    "fix-health-checks": "Readiness probe failed, target unhealthy and flapping",
    "fix-load-balancer-timeouts": "502 Bad Gateway: upstream prematurely closed connection (nginx)",
    "fix-login-dependency": "Users cannot log in: identity provider (Okta) is down",
    "fix-memory-leak": "Memory leak in the worker: RSS growing until restart",
    "fix-permissions-as-code": "AccessDenied: role has insufficient permissions, missing permission s3:GetObject (IAM)",
    "fix-race-condition": "ConcurrentModificationException: race condition in the session store",
    "fix-tls-handshake": "TLS handshake failure: unknown CA",
    "fix-webhook-delivery": "Webhook delivery failed for 300 events",
    "forecast-disk-usage": "Disk usage 91 % on db-1, running out of space",
    "guard-null-dereference": "java.lang.NullPointerException at com.acme.Cart.total",
    "handle-errors-explicitly": "HTTP 500 Internal Server Error: unhandled exception in /v1/orders",
    "handle-time-zones": "Reports off by one hour after daylight saving change",
    "harden-dns": "getaddrinfo ENOTFOUND api.internal",
    "hold-blameless-review": "Repeat incident: root cause unknown, still under investigation",
    "improve-email-delivery": "Emails not sent: SMTP 550, DKIM check failed",
    "isolate-performance-regression": "High latency: p99 response time of search, performance degradation",
    "make-operation-idempotent": "Customer charged twice: duplicate charge, payment processed twice",
    "monitor-certificate-expiry": "SSL certificate expired on api.example.com",
    "monitor-scheduled-jobs": "Nightly ETL cron job did not run",
    "move-work-off-ui-thread": "UI freeze: editor unresponsive while indexing on the main thread",
    "plan-capacity": "Insufficient capacity at the seasonal peak, under-provisioned database",
    "prevent-cache-stampede": "Cache stampede after cache flush: hot key expired in Redis",
    "protect-dangerous-operations": "Table accidentally deleted in production: human error, wrong command",
    "quarantine-poison-messages": "Poison message blocks partition, redelivery loop, dead letter queue empty",
    "raise-or-fix-memory-limit": "Container OOMKilled, exit code 137",
    "raise-quota-ahead": "Quota exceeded for vCPU limit in project",
    "reduce-alert-noise": "Alert storm: noisy alert, false positive, auto-resolved",
    "reduce-replication-lag": "Replica lag of 600 s: stale reads from the read replica",
    "rehearse-failover": "Failover failed: standby was not promoted after primary down",
    "relieve-cpu-throttling": "High CPU: throttled CPU periods on the API pods",
    "replace-failing-hardware": "instruction cache parity error corrected, machine check",
    "repair-data-corruption": "Checksum mismatch: data corruption in block storage",
    "repair-token-lifecycle": "401 Unauthorized: token expired, JWKS refresh failed",
    "resolve-deadlocks": "ERROR: deadlock detected, lock wait timeout exceeded",
    "respect-rate-limits": "429 Too Many Requests from GitHub API: secondary rate limit",
    "retry-with-backoff-and-jitter": "Connection reset by peer (ECONNRESET), intermittent",
    "roll-out-progressively": "Errors after deploy of 4.2, rollback needed, bad deploy",
    "rotate-credentials-automatically": "Password authentication failed for user app: credentials expired",
    "run-migration-online": "Schema migration failed: column does not exist after ALTER TABLE",
    "set-call-timeouts": "Read timed out: DEADLINE_EXCEEDED calling inventory",
    "shed-load-at-the-edge": "Server overloaded by a traffic spike, request queue full",
    "size-connection-pool": "HikariPool-1 - Connection is not available: connection pool exhausted",
    "stabilise-flaky-tests": "Flaky test in CI: CheckoutTest fails at random",
    "stabilise-leader-election": "etcd: leader election, quorum lost, split brain",
    "survive-partial-region-failure": "Availability zone outage: single region failure after power outage",
    "sync-clocks": "Clock skew on host: token used before issued, NTP not synchronized",
    "test-backups-by-restoring": "Backup failed, restore failed, possible data loss",
    "trace-packet-loss": "Packet loss between zones, VPN unreachable, BGP flap",
    "tune-autoscaling": "Pods pending: autoscaler at max replicas, HPA did not scale out",
    "tune-garbage-collection": "GC overhead limit exceeded, full GC pauses of 8 s",
    "unblock-thread-pool": "RejectedExecutionException: thread pool exhausted, event loop blocked",
    "validate-schema-at-boundary": "JSONDecodeError: unexpected token, schema mismatch in message",
    "widen-ephemeral-ports": "Cannot assign requested address: ephemeral port exhaustion, SNAT",
    "write-runbook": "No runbook: manual intervention, manual restart fixed it",
}


def test_playbook_has_at_least_forty_plays_of_every_type() -> None:
    types = Counter(play.type for play in PLAYBOOK.plays)
    assert len(PLAYBOOK.plays) >= 40
    assert {"code_fix", "config_change", "process", "monitoring"} == set(types)
    assert min(types.values()) >= 5


def test_playbook_has_a_sample_for_every_play() -> None:
    assert {play.id for play in PLAYBOOK.plays} == set(SAMPLES)


@pytest.mark.parametrize("play_id", sorted(SAMPLES))
def test_play_is_chosen_for_its_sample(play_id: str) -> None:
    chosen = [fit.play.id for fit in MATCHER.choose(Traits(name=SAMPLES[play_id]))]
    assert play_id in chosen, chosen
    assert len(chosen) <= PLAYS_MAX


@pytest.mark.parametrize("play", PLAYBOOK.plays, ids=lambda play: play.id)
def test_play_is_written_for_people(play: Play) -> None:
    """A play says why, what to do in whole sentences, and how to see that it worked."""
    texts = [play.description, play.verification, *(step.description for step in play.steps)]
    assert all(text.endswith((".", "?", ")")) for text in texts)
    assert len({step.title for step in play.steps}) == len(play.steps)
    assert 0.2 <= play.holds <= 0.85


def test_version_is_dated_and_changes_with_any_play() -> None:
    files = {path.name: path.read_bytes() for path in SHIPPED_PLAYBOOK.glob("*.yaml")}
    edited = {**files, "calls.yaml": files["calls.yaml"].replace(b"holds: 0.55", b"holds: 0.56", 1)}
    assert PLAYBOOK.version == load(files).version
    assert load(edited).version != load(files).version
    assert load(edited).version.startswith("2026-11-22+")


OWN = b"""
version: 2027-01-05
disable: [reduce-alert-noise]
plays:
  - id: restart-mainframe
    title: Restart the mainframe's message gateway
    type: process
    effort: low
    holds: 0.4
    matches: {terms: {abend: 0.9}, dimensions: {component: {CICS: 0.6}}}
    description: The gateway keeps a broken session.
    steps:
      - {title: Check, description: Look at the session list.}
      - {title: Drain, description: Stop new sessions.}
      - {title: Restart, description: Restart the gateway.}
    verification: The session list is clean.
"""


def test_own_folder_adds_replaces_and_disables(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_bytes(OWN)
    own = read_playbook(tmp_path)
    ids = {play.id for play in own.plays}
    assert "restart-mainframe" in ids
    assert "reduce-alert-noise" not in ids
    assert own.version.startswith("2027-01-05+")
    chosen = Matcher(own).choose(Traits(name="ABEND S0C7 in batch step"))
    assert "restart-mainframe" in [fit.play.id for fit in chosen]


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    wrong = OWN.replace(b"holds: 0.4", b"holds: 1.4") + b""
    (tmp_path / "a.yaml").write_bytes(wrong)
    (tmp_path / "b.yaml").write_bytes(
        OWN.replace(b"CICS", b"IMS")
        .replace(b"component:", b"galaxy:")
        .replace(b"abend: 0.9", b"one two three four five: 0.9")
    )
    (tmp_path / "c.yaml").write_bytes(b"plays: [")
    with pytest.raises(StartError) as raised:
        read_playbook(tmp_path)
    message = str(raised.value)
    assert "a.yaml: Expected `float` < 1.0 - at `$.plays[0].holds`" in message
    assert "dimension 'galaxy' is unknown" in message
    assert "has 5 words" in message
    assert "c.yaml" in message
    assert "docs/reference/playbook.md" in message


def test_too_few_steps_and_double_ids_are_mistakes() -> None:
    short = OWN.replace(b"      - {title: Drain, description: Stop new sessions.}\n", b"").replace(
        b"disable: [reduce-alert-noise]\n", b""
    )
    with pytest.raises(PlaybookError) as raised:
        load({"a.yaml": short, "b.yaml": short})
    assert any("has 2 steps; 3 to 6 are wanted" in line for line in raised.value.mistakes)
    assert any("used twice" in line for line in raised.value.mistakes)


def test_an_empty_playbook_is_a_mistake() -> None:
    with pytest.raises(PlaybookError, match="no play"):
        load({})


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="PLAYBOOK_DIR"):
        read_playbook(tmp_path / "nowhere")


def test_dimension_of_a_play_speaks_for_it(tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_bytes(OWN)
    traits = Traits(
        name="Batch failed",
        fingerprint=(pattern.FingerprintDimension(name="component", value="cics", share=1.0),),
    )
    [fit] = [
        fit for fit in Matcher(read_playbook(tmp_path)).fits(traits) if fit.play.id == "restart-mainframe"
    ]
    assert fit.fit == 0.6
    assert fit.evidence == ('100% of its issues have component "cics".',)
