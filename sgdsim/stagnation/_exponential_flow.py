"""Gradient flow by an exponential integrator, stiff or not, without a matrix."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sgdsim._typing import Number
from sgdsim.curvature import hessian_product, lanczos

# The largest time step in units of the fastest rate: beyond it rounding errors in flat
# directions would be carried as far as the motion itself.
_LONGEST = 1e12


class FlowEnd(NamedTuple):
    """Where the integration stopped.

    Attributes
    ----------
    theta
        Flat parameters, shape (p,).
    arrived
        The gradient norm is at the threshold.
    steps
        Steps taken, refused ones included.
    """

    theta: Float[Array, " p"]
    arrived: Bool[Array, ""]
    steps: Int[Array, ""]


def follow_gradient_flow(
    risk: Callable[[Array], Array],
    start: Float[Array, " p"],
    threshold: Number,
    rtol: Number = 1e-4,
    max_steps: int = 5000,
    depth: int = 30,
) -> FlowEnd:
    r"""Follow the gradient flow until the gradient norm is at a threshold.

    .. math:: \dot\theta = -\nabla L(\theta)

    Each step solves the linearised flow exactly in a Krylov space of the Hessian H,

    .. math:: \hat\theta = \theta - h\,\varphi_1(-hH)\nabla L(\theta), \qquad
        \theta^+ = \hat\theta + 2h\,\varphi_3(-hH) D,

    D being the defect of the velocity at :math:`\hat\theta`. The time step h follows the last
    term, which estimates the local error; it is not bound by the largest curvature, and near a
    minimum the step turns into one of Newton.

    Parameters
    ----------
    risk
        Function of flat parameters.
    start
        Where the flow begins, shape (p,).
    threshold
        Gradient norm at which the flow is left.
    rtol
        Local error allowed in a step, relative to the norm of the parameters.
    max_steps
        After so many steps the flow is given up.
    depth
        Dimension of the Krylov spaces.

    Notes
    -----
    Two Krylov spaces a step. Time t, not steps. Source: exprb32 of Hochbruck, Ostermann and
    Schweitzer 2009, "Exponential Rosenbrock-type methods", SIAM J. Numer. Anal. 47; the defect
    includes what the Krylov space leaves out.
    """
    gradient: Callable[[Array], Array] = jax.grad(risk)

    def advance(theta: Array, velocity: Array, h: Array) -> tuple[Array, Array, Array]:
        product = hessian_product(risk, theta)
        ritz = lanczos(product, velocity, depth)
        coordinates = ritz.vectors @ velocity
        move = (h * _phi1(-h * ritz.values) * coordinates) @ ritz.vectors
        model_velocity = (jnp.exp(-h * ritz.values) * coordinates) @ ritz.vectors
        defect = -gradient(theta + move) - model_velocity
        defect = jnp.where(jnp.isfinite(defect), defect, 0.0)
        inner = lanczos(product, defect, depth)
        weights = 2 * h * _phi3(-h * inner.values) * (inner.vectors @ defect)
        correction = weights @ inner.vectors
        end = theta + move + correction
        scale = rtol * jnp.maximum(jnp.linalg.norm(theta), jnp.linalg.norm(end)) + 1e-12
        error: Array = jnp.linalg.norm(correction) / scale
        good = jnp.all(jnp.isfinite(end)) & jnp.all(jnp.isfinite(move))
        rate = jnp.maximum(jnp.abs(ritz.values[0]), jnp.abs(ritz.values[-1]))
        return end, jax.lax.select(good, error, jnp.full_like(error, jnp.inf)), rate

    def goes_on(state: tuple) -> Array:
        _, velocity, _, steps = state
        return (jnp.linalg.norm(velocity) > threshold) & (steps < max_steps)

    def step(state: tuple) -> tuple:
        theta: Array
        theta, velocity, h, steps = state
        end, error, rate = advance(theta, velocity, h)
        accepted = error <= 1
        # The local error is of third order in h.
        factor = jnp.clip(0.9 * jnp.maximum(error, 1e-10) ** (-1 / 3), 0.2, 5.0)
        longer = jnp.minimum(factor * h, _LONGEST / jnp.maximum(rate, 1e-300))
        theta = jax.lax.select(accepted, end, theta)
        velocity = jnp.where(accepted, -gradient(theta), velocity)
        return theta, velocity, longer, steps + 1

    velocity = -gradient(start)
    # A thousandth of the size of the parameters, or of one, at the speed of the start.
    size = jnp.maximum(jnp.linalg.norm(start), 1e-3)
    h = 1e-3 * size / jnp.maximum(jnp.linalg.norm(velocity), 1e-300)
    begin = (start, velocity, h, jnp.asarray(0))
    theta, velocity, _, steps = jax.lax.while_loop(goes_on, step, begin)
    return FlowEnd(theta, jnp.linalg.norm(velocity) <= threshold, steps)


def _phi1(z: Float[Array, " n"]) -> Float[Array, " n"]:
    """Give (exp(z) - 1) / z."""
    safe = jnp.where(z == 0, 1.0, z)
    return jnp.where(z == 0, 1.0, jnp.expm1(safe) / safe)


def _phi3(z: Float[Array, " n"]) -> Float[Array, " n"]:
    """Give (exp(z) - 1 - z - z^2 / 2) / z^3, by its series where that cancels."""
    small = jnp.abs(z) < 1
    inside, outside = jnp.where(small, z, 0.0), jnp.where(small, 1.0, z)
    series = jnp.zeros_like(z)
    for k in range(17, 0, -1):  # Horner's rule for z/4 + z^2/(4 5) + ...
        series = (1 + series) * (inside / (k + 3))
    closed = (jnp.expm1(outside) - outside - outside**2 / 2) / outside**3
    return jnp.where(small, (1 + series) / 6, closed)
