"""The live read model is what the log says."""

import asyncio
import json

import httpx
from testkit.stack import Stack


def test_the_live_read_model_equals_its_replay(stack: Stack, api: httpx.Client) -> None:
    """Whatever the API was used for before."""
    api.post("/v1/issues", json={"title": "Something to compare"})
    code, output = asyncio.run(stack.services["gateway"].run("verify", "--json"))
    assert code == 0, output
    certificate = json.loads(output.strip().splitlines()[-1])
    assert certificate["is_equal"]
    assert certificate["tables"]
