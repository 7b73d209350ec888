"""Run ingest: `python -m services.ingest [serve|replay|verify]`."""

from runtime.process import main

from services.ingest.app import NAME, build
from services.ingest.settings import IngestSettings

if __name__ == "__main__":
    main(NAME, build, settings=IngestSettings)
