"""The doors of signing in with a vendor by OAuth: where a person is sent, and what comes back."""

from contracts import connector
from msgspec.structs import replace
from runtime.broker import CommandContext, Endpoint
from runtime.sealing import SealError

from services.ingest.commands.connectors import authorize_connector
from services.ingest.connectors.connecting import source_of
from services.ingest.errors import (
    AuthorizationGoneError,
    AuthorizationRefusedError,
    ConnectorNotFoundError,
    VendorError,
    refusal,
)
from services.ingest.reporting import Sources
from services.ingest.vault import Vault
from services.ingest.vendors.oauth import Grants, StateGoneError
from services.ingest.vendors.redaction import words


class Authorizations:
    """Answers over the log of connectors and their grants."""

    def __init__(self, sources: Sources, grants: Grants, vault: Vault) -> None:
        self._sources = sources
        self._grants = grants
        self._vault = vault

    async def start(
        self, cmd: connector.StartAuthorization, context: CommandContext
    ) -> connector.AuthorizationStarted:
        """Say where a person has to go to agree.

        Raises ConnectorNotFoundError, InvalidConnectorError and VendorRefusedError.
        """
        found = await self._sources.find(context.workspace_id, cmd.connector_id)
        if found is None or found.is_deleted:
            raise ConnectorNotFoundError(cmd.connector_id)
        try:
            started = await self._grants.start(
                source_of(cmd.connector_id, found.settings),
                workspace_id=context.workspace_id,
                redirect_uri=cmd.redirect_uri,
                requested_by=context.actor,
            )
        except VendorError as error:
            raise refusal(error) from error
        return connector.AuthorizationStarted(
            authorize_url=started.url, state=started.state, expires_at=started.expires_at
        )

    async def finish(
        self, cmd: connector.FinishAuthorization, context: CommandContext
    ) -> connector.AuthorizationFinished:
        """End a sign-in; whose it is follows from the state, which is good once, also when this fails.

        Raises AuthorizationGoneError, AuthorizationRefusedError, VendorRefusedError, VendorUnavailableError,
        ConnectorNotFoundError and InvalidConnectorError.
        """
        try:
            claim = await self._grants.claim(cmd.state)
        except StateGoneError as error:
            raise AuthorizationGoneError from error
        if cmd.sealed_code is None:
            raise AuthorizationRefusedError(words(cmd.error or "it gave no code", ()))
        try:
            code = self._vault.received(cmd.sealed_code, workspace_id=claim.workspace_id, what="code")
        except SealError as error:
            raise AuthorizationRefusedError("the code was not sealed for us") from error
        context = replace(context, workspace_id=claim.workspace_id, actor=claim.requested_by)
        found = await self._sources.find(claim.workspace_id, claim.connector_id)
        if found is None or found.is_deleted:
            raise ConnectorNotFoundError(claim.connector_id)
        try:
            secrets = await self._grants.redeem(claim, code, source_of(claim.connector_id, found.settings))
        except VendorError as error:
            raise refusal(error) from error
        async with self._vault.unless_gone(claim.workspace_id, claim.connector_id):
            after, sequence = await self._sources.decide(
                claim.connector_id, context, lambda state: authorize_connector(state, secrets=secrets)
            )
        return connector.AuthorizationFinished(
            connector_id=claim.connector_id, status=after.status, sequence=sequence
        )

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints of signing in."""
        names = connector.ENDPOINTS
        return (
            Endpoint(names[connector.StartAuthorization], connector.StartAuthorization, self.start),
            Endpoint(names[connector.FinishAuthorization], connector.FinishAuthorization, self.finish),
        )
