"""Spectral density of a symmetric operator by stochastic Lanczos quadrature."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from sgdsim._checks import check_count, check_positive
from sgdsim._typing import Number
from sgdsim.curvature._estimates import Estimate
from sgdsim.curvature._lanczos import lanczos
from sgdsim.curvature._products import MatVec


class SpectralDensity(NamedTuple):
    r"""Gauss quadratures of the density of eigenvalues, one per random probe.

    .. math:: \frac1p\sum_{i=1}^p f(\lambda_i) \approx
        \frac1m\sum_{j=1}^m\sum_k w_{jk}\,f(x_{jk})

    Attributes
    ----------
    nodes
        :math:`x_{jk}`, Ritz values of probe j in ascending order, shape ``(probes, depth)``.
    weights
        :math:`w_{jk}`, not negative and of sum one for every probe, shape ``(probes, depth)``.
    """

    nodes: Float[Array, "probes depth"]
    weights: Float[Array, "probes depth"]

    def average(self, function: Callable[[Array], Array]) -> Estimate:
        r"""Mean of a function over the eigenvalues, :math:`\frac1p\mathrm{tr}f(A)`.

        Parameters
        ----------
        function
            Of an array of eigenvalues, elementwise.

        Returns
        -------
        Estimate
            Mean over probes and its standard error, NaN for one probe.
        """
        return _over_probes(jnp.sum(self.weights * function(self.nodes), axis=1))

    def mass_above(self, value: Number) -> Estimate:
        """Share of the eigenvalues that exceed ``value``, with its standard error."""
        return self.average(lambda nodes: (nodes > value).astype(nodes.dtype))

    def density(self, grid: Float[Array, " point"], width: Number) -> Estimate:
        r"""Density smoothed by a Gaussian, :math:`\frac1p\sum_i N(x;\lambda_i,\sigma^2)`.

        Parameters
        ----------
        grid
            Where, shape ``(point,)``.
        width
            Standard deviation ``sigma`` of the Gaussian, in units of the eigenvalues.

        Returns
        -------
        Estimate
            Mean over probes and its standard error, of shape ``(point,)`` each.

        Raises
        ------
        ValueError
            If ``width`` is not positive.
        """
        check_positive("width", width)
        width = jnp.asarray(width, self.nodes.dtype)

        def at(point: Array) -> Estimate:
            return self.average(lambda nodes: jax.scipy.stats.norm.pdf(nodes, point, width))

        return jax.lax.map(at, jnp.asarray(grid))


def spectral_density(
    matvec: MatVec, like: PyTree, key: Key[Array, ""], *, probes: int = 8, depth: int = 32
) -> SpectralDensity:
    r"""Density of the eigenvalues of a symmetric operator, from ``probes * depth`` products.

    .. math:: \rho(x) = \frac1p\sum_{i=1}^p\delta(x-\lambda_i)

    Parameters
    ----------
    matvec
        The operator on pytrees shaped like ``like``.
    like
        Any pytree of the right shape and precision.
    key
        Random key of the probes.
    probes
        Random start vectors, mapped one after another; two for a standard error.
    depth
        Dimension of the Krylov space of each; capped at the dimension of the operator.

    Returns
    -------
    SpectralDensity
        Nodes and weights of every probe; weights are NaN where the first product was not finite.

    Raises
    ------
    ValueError
        If ``probes`` or ``depth`` is not a positive integer.

    Notes
    -----
    Nodes are Ritz values, weights the squared first components of their coefficient vectors:
    Gauss quadrature, exact for polynomials up to the degree ``2 depth - 1`` (Golub and Meurant
    2010, chapter 3; Ubaru, Chen and Saad 2017). Where the Krylov space ends before ``depth``, the
    missing nodes have the weight zero. The probes are normal vectors of norm one, so that means
    over probes are unbiased but for the quadrature itself. A standard error is that of the probes
    and says nothing about the depth: a jump of the counting function in between nodes is smeared.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim.curvature import spectral_density
    >>> spectrum = jnp.repeat(jnp.array([0.0, 5.0]), jnp.array([900, 100]))
    >>> key = jax.random.key(0)
    >>> found = spectral_density(lambda v: spectrum * v, jnp.zeros(1000), key, depth=4)
    >>> above = found.mass_above(2.5)
    >>> bool(abs(above.value - 0.1) < 3 * above.stderr)
    True
    """
    check_count("probes", probes)
    check_count("depth", depth)
    flat, unravel = ravel_pytree(like)

    def one(key: Array) -> tuple[Array, Array]:
        start = jax.random.normal(key, flat.shape, flat.dtype)
        start = start / jnp.linalg.norm(start)
        ritz = lanczos(matvec, unravel(start), depth)
        weights = jnp.square(ritz.vectors @ start)
        # The sum is one, or zero where a product was not finite: then NaN.
        return ritz.values, weights / jnp.sum(weights)

    return SpectralDensity(*jax.lax.map(one, jax.random.split(key, probes)))


def _over_probes(draws: Float[Array, " probes"]) -> Estimate:
    return Estimate(jnp.mean(draws), jnp.std(draws, ddof=1) / draws.size**0.5)
