"""Brings the schema identity up to date: `python -m services.gateway.identity.migrate`."""

import sys
from pathlib import Path

from runtime.migrations import Migrations

MIGRATIONS = Migrations(
    "identity", Path(__file__).with_name("migrations"), "services.gateway.identity.migrate"
)

if __name__ == "__main__":
    sys.exit(MIGRATIONS.main())
