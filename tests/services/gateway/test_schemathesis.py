"""Schemathesis over the running API, whoever asks: the document tells no lie."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from msgspec import Struct
from testkit.stack import ROOT, Stack

from tests.services.gateway.tenants import join, onboard, sign_in


class Run(Struct, frozen=True):
    """Who asks, and how much.

    seconds: a bound for machines that are busy with something else; an idle one is through before.
    """

    role: str | None
    phases: str
    n_examples: int
    seconds: int


RUNS = (
    Run("owner", "coverage,fuzzing", 1, 110),
    # What a request may say is asked as the owner; here only whether those who may less are refused as declared.
    Run("viewer", "fuzzing", 1, 15),
    Run(None, "fuzzing", 1, 15),
)

ITS_OWN_END = "^(signOut|eraseWorkspace)$"
"""Operations after which everything else is 401. The second asks for the slug, which boundary values do find."""


@pytest.fixture(scope="module")
def fresh() -> Iterator[Stack]:
    """A stack of its own, since wrong requests by the thousand are no company for other tests."""
    running = Stack()
    try:
        asyncio.run(running.start())
        yield running
    finally:
        asyncio.run(running.stop())


@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: str(run.role))
def test_the_document_tells_no_lie(fresh: Stack, tmp_path: Path, run: Run) -> None:
    """All checks on every operation: boundary values, wrong values, and some at random. As the owner of a workspace of
    their own, as somebody who may only look, and without a token."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(Path(__file__).with_name("schemathesis.toml")),
        "run",
        f"{fresh.url}/openapi.json",
        # It learns the slug that confirms it, and then there is nothing left to ask.
        "--exclude-operation-id",
        "eraseWorkspace",
        "--phases",
        run.phases,
        "--max-examples",
        str(run.n_examples),
        "--max-time",
        str(run.seconds),
        # A machine that is busy with other tests may take longer than the ten seconds that it waits by default.
        "--request-timeout",
        "30",
        "--seed",
        "1",
        "--generation-database",
        "none",
        "--no-color",
    ]
    headers = {}
    if run.role is not None:
        headers = {"Authorization": f"Bearer {access_token(fresh, run.role)}"}
        command += ["--header", f"Authorization: {headers['Authorization']}"]
        command += ["--exclude-operation-id-regex", ITS_OWN_END]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.services.gateway.schemathesis_hooks",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=run.seconds + 180,
        check=False,
    )
    assert done.returncode == 0, f"{what_failed(done.stdout)}\n{done.stderr[-2000:]}\n{what_broke(fresh)}"
    still = httpx.get(f"{fresh.url}/v1/workspace", headers=headers, timeout=30)
    assert still.status_code == (200 if run.role else 401), "what came after the caller's end proves nothing"


def what_failed(printed: str) -> str:
    """Each failure with its request, without the advice behind them."""
    _, found, failures = printed.partition("= FAILURES =")
    return (failures.partition("= WARNINGS =")[0] if found else printed)[:20_000]


def what_broke(stack: Stack) -> str:
    """The gateway's last lines about requests that it could not answer."""
    lines = stack.services["gateway"].output().splitlines()
    return "\n".join([line for line in lines if '"level":"error"' in line][-5:])


def access_token(stack: Stack, role: str) -> str:
    """Of the owner of a new client, or of a member with this role."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    if role == "owner":
        return sign_in(stack.url, tenant.owner_email)
    _, email = asyncio.run(join(stack.database.owner_url, tenant, role))
    return sign_in(stack.url, email)
