"""The demo's story: eight weeks of an online shop's failures, most of them old acquaintances. Pure and seeded."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from contracts import ingest
from msgspec import Struct

WEEKS: Final = 8
SEED: Final = 20_260_104
RESOLVED_AFTER: Final = timedelta(days=2)
LIVE_SHARE_KNOWN: Final = 0.9

Schedule = Callable[[datetime, random.Random], Iterator[datetime]]
"""(now, rng) → when the failure struck, within the last WEEKS weeks."""


class Wording(Struct, frozen=True):
    """How one source tells of a failure; braces are filled with details of the occurrence."""

    source: str
    title: str
    body: str


class Recurring(Struct, frozen=True, kw_only=True):
    """A failure that comes back."""

    slug: str
    service: str
    component: str
    error_type: str
    severity: str
    team: str
    reports: tuple[int, int]
    """Least and most reports of one occurrence."""
    schedule: Schedule
    wordings: tuple[Wording, ...]
    """The first is the usual one."""


class Single(Struct, frozen=True):
    """A failure that happened once: the noise between the patterns."""

    source: str
    service: str
    severity: str
    title: str
    body: str


def on_weekdays(*weekdays: int, hour: int, minutes: int = 45) -> Schedule:
    """Every week on these days (Monday is 0), within `minutes` after the hour."""

    def schedule(now: datetime, rng: random.Random) -> Iterator[datetime]:
        for days in range(WEEKS * 7, -1, -1):
            day = (now - timedelta(days=days)).replace(hour=hour, minute=0, second=0, microsecond=0)
            if day.weekday() in weekdays and rng.random() > 0.06:
                yield day + timedelta(minutes=rng.uniform(2, minutes))

    return schedule


def irregularly(*, every_days: float) -> Schedule:
    """At random, on average every so many days."""

    def schedule(now: datetime, rng: random.Random) -> Iterator[datetime]:
        moment = now - timedelta(weeks=WEEKS) + timedelta(days=rng.uniform(0.5, every_days))
        while moment < now:
            yield moment
            moment += timedelta(days=0.4 + rng.expovariate(1 / (every_days - 0.4)))

    return schedule


def regularly(*, every_days: float, hour: int) -> Schedule:
    """About every so many days, in the same hour."""

    def schedule(now: datetime, rng: random.Random) -> Iterator[datetime]:
        day = (now - timedelta(weeks=WEEKS)).replace(hour=hour, minute=0, second=0, microsecond=0)
        while day < now:
            yield day + timedelta(minutes=rng.uniform(0, 40))
            day += timedelta(days=every_days)

    return schedule


def growing(*, last_days: int) -> Schedule:
    """New: once on the first of the last days, more often on each that follows."""

    def schedule(now: datetime, rng: random.Random) -> Iterator[datetime]:
        for day in range(last_days):
            for _ in range(1 + day // 2):
                yield now - timedelta(days=last_days - day - rng.uniform(0.05, 0.9))

    return schedule


RECURRING: Final[tuple[Recurring, ...]] = (
    Recurring(
        slug="checkout-timeout", service="checkout", component="payment-step", error_type="TimeoutError",
        severity="p1", team="payments", reports=(2, 4), schedule=on_weekdays(1, 3, hour=14),
        wordings=(
            Wording("sentry", "TimeoutError: checkout request to payment-gateway timed out after {ms} ms",
                    "POST /checkout/confirm failed for order {order}: no answer from payment-gateway within 30 s.\n"
                    "Began {few} minutes after deploy {version} of checkout; workers were still warming up.\n"
                    "  at checkout.payment.confirm (confirm.py:118)\n  at checkout.http.post (client.py:64)"),
            Wording("datadog", "checkout: p99 latency of payment-step above 30 s after deploy {version}",
                    "Requests from checkout to payment-gateway time out; {percent} % of confirmations fail. "
                    "Deploy {version} finished {few} minutes before."),
        ),
    ),
    Recurring(
        slug="provider-outage", service="payments", component="provider-client", error_type="ServiceUnavailable",
        severity="p1", team="payments", reports=(3, 5), schedule=irregularly(every_days=6),
        wordings=(
            Wording("pagerduty", "Payment provider answers 503 Service Unavailable for card authorisations",
                    "{percent} % of card authorisations fail with 503 from the provider, region {region}. "
                    "The provider's status page reports degraded performance. Retries do not help."),
        ),
    ),
    Recurring(
        slug="pool-exhausted", service="orders", component="database", error_type="PoolTimeout", severity="p2",
        team="core-platform", reports=(3, 5), schedule=on_weekdays(0, hour=8),
        wordings=(
            Wording("sentry", "PoolTimeout: couldn't get a connection from the orders database pool after {ms} ms",
                    "All {few}0 connections to orders-db were in use on {host}. Monday's report jobs hold "
                    "connections while they render.\n  at psycopg_pool.getconn\n  at orders.repository.load_order"),
        ),
    ),
    Recurring(
        slug="oom-search", service="search-indexer", component="worker", error_type="OOMKilled", severity="p2",
        team="search", reports=(1, 3), schedule=irregularly(every_days=3.2),
        wordings=(
            Wording("kubernetes", "Pod search-indexer-{pod} OOMKilled with exit code 137",
                    "Container worker of pod search-indexer-{pod} was killed by the kernel: memory limit 2Gi "
                    "reached while indexing the full catalogue. Restart count {few}."),
        ),
    ),
    Recurring(
        slug="certificate-expired", service="edge-proxy", component="tls", error_type="CertificateExpired",
        severity="p1", team="core-platform", reports=(2, 4), schedule=regularly(every_days=14, hour=0),
        wordings=(
            Wording("grafana", "TLS certificate of {shop} has expired, clients refuse the connection",
                    "x509: certificate has expired or is not yet valid. The renewal job did not run for this "
                    "host on edge-proxy {host}. Customers see a browser warning."),
        ),
    ),
    Recurring(
        slug="disk-full", service="logging", component="ingester", error_type="NoSpaceLeft", severity="p3",
        team="core-platform", reports=(1, 3), schedule=on_weekdays(6, hour=3),
        wordings=(
            Wording("prometheus", "Disk /var/log on {host} is {percent} % full, log ingester stopped writing",
                    "write /var/log/ingester/segment: no space left on device. Rotation runs on Sunday after the "
                    "weekly export, which fills the volume first."),
        ),
    ),
    Recurring(
        slug="dns-failure", service="inventory", component="resolver", error_type="NameResolutionError",
        severity="p2", team="core-platform", reports=(3, 5), schedule=irregularly(every_days=9),
        wordings=(
            Wording("sentry", "NameResolutionError: warehouse-api.internal could not be resolved",
                    "getaddrinfo failed: temporary failure in name resolution, from {host} in {region}. "
                    "coredns answered SERVFAIL while its pods were rescheduled."),
        ),
    ),
    Recurring(
        slug="cache-failover", service="catalogue", component="redis", error_type="ConnectionResetError",
        severity="p2", team="catalogue", reports=(2, 4), schedule=irregularly(every_days=8),
        wordings=(
            Wording("datadog", "catalogue: redis failover, {percent} % of product pages served without cache",
                    "redis primary {host} stopped answering; a replica was promoted after {few} s. Connection reset "
                    "by peer in catalogue until clients reconnected; the database took the load."),
        ),
    ),
    Recurring(
        slug="slow-search", service="search", component="query", error_type="SlowQuery", severity="p3",
        team="search", reports=(1, 3), schedule=on_weekdays(2, hour=2),
        wordings=(
            Wording("grafana", "Search queries slower than 5 s after the nightly catalogue import",
                    "p95 of /search is {ms} ms. The import rewrote {percent} % of the index and merges are still "
                    "running on {host}."),
        ),
    ),
    Recurring(
        slug="duplicate-mail", service="notifications", component="mail-queue", error_type="DuplicateDelivery",
        severity="p3", team="customer-care", reports=(2, 4), schedule=irregularly(every_days=9),
        wordings=(
            Wording("zendesk", "Customers receive the order confirmation e-mail twice",
                    "Order {order}: two confirmation mails within {few} minutes. The mail queue redelivered "
                    "messages after a worker restart before they were acknowledged."),
        ),
    ),
    Recurring(
        slug="stock-deadlock", service="inventory", component="reservation", error_type="DeadlockDetected",
        severity="p2", team="inventory", reports=(2, 4), schedule=on_weekdays(4, hour=18),
        wordings=(
            Wording("sentry", "DeadlockDetected: stock reservation rolled back for order {order}",
                    "deadlock detected while updating stock_items during Friday's campaign; process {order} waits "
                    "for ShareLock on transaction {ms}.\n  at inventory.reservation.reserve (reserve.py:77)"),
        ),
    ),
    Recurring(
        slug="app-crash", service="mobile-app", component="cart", error_type="NullPointerException",
        severity="p2", team="mobile", reports=(3, 6), schedule=regularly(every_days=14, hour=17),
        wordings=(
            Wording("bugsnag", "NullPointerException in CartViewModel.restore after update to {version}",
                    "java.lang.NullPointerException: cart must not be null\n  at shop.cart.CartViewModel.restore"
                    "(CartViewModel.kt:58)\nAffects {percent} % of sessions on the first start after the update."),
        ),
    ),
    Recurring(
        slug="login-rate-limit", service="identity", component="rate-limiter", error_type="TooManyRequests",
        severity="p3", team="identity", reports=(1, 2), schedule=growing(last_days=6),
        wordings=(
            Wording("zendesk", "Customers behind a shared address cannot log in: 429 Too Many Requests",
                    "The login rate limiter counts all customers of an office as one. {few}0 log-ins refused "
                    "within a minute from one address in {region}."),
        ),
    ),
)  # fmt: skip

SINGLES: Final[tuple[Single, ...]] = (
    Single("zendesk", "returns", "p4", "Return label for Norway prints without a postcode", "Seen once, with order {order}."),
    Single("jira", "back-office", "p4", "Date picker in the back office starts weeks on Sunday", "Expected Monday for {region}."),
    Single("sentry", "recommender", "p3", "ValueError: cosine of an empty basket", "Basket {order} had no items any more."),
    Single("datadog", "shipping", "p3", "Carrier webhook delivered {few}0 events out of order", "Parcels of {shop} only."),
    Single("jira", "catalogue", "p4", "Umlauts missing in the German size chart", "Product {order}."),
    Single("pagerduty", "warehouse-sync", "p2", "Warehouse sync stopped: bad row in the supplier's file", "Row {order} had no SKU."),
    Single("zendesk", "loyalty", "p3", "Points of a merged account are counted once only", "Account {order}."),
    Single("sentry", "pricing", "p2", "Decimal overflow when a voucher exceeds the basket", "Voucher SPRING{few}."),
    Single("github", "checkout", "p4", "Typo in the French consent text", "Third paragraph."),
    Single("grafana", "analytics", "p3", "Hourly revenue report arrived {few} hours late", "The job waited for a lock on {host}."),
    Single("jira", "identity", "p3", "Password reset link opens the app of another brand", "On {shop}."),
    Single("zendesk", "gift-cards", "p2", "Gift card balance shows zero after a partial refund", "Card of order {order}."),
    Single("datadog", "image-resizer", "p3", "AVIF encoding takes {ms} ms for animated pictures", "One supplier's pictures."),
    Single("sentry", "tax", "p2", "KeyError: no tax rate for the Canary Islands", "Order {order}."),
    Single("github", "mobile-app", "p4", "Dark mode: grey text on grey in the wish list", "Since {version}."),
    Single("kubernetes", "sitemap", "p4", "CronJob sitemap missed its schedule once", "The node {host} was drained."),
    Single("zendesk", "shipping", "p4", "Customer asks for delivery to a parcel locker", "Not a failure; order {order}."),
    Single("pagerduty", "fraud-check", "p1", "Fraud check approved everything for {few} minutes", "A feature flag was on by mistake."),
    Single("jira", "back-office", "p4", "Export of suppliers swaps the columns for city and country", "Noticed by accounting."),
    Single("sentry", "newsletter", "p3", "UnicodeEncodeError while rendering the spring campaign", "Template {few} held an emoji that the old mailer cannot write."),
    Single("zendesk", "store-finder", "p4", "Map shows the shop in Lyon on the wrong bank of the river", "Customer sent a screenshot."),
    Single("datadog", "billing", "p2", "Invoice numbers jumped by a thousand over night", "The sequence was restored from a backup of {host}."),
    Single("github", "web-shop", "p4", "Zoom on product pictures does not close with the escape key", "Keyboard users are stuck."),
    Single("grafana", "message-bus", "p3", "Consumer group of the audit topic lags {order} messages", "One consumer was stopped for a debugging session."),
    Single("pagerduty", "cdn", "p2", "Wrong cache header made the price list public for an hour", "Set by hand on {host}; removed."),
    Single("jira", "cms", "p4", "Preview of a landing page ignores the chosen language", "Editors see English only."),
    Single("zendesk", "subscriptions", "p3", "Paused subscription was charged on the first of the month", "Account {order}; refunded."),
    Single("sentry", "reviews", "p3", "RecursionError: a reply to a review quotes itself", "Review {order}."),
    Single("kubernetes", "batch-jobs", "p3", "Job vacuum-tables exceeded its deadline on {host}", "It had waited for a long transaction."),
    Single("jira", "supplier-portal", "p4", "Upload accepts a spreadsheet with the wrong extension", "Then shows an empty page."),
    Single("datadog", "feature-flags", "p3", "Flag service returned defaults for {few} minutes after a rename", "The old name was still used by the basket."),
    Single("github", "design-system", "p4", "Focus ring invisible on blue buttons", "Contrast is 1.4 to 1."),
    Single("zendesk", "click-and-collect", "p2", "Shop in Graz was offered for pick-up on a public holiday", "Order {order} could not be collected."),
    Single("prometheus", "load-balancer", "p3", "One backend of {region} received twice the traffic of the others", "Weights were copied from a test."),
    Single("sentry", "currency", "p2", "ZeroDivisionError when a rate is missing on the first of January", "Exchange rates start on the second."),
    Single("jira", "data-warehouse", "p4", "Column discount_pct holds fractions and percentages", "Since the migration {version}."),
)  # fmt: skip

_REGIONS: Final = ("eu-central-1", "eu-west-1", "us-east-1", "ap-southeast-1")
_SHOPS: Final = (
    "shop.example.com",
    "shop.example.de",
    "pay.example.com",
    "api.example.com",
    "cdn.example.com",
)


def past(now: datetime, *, seed: int = SEED) -> list[ingest.IssueReport]:
    """What happened in the weeks before `now`, oldest first; the same now and seed give the same reports."""
    rng = random.Random(seed)
    told: list[tuple[datetime, ingest.IssueReport]] = []
    for failure in RECURRING:
        for number, moment in enumerate(failure.schedule(now, rng)):
            if moment < now:
                told.extend(_occurrence(failure, number, moment, now, rng))
    for number, single in enumerate(SINGLES):
        moment = now - timedelta(hours=rng.uniform(1, WEEKS * 7 * 24))
        told.append((moment, _single(single, f"past-{number}", moment, now, rng)))
    told.sort(key=lambda pair: pair[0])
    return [report for _, report in told]


def live(now: datetime, rng: random.Random) -> ingest.IssueReport:
    """A failure that happens now: most often one that is known, sometimes a new one."""
    label = f"live-{int(now.timestamp() * 1000)}"
    if rng.random() < LIVE_SHARE_KNOWN:
        failure = rng.choice(RECURRING)
        return _report(failure, _wording(failure, rng), f"{failure.slug}-{label}", now, now, rng)
    return _single(rng.choice(SINGLES), label, now, now, rng)


def _occurrence(
    failure: Recurring, number: int, moment: datetime, now: datetime, rng: random.Random
) -> Iterator[tuple[datetime, ingest.IssueReport]]:
    """The reports of one time that a failure struck: several within a quarter of an hour."""
    for report_number in range(rng.randint(*failure.reports)):
        at = min(moment + timedelta(minutes=rng.uniform(0, 15)), now)
        external_id = f"{failure.slug}-{number}-{report_number}"
        yield at, _report(failure, _wording(failure, rng), external_id, at, now, rng)


def _wording(failure: Recurring, rng: random.Random) -> Wording:
    others = failure.wordings[1:]
    return rng.choice(others) if others and rng.random() < 0.2 else failure.wordings[0]


def _report(
    failure: Recurring, wording: Wording, external_id: str, at: datetime, now: datetime, rng: random.Random
) -> ingest.IssueReport:
    details = _details(rng)
    return ingest.IssueReport(
        external_id=external_id,
        source=wording.source,
        title=wording.title.format_map(details),
        body=wording.body.format_map(details),
        severity=failure.severity,
        status=_status(at, now),
        service=failure.service,
        component=failure.component,
        error_type=failure.error_type,
        environment="production",
        version=details["version"],
        team=failure.team,
        source_created_at=at.astimezone(UTC),
        metadata={"region": details["region"], "host": details["host"]},
    )


def _single(
    failure: Single, label: str, at: datetime, now: datetime, rng: random.Random
) -> ingest.IssueReport:
    details = _details(rng)
    return ingest.IssueReport(
        external_id=f"single-{label}",
        source=failure.source,
        title=failure.title.format_map(details),
        body=failure.body.format_map(details),
        severity=failure.severity,
        status=_status(at, now),
        service=failure.service,
        environment="production",
        source_created_at=at.astimezone(UTC),
        metadata={"region": details["region"]},
    )


def _status(at: datetime, now: datetime) -> str:
    return "resolved" if now - at > RESOLVED_AFTER else "new"


def _details(rng: random.Random) -> dict[str, str]:
    """Particulars that differ from report to report."""
    return {
        "ms": str(rng.randint(30_000, 34_000)),
        "order": str(rng.randint(100_000, 999_999)),
        "percent": str(rng.randint(12, 97)),
        "few": str(rng.randint(2, 9)),
        "host": f"ip-10-{rng.randint(0, 40)}-{rng.randint(1, 250)}-{rng.randint(1, 250)}",
        "pod": f"{_hex(rng, 8)}-{_hex(rng, 5)}",
        "region": rng.choice(_REGIONS),
        "shop": rng.choice(_SHOPS),
        "version": f"{rng.randint(3, 4)}.{rng.randint(0, 40)}.{rng.randint(0, 9)}",
    }


def _hex(rng: random.Random, length: int) -> str:
    return f"{rng.getrandbits(4 * length):0{length}x}"
