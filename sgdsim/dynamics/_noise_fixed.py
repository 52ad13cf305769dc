"""Gradient noise whose law is the same everywhere: of SGLD, and with a given matrix."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._noise import AbstractGradientNoise, IsotropicNoise
from sgdsim.dynamics._random import normal_like, step_normal
from sgdsim.problems import squared_norm


class LangevinNoise(AbstractGradientNoise):
    r"""Noise of stochastic gradient Langevin dynamics (SGLD) at a temperature.

    .. math:: \theta' = \theta - \eta\nabla L_n(\theta) + \sqrt{2\eta/\beta}\,\xi, \qquad
        \Sigma = \frac{2}{\eta\beta} I

    As an Ito equation it is :math:`d\theta = -\nabla L_n\,dt + \sqrt{2/\beta}\,dW`, whose
    stationary density is proportional to :math:`e^{-\beta L_n}`, whatever the learning rate.

    Parameters
    ----------
    inverse_temperature
        :math:`\beta`, in units of one over the risk.
    learning_rate
        ``eta`` of the process; it turns the temperature into a covariance of *gradient* noise.
        ``increment`` and ``diffusion`` take that of the clock in its place, so that an SDE with a
        schedule keeps its temperature: its noise is :math:`\sqrt{2h/\beta}\,\xi`. At a learning
        rate of zero, where the covariance is infinite and nothing moves, they give no noise.

    Notes
    -----
    Source: Raginsky, Rakhlin & Telgarsky 2017, equation 1.3; stagnation theory section 3, N3.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import LangevinNoise
    >>> problem = Problem(lambda theta, z: jnp.sum(theta**2) - z, jnp.zeros(3))
    >>> noise = LangevinNoise(inverse_temperature=8.0, learning_rate=0.5)
    >>> float(noise.trace(problem, jnp.zeros(4)))
    2.0
    """

    inverse_temperature: Number
    learning_rate: Number
    additive: ClassVar[bool] = True

    def __check_init__(self):
        check_positive("inverse_temperature", self.inverse_temperature)
        check_positive("learning_rate", self.learning_rate)

    def draw(self, key, counter, problem, theta):
        """Draw one standard normal per parameter."""
        return normal_like(key, counter, theta)

    def root(self, problem, theta, normals):
        """Scale the normals."""
        return self._at(self.learning_rate, theta).root(problem, theta, normals)

    def diffusion(self, problem, theta, normals, clock):
        """Keep the temperature, whatever learning rate the clock shows."""
        h, rate, eta = clock
        beta = jnp.asarray(self.inverse_temperature, h.dtype)
        variance = jnp.where(eta > 0, 2 * rate * h / (beta * jnp.where(eta > 0, eta, 1)), 0)
        return jax.tree.map(lambda normal: jnp.sqrt(variance) * normal, normals)

    def gradient(self, problem, theta, normals):
        """Noisy gradient at the learning rate of this model."""
        return self._at(self.learning_rate, theta).gradient(problem, theta, normals)

    def covariance(self, problem, theta):
        """Scale by the variance."""
        return self._at(self.learning_rate, theta).covariance(problem, theta)

    def trace(self, problem, theta):
        """Variance times the number of parameters."""
        return self._at(self.learning_rate, theta).trace(problem, theta)

    def diagonal(self, problem, theta):
        """Give the variance to every coordinate."""
        return self._at(self.learning_rate, theta).diagonal(problem, theta)

    def _at(self, learning_rate: Number, theta: PyTree) -> IsotropicNoise:
        dtype = jax.tree.leaves(theta)[0].dtype
        eta, beta = jnp.asarray(learning_rate, dtype), jnp.asarray(self.inverse_temperature, dtype)
        return IsotropicNoise(2 / (eta * beta))


class ConstantNoise(AbstractGradientNoise):
    r"""Gaussian noise with a given covariance :math:`\Sigma = FF^\top`, whatever the parameters.

    Parameters
    ----------
    factor
        ``F``: a pytree like ``theta``, each leaf with one more axis of length ``k`` at its end.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import ConstantNoise
    >>> problem = Problem(lambda theta, z: jnp.sum(theta**2) - z, jnp.zeros(3))
    >>> noise = ConstantNoise(jnp.array([[3.0], [4.0]]))  # two parameters, one direction
    >>> noise.covariance(problem, jnp.zeros(2))(jnp.array([1.0, 0.0])).tolist()
    [9.0, 12.0]
    """

    factor: PyTree
    additive: ClassVar[bool] = True

    @classmethod
    def from_covariance(cls, matrix: Any, theta: PyTree) -> "ConstantNoise":
        """Make the noise from its covariance matrix, for few parameters.

        Parameters
        ----------
        matrix
            Symmetric and positive semi-definite, shape ``(p, p)``; rows in the order of
            ``jax.flatten_util.ravel_pytree``.
        theta
            Any parameters; gives shapes and precision.

        Raises
        ------
        ValueError
            If ``matrix`` is not a covariance matrix of that size.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from sgdsim.dynamics import ConstantNoise
        >>> noise = ConstantNoise.from_covariance([[2.0, 0.0], [0.0, 0.0]], jnp.zeros(2))
        >>> noise.factor.shape  # null directions need no normals
        (2, 1)
        """
        flat, unravel = ravel_pytree(theta)
        eps = float(jnp.finfo(flat.dtype).eps)
        matrix = np.asarray(matrix, np.float64)
        if matrix.shape != (flat.size, flat.size):
            raise ValueError(
                f"the covariance matrix has shape {matrix.shape}, but theta has {flat.size} "
                f"parameters; give a matrix of shape {(flat.size, flat.size)}."
            )
        # Rounding errors of a matrix that was computed in the precision of theta.
        slack = 10 * flat.size * eps * np.abs(matrix).max()
        if not np.abs(matrix - matrix.T).max() <= slack:  # written so that NaN is refused, too
            raise ValueError(
                "the covariance matrix is not symmetric and finite: it differs from its transpose "
                f"by {np.abs(matrix - matrix.T).max():.3g}."
            )
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        if values[0] < -slack:
            raise ValueError(
                f"the covariance matrix has the negative eigenvalue {values[0]:.3g}; variances "
                "cannot be negative."
            )
        kept = values > slack
        columns = jnp.asarray(vectors[:, kept] * np.sqrt(values[kept]), flat.dtype)
        return cls(jax.vmap(unravel, in_axes=1, out_axes=-1)(columns))

    def check(self, problem, theta):
        """Refuse a factor that does not fit the parameters."""
        self._factor(theta)

    def draw(self, key, counter, problem, theta):
        """Draw one standard normal per column of the factor."""
        first = jax.tree.leaves(self._factor(theta))[0]
        return step_normal(key, counter, (first.shape[-1],), first.dtype)

    def root(self, problem, theta, normals):
        """Combine the columns."""
        return _combine(self._factor(theta), normals)

    def covariance(self, problem, theta):
        """Multiply by the factor's transpose, then by the factor."""
        factor = self._factor(theta)

        def matvec(v: PyTree) -> PyTree:
            parts = jax.tree.map(lambda f, a: jnp.tensordot(a, f, a.ndim), factor, v)
            return _combine(factor, jnp.asarray(sum(jax.tree.leaves(parts))))

        return matvec

    def trace(self, problem, theta):
        """Sum the squares of the factor."""
        return squared_norm(self._factor(theta))

    def diagonal(self, problem, theta):
        """Sum the squares over the columns."""
        return jax.tree.map(lambda f: jnp.sum(jnp.square(f), axis=-1), self._factor(theta))

    def _factor(self, theta: PyTree) -> PyTree:
        """Factor in the precision of ``theta``, after a check of its shapes."""
        ours, theirs = jax.tree.leaves(self.factor), jax.tree.leaves(theta)
        columns = {jnp.shape(leaf)[-1:] for leaf in ours}
        same_tree = jax.tree.structure(self.factor) == jax.tree.structure(theta)
        shapes = [jnp.shape(leaf)[:-1] for leaf in ours]
        if not (same_tree and shapes == [a.shape for a in theirs] and len(columns) == 1):
            raise ValueError(
                f"the factor has leaves of shape {[jnp.shape(leaf) for leaf in ours]}, which do "
                f"not fit the parameters of shape {[a.shape for a in theirs]}; every leaf needs "
                "one more axis at its end, of one common length."
            )
        return jax.tree.map(lambda f, a: jnp.asarray(f, a.dtype), self.factor, theta)


def _combine(factor: PyTree, weights: Float[Array, " k"]) -> PyTree:
    return jax.tree.map(lambda f: f @ weights, factor)
