"""What others say → what is recommended, and how fixes stand. Never runs in a replay."""

from services.recommendation.reactions.proving import SERVICE
from services.recommendation.reactions.recommending import Recommender

__all__ = ["SERVICE", "Recommender"]
