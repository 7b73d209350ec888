"""Schemathesis over the running API: the document tells no lie."""

import os
import subprocess
import sys
from pathlib import Path

from testkit.stack import ROOT, Stack

SECONDS_MAX = 60


def test_the_document_tells_no_lie(stack: Stack, access_token: str, tmp_path: Path) -> None:
    """All checks on every operation: boundary values, wrong values, and some at random."""
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.services.gateway.schemathesis_hooks",
        "PYTHONPATH": str(ROOT),
    }
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{stack.url}/openapi.json",
        "--header",
        f"Authorization: Bearer {access_token}",
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
