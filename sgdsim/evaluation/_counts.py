"""Interval for a share of counted cases, and checks of probabilities."""

import math

import numpy as np
from scipy.special import betaincinv

#: Numbers of cases; functions of xarray pass arrays without dimensions as scalars.
Counts = np.ndarray | np.integer | int


def share_interval(
    successes: Counts, trials: Counts, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson interval; from 0 to 1 without trials."""
    x, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    tail = 0.5 * (1.0 - confidence)
    # The inverse is not defined at its ends; there the interval ends at 0 or 1.
    low = betaincinv(np.maximum(x, 1.0), np.maximum(n - x, 0.0) + 1.0, tail)
    high = betaincinv(x + 1.0, np.maximum(n - x, 1.0), 1.0 - tail)
    return np.where(x > 0, low, 0.0), np.where(x < n, high, 1.0)


def share(successes: Counts, trials: Counts) -> np.ndarray:
    """Give successes divided by trials; nan without trials."""
    x, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    return np.where(n > 0, x / np.maximum(n, 1.0), np.nan)


def check_probability(name: str, value: float | int) -> None:
    """Refuse what is not strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must be strictly between 0 and 1; got {value}.")


def check_positive(name: str, value: float | int) -> None:
    """Refuse what is not positive and finite."""
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite; got {value}.")
