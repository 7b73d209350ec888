"""What a workspace learns of the endpoint that its questions go to."""

import pytest
from contracts import ingest
from msgspec.structs import replace
from runtime.outbound import EVERYWHERE, Outbound

from services.gateway.engine.redacting import Redaction
from services.gateway.explaining.models import (
    FAILURES_MAX,
    REST_SECONDS,
    Endpoint,
    ModelError,
    Models,
)
from tests.libs.runtime.test_names import tenants_asked_for
from tests.services.gateway.model_endpoint import ModelEndpoint

QUESTION = (ingest.ModelMessage(role="user", text='{"evidence": []}'),)


def endpoint_of(model: ModelEndpoint, *, is_trusted: bool = False, api_key: str = "") -> Endpoint:
    """A model as a workspace has set it, or as the operator has."""
    return Endpoint(
        base_url=model.url,
        api_key=api_key,
        models=dict.fromkeys(ingest.AnalysisTier, "m"),
        redaction=Redaction(),
        is_trusted=is_trusted,
    )


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_the_operators_network_is_nobodys_business(is_trusted: bool) -> None:
    """Its host and status stay out of what is recorded; of their own endpoint a workspace is told both."""
    model = ModelEndpoint()
    model.answer = lambda _: (503, "")
    outbound = Outbound(EVERYWHERE)
    endpoint = endpoint_of(model, is_trusted=is_trusted)
    with pytest.raises(ModelError) as failed:
        await Models(trusted=outbound, guarded=outbound).ask(endpoint, ingest.AnalysisTier.FAST, QUESTION)
    model.close()
    said = f"{failed.value} {endpoint.host}"
    assert failed.value.may_retry
    assert ("127.0.0.1" in said, "503" in said) == (not is_trusted, not is_trusted)


async def test_a_model_that_keeps_failing_is_asked_once_a_minute() -> None:
    """Whoever has another key for the same address is not kept from it; one answer, and all is as before."""
    model, now = ModelEndpoint(), 1000.0
    asked: list[str] = []
    is_well = False

    def answer(_: object) -> tuple[int, str]:
        asked.append("")
        return (200, "{}") if is_well else (503, "")

    model.answer = answer
    outbound = Outbound(EVERYWHERE)
    models = Models(trusted=outbound, guarded=outbound, clock=lambda: now)

    async def ask(api_key: str = "") -> bool:
        """Whether there was an answer."""
        try:
            await models.ask(endpoint_of(model, api_key=api_key), ingest.AnalysisTier.FAST, QUESTION)
        except ModelError as error:
            assert error.may_retry == ("in a row" not in str(error))
            return False
        return True

    try:
        assert [await ask() for _ in range(FAILURES_MAX + 5)] == [False] * (FAILURES_MAX + 5)
        assert len(asked) == FAILURES_MAX
        assert not await ask("another") and len(asked) == FAILURES_MAX + 1
        now += REST_SECONDS
        assert [await ask() for _ in range(5)] == [False] * 5
        assert len(asked) == FAILURES_MAX + 2
        now, is_well = now + REST_SECONDS, True
        assert [await ask() for _ in range(5)] == [True] * 5
        is_well = False
        assert not await ask() and not await ask()
        assert len(asked) == FAILURES_MAX + 9
    finally:
        model.close()


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_names_of_a_workspaces_own_model_are_looked_up_for_it(
    is_trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator's is everybody's."""
    model = ModelEndpoint()
    model.answer = lambda _: (200, "{}")
    outbound, tenants = Outbound(EVERYWHERE), tenants_asked_for(monkeypatch)
    endpoint = replace(endpoint_of(model, is_trusted=is_trusted), workspace_id="ws_1")
    try:
        await Models(trusted=outbound, guarded=outbound).ask(endpoint, ingest.AnalysisTier.FAST, QUESTION)
    finally:
        model.close()
    assert tenants == ["" if is_trusted else "ws_1"]


@pytest.mark.parametrize("answer", [(400, ""), (413, ""), (422, ""), (200, "")])
async def test_questions_that_a_model_refuses_keep_nobody_else_from_it(answer: tuple[int, str]) -> None:
    """The operator's endpoint is everybody's; a question that is too long, or not liked, says nothing of it."""
    model = ModelEndpoint()
    outbound = Outbound(EVERYWHERE)
    models = Models(trusted=outbound, guarded=outbound)
    endpoint = endpoint_of(model, is_trusted=True)
    try:
        model.answer = lambda _: answer
        for _ in range(FAILURES_MAX + 1):
            with pytest.raises(ModelError):
                await models.ask(endpoint, ingest.AnalysisTier.FAST, QUESTION)
        model.answer = lambda _: (200, "{}")
        assert await models.ask(endpoint, ingest.AnalysisTier.FAST, QUESTION) == "{}"
    finally:
        model.close()
