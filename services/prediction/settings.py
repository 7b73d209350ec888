"""What can be configured."""

from typing import Annotated

from msgspec import Meta
from runtime.settings import ServiceSettings


class PredictionSettings(ServiceSettings, frozen=True, kw_only=True):
    """The environment of the prediction service, beside what every service reads.

    prediction_growth: members now : members at the last forecast, from which on a pattern is forecast anew.
    prediction_growth_spacing_seconds: least time between forecasts that only growth asks for.
    prediction_renewal_spacing_hours: a pattern whose forecasts came true is forecast anew when the last is this old,
        mostly before.
    prediction_max_age_hours: a forecast older than this is made anew.
    prediction_grace_hours: how long after a window's end late reports may still make it a hit.
    prediction_min_resolved: resolved forecasts of a window before the model's skill is judged.
    prediction_refit_hours: a workspace's model older than this is learned anew.
    """

    prediction_growth: Annotated[float, Meta(gt=1.0)] = 1.5
    prediction_growth_spacing_seconds: Annotated[float, Meta(ge=0.0)] = 60.0
    prediction_renewal_spacing_hours: Annotated[float, Meta(ge=0.0)] = 6.0
    prediction_max_age_hours: Annotated[float, Meta(gt=0.0)] = 24.0
    prediction_grace_hours: Annotated[float, Meta(ge=0.0)] = 24.0
    prediction_min_resolved: Annotated[int, Meta(ge=1)] = 300
    prediction_refit_hours: Annotated[float, Meta(gt=0.0)] = 24.0
