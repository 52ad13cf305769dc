"""Models of the gradient noise: what is drawn, how it enters the one backward pass, its moments.

A model ``xi`` has mean zero and covariance ``Sigma(theta)`` per step; SGD adds
``-eta (grad L_n + xi)``, and the SDE (Ito, time ``t = eta k``) has the diffusion
``sqrt(eta Sigma) dW``.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim._typing import Number
from sgdsim.dynamics._checks import check_positive
from sgdsim.dynamics._random import normal_like, step_normal
from sgdsim.problems import Problem, squared_norm

_BLOCK_NUMBERS = 2**18


class Clock(NamedTuple):
    """Length ``h`` of a step of the integrator and the learning rate ``eta``, both traced."""

    step_size: Float[Array, ""]
    learning_rate: Float[Array, ""]


class AbstractGradientNoise(eqx.Module):
    """A model of the gradient noise; concrete classes are final.

    Attributes
    ----------
    additive
        Whether the covariance is the same everywhere.
    brownian
        Whether the noise is Gaussian and so has a continuous-time limit driven by Brownian
        motion; heavy-tailed noise has none.
    """

    additive: ClassVar[bool] = False
    brownian: ClassVar[bool] = True

    def draw(
        self, key: Key[Array, ""], counter: Int[Array, ""], problem: Problem, theta: PyTree
    ) -> PyTree:
        """Draw the standard normals that one (sub)step consumes, from key and counter alone."""
        raise NotImplementedError

    def root(self, problem: Problem, theta: PyTree, normals: PyTree) -> PyTree:
        r"""Noise of one step, :math:`\Sigma(\theta)^{1/2}\xi` from drawn normals :math:`\xi`."""
        raise NotImplementedError

    def covariance(self, problem: Problem, theta: PyTree) -> Callable[[PyTree], PyTree]:
        r"""Matrix-free :math:`v \mapsto \Sigma(\theta)v`."""
        raise NotImplementedError

    def trace(self, problem: Problem, theta: PyTree) -> Float[Array, ""]:
        r""":math:`\mathrm{tr}\,\Sigma(\theta)`, exact."""
        raise NotImplementedError

    def diagonal(self, problem: Problem, theta: PyTree) -> PyTree:
        r"""Variances of the coordinates, :math:`\mathrm{diag}\,\Sigma(\theta)`."""
        raise NotImplementedError

    def ito_correction(
        self, problem: Problem, theta: PyTree, learning_rate: Float[Array, ""]
    ) -> PyTree:
        r"""Drift that an Ito equation gains when it is written in Stratonovich form, negated.

        .. math:: \tfrac12\sum_k (D\sigma_k)\sigma_k, \qquad \sigma = \sqrt{\eta}\,\Sigma^{1/2}

        The Stratonovich equation with drift :math:`-\nabla L_n` minus this has the same
        solution as the Ito equation. It is zero for additive noise.
        """
        if self.additive:
            return jax.tree.map(jnp.zeros_like, theta)
        raise NotImplementedError(f"the Ito correction of {type(self).__name__} is not known.")

    def sample(self, key: Key[Array, ""], problem: Problem, theta: PyTree) -> PyTree:
        """Draw the gradient noise of one step at ``theta``."""
        return self.root(problem, theta, self.draw(key, jnp.asarray(0), problem, theta))

    def increment(
        self, problem: Problem, theta: PyTree, normals: PyTree, clock: Clock
    ) -> tuple[PyTree, Float[Array, ""]]:
        r"""Increment :math:`-h\nabla L_n + \sqrt{\eta h}\,\Sigma^{1/2}\xi` and the risk.

        Models that come from the samples override it to fuse drift and noise in one backward
        pass.
        """
        risk, gradient = jax.value_and_grad(problem.empirical_risk)(theta)
        noise = self.root(problem, theta, normals)
        h, scale = clock.step_size, jnp.sqrt(clock.learning_rate * clock.step_size)
        return jax.tree.map(lambda g, x: scale * x - h * g, gradient, noise), risk


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

    def root(self, problem, theta, normals):
        """One backward pass."""
        _, pullback = jax.vjp(problem.per_sample_losses, theta)
        return pullback(self._scale(normals) * (normals - jnp.mean(normals)))[0]

    def increment(self, problem, theta, normals, clock):
        """Fuse drift and noise into one cotangent."""
        h, eta = clock
        losses, pullback = jax.vjp(problem.per_sample_losses, theta)
        scale = jnp.sqrt(eta * h) * self._scale(normals)
        cotangent = scale * (normals - jnp.mean(normals)) - h / problem.n
        return pullback(cotangent)[0], jnp.mean(losses)

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

    def diagonal(self, problem, theta):
        """Accumulate the squares of the per-sample gradients, a block of rows at a time."""
        mean_square = jax.tree.map(lambda a: a / problem.n, per_sample_square_sum(problem, theta))
        centre = jax.grad(problem.empirical_risk)(theta)
        size = jnp.asarray(self.batch_size, jax.tree.leaves(theta)[0].dtype)
        return jax.tree.map(lambda m, c: (m - c * c) / size, mean_square, centre)

    def ito_correction(self, problem, theta, learning_rate):
        r"""Gradient of a function: :math:`\frac{\eta}{4}\nabla\,\mathrm{tr}\,\Sigma`."""
        trace = jax.grad(lambda point: self.trace(problem, point))(theta)
        return jax.tree.map(lambda a: learning_rate / 4 * a, trace)

    def _scale(self, normals):
        return jax.lax.rsqrt(normals.shape[0] * jnp.asarray(self.batch_size, normals.dtype))


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
    additive: ClassVar[bool] = True

    def __check_init__(self):
        check_positive("variance", self.variance)

    def draw(self, key, counter, problem, theta):
        """Draw one standard normal per parameter."""
        return normal_like(key, counter, theta)

    def root(self, problem, theta, normals):
        """Scale the normals."""
        scale = jnp.sqrt(jnp.asarray(self.variance, jax.tree.leaves(theta)[0].dtype))
        return jax.tree.map(lambda normal: scale * normal, normals)

    def covariance(self, problem, theta):
        """Scale by the variance."""
        return lambda v: jax.tree.map(lambda leaf: self.variance * leaf, v)

    def trace(self, problem, theta):
        """Variance times the number of parameters."""
        return jnp.asarray(self.variance) * sum(leaf.size for leaf in jax.tree.leaves(theta))

    def diagonal(self, problem, theta):
        """Give the variance to every coordinate."""
        return jax.tree.map(lambda a: jnp.full_like(a, self.variance), theta)


def per_sample_square_norms(
    problem: Problem, theta: PyTree, block: int | None = None
) -> Float[Array, " n"]:
    r"""Squared norms :math:`\|g_i\|^2` of the per-sample gradients, ``block`` rows at a time.

    Without ``block`` as many rows as keep a block of gradients below a quarter million numbers.
    """
    block = block or _block_of_rows(theta)

    # Rematerialised, so that differentiating the norms keeps no per-sample gradient.
    @jax.checkpoint
    def of_row(row: PyTree) -> Float[Array, ""]:
        return squared_norm(jax.grad(problem.single(row).empirical_risk)(theta))

    return jax.lax.map(of_row, problem.data, batch_size=block)


def per_sample_square_sum(problem: Problem, theta: PyTree) -> PyTree:
    r"""Elementwise :math:`\sum_i g_i^2` of the per-sample gradients, a block of rows at a time."""
    block = min(_block_of_rows(theta), problem.n)
    whole = problem.n // block * block

    def squares(rows: PyTree) -> PyTree:
        gradients = jax.vmap(lambda row: jax.grad(problem.single(row).empirical_risk)(theta))(rows)
        return jax.tree.map(lambda g: jnp.sum(g * g, axis=0), gradients)

    def add(total: PyTree, rows: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, squares(rows)), None

    blocks = jax.tree.map(
        lambda a: a[:whole].reshape(whole // block, block, *a.shape[1:]), problem.data
    )
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, theta), blocks)
    if whole == problem.n:
        return total
    return jax.tree.map(jnp.add, total, squares(jax.tree.map(lambda a: a[whole:], problem.data)))


def _block_of_rows(theta: PyTree) -> int:
    """Rows whose gradients together stay below a quarter million numbers."""
    size = sum(leaf.size for leaf in jax.tree.leaves(theta))
    return max(1, min(125, _BLOCK_NUMBERS // size))
