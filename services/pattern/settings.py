"""What can be configured."""

from runtime.settings import ServiceSettings


class PatternSettings(ServiceSettings, frozen=True, kw_only=True):
    """The settings that every service has; how patterns are judged is set per workspace."""
