"""How far the noise of a minibatch gradient is from Gaussian, along chosen directions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim._typing import Number
from sgdsim.problems import Problem


class NoiseShape(NamedTuple):
    r"""Moments of the gradient noise of one batch along directions ``v``.

    Attributes
    ----------
    variance
        :math:`v^\top\Sigma v`.
    skewness, excess_kurtosis
        Both are zero for Gaussian noise; NaN along a direction without noise.
    """

    variance: Float[Array, " direction"]
    skewness: Float[Array, " direction"]
    excess_kurtosis: Float[Array, " direction"]


def noise_shape(
    problem: Problem,
    theta: PyTree,
    directions: Float[Array, "direction p"],
    batch_size: Number,
) -> NoiseShape:
    r"""Variance, skewness and excess kurtosis of the minibatch gradient along directions.

    .. math:: \mathrm{skew}(v\cdot g_B) = \frac{1}{\sqrt B}\frac{m_3}{m_2^{3/2}}, \qquad
        \mathrm{kurt}(v\cdot g_B) - 3 = \frac1B\Big(\frac{m_4}{m_2^2}-3\Big)

    with the central moments :math:`m_j` of :math:`v\cdot\nabla\ell(\theta,z_i)` over the rows;
    exact for batches drawn with replacement, whose cumulants are those of one row over
    :math:`B^{j-1}`.

    Parameters
    ----------
    problem, theta
        Where.
    directions
        Flat rows, as ``jax.flatten_util.ravel_pytree`` orders the parameters, for instance the
        Ritz vectors of :func:`sgdsim.lanczos`; their length matters for the variance only.
    batch_size
        Rows per batch ``B``.

    Notes
    -----
    One forward derivative of the per-sample losses per direction: ``n`` numbers, never ``n p``.
    Only the law of one step is judged. On a quadratic with curvature ``h`` the stationary law of
    the iterate has the excess kurtosis of a batch times :math:`(1-a^2)/(1+a^2)`,
    :math:`a = 1-\eta h`: small steps make the iterate Gaussian in its bulk, not in its tails.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.stability import noise_shape
    >>> signs = jnp.array([-1.0, 1.0])
    >>> problem = Problem(lambda theta, z: 0.5 * (theta[0] - z) ** 2, signs)
    >>> noise_shape(problem, jnp.zeros(1), jnp.ones((1, 1)), 4).excess_kurtosis.tolist()
    [-0.5]
    """
    losses, push = jax.linearize(problem.per_sample_losses, theta)
    unravel = ravel_pytree(theta)[1]
    size = jnp.asarray(batch_size, losses.dtype)

    def along(direction: Array) -> NoiseShape:
        slopes = push(unravel(direction))
        centred = slopes - jnp.mean(slopes)
        variance = jnp.mean(centred**2)
        # Rows whose slopes agree to rounding carry no noise, and a meaningless shape.
        rounding = 8 * jnp.finfo(losses.dtype).eps * jnp.max(jnp.abs(slopes))
        scaled = centred / jnp.sqrt(jnp.where(variance > rounding**2, variance, jnp.nan))
        return NoiseShape(
            variance / size,
            jnp.mean(scaled**3) / jnp.sqrt(size),
            (jnp.mean(scaled**4) - 3) / size,
        )

    return jax.lax.map(along, directions)
