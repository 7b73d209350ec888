"""Value types that the generated modules share."""

from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import Meta

Timestamp: TypeAlias = Annotated[datetime, Meta(tz=True)]
"""A moment with its offset; written in RFC 3339, refused without an offset."""
