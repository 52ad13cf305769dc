"""Sums and products of norms as logarithms: a product of 200 layers does not overflow."""

import numpy as np
from jaxtyping import Bool, Float

Array = np.ndarray


def log(value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Return :math:`\log x`, with :math:`\log 0 = -\infty` and no warning.

    Parameters
    ----------
    value
        Numbers that are zero, positive or nan.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(value))


def log_sum(*terms: Float[Array, "..."] | float) -> Array:
    r"""Return :math:`\log \sum_i e^{t_i}` of terms that broadcast against each other."""
    total = np.asarray(terms[0], dtype=np.float64)
    # nan marks an iterate for which nothing is claimed; it passes through.
    with np.errstate(invalid="ignore"):
        for term in terms[1:]:
            total = np.logaddexp(total, term)
    return np.asarray(total)


def log_sum_over_layers(logs: Float[Array, "*shape layer"]) -> Float[Array, "*shape"]:
    r"""Return :math:`\log \sum_j e^{t_j}` over the last axis."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logaddexp.reduce(logs, axis=-1))


def product_of_others(logs: Float[Array, "*shape layer"]) -> Float[Array, "*shape layer"]:
    r"""Return :math:`\log \prod_{i \ne j} e^{t_i}` for every layer ``j``.

    Sums from both ends instead of a total minus one term, because a layer of zero norm has the
    logarithm :math:`-\infty`, which cannot be subtracted again.
    """
    nothing = np.zeros_like(logs[..., :1])
    before = np.concatenate([nothing, np.cumsum(logs[..., :-1], axis=-1)], axis=-1)
    after = np.concatenate([nothing, np.cumsum(logs[..., :0:-1], axis=-1)], axis=-1)
    return before + after[..., ::-1]


def exponential(log_value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Return :math:`e^{t}`; beyond the largest float it is infinite, without a warning."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(log_value))


def all_finite(array: Float[Array, "*shape layer"]) -> Bool[Array, "*shape"]:
    """Tell where every entry along the last axis is finite."""
    return np.asarray(np.isfinite(array).all(axis=-1))
