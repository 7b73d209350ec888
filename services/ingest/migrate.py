"""Brings the schema sources up to date: `python -m services.ingest.migrate`."""

import sys
from pathlib import Path

from runtime.migrations import Migrations

MIGRATIONS = Migrations("sources", Path(__file__).with_name("migrations"), "services.ingest.migrate")

if __name__ == "__main__":
    sys.exit(MIGRATIONS.main())
