"""Checks of numbers that a user passes; traced numbers are let through."""

import math
from typing import Any


def check_positive(name: str, value: Any) -> None:
    """Refuse a Python number that is not positive and finite."""
    if isinstance(value, int | float) and not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}.")
