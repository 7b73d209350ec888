"""Value types that the generated modules share."""

from datetime import datetime
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

Timestamp: TypeAlias = Annotated[datetime, Meta(tz=True)]
"""A moment with its offset; written in RFC 3339, refused without an offset."""
WEBHOOK_SECRET: Final = "webhook_secret"  # noqa: S105 - a name
"""Among the names of a connector's secrets: what vendors' calls to its address are proved with."""
