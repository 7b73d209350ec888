"""The edge over HTTP: limits, keys, conditions, preferences and errors, at one gateway and at two."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest
from runtime.embedded import free_port
from testkit.stack import ServiceProcess, Stack
from testkit.waiting import eventually

from services.gateway.edge.door import HEADER_BYTES_MAX, TARGET_BYTES_MAX
from services.gateway.routes.dispatch import BODY_BYTES_MAX
from tests.services.gateway.tenants import Tenant, execute, onboard
from tests.services.gateway.test_api import words

LIMIT_HEADERS = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
PAGE = "http://localhost:3000"
IP_LIMIT = 40


@pytest.fixture(scope="module")
def twin(stack: Stack) -> Iterator[ServiceProcess]:
    """A second gateway of the same stack, strict with addresses, behind a proxy on this machine."""
    port = free_port()
    env = {
        **stack.environment(port, {"gateway": port}),
        "IP_REQUESTS_PER_MINUTE": str(IP_LIMIT),
        "TRUSTED_PROXIES": "127.0.0.0/8",
        "ENVIRONMENT": "test",
    }
    log = stack.services["gateway"]._log.with_name("gateway-2.log")
    process = ServiceProcess("gateway", "services.gateway", env=env, log=log)
    try:
        asyncio.run(process.start().ready())
        yield process
    finally:
        process.stop()


async def tenant_on_plan(stack: Stack, **limits: int | None) -> tuple[Tenant, str]:
    """A client on a plan of its own, and a token of its owner."""
    owner_url = stack.database.owner_url
    tenant = await onboard(owner_url)
    await execute(
        owner_url,
        "INSERT INTO plans (plan, requests_per_minute, events_per_month) VALUES (%s, %s, %s)",
        tenant.slug,
        limits.get("requests_per_minute", 100_000),
        limits.get("events_per_month"),
    )
    await execute(owner_url, "UPDATE organizations SET plan = %s WHERE slug = %s", tenant.slug, tenant.slug)
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
        answer = await client.post("/v1/auth/exchange", json={"subject_token": tenant.owner_email})
        assert answer.status_code == 200, answer.text
        token = str(answer.json()["access_token"])
    return tenant, token


@asynccontextmanager
async def signed_in(*urls: str, token: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """A client of each gateway."""
    clients = [
        httpx.AsyncClient(
            base_url=url, timeout=30, headers={"Authorization": f"Bearer {token}", "Prefer": "wait=10"}
        )
        for url in urls
    ]
    try:
        yield clients
    finally:
        for client in clients:
            await client.aclose()


Answers = list[httpx.Response]


async def within_a_minute(ask: Callable[[], Awaitable[Answers]]) -> Answers:
    """The answers to requests that were all counted, in one window; `ask` has a bucket of its own each time.

    A window that ends among them lets more through, rightly, and so does a counter that is too busy to answer at once.
    """
    for _ in range(5):
        await eventually(lambda: time.time() % 60 < 45)
        window = time.time() // 60
        answers = await ask()
        # Of what was not counted it is said that the whole limit is left.
        is_counted = all(
            answer.headers.get("x-ratelimit-remaining") != answer.headers.get("x-ratelimit-limit")
            for answer in answers
        )
        if is_counted and time.time() // 60 == window:
            return answers
    raise AssertionError("Never were all requests of a minute counted.")


def problem(answer: httpx.Response, *, status: int, code: str) -> dict[str, str]:
    """The details of a refusal that has the one shape that all have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["code"] == body["error"]["code"] == code
    assert body["error"]["message"] == body["detail"]
    assert body["error"]["trace_id"] == answer.headers["x-request-id"]
    return dict(body["error"].get("details", {}))


def issue(api: httpx.Client, **fields: object) -> httpx.Response:
    """A failure like no other: several alike would become a pattern, and change while they are looked at."""
    return api.post("/v1/issues", json={"title": words(), "external_id": uuid4().hex, **fields})


# Limits, over two gateways


async def test_the_plan_lets_exactly_so_many_requests_through_over_two_gateways(
    stack: Stack, twin: ServiceProcess
) -> None:
    """Every answer says what is left; the one too many says when to come back."""

    async def ask() -> Answers:
        _, token = await tenant_on_plan(stack, requests_per_minute=50)
        async with signed_in(stack.url, twin.url, token=token) as clients:
            answers = await asyncio.gather(*(clients[index % 2].get("/v1/issues") for index in range(120)))
            return [*answers, await clients[1].post("/v1/issues", json={"title": "a"})]

    answers = await within_a_minute(ask)
    passed = [answer for answer in answers if answer.status_code == 200]
    assert len(passed) == 50
    assert sorted(int(answer.headers["x-ratelimit-remaining"]) for answer in passed) == list(range(50))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) == 71
    for answer in refused:
        problem(answer, status=429, code="rate_limited")
        assert answer.headers["x-ratelimit-remaining"] == "0"
        assert answer.headers["x-ratelimit-limit"] == "50"
        assert 1 <= int(answer.headers["retry-after"]) <= 60


async def test_the_plan_takes_exactly_so_many_events_over_two_gateways(
    stack: Stack, twin: ServiceProcess
) -> None:
    """One by one and in batches; the refusal names the limit, and the organization shows what is used."""
    tenant, token = await tenant_on_plan(stack, events_per_month=60)
    async with signed_in(stack.url, twin.url, token=token) as clients:
        batch = {"records": [{"external_id": f"b{n}", "title": "a"} for n in range(20)]}
        assert (await clients[0].post("/v1/ingest/batch", json=batch)).status_code == 202
        answers = await asyncio.gather(
            *(
                clients[n % 2].post(
                    "/v1/issues" if n % 3 else "/v1/ingest/events",
                    json={"external_id": f"s{n}", "title": f"issue {n}"},
                )
                for n in range(70)
            )
        )
        refused = [answer for answer in answers if answer.status_code == 422]
        assert len(refused) == 30
        assert {answer.status_code for answer in answers} == {201, 202, 422}
        details = problem(refused[0], status=422, code="plan_limit")
        assert (details["limit"], details["plan"], details["allowed"]) == (
            "events_per_month",
            tenant.slug,
            "60",
        )

        async def are_shown() -> bool:
            page = (await clients[0].get("/v1/issues", params={"limit": 1})).json()["page"]
            return bool(page["total"] == 60)

        await eventually(are_shown, every=0.1)
        assert (await clients[1].post("/v1/ingest/batch", json=batch)).status_code == 422
    assert await execute(
        stack.database.owner_url,
        "SELECT events FROM event_usage WHERE organization_id = %s",
        tenant.organization_id,
    ) == [(60,)]


async def test_addresses_without_credentials_share_a_bucket_per_caller(twin: ServiceProcess) -> None:
    """The caller is whom the proxy names; signing in counts, too, and so does what does not exist."""
    async with httpx.AsyncClient(base_url=twin.url, timeout=30) as client:
        addresses = iter(random.sample(range(1, 255), 5))

        async def ask() -> Answers:
            caller = {"X-Forwarded-For": f"198.51.100.9, 203.0.113.{next(addresses)}"}
            asked = [
                client.get("/v1/issues", headers={**caller, "Authorization": "Bearer wrong"}),
                client.post("/v1/auth/refresh", headers=caller, json={"refresh_token": "clp_refresh_x"}),
                *(client.get("/v1/nothing", headers=caller) for _ in range(IP_LIMIT + 5)),
            ]
            return [await each for each in asked]

        answers = await within_a_minute(ask)
        codes = [answer.status_code for answer in answers]
        assert codes[:2] == [401, 401]
        assert codes.count(404) == IP_LIMIT - 2
        assert codes.count(429) == 7
        other = await client.get("/v1/nothing", headers={"X-Forwarded-For": "198.51.100.77"})
        assert other.status_code == 404


def test_every_answer_under_v1_says_what_is_left(api: httpx.Client, stack: Stack) -> None:
    """401, 403, 404, 405, 400, 415 and 304 as well; a path outside of it is not counted."""
    etag = api.get("/v1/workspace").headers["etag"]
    answers = [
        httpx.get(f"{stack.url}/v1/issues", timeout=30),
        httpx.get(f"{stack.url}/v1", timeout=30),
        httpx.post(f"{stack.url}/v1/auth/exchange", json={}, timeout=30),
        api.get("/v1/issues/nothing"),
        api.get("/v1/nothing"),
        api.delete("/v1/issues"),
        api.post("/v1/issues", content=b"{"),
        api.get("/v1/issues", params={"limit": 0}),
        api.get("/v1/workspace", headers={"If-None-Match": etag}),
        api.head("/v1/issues"),
    ]
    for answer in answers:
        assert set(answer.headers) >= LIMIT_HEADERS, answer.request.url
    assert not LIMIT_HEADERS & set(httpx.get(f"{stack.url}/health", timeout=30).headers)


# Keys, over two gateways


async def test_twins_over_two_gateways_run_once(stack: Stack, twin: ServiceProcess) -> None:
    """All of them get the one answer."""
    _, token = await tenant_on_plan(stack)
    async with signed_in(stack.url, twin.url, token=token) as clients:
        headers = {"Idempotency-Key": str(uuid4())}
        answers = await asyncio.gather(
            *(clients[n % 2].post("/v1/issues", json={"title": "once"}, headers=headers) for n in range(20))
        )
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        replayed = [answer for answer in answers if "idempotency-replayed" in answer.headers]
        assert len(replayed) == 19
        assert (await clients[0].get("/v1/issues")).json()["page"]["total"] == 1


def test_a_key_belongs_to_one_request(api: httpx.Client) -> None:
    """Another body is refused, another path is another request, a failure leaves it free, a GET ignores it."""
    headers = {"Idempotency-Key": str(uuid4())}
    assert api.post("/v1/issues", json={"titel": "x"}, headers=headers).status_code == 400
    first = api.post("/v1/issues", json={"title": "x"}, headers=headers)
    assert (first.status_code, "idempotency-replayed" in first.headers) == (201, False)
    again = api.post("/v1/issues", json={"title": "x"}, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content
    problem(
        api.post("/v1/issues", json={"title": "y"}, headers=headers),
        status=409,
        code="idempotency_conflict",
    )
    problem(
        api.post("/v1/issues?severity_format=label", json={"title": "x"}, headers=headers),
        status=409,
        code="idempotency_conflict",
    )
    closed = api.post(f"/v1/issues/{first.json()['id']}/close", json={}, headers=headers)
    assert (closed.status_code, "idempotency-replayed" in closed.headers) == (200, False)
    assert api.get("/v1/issues", headers=headers).status_code == 200
    problem(
        api.post("/v1/issues", json={"title": "x"}, headers={"Idempotency-Key": "a b"}),
        status=400,
        code="validation_error",
    )


async def test_a_key_belongs_to_one_tenant(stack: Stack) -> None:
    """Nobody is given another's answer."""
    headers = {"Idempotency-Key": str(uuid4())}
    made = []
    for _ in range(2):
        _, token = await tenant_on_plan(stack)
        async with signed_in(stack.url, token=token) as [client]:
            made.append(await client.post("/v1/issues", json={"title": "mine"}, headers=headers))
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[0].json()["id"] != made[1].json()["id"]


# Conditions and preferences


def test_an_entity_tag_spares_the_body_until_it_changes(api: httpx.Client) -> None:
    """If-None-Match with the tag is 304 without a body; a change gives another tag, which the change itself tells."""
    path = f"/v1/issues/{issue(api).json()['id']}"
    first = api.get(path)
    tag = first.headers["etag"]
    unchanged = api.get(path, headers={"If-None-Match": f'W/{tag}, "x"'})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    changed = api.patch(path, json={"title": "another"})
    again = api.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.headers["etag"]) == (200, changed.headers["etag"])
    assert again.headers["etag"] != tag


def test_a_change_with_if_match_is_made_only_to_what_was_read(api: httpx.Client) -> None:
    """An old tag, a weak one and one of nothing are 412, and change nothing."""
    path = f"/v1/issues/{issue(api).json()['id']}"
    tag = api.get(path).headers["etag"]
    assert api.patch(path, json={"title": "first"}, headers={"If-Match": tag}).status_code == 200
    present = api.get(path)
    for old in (tag, f"W/{present.headers['etag']}", '"x"'):
        details = problem(
            api.patch(path, json={"title": "second"}, headers={"If-Match": old}),
            status=412,
            code="precondition_failed",
        )
        assert present.headers["etag"] in details["If-Match"]
    assert api.get(path).json()["title"] == "first"
    assert api.patch(path, json={"title": "third"}, headers={"If-Match": "*"}).status_code == 200
    missing = api.patch("/v1/issues/iss_x", json={"title": "a"}, headers={"If-Match": "*"})
    assert missing.status_code == 404


async def test_of_simultaneous_changes_with_if_match_one_is_made(stack: Stack, twin: ServiceProcess) -> None:
    """Over two gateways; the others see that they came too late."""
    _, token = await tenant_on_plan(stack)
    async with signed_in(stack.url, twin.url, token=token) as clients:
        made = await clients[0].post("/v1/issues", json={"title": "read"})
        path = f"/v1/issues/{made.json()['id']}"
        tag = (await clients[0].get(path)).headers["etag"]
        answers = await asyncio.gather(
            *(
                clients[n % 2].patch(path, json={"title": f"change {n}"}, headers={"If-Match": tag})
                for n in range(6)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412, 412]


def test_prefer_says_how_long_a_change_waits(api: httpx.Client) -> None:
    """Not at all: 202, and what will show it; up to N seconds: as usual."""
    path = f"/v1/issues/{issue(api).json()['id']}"
    del api.headers["Prefer"]
    at_once = api.post("/v1/issues", json={"title": "later"}, headers={"Prefer": "respond-async"})
    assert at_once.headers["preference-applied"] == "respond-async"
    # The projection may be faster than the question, then the issue is shown.
    if at_once.status_code == 202:
        location = at_once.headers["location"]
        assert at_once.json() == {"status": "accepted", "location": location}
    else:
        assert at_once.status_code == 201
    changed = api.patch(path, json={"title": "now"}, headers={"Prefer": "wait=99"})
    assert (changed.status_code, changed.headers["preference-applied"]) == (200, "wait=10")
    assert changed.json()["title"] == "now"
    assert "preference-applied" not in issue(api).headers


# One shape of errors, limits of bodies, headers


def test_bodies_are_refused_by_what_is_wrong_with_them(api: httpx.Client) -> None:
    """Each with its path, whatever it is."""
    json_type = {"Content-Type": "application/json"}
    path = f"/v1/issues/{issue(api).json()['id']}"

    def details(raw: bytes, *, to: str = "/v1/issues", status: int = 400) -> dict[str, str]:
        answer = api.post(to, content=raw, headers=json_type)
        code = "validation_error" if status == 400 else "payload_too_large"
        return problem(answer, status=status, code=code)

    assert "body" in details(b"{")
    assert "body" in details(b"")
    assert details(b'{"title": "\xff"}')
    assert list(details(b'{"title": 5}')) == ["title"]
    assert list(details(b'{"title": "a", "colour": "red"}')) == ["colour"]
    deep = b'{"a":' * 40 + b"1" + b"}" * 40
    assert details(b'{"title": "a", "metadata": ' + deep + b"}") == {"body": "nested too deeply"}
    assert details(b"[" * 100_000 + b"]" * 100_000) == {"body": "nested too deeply"}
    assert details(b'{"records": ' + deep + b"}", to="/v1/ingest/batch") == {"body": "nested too deeply"}
    details(b'"' + b"a" * BODY_BYTES_MAX + b'"', status=413)
    split = json.dumps({"issue_ids": [path[-30:], 7]}).encode()
    answer = api.post(f"/v1/patterns/{path[-30:]}/split", content=split, headers=json_type)
    assert list(problem(answer, status=400, code="validation_error")) == ["issue_ids[1]"]
    problem(api.post("/v1/issues", content=b"a=b"), status=415, code="unsupported_media_type")


def test_what_the_framework_refuses_has_the_same_shape(api: httpx.Client) -> None:
    """No path, no method, too much of an address or of headers."""
    problem(api.get("/v1/nothing"), status=404, code="not_found")
    wrong = api.put("/v1/issues", json={})
    problem(wrong, status=405, code="method_not_allowed")
    assert {"GET", "HEAD", "POST"} <= set(wrong.headers["allow"].replace(" ", "").split(","))
    problem(api.get("/v1/issues", params={"q": "a" * TARGET_BYTES_MAX}), status=414, code="uri_too_long")
    problem(
        api.get("/v1/issues", headers={"X-Long": "a" * HEADER_BYTES_MAX}),
        status=431,
        code="headers_too_large",
    )


def test_head_is_get_without_a_body_and_options_names_the_methods(api: httpx.Client) -> None:
    """The same headers, nothing else."""
    path = f"/v1/issues/{issue(api).json()['id']}"
    shown, asked = api.get(path), api.head(path)
    assert (asked.status_code, asked.content) == (200, b"")
    for name in ("etag", "content-length", "content-type"):
        assert asked.headers[name] == shown.headers[name]
    assert api.head("/v1/issues/iss_x").status_code == 404
    options = api.options(path)
    assert (options.status_code, options.content) == (204, b"")
    assert set(options.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD", "OPTIONS", "PATCH"}


def test_pages_of_ours_may_read_the_answers(api: httpx.Client) -> None:
    """Preflights name methods and headers, answers name what may be read; pages of others get neither."""
    asking = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "idempotency-key"}
    preflight = api.options("/v1/issues/iss_x", headers={"Origin": PAGE, **asking})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    for name in ("Idempotency-Key", "If-Match", "If-None-Match", "Prefer", "Authorization"):
        assert name in preflight.headers["access-control-allow-headers"]
    assert {"PATCH", "DELETE"} <= set(preflight.headers["access-control-allow-methods"].split(", "))
    for path, status in (("/v1/issues", 200), ("/v1/nothing", 404)):
        answer = api.get(path, headers={"Origin": PAGE})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
        assert answer.headers["vary"] == "Origin"
        for name in ("ETag", "X-RateLimit-Remaining", "Idempotency-Replayed"):
            assert name in answer.headers["access-control-expose-headers"]
    for answer in (
        api.get("/v1/issues", headers={"Origin": "https://evil.example"}),
        api.options("/v1/issues", headers={"Origin": "https://evil.example", **asking}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_has_security_headers(api: httpx.Client, stack: Stack) -> None:
    """Data is never rendered as a page; the pages keep their own policies. HSTS is for production."""
    for path in ("/v1/issues", "/v1/nothing", "/health", "/docs", "/status"):
        headers = api.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "strict-transport-security" not in headers
    assert api.get("/v1/issues").headers["content-security-policy"].startswith("default-src 'none'")
    assert "script-src" in api.get("/docs").headers["content-security-policy"]
