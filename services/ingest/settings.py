"""What can be configured of ingest, beyond what every service reads: nothing yet."""

from runtime.settings import ServiceSettings


class IngestSettings(ServiceSettings, frozen=True, kw_only=True):
    """The environment of ingest. Its limits are part of the contract, so they are not settings."""
