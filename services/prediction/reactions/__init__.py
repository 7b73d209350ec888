"""Others' events become forecasts, resolutions and alerts; never in a replay."""

from services.prediction.reactions.reaction import Forecaster, Rules

__all__ = ["Forecaster", "Rules"]
