"""Third derivatives along the sharpest direction: how sharpness grows and is held at the edge."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sgdsim._typing import Number
from sgdsim.problems import inner, squared_norm


class SelfStabilisation(NamedTuple):
    r"""Coefficients of self-stabilisation at an iterate.

    Attributes
    ----------
    alpha
        Progressive sharpening :math:`-\nabla L\cdot\nabla S^\perp`: how fast gradient flow raises
        the sharpness; positive before the edge as a rule.
    beta
        Stabilisation :math:`\|\nabla S^\perp\|^2`, not negative.
    sharpness
        :math:`S=u^\top\nabla^2L\,u`.
    slope
        :math:`u\cdot\nabla L`, the part of the gradient along ``u``, which alpha leaves out.
    third_derivative
        :math:`\nabla^3L[u,u,u]`, the part of the gradient of the sharpness along ``u``, which
        alpha and beta leave out.
    sharpness_gradient
        :math:`\nabla S=\nabla^3L[u,u,\cdot]` with its part along ``u``, shaped like ``theta``.
    """

    alpha: Float[Array, ""]
    beta: Float[Array, ""]
    sharpness: Float[Array, ""]
    slope: Float[Array, ""]
    third_derivative: Float[Array, ""]
    sharpness_gradient: PyTree


def self_stabilisation(
    risk: Callable[[PyTree], Array], theta: PyTree, direction: PyTree
) -> SelfStabilisation:
    r"""Gradient of the sharpness, and the coefficients alpha and beta of self-stabilisation.

    .. math:: \nabla S = \nabla^3L[u,u,\cdot], \qquad
        \alpha = -\nabla L\cdot\nabla S^\perp, \qquad \beta = \|\nabla S^\perp\|^2

    The perpendicular part is the one orthogonal to ``u``.

    Parameters
    ----------
    risk
        Loss, a function of ``theta`` alone, three times differentiable.
    theta
        Where.
    direction
        ``u``, eigenvector of the largest Hessian eigenvalue, shaped like ``theta``; of any norm.

    Returns
    -------
    SelfStabilisation
        Coefficients, and the gradient of the sharpness; NaN for a direction of zeros.

    Notes
    -----
    Damian, Nichani and Lee 2023, arXiv 2209.15594. Their coefficients are taken on the
    constrained trajectory, where :math:`u\cdot\nabla L=0` and the projection makes no difference
    to alpha; an iterate at the edge oscillates along ``u``, and without the projection
    that oscillation, which averages out, would be taken for sharpening.

    The gradient is that of :math:`u^\top\nabla^2L(\theta)u` with ``u`` held fixed, which is the
    gradient of the eigenvalue where that is simple (first-order perturbation theory). Where the
    two largest eigenvalues nearly meet, it is the derivative along ``u`` alone and jumps as they
    cross. An error of size e in ``u`` makes one of size e in it. Piecewise linear networks under
    a squared error have third derivatives almost everywhere, but not those of the loss that a
    step of finite size sees.

    Two forward derivatives and one reverse one: about four times the cost of a gradient.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import self_stabilisation
    >>> found = self_stabilisation(
    ...     lambda t: 0.5 * (2 + t[1]) * t[0] ** 2 - 3 * t[1], jnp.zeros(2), jnp.array([1.0, 0.0])
    ... )
    >>> float(found.sharpness), float(found.alpha), float(found.beta)
    (2.0, 3.0, 1.0)
    """
    length = jnp.sqrt(squared_norm(direction))
    unit = jax.tree.map(lambda leaf: leaf / length, direction)

    def slope_along(theta: PyTree) -> Array:
        return jax.jvp(risk, (theta,), (unit,))[1]

    def curvature_along(theta: PyTree) -> Array:
        return jax.jvp(slope_along, (theta,), (unit,))[1]

    sharpness, gradient_of_sharpness = jax.value_and_grad(curvature_along)(theta)
    gradient = jax.grad(risk)(theta)
    slope, third = inner(gradient, unit), inner(gradient_of_sharpness, unit)
    perpendicular = jax.tree.map(lambda s, u: s - third * u, gradient_of_sharpness, unit)
    return SelfStabilisation(
        alpha=-inner(gradient, perpendicular),
        beta=squared_norm(perpendicular),
        sharpness=sharpness,
        slope=slope,
        third_derivative=third,
        sharpness_gradient=gradient_of_sharpness,
    )


def predicted_gap(
    learning_rate: Number, alpha: Number, beta: Number, variance: Number
) -> Float[Array, ""]:
    r"""Gap below :math:`2/\eta` at which noise is said to hold the sharpness, to overlay on plots.

    .. math:: \frac2\eta - S = \frac{\eta\,\beta\,\sigma_u^2}{4\alpha}

    Parameters
    ----------
    learning_rate
        ``eta``.
    alpha, beta
        Of :func:`self_stabilisation`.
    variance
        :math:`\sigma_u^2=u^\top\Sigma u`, variance of the gradient noise of one step along ``u``.

    Returns
    -------
    Float[Array, ""]
        The gap in units of the sharpness; negative for negative alpha, where nothing drives the
        sharpness to the edge and the formula has no meaning, infinite or NaN for alpha zero.

    Notes
    -----
    arXiv 2604.21016. Draw it, and do not judge a run by it. It comes from the reduced model

    .. math:: x \leftarrow -(1+\eta y)x + \eta\sigma_u\xi, \qquad
        y \leftarrow (1-\eta k)y + \eta(\alpha - \beta x^2/2)

    for the position x along ``u`` and the excess sharpness y, with :math:`E[x^2y]` replaced by
    :math:`E[x^2]E[y]`. In that model itself the mean of y has the opposite sign once there is
    damping k and the noise is small: the covariance that is dropped is about twice the term that
    is kept. Without damping the mean depends on how the equations are integrated.

    Examples
    --------
    >>> from sgdsim.curvature import predicted_gap
    >>> round(float(predicted_gap(0.5, alpha=2.0, beta=4.0, variance=0.1)), 3)
    0.025
    """
    numerator = jnp.asarray(learning_rate * beta * variance)
    return numerator / (4 * alpha)
