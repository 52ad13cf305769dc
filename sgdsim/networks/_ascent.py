r"""The worst perturbation of the weights in a ball, by projected gradient ascent.

In coordinates ``v`` with :math:`\theta+s\circ v`, so that a ball of ``v`` is an ellipsoid or a box
of weights, :math:`\|v\|_2\le\rho` or :math:`\|v\|_\infty\le\rho`. One step of size :math:`a` with
momentum is

.. math:: z = P(v_k + a\,d_k),\qquad
          v_{k+1} = P\big(v_k + \tfrac34(z-v_k) + \tfrac14(v_k-v_{k-1})\big)

with the normalised gradient :math:`d_k` (its signs for the box) and the projection ``P``. It starts
with :math:`a=2\rho`; at fixed checkpoints ``a`` is halved, and the search resumes from the best
point, if fewer than three quarters of the steps found a better one or if neither the step nor the
best value changed since the last checkpoint (APGD: Croce & Hein 2020, arXiv:2003.01690).
What it finds is a lower bound of the maximum.
"""

import itertools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from sgdsim.bounds import MAGNITUDE_FLOOR
from sgdsim.networks._outputs import LabelledRows, Outputs, accuracy, mean_cross_entropy
from sgdsim.networks._perturbation import bisect_log, log_range
from sgdsim.problems import Rows

Ball = Literal["l2", "linf"]


class Ascent(NamedTuple):
    """Best point of an ascent.

    Attributes
    ----------
    value
        Largest value that was found.
    point
        Where, the parameters.
    """

    value: Float[Array, ""]
    point: PyTree


class _State(NamedTuple):
    here: Array
    before: Array
    step: Array
    best: Array
    best_value: Array
    best_gradient: Array
    gains: Array
    step_then: Array
    best_then: Array


def ascend(
    function: Callable[[PyTree], Float[Array, ""]],
    theta: PyTree,
    scales: PyTree,
    radius: Float[Array, ""] | float,
    key: Key[Array, ""],
    ball: Ball = "l2",
    steps: int = 20,
) -> Ascent:
    r"""Maximise a function of the parameters in a ball around them.

    Parameters
    ----------
    function
        ``function(theta) -> ()``, differentiable.
    theta
        Centre of the ball.
    scales
        Like ``theta``: the factors ``s`` of the coordinates.
    radius
        :math:`\rho`.
    key
        Random key of the starting point.
    ball
        ``"l2"`` or ``"linf"``.
    steps
        Steps of the ascent.

    Returns
    -------
    Ascent
        The best of all points that were visited; the centre is one of them.

    Raises
    ------
    ValueError
        If the ball is unknown.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import ascend
    >>> found = ascend(
    ...     lambda x: x @ jnp.array([3.0, 4.0]), jnp.zeros(2), jnp.ones(2), 2.0, jax.random.key(0)
    ... )
    >>> print(f"{found.value:.3f}")  # 2 * |(3, 4)|
    10.000
    """
    if ball not in ("l2", "linf"):
        raise ValueError(f'ball must be "l2" or "linf"; got {ball!r}.')
    centre, unravel = ravel_pytree(theta)
    factors, _ = ravel_pytree(scales)
    radius = jnp.asarray(radius, centre.dtype)
    value_and_gradient: Callable[[Array], tuple[Array, Array]] = jax.value_and_grad(
        lambda v: function(unravel(centre + factors * v))
    )

    start = _start(key, centre.shape, radius, ball)

    def advance(state: _State, at: tuple[Array, Array]) -> tuple[_State, None]:
        """Visit a point, judge the step at a checkpoint (its number of steps), move on."""
        first, checkpoint = at
        value, gradient = value_and_gradient(state.here)
        better = value > state.best_value
        best = jnp.where(better, state.here, state.best)
        best_value = jnp.where(better, value, state.best_value)
        best_gradient = jnp.where(better, gradient, state.best_gradient)
        gains = state.gains + better
        judged = checkpoint > 0
        stuck = (state.step_then == state.step) & (state.best_then == best_value)
        restart = judged & ((gains < 0.75 * checkpoint) | stuck)
        step = jnp.where(restart, state.step / 2, state.step)
        here = jnp.where(restart, best, state.here)
        before = jnp.where(restart, best, state.before)
        gradient = jnp.where(restart, best_gradient, gradient)
        ahead = _project(here + step * _direction(gradient, ball), radius, ball)
        moved = _project(here + 0.75 * (ahead - here) + 0.25 * (here - before), radius, ball)
        # The first point is the centre; the ascent begins elsewhere, for at a minimum there is
        # no direction.
        return _State(
            here=jnp.where(first, start, moved),
            before=jnp.where(first, start, here),
            step=step,
            best=best,
            best_value=best_value,
            best_gradient=best_gradient,
            gains=jnp.where(first | judged, 0, gains),
            step_then=jnp.where(judged, state.step, state.step_then),
            best_then=jnp.where(judged, best_value, state.best_then),
        ), None

    origin = jnp.zeros_like(centre)
    none = jnp.full((), -jnp.inf, centre.dtype)
    state = _State(
        here=origin,
        before=origin,
        step=2 * radius,
        best=origin,
        best_value=none,
        best_gradient=origin,
        gains=jnp.zeros((), int),
        step_then=none,
        best_then=none,
    )
    # The centre, the points before every step, and the last point.
    first = np.arange(steps + 2) == 0
    checkpoints = np.concatenate([[0], _checkpoints(steps), [0]])
    state, _ = jax.lax.scan(advance, state, (jnp.asarray(first), jnp.asarray(checkpoints)))
    return Ascent(state.best_value, unravel(centre + factors * state.best))


def worst_sharpness(
    outputs: Outputs,
    theta: PyTree,
    rows: Rows | LabelledRows,
    key: Key[Array, ""],
    radius: float = 0.5,
    adaptive: bool = True,
    ball: Ball = "l2",
    steps: int = 20,
) -> Float[Array, ""]:
    r"""Largest rise of the training loss, :math:`\max_{\|u/s\|\le\rho}L(\theta+u)-L(\theta)`.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``.
    theta
        Parameters.
    rows
        Training rows; the loss is the mean cross-entropy in nats.
    key
        Random key of the starting point.
    radius
        :math:`\rho`.
    adaptive
        Whether :math:`s=|\theta|`, which makes it invariant under rescaling of relu units;
        otherwise ``s = 1``.
    ball
        Norm of the ball.
    steps
        Steps of the ascent.

    Returns
    -------
    array
        A scalar in nats, not negative; a lower bound of the maximum.

    Notes
    -----
    Andriushchenko et al. 2023, arXiv:2302.07011, on all rows at once; their m-sharpness is the
    mean of this over batches of rows.
    """
    scales = jax.tree.map(lambda w: jnp.abs(w) if adaptive else jnp.ones_like(w), theta)
    loss = lambda theta: mean_cross_entropy(outputs, theta, rows)  # noqa: E731
    return ascend(loss, theta, scales, radius, key, ball, steps).value - loss(theta)


def ascent_tolerance(
    outputs: Outputs,
    theta: PyTree,
    rows: Rows | LabelledRows,
    key: Key[Array, ""],
    magnitude: bool = False,
    drop: float = 0.1,
    steps: int = 20,
    halvings: int = 10,
) -> Float[Array, ""]:
    r"""Find the half width of the box in which ascent costs a share of the training accuracy.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``.
    theta
        Parameters.
    rows
        Training rows.
    key
        Random key of the starting point.
    magnitude
        Whether the box is :math:`|u_i|\le\alpha|\theta_i|+10^{-3}` instead of
        :math:`|u_i|\le\alpha`.
    drop
        Share of the accuracy.
    steps
        Steps of the ascent of the loss in a box.
    halvings
        Halvings of the range of ten decades.

    Returns
    -------
    array
        The half width; nan where none of the range gives the drop. Ascent finds less than the
        worst perturbation, so it is an upper bound of the true tolerance.

    Notes
    -----
    Jiang et al. 2020, arXiv:1912.02178, Appendix.
    """
    intact = accuracy(outputs, theta, rows)
    loss = lambda theta: mean_cross_entropy(outputs, theta, rows)  # noqa: E731

    def lost(log_scale: Float[Array, ""]) -> Float[Array, ""]:
        alpha = jnp.exp(log_scale)
        box = jax.tree.map(
            lambda w: (
                alpha * jnp.abs(w) + MAGNITUDE_FLOOR
                if magnitude
                else jnp.broadcast_to(alpha, w.shape)
            ),
            theta,
        )
        worst = ascend(loss, theta, box, 1.0, key, "linf", steps).point
        return intact - accuracy(outputs, worst, rows)

    return jnp.exp(bisect_log(lost, *log_range(theta, magnitude), drop, halvings))


def _checkpoints(steps: int) -> np.ndarray:
    """Zero, or at a checkpoint the steps since the last one."""
    # In hundredths, for 0.7 * 20 is more than 14 in floating point.
    shares, places = [0, 22], [0, -(-22 * steps // 100)]
    while places[-1] < steps:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
        places.append(-(-shares[-1] * steps // 100))
    since = np.zeros(steps, int)
    for before, place in itertools.pairwise(places):
        if place < steps:
            since[place] = place - before
    return since


def _start(key: Key[Array, ""], shape: tuple[int, ...], radius: Array, ball: Ball) -> Array:
    if ball == "linf":
        return jax.random.uniform(key, shape, radius.dtype, -radius, radius)
    return _project(jax.random.normal(key, shape, radius.dtype) * radius, radius, ball)


def _direction(gradient: Array, ball: Ball) -> Array:
    if ball == "linf":
        return jnp.sign(gradient)
    return gradient / jnp.maximum(jnp.linalg.norm(gradient), jnp.finfo(gradient.dtype).tiny)


def _project(point: Array, radius: Array, ball: Ball) -> Array:
    if ball == "linf":
        return jnp.clip(point, -radius, radius)
    norm = jnp.linalg.norm(point)
    return point * jnp.minimum(1.0, radius / jnp.maximum(norm, jnp.finfo(point.dtype).tiny))
