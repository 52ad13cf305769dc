"""Approximations of the minibatch covariance that theory papers use: its diagonal, low rank."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim._checks import check_count, check_positive
from sgdsim._typing import Number
from sgdsim.curvature import lanczos, random_direction
from sgdsim.dynamics._noise import AbstractGradientNoise, MinibatchNoise
from sgdsim.dynamics._random import normal_like
from sgdsim.problems import Problem


class DiagonalNoise(AbstractGradientNoise):
    r"""Gaussian noise with the variances of a minibatch gradient, but without correlations.

    .. math:: \Sigma(\theta) = \mathrm{diag}(C(\theta))/B

    with ``C`` the covariance of one row's gradient. The variances are exact; every step costs the
    gradients of all rows one by one, in blocks.

    Parameters
    ----------
    batch_size
        ``B``; it may be any positive number, since it only scales the covariance.

    Notes
    -----
    The Ito correction, :math:`\tfrac{\eta}{4}\,\partial_j\Sigma_{jj}` in coordinate ``j``, would
    cost a pass per parameter and is not offered. Source: Zhu et al. 2019, section 4 ("diagonal").

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import DiagonalNoise
    >>> rows = jnp.array([[1.0, 0.0], [3.0, 2.0]])
    >>> problem = Problem(lambda theta, z: 0.5 * jnp.sum((theta[None] - z) ** 2, 1), rows)
    >>> DiagonalNoise(1).covariance(problem, jnp.zeros(2))(jnp.array([1.0, 0.0])).tolist()
    [1.0, 0.0]
    """

    batch_size: Number

    def __check_init__(self):
        check_positive("batch_size", self.batch_size)

    def draw(self, key, counter, problem, theta):
        """Draw one standard normal per parameter."""
        return normal_like(key, counter, theta)

    def root(self, problem, theta, normals):
        """Scale every coordinate by its standard deviation."""
        variances = self.diagonal(problem, theta)
        return jax.tree.map(lambda a, normal: jnp.sqrt(a) * normal, variances, normals)

    def covariance(self, problem, theta):
        """Scale every coordinate by its variance."""
        variances = self.diagonal(problem, theta)
        return lambda v: jax.tree.map(jnp.multiply, variances, v)

    def trace(self, problem, theta):
        """Trace of the minibatch noise."""
        return MinibatchNoise(self.batch_size).trace(problem, theta)

    def diagonal(self, problem, theta):
        """Diagonal of the minibatch noise."""
        return MinibatchNoise(self.batch_size).diagonal(problem, theta)


class LowRankNoise(AbstractGradientNoise):
    r"""Gaussian noise with the top of the minibatch covariance, the rest spread evenly.

    .. math:: \Sigma = V\Lambda V^\top
        + \frac{\mathrm{tr}\,C/B - \mathrm{tr}\,\Lambda}{p-k}\,(I - VV^\top)

    where :math:`V, \Lambda` are the top ``k`` eigenpairs of the minibatch covariance ``C/B`` at
    the current parameters, so that the trace is that of the minibatch noise.

    Parameters
    ----------
    batch_size
        ``B``; it may be any positive number, since it only scales the covariance.
    rank
        ``k``, below the number of parameters.
    products
        Products with ``C`` that the search for the eigenpairs may use (Lanczos), at least
        ``rank``; ``2 * rank + 10`` if not given.

    Notes
    -----
    Every step costs ``products`` forward and backward passes and, for the trace, the gradients of
    all rows one by one. The eigenpairs are those of a Krylov space from a fixed start, hence a
    function of the parameters alone; where the space is too small to resolve them, the
    approximation still is a covariance with the right trace. If ``C`` has fewer than ``k``
    non-zero eigenvalues, nothing is left for the rest; of a multiple eigenvalue one vector is
    found. The Ito correction is not known.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import LowRankNoise
    >>> rows = jnp.array([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
    >>> problem = Problem(lambda theta, z: 0.5 * jnp.sum((theta[None] - z) ** 2, 1), rows)
    >>> variances = LowRankNoise(1, rank=1).diagonal(problem, jnp.zeros(3))
    >>> [round(float(a), 4) for a in variances]  # of the covariance: 2, 0.5, 0
    [2.0, 0.25, 0.25]
    """

    batch_size: Number
    rank: int = eqx.field(static=True)
    products: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        check_positive("batch_size", self.batch_size)
        check_count("rank", self.rank)
        if self.products is not None and self.products < self.rank:
            raise ValueError(
                f"products = {self.products} cannot resolve rank = {self.rank} eigenpairs; give "
                "at least as many products, or leave it out."
            )

    def check(self, problem, theta):
        """Refuse a rank that is not below the number of parameters."""
        self._check_rank(theta)

    def draw(self, key, counter, problem, theta):
        """Draw one standard normal per parameter."""
        return normal_like(key, counter, theta)

    def root(self, problem, theta, normals):
        """Apply the symmetric square root."""
        top = self._top(problem, theta)
        return _apply(jnp.sqrt(top.values), jnp.sqrt(top.rest), top.vectors, normals)

    def covariance(self, problem, theta):
        """Search for the eigenpairs once; a product then costs no pass."""
        top = self._top(problem, theta)
        return lambda v: _apply(top.values, top.rest, top.vectors, v)

    def trace(self, problem, theta):
        """Trace of the minibatch noise."""
        return MinibatchNoise(self.batch_size).trace(problem, theta)

    def diagonal(self, problem, theta):
        """Variances from the eigenpairs and the rest."""
        top = self._top(problem, theta)
        excess = top.values - top.rest
        variances = top.rest + jnp.einsum("k,kp->p", excess, jnp.square(top.vectors))
        return ravel_pytree(theta)[1](variances)

    def _check_rank(self, theta: PyTree) -> int:
        """Give the number of parameters, after the check."""
        size = sum(leaf.size for leaf in jax.tree.leaves(theta))
        if self.rank >= size:
            raise ValueError(
                f"rank = {self.rank} leaves nothing to approximate with {size} parameters; take "
                "a smaller rank, or MinibatchNoise."
            )
        return size

    def _top(self, problem: Problem, theta: PyTree) -> "_Top":
        size = self._check_rank(theta)
        minibatch = MinibatchNoise(self.batch_size)
        product = minibatch.covariance(problem, theta)
        # One product turns the start towards the range of the covariance.
        start = product(random_direction(jax.random.key(0), theta))
        ritz = lanczos(product, start, self.products or 2 * self.rank + 10)
        # Vectors that the Krylov space lacks are zero, with values from within the range.
        present = jnp.sum(jnp.square(ritz.vectors), axis=1) > 0.5
        _, chosen = jax.lax.top_k(jnp.where(present, ritz.values, -jnp.inf), self.rank)
        present = present[chosen]
        values = jnp.where(present, jnp.maximum(ritz.values[chosen], 0), 0)
        vectors = jnp.where(present[:, None], ritz.vectors[chosen], 0)
        left = jnp.maximum(minibatch.trace(problem, theta) - jnp.sum(values), 0)
        return _Top(values, vectors, left / (size - jnp.sum(present)).astype(left.dtype))


class _Top(NamedTuple):
    """Top eigenpairs, vectors as flat rows, and the variance in all other directions."""

    values: Float[Array, " k"]
    vectors: Float[Array, "k p"]
    rest: Float[Array, ""]


def _apply(values: Array, rest: Array, vectors: Array, v: PyTree) -> PyTree:
    """Multiply by the matrix with these eigenvalues, ``rest`` in the other directions."""
    flat, unravel = ravel_pytree(v)
    return unravel(rest * flat + ((values - rest) * (vectors @ flat)) @ vectors)
