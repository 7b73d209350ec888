"""The learned linker's numbers: a dated artefact, shipped with the service and never edited in place."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

SHIPPED: Final = Path(__file__).parent / "linker-2026-11-22.3.json"


class LinkerArtefact(Struct, frozen=True, kw_only=True):
    """The linker as a file or an event holds it.

    version: "linker@" and the date. weights: one per feature, of unscaled features. prior_share: share of texts that
    repeat an earlier one where nothing is known; prior_texts: how many texts that counts for; prior_gain: how much
    of its logit's distance to add; least_shift, most_shift: bounds of that. trained_on: sets, with texts and pairs.
    """

    version: str
    features: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float
    prior_share: float
    prior_texts: float
    prior_gain: float
    least_shift: float
    most_shift: float
    trained_on: tuple[str, ...] = ()


class LinkerWeights:
    """An artefact, ready to be multiplied with."""

    def __init__(self, artefact: LinkerArtefact) -> None:
        self.artefact = artefact
        self.version = artefact.version
        self.coefficients: NDArray[np.float64] = np.array(artefact.weights, dtype=np.float64)
        self.intercept = artefact.intercept
        self.prior_share, self.prior_texts = artefact.prior_share, artefact.prior_texts
        self.prior_gain = artefact.prior_gain
        self.least_shift, self.most_shift = artefact.least_shift, artefact.most_shift


class WrongFeaturesError(Exception):
    """An artefact was made for other features than this build computes."""


def checked(artefact: LinkerArtefact, features: Sequence[str]) -> LinkerWeights:
    """The weights of an artefact. Raises WrongFeaturesError when it is not of these features."""
    if artefact.features != tuple(features) or len(artefact.weights) != len(artefact.features):
        raise WrongFeaturesError(f"{artefact.version} is not of the features of this build")
    return LinkerWeights(artefact)


@lru_cache(maxsize=1)
def shipped() -> LinkerArtefact:
    """The artefact that comes with this build."""
    return msgspec.json.decode(SHIPPED.read_bytes(), type=LinkerArtefact)
