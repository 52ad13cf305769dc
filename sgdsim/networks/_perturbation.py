r"""How much normal noise of the weights a network tolerates.

The noise tolerance is the scale :math:`\sigma` at which the training accuracy falls by a given
drop on average,

.. math:: A(\theta) - E\,A(\theta + \sigma\,s\circ u) = \mathrm{drop},\qquad u\sim N(0,I),

with :math:`s_i=1`, or for the magnitude-aware version with the standard deviation
:math:`\sqrt{\sigma^2\theta_i^2+\epsilon^2}`, :math:`\epsilon=10^{-3}`, of coordinate ``i``.
The same draws ``u`` serve all scales, so the measured curve is smooth, and the scale is found by
halving an interval of its logarithm.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from sgdsim.bounds import MAGNITUDE_FLOOR
from sgdsim.networks._outputs import LabelledRows, Outputs, accuracy, mean_cross_entropy
from sgdsim.problems import Rows

# The search spans these multiples of the root mean square of the weights (of 1, if relative); the
# smallest weights may be many times smaller than that.
_RANGE = (1e-8, 1e2)
# Half of the step in ln(sigma) over which the slope of the curve is taken.
_SLOPE_STEP = 0.15
_NORMAL_QUANTILE = 1.959964


class Tolerance(NamedTuple):
    """Scale that a network tolerates.

    Attributes
    ----------
    value
        The scale; nan where no scale of the range gives the drop.
    low, high
        Monte-Carlo interval that covers the scale of infinitely many draws with probability of
        about 95 %.
    """

    value: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]


def noise_tolerance(
    outputs: Outputs,
    theta: PyTree,
    rows: Rows | LabelledRows,
    key: Key[Array, ""],
    magnitude: bool = False,
    drop: float = 0.1,
    draws: int = 20,
    halvings: int = 13,
) -> Tolerance:
    """Find the scale of normal noise that costs a given share of the training accuracy.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``.
    theta
        Parameters; all are perturbed, biases included.
    rows
        Training rows.
    key
        Random key of the draws.
    magnitude
        Whether the noise follows the size of every weight.
    drop
        Share of the accuracy.
    draws
        Draws of the noise, at least 2.
    halvings
        Halvings of the range of ten decades; the last interval is ``23 / 2**halvings`` wide in
        the logarithm.

    Returns
    -------
    Tolerance
        Value and Monte-Carlo interval.

    Notes
    -----
    The interval is the standard error of the mean drop over the draws, divided by the slope of
    the curve. Jiang et al. 2020, arXiv:1912.02178, Appendix; there without an interval.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import LabelledRows, call_network, noise_tolerance
    >>> from sgdsim.problems import Network
    >>> rows = LabelledRows(jnp.eye(3), jnp.eye(3))
    >>> found = noise_tolerance(call_network, Network((jnp.eye(3),)), rows, jax.random.key(0))
    >>> bool(found.low < found.value < found.high)
    True
    """
    draw_keys = jax.random.split(key, draws)
    intact = accuracy(outputs, theta, rows)
    deviations = _deviations(theta, magnitude)

    def drops(log_scale: Float[Array, ""]) -> Float[Array, " draws"]:
        scales = deviations(jnp.exp(log_scale))

        def of_draw(key: Key[Array, ""]) -> Float[Array, ""]:
            return intact - accuracy(outputs, perturbed(theta, scales, key), rows)

        return jax.lax.map(of_draw, draw_keys)

    low, high = log_range(theta, magnitude)
    found = bisect_log(lambda log_scale: jnp.mean(drops(log_scale)), low, high, drop, halvings)
    near = jnp.array([-_SLOPE_STEP, 0.0, _SLOPE_STEP], found.dtype)
    below, at, above = jax.lax.map(drops, found + near)
    error = jnp.std(at, ddof=1) / math.sqrt(draws)
    rise = jnp.mean(above) - jnp.mean(below)
    # A flat curve says nothing about the scale: then the interval is all of it.
    width = jnp.where(rise > 0, _NORMAL_QUANTILE * error * 2 * _SLOPE_STEP / rise, jnp.inf)
    return Tolerance(jnp.exp(found), jnp.exp(found - width), jnp.exp(found + width))


def published_noise_tolerance(
    outputs: Outputs,
    theta: PyTree,
    rows: Rows | LabelledRows,
    key: Key[Array, ""],
    magnitude: bool = False,
) -> Float[Array, ""]:
    r"""Search the scale as the code of Dziugaite et al. 2020 does, whose noise has a wrong scale.

    Bisection of :math:`\sigma` on [0, 2] with at most 15 halvings, 10 new draws per step, drop 0.1
    and tolerance 0.01. The noise has the standard deviation :math:`\sigma^2`, or
    :math:`\sigma^2\theta_i^2+\epsilon^2` for the magnitude-aware version: variances that are
    passed as standard deviations. For reproduction only; see ``noise_tolerance``.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``.
    theta
        Parameters.
    rows
        Training rows.
    key
        Random key.
    magnitude
        Whether the noise follows the size of every weight.

    Returns
    -------
    array
        The last scale that was tried.
    """
    intact = accuracy(outputs, theta, rows)

    def scales(sigma: Float[Array, ""]) -> PyTree:
        if magnitude:
            return jax.tree.map(lambda w: sigma**2 * w**2 + MAGNITUDE_FLOOR**2, theta)
        return jax.tree.map(lambda w: jnp.broadcast_to(sigma**2, w.shape), theta)

    def displacement(sigma: Float[Array, ""], key: Key[Array, ""]) -> Float[Array, ""]:
        def of_draw(key: Key[Array, ""]) -> Float[Array, ""]:
            return accuracy(outputs, perturbed(theta, scales(sigma), key), rows)

        return jnp.abs(jnp.mean(jax.lax.map(of_draw, jax.random.split(key, 10))) - intact)

    def halve(state: tuple[Array, ...]) -> tuple[Array, ...]:
        low, high, _, step, _ = state
        sigma = (low + high) / 2
        moved = displacement(sigma, jax.random.fold_in(key, step))
        near = jnp.abs(moved - 0.1) < 1e-2
        low = jnp.where(~near & (moved <= 0.1), sigma, low)
        high = jnp.where(~near & (moved > 0.1), sigma, high)
        return low, high, sigma, step + 1, near

    zero = jnp.zeros((), intact.dtype)
    start = (zero, zero + 2, zero + 1, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    going = lambda state: (state[3] < 15) & ~state[4]  # noqa: E731
    return jax.lax.while_loop(going, halve, start)[2]


def average_sharpness(
    outputs: Outputs,
    theta: PyTree,
    rows: Rows | LabelledRows,
    key: Key[Array, ""],
    radius: float = 0.1,
    adaptive: bool = True,
    draws: int = 20,
) -> Float[Array, ""]:
    r"""Mean rise of the training loss under noise, :math:`E\,L(\theta+\rho\,s\circ u)-L(\theta)`.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``.
    theta
        Parameters.
    rows
        Training rows; the loss is the mean cross-entropy in nats.
    key
        Random key of the draws.
    radius
        Standard deviation ``rho``.
    adaptive
        Whether :math:`s=|\theta|`, which makes it invariant under rescaling of relu units;
        otherwise ``s = 1``.
    draws
        Draws of the normal ``u``.

    Returns
    -------
    array
        A scalar in nats, which can be negative.

    Notes
    -----
    Andriushchenko et al. 2023, arXiv:2302.07011.
    """
    scales = jax.tree.map(lambda w: radius * (jnp.abs(w) if adaptive else jnp.ones_like(w)), theta)

    def of_draw(key: Key[Array, ""]) -> Float[Array, ""]:
        return mean_cross_entropy(outputs, perturbed(theta, scales, key), rows)

    risen = jnp.mean(jax.lax.map(of_draw, jax.random.split(key, draws)))
    return risen - mean_cross_entropy(outputs, theta, rows)


def perturbed(theta: PyTree, scales: PyTree, key: Key[Array, ""]) -> PyTree:
    """Add independent normal noise of given standard deviations to the parameters."""
    # One long draw: a program with one generator compiles faster than with one a leaf.
    centre, unravel = ravel_pytree(theta)
    spread, _ = ravel_pytree(scales)
    return unravel(centre + spread * jax.random.normal(key, centre.shape, centre.dtype))


def log_range(theta: PyTree, relative: bool) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Logarithms of the ends of the range of scales."""
    leaves = jax.tree.leaves(theta)
    square = sum((jnp.sum(w**2) for w in leaves), jnp.zeros((), leaves[0].dtype))
    size = sum(w.size for w in leaves)
    unit = 0.0 * square if relative else 0.5 * jnp.log(square / size)
    return unit + math.log(_RANGE[0]), unit + math.log(_RANGE[1])


def bisect_log(
    curve: Callable[[Float[Array, ""]], Float[Array, ""]],
    low: Float[Array, ""],
    high: Float[Array, ""],
    target: float,
    halvings: int,
) -> Float[Array, ""]:
    """Find where a rising curve crosses the target; nan where it does not in the interval."""

    def step(ends: tuple[Array, ...], index: Array) -> tuple[tuple[Array, ...], None]:
        """Try both ends, to see whether there is a crossing, then middles of the interval."""
        below, above, starts_below, ends_above = ends
        tried = jnp.where(index == 0, low, jnp.where(index == 1, high, (below + above) / 2))
        reached = curve(tried) >= target
        return (
            jnp.where(reached | (index == 1), below, tried),
            jnp.where(reached & (index != 0), tried, above),
            jnp.where(index == 0, ~reached, starts_below),
            jnp.where(index == 1, reached, ends_above),
        ), None

    unknown = jnp.zeros((), bool)
    start = (low, high, unknown, unknown)
    ends, _ = jax.lax.scan(step, start, jnp.arange(halvings + 2))
    below, above, starts_below, ends_above = ends
    return jnp.where(starts_below & ends_above, (below + above) / 2, jnp.nan)


def _deviations(theta: PyTree, magnitude: bool) -> Callable[[Float[Array, ""]], PyTree]:
    def of_leaf(scale: Float[Array, ""], w: Array) -> Array:
        if magnitude:
            return jnp.sqrt(scale**2 * w**2 + MAGNITUDE_FLOOR**2)
        return jnp.broadcast_to(scale, w.shape)

    return lambda scale: jax.tree.map(lambda w: of_leaf(scale, w), theta)
