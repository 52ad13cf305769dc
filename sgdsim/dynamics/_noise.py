"""Models of the gradient noise, and the two plainest ones: of a minibatch and isotropic.

A model ``xi`` has mean zero and covariance ``Sigma(theta)`` per step; SGD adds
``-eta (grad L_n + xi)``, and the SDE (Ito, time ``t = eta k``) has the diffusion
``sqrt(eta Sigma) dW``.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim._checks import check_positive, known_number
from sgdsim._typing import Number
from sgdsim.dynamics._per_sample import per_sample_scatter, per_sample_variances
from sgdsim.dynamics._random import normal_like, step_normal
from sgdsim.problems import Problem


class Clock(NamedTuple):
    r"""How an increment :math:`-h\nabla L_n + \sqrt{ch}\,\Sigma^{1/2}\xi` is scaled; all traced.

    Attributes
    ----------
    step_size
        ``h``, the length of a step of the integrator in the time of its equation.
    noise_rate
        ``c``: the noise of the equation is :math:`(c\Sigma)^{1/2}dW`. In the time ``eta k`` of
        SGD it is ``eta``; in the time ``k`` of steps it is 1.
    learning_rate
        ``eta`` of the algorithm, for a covariance that depends on it.
    """

    step_size: Float[Array, ""]
    noise_rate: Float[Array, ""]
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

    def check(self, problem: Problem, theta: PyTree) -> None:
        """Refuse, before anything is traced, a problem or parameters that do not fit."""

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

    def ito_correction(self, problem: Problem, theta: PyTree, learning_rate: Number) -> PyTree:
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
        r"""Increment :math:`-h\nabla L_n + \sqrt{ch}\,\Sigma^{1/2}\xi` and the risk.

        ``h`` and ``c`` are those of the clock; for SGD ``c = eta``.

        Models that come from the samples override it to fuse drift and noise in one backward
        pass.
        """
        risk, gradient = jax.value_and_grad(problem.empirical_risk)(theta)
        noise = self.diffusion(problem, theta, normals, clock)
        return jax.tree.map(lambda g, x: x - clock.step_size * g, gradient, noise), risk

    def diffusion(self, problem: Problem, theta: PyTree, normals: PyTree, clock: Clock) -> PyTree:
        r"""Noise of an increment alone, :math:`\sqrt{ch}\,\Sigma^{1/2}\xi`."""
        scale = jnp.sqrt(clock.noise_rate * clock.step_size)
        return jax.tree.map(lambda x: scale * x, self.root(problem, theta, normals))

    def gradient(
        self, problem: Problem, theta: PyTree, normals: PyTree
    ) -> tuple[PyTree, Float[Array, ""]]:
        r"""Noisy gradient :math:`\nabla L_n - \Sigma^{1/2}\xi` and the risk.

        The sign is such that a descent step is the increment with the same normals.
        """
        one = jnp.ones((), jax.tree.leaves(theta)[0].dtype)
        increment, risk = self.increment(problem, theta, normals, Clock(one, one, one))
        return jax.tree.map(jnp.negative, increment), risk


class MinibatchNoise(AbstractGradientNoise):
    r"""Gaussian noise with exactly the covariance of a minibatch gradient.

    .. math:: \Sigma(\theta) = \frac{f}{B}\Big(\frac1n\sum_i g_ig_i^\top - \bar g\bar g^\top\Big),
        \qquad g_i = \nabla\ell(\theta, z_i)

    with ``f = 1`` for batches drawn with replacement and ``f = (n-B)/(n-1)`` without. With
    :math:`\xi\sim N(0,I_n)` the gradient of :math:`\sum_i w_i\ell_i`,
    :math:`w = 1/n + (\xi-\bar\xi)\sqrt{f/(nB)}`, is gradient plus noise in one backward pass; no
    :math:`n\times p` matrix is formed.

    Parameters
    ----------
    batch_size
        ``B``; any positive number, since it only scales the covariance. Without replacement at
        most ``n`` (and there is no noise at ``n``).
    replacement
        Whether a batch may hold the same row twice.

    Notes
    -----
    Source: Mori et al. 2022, equation 8 (covariance); stagnation theory section 3 (factor and
    sampler).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import MinibatchNoise, Problem
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([1.0, 3.0]))
    >>> float(MinibatchNoise(4).trace(problem, jnp.array(0.0)))
    0.25
    >>> float(MinibatchNoise(2, replacement=False).trace(problem, jnp.array(0.0)))
    0.0
    """

    batch_size: Number
    replacement: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_positive("batch_size", self.batch_size)

    def check(self, problem, theta):
        """Refuse more rows than there are, without replacement."""
        self.equivalent_batch_size(problem.n)

    def draw(self, key, counter, problem, theta):
        """Draw one standard normal per row."""
        return step_normal(key, counter, (problem.n,), jax.tree.leaves(theta)[0].dtype)

    def root(self, problem, theta, normals):
        """One backward pass."""
        _, pullback = jax.vjp(problem.per_sample_losses, theta)
        return pullback(self._scale(normals) * (normals - jnp.mean(normals)))[0]

    def increment(self, problem, theta, normals, clock):
        """Fuse drift and noise into one cotangent."""
        h = clock.step_size
        losses, pullback = jax.vjp(problem.per_sample_losses, theta)
        scale = jnp.sqrt(clock.noise_rate * h) * self._scale(normals)
        cotangent = scale * (normals - jnp.mean(normals)) - h / problem.n
        return pullback(cotangent)[0], jnp.mean(losses)

    def covariance(self, problem, theta):
        """One forward and one backward pass per product."""
        losses, push = jax.linearize(problem.per_sample_losses, theta)
        pull = jax.linear_transpose(push, theta)
        scale = problem.n * self.equivalent_batch_size(problem.n, losses.dtype)

        def matvec(v: PyTree) -> PyTree:
            change = push(v)
            return pull((change - jnp.mean(change)) / scale)[0]

        return matvec

    def trace(self, problem, theta):
        """Sum the squared deviations of the per-sample gradients, a block of rows at a time."""
        scatter = per_sample_scatter(problem, theta)
        return scatter / self.equivalent_batch_size(problem.n, scatter.dtype)

    def diagonal(self, problem, theta):
        """Accumulate the squares of the per-sample gradients, a block of rows at a time."""
        variances = per_sample_variances(problem, theta)
        return jax.tree.map(lambda a: a / self.equivalent_batch_size(problem.n, a.dtype), variances)

    def ito_correction(self, problem, theta, learning_rate):
        r"""Gradient of a function: :math:`\frac{\eta}{4}\nabla\,\mathrm{tr}\,\Sigma`."""
        trace = jax.grad(lambda point: self.trace(problem, point))(theta)
        return jax.tree.map(lambda a: jnp.asarray(learning_rate, a.dtype) / 4 * a, trace)

    def _scale(self, normals):
        n = normals.shape[0]
        return jax.lax.rsqrt(n * self.equivalent_batch_size(n, normals.dtype))

    def equivalent_batch_size(self, n: int, dtype: Any = float) -> Float[Array, ""]:
        """Size of a batch with replacement that has the same covariance, infinite at ``B = n``."""
        size = jnp.asarray(self.batch_size, dtype)
        if self.replacement:
            return size
        known = known_number(self.batch_size)
        if known is not None and known > n:
            raise ValueError(
                f"batch_size = {self.batch_size} rows cannot be drawn without replacement from "
                f"{n} rows; take at most {n}, or replacement=True."
            )
        return size * max(n - 1, 1) / (n - size)


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
        return lambda v: jax.tree.map(lambda leaf: jnp.asarray(self.variance, leaf.dtype) * leaf, v)

    def trace(self, problem, theta):
        """Variance times the number of parameters."""
        leaves = jax.tree.leaves(theta)
        return jnp.asarray(self.variance, leaves[0].dtype) * sum(leaf.size for leaf in leaves)

    def diagonal(self, problem, theta):
        """Give the variance to every coordinate."""
        return jax.tree.map(lambda a: jnp.full_like(a, self.variance), theta)
