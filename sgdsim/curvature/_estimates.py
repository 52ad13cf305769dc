"""Estimates with standard errors, and the half width of their intervals."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

_NORMAL_QUANTILE = 1.959963984540054


class Estimate(NamedTuple):
    """Mean of independent draws and its standard error."""

    value: Float[Array, "*shape"]
    stderr: Float[Array, "*shape"]


def half_width(
    stderr: Float[Array, "*shape"], degrees: Num[Array, "*shape"] | float | int
) -> Float[Array, "*shape"]:
    r"""Half the width of the 95 % confidence interval of a mean, by Student's t.

    Parameters
    ----------
    stderr
        Standard error, estimated from the draws.
    degrees
        Degrees of freedom of that estimate: the draws less one.

    Returns
    -------
    Float[Array, "*shape"]
        NaN without a degree of freedom, as the standard error is then.

    Notes
    -----
    The quantile is the expansion in inverse degrees of freedom of Abramowitz and Stegun 1964,
    26.7.5: right to 1e-4 from six degrees on, 1 % too small at two, 11 % at one.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature._estimates import half_width
    >>> round(float(half_width(jnp.asarray(1.0), 9)), 3)
    2.262
    """
    z = _NORMAL_QUANTILE
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    degrees = jnp.asarray(degrees, stderr.dtype)
    quantile = jnp.polyval(jnp.asarray(terms[::-1], stderr.dtype), 1 / degrees)
    return jnp.where(degrees > 0, quantile, jnp.nan) * stderr


def jackknife(
    function: Callable[[Float[Array, " m"]], Float[Array, " r"]], draws: Float[Array, "n m"]
) -> Estimate:
    r"""Estimate a function of means, with its standard error and without its bias of order 1/n.

    .. math:: \hat f = n f - (n-1)\bar f, \qquad
        s^2 = \frac{n-1}{n}\sum_i (f_{-i}-\bar f)^2

    with :math:`f_{-i}` from all draws but the i-th and :math:`\bar f` the mean of those.

    Parameters
    ----------
    function
        Of a vector of m means, with r values.
    draws
        Independent draws as rows, at least two.

    Returns
    -------
    Estimate
        Values and standard errors, of shape ``(r,)`` each.

    Notes
    -----
    Efron and Tibshirani 1993, chapters 10 and 11.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature._estimates import jackknife
    >>> found = jackknife(lambda mean: mean[:1] / mean[1:], jnp.array([[2.0, 1.0], [4.0, 2.0]]))
    >>> float(found.value[0]), float(found.stderr[0])
    (2.0, 0.0)
    """
    n = draws.shape[0]
    mean = jnp.mean(draws, axis=0)
    left_out = (jnp.sum(draws, axis=0, keepdims=True) - draws) / (n - 1)
    whole = function(mean)
    shifts = jax.vmap(lambda means: function(means) - whole)(left_out)
    bias = (n - 1) * jnp.mean(shifts, axis=0)
    return Estimate(whole - bias, ((n - 1) * jnp.var(shifts, axis=0)) ** 0.5)
