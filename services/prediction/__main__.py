"""`python -m services.prediction [serve|replay|verify] [--json]`."""

from runtime.process import main

from services.prediction.app import NAME, build
from services.prediction.settings import PredictionSettings

if __name__ == "__main__":
    main(NAME, build, settings=PredictionSettings)
