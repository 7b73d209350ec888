"""Which model a workspace's questions go to, by the operator's environment and the workspace's own settings."""

from contracts import ingest
from runtime.database import Pool, tenant

from services.gateway.engine.redacting import Redaction
from services.gateway.explaining.models import OPENAI, Endpoint
from services.gateway.identity.tenancy import _queries, ai
from services.gateway.identity.vault.keys import Vault
from services.gateway.settings import GatewaySettings

_TIERS = ingest.AnalysisTier


def is_own(row: _queries.AiSettingsRow) -> bool:
    """Whether a workspace has an endpoint, or a key, of its own."""
    return row.base_url is not None or row.api_key_sealed is not None


class Adviser:
    """Looks it up for every question, so that a change counts at once."""

    def __init__(self, settings: GatewaySettings, people: Pool, vault: Vault) -> None:
        self._settings = settings
        self._people = people
        self._vault = vault

    async def __call__(self, workspace_id: str) -> Endpoint | None:
        """The endpoint to ask; None when none is configured, or the workspace wants none. Raises SealError."""
        async with tenant(self._people, workspace_id) as conn:
            row = await _queries.get_ai_settings(conn, workspace_id=workspace_id)
            if row is None:
                return self._operators(Redaction())
            if not row.model_enabled:
                return None
            redaction = Redaction(emails=row.redact_emails, ip_addresses=row.redact_ip_addresses)
            if not is_own(row):
                return self._operators(redaction)
            key = await ai.key_of(conn, row, self._vault)
        offered = self._settings.openai_models
        own = {_TIERS.FAST: row.model_fast, _TIERS.BALANCED: row.model_balanced, _TIERS.DEEP: row.model_deep}
        return Endpoint(
            base_url=row.base_url or OPENAI,
            api_key=key,
            models={tier: own[tier] or offered[tier.value] for tier in _TIERS},
            redaction=redaction,
            is_trusted=False,
            workspace_id=workspace_id,
        )

    def _operators(self, redaction: Redaction) -> Endpoint | None:
        settings = self._settings
        if not settings.has_model:
            return None
        return Endpoint(
            base_url=settings.openai_base_url or OPENAI,
            api_key=settings.openai_api_key,
            models={tier: settings.openai_models[tier.value] for tier in _TIERS},
            redaction=redaction,
            is_trusted=True,
        )
