"""Logistic regression drawn towards given weights: the linker's training and a workspace's refit share it."""

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

_MAX_STEPS: Final = 60
_TOLERANCE: Final = 1e-8


class Fit(Struct, frozen=True):
    """Weights of unscaled features, and the intercept."""

    weights: NDArray[np.float64]
    intercept: float


def fit_logistic(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    importance: NDArray[np.float64],
    *,
    towards: Fit | None = None,
    pull: float,
    pull_of_intercept: float | None = None,
    offset: NDArray[np.float64] | None = None,
) -> Fit:
    """The weights that make the outcomes likeliest, drawn towards others.

    x: (n, k) features. y: (n,) 0 or 1. importance: (n,) how much each counts. towards: what is drawn to; None = 0.
    pull: strength of that, in units of the importance of one example, on features scaled by their spread; the
    intercept is drawn with `pull_of_intercept`, None = a hundredth of it. offset: (n,) what is added to each logit
    anyway, None = 0. Newton's method from `towards`; the loss is convex, so there is one answer.
    """
    n_features = x.shape[1]
    goal = towards or Fit(np.zeros(n_features), 0.0)
    total = importance.sum()
    mean = (x * importance[:, None]).sum(axis=0) / total
    spread = np.sqrt((((x - mean) ** 2) * importance[:, None]).sum(axis=0) / total)
    spread = np.where(spread > 0, spread, 1.0)
    scaled = np.hstack([(x - mean) / spread, np.ones((len(x), 1))])
    centre = np.append(goal.weights * spread, goal.intercept + float(goal.weights @ mean))
    pulls = np.append(
        np.full(n_features, pull), pull / 100 if pull_of_intercept is None else pull_of_intercept
    )
    added = np.zeros(len(x)) if offset is None else offset
    beta = centre.copy()
    for _ in range(_MAX_STEPS):
        p = 1 / (1 + np.exp(-np.clip(scaled @ beta + added, -40, 40)))
        gradient = scaled.T @ (importance * (p - y)) + pulls * (beta - centre)
        curvature = (scaled * (importance * p * (1 - p))[:, None]).T @ scaled + np.diag(pulls)
        step = np.linalg.solve(curvature, gradient)
        # A step longer than 2 leaves the region in which the parabola resembles the loss.
        beta -= step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < _TOLERANCE:
            break
    weights = beta[:-1] / spread
    return Fit(weights, float(beta[-1] - weights @ mean))
