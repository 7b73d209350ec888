"""The session to vendors: where it does not connect, what it does not read, what it does not repeat."""

import gzip
import html
import json
import random
import socket
import threading
import time
import traceback
from base64 import b64encode, urlsafe_b64encode
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import quote, quote_plus

import msgspec
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from msgspec.structs import replace
from runtime.errors import described
from runtime.outbound import Outbound, Reach

from services.ingest.connectors.connecting import asked_secrets, check_credentials
from services.ingest.connectors.manifest import ApiKey, Manifest, SinglePage
from services.ingest.connectors.registry import manifest_of
from services.ingest.connectors.templates import Values
from services.ingest.errors import AccountBusyError, InvalidConnectorError, VendorError
from services.ingest.vendors import atlassian, polling, transport
from services.ingest.vendors import session as sessions
from services.ingest.vendors.authentication import SigV4
from services.ingest.vendors.polling import Access, Window, pages
from services.ingest.vendors.rate_limiter import UNDERWAY_SECONDS, OwnPaces, RateLimiter
from services.ingest.vendors.redaction import hidden
from services.ingest.vendors.session import GuardedSession, account_of, wants_sign_in

INSIDE = Reach.read(["127.0.0.0/8"])
DAY = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "s3cret-token-0815"

Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], Answer]) -> Iterator[tuple[str, list[str]]]:
    """A server, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _do  # noqa: N815  # names of the base class

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def session(reach: Reach = INSIDE) -> GuardedSession:
    return GuardedSession(
        reach, rate_limiter=RateLimiter(time.monotonic), per_minute=100_000, secrets=[SECRET]
    )


def failure(url: str, reach: Reach = INSIDE) -> VendorError:
    with session(reach) as asking, pytest.raises(VendorError) as caught:
        asking.get(url, headers={"Authorization": f"Bearer {SECRET}"})
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://0.0.0.0/",
        "https://localhost/",
        "https://2130706433/",
        "http://8.8.8.8/",
    ],
)
def test_addresses_inside_are_not_asked(url: str) -> None:
    """Nor is anything on the internet without encryption."""
    assert failure(url, Reach()).code == "address_refused"


def test_a_name_is_judged_by_what_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one bad address is enough: who answers names could give it next time."""
    real = socket.getaddrinfo

    def lookup(host: str, port: object, *rest: object, **more: object) -> object:
        if host == "vendor.example":
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", port)),
            ]
        return real(host, port, *rest, **more)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert failure("https://vendor.example/", Reach()).code == "address_refused"


def test_the_checked_address_is_connected_to_under_the_vendors_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is looked up once; the Host header keeps it."""
    real, lookups = socket.getaddrinfo, []

    def lookup(host: str, port: object, *rest: object, **more: object) -> object:
        if host == "vendor.example":
            lookups.append(host)
            assert len(lookups) == 1, "looked up again"
            return real("127.0.0.1", port, *rest, **more)  # type: ignore[arg-type]  # handed on as it came
        return real(host, port, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with (
        answering(lambda request: (200, {}, str(request.headers["Host"]).encode())) as (url, _),
        session() as asking,
    ):
        port = url.rpartition(":")[2]
        assert asking.get(f"http://vendor.example:{port}/").text == f"vendor.example:{port}"


def test_an_answer_that_breaks_off_is_told_as_such() -> None:
    with answering(lambda _: (200, {"Content-Length": "100"}, b"[1, ")) as (url, _):
        error = failure(url)
    assert error.code == "unreachable"
    assert error.detail == "127.0.0.1 broke off in the middle of its answer"


def test_a_redirect_is_not_followed() -> None:
    with answering(lambda _: (302, {"Location": "http://127.0.0.1:1/inside"}, b"")) as (url, asked):
        assert failure(url + "/list").code == "bad_answer"
    assert asked == ["/list"]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (203, {"Content-Type": "text/html; charset=utf-8"}),
        (302, {"Location": "https://spsprodweu1.vssps.visualstudio.com/_signin?realm=dev.azure.com"}),
        (302, {"Location": "/users/sign_in"}),
        (303, {"Location": "https://login.example.com/oauth2/v2.0/authorize?client_id=1"}),
    ],
)
def test_a_page_to_sign_in_refuses_the_credentials(status: int, headers: dict[str, str]) -> None:
    """How Azure DevOps answers a token that is none, and a proxy that people sign in at."""
    with answering(lambda _: (status, headers, b"<html>Sign in</html>")) as (url, _):
        error = failure(url)
    assert (error.code, error.detail) == (
        "credentials_rejected",
        f"127.0.0.1 answered {status}: a page to sign in",
    )


def test_an_address_without_end_is_judged_at_once() -> None:
    """Nothing else in the process goes on meanwhile; a time that grows with the square of its length takes minutes."""
    began = time.thread_time()
    assert not wants_sign_in(302, {"location": "/" * 60_000})
    assert time.thread_time() - began < 20


@pytest.mark.parametrize(
    "link", ["https://evil.example/next", "http://127.0.0.1:1/next", "//evil.example/next"]
)
def test_a_next_page_elsewhere_is_refused(link: str) -> None:
    """The token would go there."""
    header = {"Link": f'<{link}>; rel="next"'}
    with answering(lambda _: (200, header, b'[{"id": 1}]')) as (url, asked), session() as asking:
        manifest = replace(manifest_of("gitlab"), base_url=url)
        access = Access(manifest, {"host": "x", "project": "1"}, 1, {"token": SECRET})
        with pytest.raises(VendorError) as caught:
            list(pages(access, manifest.streams[0], Window(None, DAY), session=asking, pause=lambda _: None))
    assert caught.value.code == "bad_answer"
    assert len(asked) == polling.TRIES["bad_answer"]


def test_a_body_is_counted_while_it_unfolds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "BODY_BYTES_MAX", 100_000)
    bomb = gzip.compress(b"0" * 50_000_000)
    with answering(lambda _: (200, {"Content-Encoding": "gzip"}, bomb)) as (url, _):
        assert failure(url).code == "bad_answer"
    with answering(lambda _: (200, {}, b"0" * 100_001)) as (url, _):
        assert failure(url).code == "bad_answer"
    with (
        answering(lambda _: (200, {"Content-Encoding": "gzip"}, gzip.compress(b"[1]"))) as (url, _),
        session() as s,
    ):
        assert s.get(url).json() == [1]


def test_values_are_counted_before_they_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty kilobytes on the wire can be a gigabyte of empty records; records are counted for whoever takes them in."""
    page = b'{"items": [' + b",".join([b"{}"] * 200) + b"]}"
    manifest = replace(manifest_of("gitlab"), base_url="")
    (stream,) = manifest.streams[:1]
    assert stream.endpoint is not None
    endpoint = replace(stream.endpoint, data_selector="items", paginator=SinglePage())
    with answering(lambda _: (200, {}, page)) as (url, _):
        access = Access(replace(manifest, base_url=url), {"host": "x", "project": "1"}, 1, {"token": SECRET})
        for where, name in ((polling, "RECORDS_MAX"), (sessions, "VALUES_MAX")):
            with monkeypatch.context() as patched, session() as asking:
                patched.setattr(where, name, 199)
                with pytest.raises(VendorError, match="more than 199") as caught:
                    list(
                        pages(
                            access,
                            replace(stream, endpoint=endpoint),
                            Window(None, DAY),
                            session=asking,
                            pause=lambda _: None,
                        )
                    )
            assert caught.value.code == "bad_answer"


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (401, {}, "credentials_rejected"),
        (403, {}, "credentials_rejected"),
        (403, {"x-ratelimit-remaining": "0"}, "rate_limited"),
        (400, {"x-ratelimit-requests-remaining": "0"}, "rate_limited"),
        (429, {}, "rate_limited"),
        (404, {}, "not_configured"),
        (422, {}, "not_configured"),
        (500, {}, "vendor_failed"),
        (503, {}, "vendor_failed"),
    ],
)
def test_a_refusal_is_told_in_the_vendors_words_without_what_we_sent(
    status: int, headers: dict[str, str], code: str
) -> None:
    said = f"<html><script>x()</script><b>No</b> {SECRET} for you {'!' * 5000}</html>".encode()
    with answering(lambda _: (status, headers, said)) as (url, _):
        error = failure(url)
    assert error.code == code
    assert "No … for you" in error.detail
    assert SECRET not in error.detail
    assert "script" not in error.detail
    assert len(error.detail) <= 500


ODD = "S3cr/et+w<o>rd'=\"é="


@pytest.mark.parametrize(
    "spelt",
    [
        quote(ODD, safe=""),
        quote(ODD, safe="").lower(),
        quote_plus(ODD),
        json.dumps(ODD)[1:-1],
        json.dumps(ODD, ensure_ascii=False)[1:-1].replace("/", "\\/"),
        html.escape(ODD),
        "code: " + b64encode(f"me@x.example:{ODD}".encode()).decode(),
        "code: " + urlsafe_b64encode(f"user1:{quote_plus(ODD)}:more".encode()).decode(),
        "code: " + quote(b64encode(f"u:{ODD}".encode()).decode(), safe=""),
        "Authorization: Basic " + b64encode(b"another:secret").decode(),
        "you sent 'Bearer " + "ab" * 20,
    ],
)
def test_a_secret_is_hidden_however_the_vendor_spells_it(spelt: str) -> None:
    """Also where it stands across the end of what is read; words beside it stay."""
    known = ["me@x.example", ODD]
    label = next(
        (each for each in ("Authorization: Basic ", "you sent 'Bearer ", "code: ") if each in spelt), ""
    )
    assert hidden(f"No <{spelt}> end", known) == f"No <{label}…> end"
    if label in ("code: ", ""):
        before = " " * (4096 - 10 - len(label))
        assert hidden(f"{before}{spelt}> end", known).strip() == f"{label}…"
    assert hidden("Basic authentication is not allowed", [ODD]) == "Basic authentication is not allowed"


@pytest.mark.parametrize("spoiled", [SECRET + "\u200b", SECRET + "\n"])
async def test_a_secret_that_makes_no_header_is_told_nowhere(spoiled: str) -> None:
    """An error about a header repeats it, and so would whatever prints the error, or what it was raised from."""
    headers = {"authorization": f"Bearer {spoiled}"}
    with session() as asking, pytest.raises(VendorError) as polled:
        asking.send(asking.prepare_request(requests.Request("GET", "http://127.0.0.1:1/", headers=headers)))
    with pytest.raises(VendorError) as pushed, answering(lambda _: (200, {}, b"")) as (url, _):
        await transport.send(Outbound(INSIDE), "GET", url, headers=headers)
    for caught in (polled, pushed):
        assert caught.value.code == "not_configured"
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(UnicodeEncodeError) as bare:
        f"{SECRET}\u200b".encode("latin-1")
    assert SECRET in repr(bare.value)
    assert SECRET not in described(bare.value)
    keyed = next(auth for auth in manifest_of("github").auth if isinstance(auth, ApiKey))
    with pytest.raises(InvalidConnectorError, match="character"):
        check_credentials(keyed, {asked_secrets(keyed)[0].key: spoiled}, held=())


@pytest.mark.parametrize(
    "body",
    [
        {"ok": False, "error": "invalid_auth"},
        {"errors": [{"message": "Authentication required"}], "data": None},
        {"jsonrpc": "2.0", "error": {"code": -32602, "data": "Not authorized."}},
    ],
)
def test_a_refusal_sent_as_a_success_is_none(body: dict[str, object]) -> None:
    """Slack, GraphQL and JSON-RPC answer 200 to everything."""
    with answering(lambda _: (200, {}, msgspec.json.encode(body))) as (url, _), session() as asking:
        manifest = replace(manifest_of("linear"), base_url=url)
        access = Access(manifest, {}, 1, dict.fromkeys(("token", "api_key"), SECRET))
        with pytest.raises(VendorError) as caught:
            list(pages(access, manifest.streams[0], Window(None, DAY), session=asking, pause=lambda _: None))
    assert caught.value.code == "credentials_rejected"


@pytest.mark.parametrize("said", ["nan", "inf", "-inf"])
def test_a_wait_that_is_no_number_is_none(said: str) -> None:
    """`nan` would be at once; another header may know."""
    assert sessions.retry_after({"retry-after": said}) is None
    assert sessions.retry_after({"retry-after": said, "ratelimit-reset": "7"}) == 7.0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_signature_version_4_is_botocores(method: str) -> None:
    body = None if method == "GET" else b'{"MaxRecords":100}'
    url = "https://monitoring.eu-central-1.amazonaws.com/?b=2&a=x%20y"
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "Service.Call"}
    request = requests.Request(
        method,
        url,
        data=body,
        headers=headers,
        auth=SigV4(service="monitoring", region="eu-central-1", key_id="AKIA", secret=SECRET, token="t"),
    ).prepare()
    theirs = AWSRequest(method=method, url=url, data=body or b"", headers=headers)
    SigV4Auth(Credentials("AKIA", SECRET, "t"), "monitoring", "eu-central-1").add_auth(theirs)
    again = dict(theirs.headers.items())
    if request.headers["X-Amz-Date"] == again["X-Amz-Date"]:  # within the same second
        assert request.headers["Authorization"] == again["Authorization"]
    assert "host;x-amz-date;x-amz-security-token;x-amz-target" in request.headers["Authorization"]
    assert SECRET not in str(request.headers)


def test_requests_of_an_account_keep_its_pace_over_all_threads() -> None:
    """A burst, then a request every so often; another account does not wait."""
    now = [100.0]
    rate_limiter = RateLimiter(lambda: now[0])
    waits = [rate_limiter.wait("a", 60) for _ in range(5)]
    assert waits == pytest.approx([0, 0, 0.3, 1.4, 2.5])
    assert rate_limiter.wait("b", 60) == 0
    now[0] += 60
    assert rate_limiter.wait("a", 60) == 0


@pytest.mark.parametrize("per_minute", [1, 2, 7, 10, 60, 300, 1_200])
def test_no_minute_of_an_account_has_more_requests_than_it_may_be_asked(per_minute: int) -> None:
    """By the vendor's own count, where requests take up to three seconds to it; and nearly as many are asked."""
    rng = random.Random(per_minute)
    now = 0.0
    rate_limiter = RateLimiter(lambda: now)
    arrived: list[float] = []
    while now < 600.0:
        now += 10.0 if rng.random() * per_minute < 0.3 else 0.0
        now += rate_limiter.wait("a", per_minute)
        arrived.append(now + rng.random() * UNDERWAY_SECONDS)
    arrived.sort()
    within = [bisect_left(arrived, first + 60.0) - number for number, first in enumerate(arrived)]
    assert per_minute * 0.85 <= max(within) <= per_minute


@pytest.mark.parametrize("per_minute", [1, 10, 60, 300, 1_200])
def test_processes_that_share_paces_ask_no_more_than_one(per_minute: int) -> None:
    """Each takes the turns of a second ahead; what it does not use is nobody's, and that is not much."""
    rng = random.Random(per_minute)
    now, shared = 0.0, OwnPaces()
    processes = [RateLimiter(lambda: now, shared) for _ in range(3)]
    arrived: list[float] = []
    while now < 300.0:
        now += 10.0 if rng.random() * per_minute < 0.3 else 0.0
        now += rng.choice(processes).wait("a", per_minute)
        arrived.append(now + rng.random() * UNDERWAY_SECONDS)
    arrived.sort()
    within = [bisect_left(arrived, first + 60.0) - number for number, first in enumerate(arrived)]
    assert per_minute * 0.7 <= max(within) <= per_minute


def test_a_clock_that_was_set_back_holds_up_an_account_for_an_hour_at_most() -> None:
    now = [1e9]
    rate_limiter = RateLimiter(lambda: now[0])
    rate_limiter.wait("a", 60)
    now[0] -= 1e6
    assert 3_000 < rate_limiter.wait("a", 60, most=10.0) < 3_700


def test_where_a_session_gives_way_its_next_request_alone_waits_for_no_turn() -> None:
    """So whoever has begun a page that takes several requests brings it to its end."""
    waited: list[float] = []
    with (
        answering(lambda _: (200, {}, b"{}")) as (url, asked),
        GuardedSession(
            INSIDE, rate_limiter=RateLimiter(lambda: 0.0), per_minute=10, pause=waited.append
        ) as asking,
    ):
        for path in ("/0", "/1"):
            asking.give_way()
            with suppress(AccountBusyError):
                asking.get(f"{url}{path}")
        asking.get(f"{url}/2")
    assert asked == ["/0", "/2"]
    assert waited == [pytest.approx(6.6)]


def test_a_session_that_tests_stands_back_until_it_had_a_turn() -> None:
    waited: list[float] = []
    now = [1e9]
    rate_limiter = RateLimiter(lambda: now[0])
    rate_limiter.wait("", 10)
    with (
        answering(lambda _: (200, {}, b"{}")) as (url, asked),
        GuardedSession(INSIDE, rate_limiter=rate_limiter, per_minute=10, pause=waited.append) as asking,
    ):
        asking.stand_back()
        for path in ("/0", "/1"):
            with pytest.raises(AccountBusyError):
                asking.get(f"{url}{path}")
        now[0] += 60
        for path in ("/2", "/3"):
            asking.get(f"{url}{path}")
    assert asked == ["/2", "/3"]
    assert waited == [pytest.approx(6.6)]


def test_the_wait_for_a_turn_is_no_slowness_of_the_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of many requests may take its account longer than a vendor may take for a page."""
    waited: list[float] = []
    monkeypatch.setattr(sessions, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + sum(waited)))
    with (
        answering(lambda _: (200, {}, b"{}")) as (url, asked),
        GuardedSession(
            INSIDE, rate_limiter=RateLimiter(lambda: sum(waited)), per_minute=2, pause=waited.append
        ) as asking,
    ):
        asking.give_way()
        for n in range(6):
            asking.get(f"{url}/{n}")
    assert len(asked) == 6
    assert sum(waited) > sessions.PAGE_SECONDS


def test_an_account_is_who_signs_in() -> None:
    """A token that is renewed does not count beside the secret that it is got with."""

    def account(workspace_id: str, *, url: str = "https://gitlab.com/api", **secrets: str) -> str:
        own = {"client_id": "1", "client_secret": "s", "access_token": "x"}
        return account_of("gitlab", url, own | secrets, workspace_id)

    one = account("ws_1")
    assert one == account("ws_2", access_token="y")
    assert one != account("ws_1", client_secret="other")
    assert one != account("ws_1", url="https://git.example/api")
    keys = {"access_key_id": "AKIA", "secret_access_key": "s"}
    assert account_of("aws_health", "", {**keys, "session_token": "x"}, "ws_1") == account_of(
        "aws_health", "", {**keys, "session_token": "y"}, "ws_1"
    )


@pytest.mark.parametrize(
    ("type_", "known", "secret"),
    [
        *((type_, "email", "api_token") for type_ in ("bitbucket", "jira", "jsm_ops", "zendesk")),
        ("jenkins", "username", "api_token"),
        ("custom_status", "email", "access_token"),
        ("linear", "client_id", "access_token"),
        ("zoho_desk", "api_domain", "access_token"),
    ],
)
def test_who_knows_a_name_alone_keeps_no_strangers_pace(type_: str, known: str, secret: str) -> None:
    """A made-up secret beside it is tried, and refused, at a pace of its own."""
    theirs, ours = (
        account_of(type_, "https://acme.example", {known: "ops@acme.example", secret: each}, "ws_1")
        for each in ("made up", "real")
    )
    assert theirs != ours


@pytest.mark.parametrize("per_minute", [20, 60, 300])
def test_connections_that_are_tried_without_end_keep_no_poll_from_its_turn(per_minute: int) -> None:
    def n_polled(n_tests: int) -> int:
        now, next_at, n = 0.0, 0.0, 0
        rate_limiter = RateLimiter(lambda: now)
        while now < 300:
            for _ in range(n_tests):
                rate_limiter.wait("a", per_minute, most=0.0, is_spare=True)
            if now >= next_at:
                wait = rate_limiter.wait("a", per_minute, most=sessions.GIVING_WAY_SECONDS)
                n += wait <= sessions.GIVING_WAY_SECONDS
                next_at = now + wait
            now += 0.05
        return n

    assert n_polled(8) > 0.85 * n_polled(0)


def test_who_asks_a_public_host_keeps_no_strangers_pace() -> None:
    """One that has its own manifest ask once a minute would have another wait for minutes."""
    rate_limiter = RateLimiter(lambda: 0.0)
    theirs, ours = (
        account_of("custom_status", "https://status.example", {}, each) for each in ("ws_1", "ws_2")
    )
    for _ in range(5):
        rate_limiter.wait(theirs, 1)
    assert rate_limiter.wait(ours, 300) == 0
    assert ours == account_of("custom_status", "https://status.example", {}, "ws_2")


@pytest.mark.parametrize(
    "host", ["evil.com/", "evil.com#", "evil.com?x=", "a@evil.com", "evil.com/x/", "", "a b"]
)
def test_a_part_of_a_host_stays_one(host: str) -> None:
    """Otherwise `{config.subdomain}.zendesk.com` would be anybody's."""
    with pytest.raises(VendorError):
        Values(manifest_of("zendesk"), {"subdomain": host}).base_url(manifest_of("zendesk"))


@pytest.mark.parametrize(
    ("type_", "config", "url"),
    [
        ("zendesk", {"subdomain": "acme"}, "https://acme.zendesk.com"),
        ("splunk", {"host": "splunk.example:8089"}, "https://splunk.example:8089"),
        ("pagerduty", {"region": "eu"}, "https://api.eu.pagerduty.com"),
        ("pagerduty", {}, "https://api.pagerduty.com"),
        ("github", {"base_url": "https://git.example/api/v3/"}, "https://git.example/api/v3"),
    ],
)
def test_the_address_is_made_of_the_manifests(type_: str, config: dict[str, str], url: str) -> None:
    manifest: Manifest = manifest_of(type_)
    assert Values(manifest, config).base_url(manifest) == url


def test_jira_with_a_persons_token_is_asked_at_atlassian(monkeypatch: pytest.MonkeyPatch) -> None:
    """The site is found among those that the person may see."""

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        if request.path == "/oauth/token/accessible-resources":
            sites = [
                {"id": "c1", "url": "https://other.atlassian.net"},
                {"id": "c2", "url": "https://acme.atlassian.net"},
            ]
            return 200, {}, msgspec.json.encode(sites)
        return 200, {}, b'{"issues": [{"id": "1"}]}'

    with answering(answer) as (url, asked), session() as asking:
        monkeypatch.setattr(atlassian, "ADDRESS", url)
        manifest = manifest_of("jira")
        access = Access(manifest, {"site": "acme"}, 0, {"access_token": SECRET})
        found = list(
            pages(access, manifest.streams[0], Window(None, DAY), session=asking, pause=lambda _: None)
        )
        assert [page.records for page in found] == [[{"id": "1"}]]
        assert asked[-1] == "/ex/jira/c2/rest/api/3/search/jql"
        with pytest.raises(VendorError, match="may not see"):
            other = replace(access, config={"site": "unknown"})
            list(pages(other, manifest.streams[0], Window(None, DAY), session=asking, pause=lambda _: None))


def test_who_would_wait_too_long_takes_nobody_s_turn() -> None:
    """It is told when to come back, each behind the one before, so that they do not come all at once."""
    now = [0.0]
    rate_limiter = RateLimiter(lambda: now[0])
    waits = [rate_limiter.wait("a", 6, most=10.0) for _ in range(4)]
    assert waits == [0.0, 11.0, 22.0, 33.0]
    assert rate_limiter.wait("a", 6) == 11.0
    now[0] += 60
    assert rate_limiter.wait("a", 6, most=10.0) == 0.0
