"""Models of the gradient noise: what is drawn, how it enters the one backward pass, its moments.

A model ``xi`` has mean zero and covariance ``Sigma(theta)`` per step; SGD adds
``-eta (grad L_n + xi)``, and the SDE (Ito, time ``t = eta k``) has the diffusion
``sqrt(eta Sigma) dW``.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim._typing import Number
from sgdsim.dynamics._checks import check_positive
from sgdsim.dynamics._random import normal_like, step_normal
from sgdsim.problems import Problem, squared_norm

#: Maps a cotangent in sample space, shape ``(n,)``, to parameter space: one backward pass.
Pullback = Callable[[Float[Array, " n"]], PyTree]

_BLOCK_NUMBERS = 2**18


class AbstractGradientNoise(eqx.Module):
    """A model of the gradient noise; concrete classes are final."""

    def draw(
        self, key: Key[Array, ""], counter: Int[Array, ""], problem: Problem, theta: PyTree
    ) -> PyTree:
        """Draw the standard normals that one (sub)step consumes."""
        raise NotImplementedError

    def increment(
        self, pullback: Pullback, normals: PyTree, theta: PyTree, clock: tuple[Any, Any, int]
    ) -> PyTree:
        r"""Increment :math:`-h\nabla L_n + \sqrt{\eta h}\,\Sigma^{1/2}\xi`, one backward pass.

        ``clock`` is ``(h, eta, n)``: step size, learning rate, number of rows.
        """
        raise NotImplementedError

    def covariance(self, problem: Problem, theta: PyTree) -> Callable[[PyTree], PyTree]:
        r"""Matrix-free :math:`v \mapsto \Sigma(\theta)v`."""
        raise NotImplementedError

    def trace(self, problem: Problem, theta: PyTree) -> Float[Array, ""]:
        r""":math:`\mathrm{tr}\,\Sigma(\theta)`, exact."""
        raise NotImplementedError


class MinibatchNoise(AbstractGradientNoise):
    r"""Gaussian noise with exactly the covariance of a minibatch gradient.

    .. math:: \Sigma(\theta) = \frac1B\Big(\frac1n\sum_i g_ig_i^\top - \bar g\bar g^\top\Big),
        \qquad g_i = \nabla\ell(\theta, z_i)

    for batches drawn with replacement. With :math:`\xi\sim N(0,I_n)` the gradient of
    :math:`\sum_i w_i\ell_i`, :math:`w = 1/n + (\xi-\bar\xi)/\sqrt{nB}`, is gradient plus noise in
    one backward pass; no :math:`n\times p` matrix is formed.

    Parameters
    ----------
    batch_size
        ``B``; it may be any positive number, since it only scales the covariance.

    Notes
    -----
    Source: Mori et al. 2022, equation 8 (covariance); stagnation theory section 3 (sampler).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import MinibatchNoise, Problem
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([1.0, 3.0]))
    >>> float(MinibatchNoise(4).trace(problem, jnp.array(0.0)))
    0.25
    """

    batch_size: Number

    def __check_init__(self):
        check_positive("batch_size", self.batch_size)

    def draw(self, key, counter, problem, theta):
        """Draw one standard normal per row."""
        return step_normal(key, counter, (problem.n,), jax.tree.leaves(theta)[0].dtype)

    def increment(self, pullback, normals, theta, clock):
        """Fuse drift and noise into one cotangent."""
        h, eta, n = clock
        scale = jnp.sqrt(eta * h / (n * jnp.asarray(self.batch_size, normals.dtype)))
        return pullback(scale * (normals - jnp.mean(normals)) - h / n)

    def covariance(self, problem, theta):
        """One forward and one backward pass per product."""
        losses, push = jax.linearize(problem.per_sample_losses, theta)
        pull = jax.linear_transpose(push, theta)
        scale = losses.shape[0] * jnp.asarray(self.batch_size, losses.dtype)

        def matvec(v: PyTree) -> PyTree:
            change = push(v)
            return pull((change - jnp.mean(change)) / scale)[0]

        return matvec

    def trace(self, problem, theta):
        """Sum the squared norms of the per-sample gradients, a block of rows at a time."""
        mean_square = jnp.mean(per_sample_square_norms(problem, theta))
        centre = squared_norm(jax.grad(problem.empirical_risk)(theta))
        return (mean_square - centre) / jnp.asarray(self.batch_size, centre.dtype)


class IsotropicNoise(AbstractGradientNoise):
    r"""Gaussian noise with covariance :math:`\Sigma = s I`, whatever the parameters.

    Parameters
    ----------
    variance
        ``s``, the variance of the gradient noise per coordinate and step.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import IsotropicNoise, Problem
    >>> problem = Problem(lambda theta, z: jnp.sum(theta**2) - z, jnp.zeros(3))
    >>> float(IsotropicNoise(0.5).trace(problem, jnp.zeros(4)))
    2.0
    """

    variance: Number

    def __check_init__(self):
        check_positive("variance", self.variance)

    def draw(self, key, counter, problem, theta):
        """Draw one standard normal per parameter."""
        return normal_like(key, counter, theta)

    def increment(self, pullback, normals, theta, clock):
        """Add the noise to the plain gradient step."""
        h, eta, n = clock
        dtype = jax.tree.leaves(theta)[0].dtype
        scale = jnp.sqrt(eta * h * jnp.asarray(self.variance, dtype))
        drift = pullback(jnp.full((n,), -h / n, dtype))
        return jax.tree.map(lambda a, b: a + scale * b, drift, normals)

    def covariance(self, problem, theta):
        """Scale by the variance."""
        return lambda v: jax.tree.map(lambda leaf: self.variance * leaf, v)

    def trace(self, problem, theta):
        """Variance times the number of parameters."""
        return jnp.asarray(self.variance) * sum(leaf.size for leaf in jax.tree.leaves(theta))


def per_sample_square_norms(
    problem: Problem, theta: PyTree, block: int | None = None
) -> Float[Array, " n"]:
    r"""Squared norms :math:`\|g_i\|^2` of the per-sample gradients, ``block`` rows at a time.

    Without ``block`` as many rows as keep a block of gradients below a quarter million numbers.
    """
    if block is None:
        size = sum(leaf.size for leaf in jax.tree.leaves(theta))
        block = max(1, min(125, _BLOCK_NUMBERS // size))

    def of_row(row: PyTree) -> Float[Array, ""]:
        return squared_norm(jax.grad(problem.single(row).empirical_risk)(theta))

    return jax.lax.map(of_row, problem.data, batch_size=block)
