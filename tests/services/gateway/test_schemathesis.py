"""Schemathesis over the running API: the document tells no lie."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
from testkit.stack import ROOT, running_stack

SECONDS_MAX = 60


async def test_the_document_tells_no_lie(tmp_path: Path) -> None:
    """All checks on every operation: boundary values, wrong values, and some at random; on a stack of its own,
    since it also changes the workspace's settings."""
    async with running_stack() as stack:
        async with httpx.AsyncClient(base_url=stack.url, timeout=10) as client:
            answer = await client.post("/v1/auth/exchange", json={"subject_token": "anything"})
        await asyncio.to_thread(_run, stack.url, str(answer.json()["access_token"]), tmp_path)


def _run(url: str, access_token: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.services.gateway.schemathesis_hooks",
        "PYTHONPATH": str(ROOT),
    }
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(Path(__file__).with_name("schemathesis.toml")),
        "run",
        f"{url}/openapi.json",
        "--header",
        f"Authorization: Bearer {access_token}",
        # It ends the session that all the others need.
        "--exclude-path",
        "/v1/auth/sign-out",
        "--phases",
        "coverage,fuzzing",
        "--max-examples",
        "3",
        "--max-time",
        str(SECONDS_MAX),
        "--seed",
        "1",
        "--generation-database",
        "none",
        "--no-color",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX + 60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
