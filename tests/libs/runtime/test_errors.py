"""What a decoding error says to whoever sent the value."""

from datetime import datetime

import msgspec
import pytest
from runtime.errors import details_of


@pytest.mark.parametrize("given", ["2026-09-01", "2026-09-01 00:00", "yesterday"])
def test_a_time_that_is_none_is_answered_with_one(given: str) -> None:
    """RFC 3339 is not what most people have in mind, and a date alone is none."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"from": given}, dict[str, datetime])
    [fault] = details_of(caught.value).values()
    assert fault == "Invalid RFC3339 encoded datetime; write it like 2026-11-23T09:00:00Z"
