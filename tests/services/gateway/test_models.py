"""What a workspace learns of the endpoint that its questions go to."""

import pytest
from contracts import ingest

from services.gateway.engine.redacting import Redaction
from services.gateway.explaining.models import Endpoint, ModelError, Models
from services.gateway.identity.signin.outbound import Outbound
from tests.services.gateway.model_endpoint import ModelEndpoint


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_the_operators_network_is_nobodys_business(is_trusted: bool) -> None:
    """Its host and status stay out of what is recorded; of their own endpoint a workspace is told both."""
    model = ModelEndpoint()
    model.answer = lambda _: (503, "")
    outbound = Outbound(allows_private=True)
    endpoint = Endpoint(
        base_url=model.url,
        api_key="",
        models=dict.fromkeys(ingest.AnalysisTier, "m"),
        redaction=Redaction(),
        is_trusted=is_trusted,
    )
    question = (ingest.ModelMessage(role="user", text='{"evidence": []}'),)
    with pytest.raises(ModelError) as failed:
        await Models(trusted=outbound, guarded=outbound).ask(endpoint, ingest.AnalysisTier.FAST, question)
    model.close()
    said = f"{failed.value} {endpoint.host}"
    assert failed.value.may_retry
    assert ("127.0.0.1" in said, "503" in said) == (not is_trusted, not is_trusted)
