"""What can be configured, beside what every service has."""

from pathlib import Path

from runtime.settings import ServiceSettings


class RecommendationSettings(ServiceSettings, frozen=True, kw_only=True):
    """Settings of the recommendation service.

    playbook_dir: folder of your own plays (*.yaml); one with the id of a shipped play replaces it.
    """

    playbook_dir: Path | None = None
