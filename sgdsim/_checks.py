"""Checks of numbers that a user passes; traced numbers are let through."""

import math
from typing import Any


def check_positive(name: str, value: Any) -> None:
    """Refuse a Python number that is not positive and finite."""
    if isinstance(value, int | float) and not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}.")


def check_momentum(value: Any) -> None:
    """Refuse a Python number that is no momentum."""
    if isinstance(value, int | float) and not 0 <= value < 1:
        raise ValueError(
            f"momentum must be in [0, 1), got {value!r}: from 1 on the damping is not positive and "
            "feeds the velocity without end, below 0 the velocity flips in every step. Momentum 0 "
            "is plain SGD."
        )


def check_weight_of_the_past(name: str, value: Any) -> None:
    """Refuse a Python number that is not the weight of the past in a running average."""
    if isinstance(value, int | float) and not 0 <= value < 1:
        raise ValueError(
            f"{name} must be in [0, 1), got {value!r}: it is the weight of the past in an average."
        )
