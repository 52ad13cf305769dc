"""Checks of numbers that a user passes; traced numbers, whose values are unknown, pass."""

import math
import operator
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


def known_number(value: Any) -> float | None:
    """Give the value of one real number, NaN for anything else, ``None`` for a traced number.

    Booleans and texts are no numbers here, whatever Python would make of them.
    """
    if isinstance(value, jax.core.Tracer):
        return None
    if not isinstance(value, int | float | np.number | np.ndarray | jax.Array) or isinstance(
        value, bool
    ):
        return math.nan
    dtype = jnp.result_type(value)
    real = jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
    return float(value) if real and jnp.shape(value) == () else math.nan


def check_positive(name: str, value: Any) -> None:
    """Refuse what is not one positive finite number."""
    number = known_number(value)
    if number is not None and not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}.")


def check_not_negative(name: str, value: Any) -> None:
    """Refuse what is not one finite number from zero on."""
    number = known_number(value)
    if number is not None and not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be a finite number, not negative, got {value!r}.")


def check_count(name: str, value: Any) -> None:
    """Refuse what is not a positive integer; it decides a shape and cannot be traced."""
    try:
        good = not isinstance(value, bool) and operator.index(value) > 0
    except TypeError:
        good = False
    if not good:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")


def check_momentum(value: Any) -> None:
    """Refuse what is no momentum."""
    number = known_number(value)
    if number is not None and not 0 <= number < 1:
        raise ValueError(
            f"momentum must be in [0, 1), got {value!r}: from 1 on the damping is not positive and "
            "feeds the velocity without end, below 0 the velocity flips in every step. Momentum 0 "
            "is plain SGD."
        )


def check_weight_of_the_past(name: str, value: Any) -> None:
    """Refuse what is not the weight of the past in a running average."""
    number = known_number(value)
    if number is not None and not 0 <= number < 1:
        raise ValueError(
            f"{name} must be in [0, 1), got {value!r}: it is the weight of the past in an average."
        )
