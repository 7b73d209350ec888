"""`python -m services.recommendation [serve|replay|verify]`."""

from runtime.process import main

from services.recommendation.app import build
from services.recommendation.settings import RecommendationSettings

if __name__ == "__main__":
    main("recommendation", build, settings=RecommendationSettings)
