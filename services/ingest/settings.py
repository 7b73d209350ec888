"""What can be configured of ingest, beyond what every service reads."""

from runtime.errors import StartError
from runtime.outbound import Reach, read_authorities
from runtime.sealing import SealingSettings


class IngestSettings(SealingSettings, frozen=True, kw_only=True):
    """The environment of ingest. Its limits are part of the contract, so they are not settings.

    outbound_allow: networks inside, as 10.0.0.0/8, in which sources may be asked, also by http; empty: only addresses
        on the internet, by https.
    outbound_ca_file: file of further authorities (PEM), for all that is asked by TLS, beside those that browsers trust.
    oauth_clients: the operator's own applications at vendors as JSON, type → {client_id, client_secret}, for connectors
        that bring none of their own; empty: none.
    """

    outbound_allow: tuple[str, ...] = ()
    outbound_ca_file: str = ""
    oauth_clients: str = ""

    @property
    def reach(self) -> Reach:
        """Which addresses of sources may be connected to. Raises StartError where a network or an authority is wrong."""
        authorities = read_authorities(self.outbound_ca_file)
        try:
            return Reach.read(self.outbound_allow, authorities=authorities)
        except ValueError as error:
            raise StartError(f"OUTBOUND_ALLOW takes networks such as 10.0.0.0/8: {error}.") from error
