"""Vendors that never end an answer: nobody has to wait for them, and no thread stays with them."""

import asyncio
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from socket import create_server, socket
from typing import cast

import pytest
from msgspec.structs import replace
from runtime.errors import UnavailableError
from runtime.outbound import Reach
from testkit.waiting import eventually

from services.ingest.connectors.connecting import CA_CERTIFICATE
from services.ingest.connectors.registry import manifest_of
from services.ingest.errors import VendorError
from services.ingest.vendors import asking as askings
from services.ingest.vendors import polling, postgresql
from services.ingest.vendors import session as sessions
from services.ingest.vendors.asking import PROBES_PER_WORKSPACE, Asking
from services.ingest.vendors.oauth import Grants
from services.ingest.vendors.polling import Access
from services.ingest.vendors.rate_limiter import RateLimiter
from services.ingest.vendors.session import GuardedSession
from tests.services.ingest.test_vendor_session import answering

INSIDE = Reach.read(["127.0.0.0/8"])
DAY = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def serving(talk: Callable[[socket], None]) -> Iterator[int]:
    """A server that talks to each of its callers in a thread; its port."""

    def one(caller: socket) -> None:
        with caller, suppress(OSError, struct.error):
            talk(caller)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()

    with create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def dripping(head: bytes) -> Callable[[socket], None]:
    def talk(caller: socket) -> None:
        caller.recv(65536)
        caller.sendall(head)
        while True:
            caller.sendall(b" ")
            time.sleep(0.02)

    return talk


def silent_database(caller: socket) -> None:
    """Lets everybody in, and then says nothing."""
    while True:
        (length,) = struct.unpack("!i", caller.recv(4))
        (code,) = struct.unpack("!i", caller.recv(length - 4)[:4])
        if code not in (80877103, 80877104):  # asks for TLS or GSSAPI
            break
        caller.sendall(b"N")
    parts = (b"R\0\0\0\x08\0\0\0\0", b"S\0\0\0\x19client_encoding\0UTF8\0", b"Z\0\0\0\x05I")
    caller.sendall(b"".join(parts))
    caller.recv(1)
    while caller.recv(65536):
        pass


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
    ],
)
def test_an_answer_that_drips_ends_in_time(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(sessions, "ANSWER_SECONDS", 0.3)
    with (
        serving(dripping(head)) as port,
        GuardedSession(INSIDE, rate_limiter=RateLimiter(time.monotonic)) as asking,
    ):
        began = time.monotonic()
        with pytest.raises(VendorError, match="in time"):
            asking.get(f"http://127.0.0.1:{port}/")
    assert time.monotonic() - began < 20


def test_a_database_that_says_nothing_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 0.3)
    with (
        serving(silent_database) as port,
        GuardedSession(INSIDE, rate_limiter=RateLimiter(time.monotonic)) as asking,
    ):
        config = {"host": "127.0.0.1", "port": str(port), "database": "x", "query": "SELECT :cursor, :limit"}
        access = Access(manifest_of("postgresql"), config, 0, {"username": "u", "password": "p"})
        (check,) = polling.probe(access, session=asking, now=DAY)
    assert check.code == "unreachable"
    assert "in time" in check.detail


async def tried_once(asking: Asking, access: Access) -> Exception:
    with pytest.raises((VendorError, UnavailableError)) as caught:
        await asking.probe("wsp_1", access)
    return caught.value


async def has_failed(asking: Asking, access: Access) -> bool:
    return isinstance(await tried_once(asking, access), VendorError)


async def test_a_test_that_nobody_waits_for_gives_its_thread_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one workspace cannot have all of them meanwhile."""
    monkeypatch.setattr(askings, "PROBE_SECONDS", 0.3)
    with serving(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")) as port:
        manifest = replace(manifest_of("github"), base_url=f"http://127.0.0.1:{port}")
        access = Access(
            manifest,
            {field.key: "x" for field in manifest.config if field.key != CA_CERTIFICATE},
            1,
            dict.fromkeys(("token", "access_token"), "t"),
        )
        asking = Asking(
            cast(Grants, None),
            INSIDE,
            threads=1,
            probes=PROBES_PER_WORKSPACE,
            rate_limiter=RateLimiter(time.monotonic),
        )
        try:
            tests = [tried_once(asking, access) for _ in range(PROBES_PER_WORKSPACE + 1)]
            *tried, refused = await asyncio.gather(*tests)
            assert [type(error) for error in tried] == [VendorError] * PROBES_PER_WORKSPACE
            assert isinstance(refused, UnavailableError)
            # dlt is loaded by now, so these do meet the vendor.
            for _ in range(2 * PROBES_PER_WORKSPACE):
                await eventually(lambda: has_failed(asking, access))
        finally:
            await asking.stop()


async def test_a_test_takes_no_turn_that_another_may_come_back_for() -> None:
    """It says so at once, and the vendor is not asked."""
    with answering(lambda _: (200, {}, b"[]")) as (url, asked):
        manifest = manifest_of("github")
        manifest = replace(
            manifest, base_url=url, rate_per_minute=10, test=None, streams=manifest.streams[:1]
        )
        config = {field.key: "x/y" for field in manifest.config if field.key != CA_CERTIFICATE}
        access = Access(manifest, config, 1, dict.fromkeys(("token", "access_token"), "t"))
        asking = Asking(
            cast(Grants, None), INSIDE, threads=1, probes=1, rate_limiter=RateLimiter(lambda: 1e9)
        )
        try:
            checks = [await asking.probe("wsp_1", access) for _ in range(2)]
        finally:
            await asking.stop()
    assert [check.code for (check,) in checks] == [None, "rate_limited"]
    assert len(asked) == 1


FIRST_OF_A_PROCESS = '''
import asyncio, sys, threading, time
from datetime import UTC, datetime
from runtime.outbound import Reach
from msgspec.structs import replace
from services.ingest.connectors.registry import manifest_of
from services.ingest.vendors.asking import Asking
from services.ingest.vendors.polling import Access, Window
from services.ingest.vendors.rate_limiter import RateLimiter

DAY = datetime(2026, 1, 1, tzinfo=UTC)
manifest = replace(manifest_of("github"), base_url=sys.argv[1])
config = {field.key: "x/y" for field in manifest.config if field.key != "ca_certificate"}
access = Access(manifest, config, 1, dict.fromkeys(("token", "access_token"), "t"))


async def ask(asking: Asking) -> None:
    window = Window(None, DAY)
    async for _ in asking.pages(access, manifest.streams[0], window, position=None, goes_on=lambda: True):
        pass


async def main() -> None:
    asking = Asking(None, Reach.read(["127.0.0.0/8"]), threads=8, probes=2, rate_limiter=RateLimiter(time.monotonic))
    probes = (asking.probe(f"wsp_{number}", access) for number in range(2))
    first = asyncio.create_task(ask(asking))
    await asyncio.to_thread(Finder.halfway.wait, 60)
    await asyncio.gather(first, *(ask(asking) for _ in range(7)), *probes)
    await asking.stop()


class Finder:
    """Finds nothing, knows who looks for dlt, and takes its time once a part of it is there while the whole is not."""

    threads, halfway = set(), threading.Event()

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "dlt":
            self.threads.add(threading.current_thread().name)
            part = sys.modules.get("dlt.common.configuration.specs.runtime_configuration")
            if hasattr(part, "RuntimeConfiguration") and not self.halfway.is_set():
                self.halfway.set()
                time.sleep(1.0)


sys.meta_path.insert(0, Finder())
asyncio.run(main())
print(*Finder.threads)
'''


def test_the_first_that_ask_do_so_all_at_once() -> None:
    """What asks is imported only then, by one of them: its modules import each other in circles."""
    with answering(lambda _: (200, {}, b"[]")) as (url, asked):
        begun = subprocess.run(
            [sys.executable, "-c", FIRST_OF_A_PROCESS, url], capture_output=True, text=True, timeout=120
        )
    assert begun.returncode == 0, begun.stderr
    assert len(begun.stdout.split()) == 1
    assert len(asked) >= 8
