"""Schemathesis over the running API, whoever asks: the document tells no lie."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from testkit.stack import ROOT, Stack

from tests.services.gateway.tenants import join, onboard, sign_in

SECONDS_MAX = 100
"""Of one run; far more than its examples take, unless the machine is busy with something else."""


@pytest.fixture(scope="module")
def fresh() -> Iterator[Stack]:
    """A stack of its own, since wrong requests by the thousand are no company for other tests."""
    running = Stack()
    try:
        asyncio.run(running.start())
        yield running
    finally:
        asyncio.run(running.stop())


@pytest.mark.timeout(SECONDS_MAX + 60)
@pytest.mark.parametrize(("who", "n_examples"), [("owner", 3), ("viewer", 1), (None, 1)])
def test_the_document_tells_no_lie(fresh: Stack, tmp_path: Path, who: str | None, n_examples: int) -> None:
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
        "coverage,fuzzing",
        "--max-examples",
        str(n_examples),
        "--max-time",
        str(SECONDS_MAX),
        "--seed",
        "1",
        "--generation-database",
        "none",
        "--no-color",
    ]
    if who is not None:
        command += ["--header", f"Authorization: Bearer {access_token(fresh, who)}"]
        # It ends the session that all the others need.
        command += ["--exclude-path", "/v1/auth/sign-out"]
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
        timeout=SECONDS_MAX + 30,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def access_token(stack: Stack, role: str) -> str:
    """Of the owner of a new client, or of a member with this role."""
    tenant = asyncio.run(onboard(stack.database.owner_url))
    if role == "owner":
        return sign_in(stack.url, tenant.owner_email)
    _, email = asyncio.run(join(stack.database.owner_url, tenant, role))
    return sign_in(stack.url, email)
