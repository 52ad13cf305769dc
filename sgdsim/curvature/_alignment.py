"""Alignment of curvature, gradient noise and gradient, from one set of Hessian eigenvectors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim._checks import check_count
from sgdsim.curvature._estimates import Estimate, jackknife
from sgdsim.curvature._products import MatVec, flat_product


class Alignment(NamedTuple):
    r"""How gradient and gradient noise lie to the sharpest directions, and noise to curvature.

    Attributes
    ----------
    gradient
        :math:`(v_i\cdot g)^2/\|g\|^2`, share of the squared gradient along every direction, shape
        ``(k,)``; the sum is the share in their span. NaN for a gradient of zero.
    noise
        :math:`v_i^\top Cv_i/\mathrm{tr}\,C`, share of the noise variance along every direction,
        shape ``(k,)``, with standard errors.
    cosine
        :math:`\mathrm{tr}(HC)/(\|H\|_F\|C\|_F)`, cosine between Hessian and noise covariance as
        matrices, with its standard error: 1 if one is a multiple of the other.
    excess
        :math:`p\,\mathrm{tr}(HC)/(\mathrm{tr}H\,\mathrm{tr}C)`, curvature that the noise sees over
        what isotropic noise of the same variance would see, with its standard error.
    products
        Number of products, of the Hessian and of the covariance each.
    """

    gradient: Float[Array, " k"]
    noise: Estimate
    cosine: Estimate
    excess: Estimate
    products: Int[Array, ""]


def alignment(
    hessian: MatVec,
    covariance: MatVec,
    gradient: PyTree,
    vectors: Float[Array, "k p"],
    key: Key[Array, ""],
    *,
    probes: int = 16,
) -> Alignment:
    r"""Alignment of Hessian, noise covariance and gradient, exact on given directions.

    .. math:: \mathrm{tr}(HC) = \sum_i (Hv_i)\cdot(Cv_i) + E[(Hw)\cdot(Cw)]

    and likewise :math:`\|H\|_F^2`, :math:`\|C\|_F^2`, :math:`\mathrm{tr}H` and
    :math:`\mathrm{tr}C`: the sum over the directions is exact, the rest is sampled by probes
    ``w`` orthogonal to them.

    Parameters
    ----------
    hessian, covariance
        Products with the Hessian and with the covariance of the gradient noise, on pytrees. The
        scale of the covariance plays no part, so that of single rows will do.
    gradient
        Gradient, any pytree; its shape is that of the products.
    vectors
        Orthonormal flat rows, as a rule the top eigenvectors of the Hessian. Rows of zeros are
        left out. Not exactly invariant ones make the standard errors larger, and no bias.
    key
        Random key of the probes.
    probes
        Number of probes, at least 3; mapped one after another.

    Returns
    -------
    Alignment
        Shares, cosine and excess, with standard errors.

    Raises
    ------
    ValueError
        If there are fewer than three probes.

    Notes
    -----
    Shares of the gradient in the top space: Gur-Ari, Roberts and Dyer 2018, arXiv 1812.04754.
    Shares of the noise: Zhu et al. 2019, arXiv 1803.00195, whose alignment :math:`\mathrm{tr}(HC)`
    is here relative to isotropic noise (``excess``). Cosine: Thomas et al. 2020, arXiv 1906.07774.
    Values and standard errors of the ratios are those of the jackknife over probes, and the
    jackknife's correction removes the bias of order 1/probes.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim.curvature import alignment
    >>> spectrum = jnp.array([4.0, 1.0, 1.0, 1.0])
    >>> product = lambda v: spectrum * v
    >>> gradient = jnp.array([3.0, 0.0, 4.0, 0.0])
    >>> found = alignment(product, product, gradient, jnp.eye(4)[:1], jax.random.key(0))
    >>> round(float(found.gradient[0]), 3), round(float(found.cosine.value), 3)
    (0.36, 1.0)
    """
    check_count("probes", probes)
    if probes < 3:
        raise ValueError(f"probes must be at least 3 for a standard error, got {probes}.")
    flat, _ = ravel_pytree(gradient)
    of_hessian, of_covariance = flat_product(hessian, gradient), flat_product(covariance, gradient)
    shares = jnp.square(vectors @ flat) / (flat @ flat)

    def moments(v: Array) -> Array:
        curved, noisy = of_hessian(v), of_covariance(v)
        return jnp.stack([curved @ noisy, curved @ curved, noisy @ noisy, v @ curved, v @ noisy])

    within = jax.lax.map(moments, vectors)
    dimension = flat.size - jnp.sum(jnp.square(vectors))

    def probe(key: Array) -> Array:
        w = jax.random.normal(key, flat.shape, flat.dtype)
        for _ in range(2):  # once leaves a rest of the size of the rounding error
            w = w - (vectors @ w) @ vectors
        # Where the directions span everything, nothing is left to be sampled.
        left = dimension > 0.5
        return jnp.where(left, moments(w) * dimension / jnp.where(left, w @ w, 1.0), 0.0)

    draws = jax.lax.map(probe, jax.random.split(key, probes))

    def ratios(mean: Float[Array, " moment"]) -> Float[Array, " ratio"]:
        """Cosine, excess and shares of the noise from the moments beyond the directions."""
        both, square, noise_square, trace, noise_trace = mean + jnp.sum(within, axis=0)
        cosine = both / jnp.sqrt(square * noise_square)
        excess = flat.size * both / (trace * noise_trace)
        return jnp.concatenate([jnp.stack([cosine, excess]), within[:, 4] / noise_trace])

    value, stderr = jackknife(ratios, draws)
    return Alignment(
        gradient=shares,
        noise=Estimate(value[2:], stderr[2:]),
        cosine=Estimate(value[0], stderr[0]),
        excess=Estimate(value[1], stderr[1]),
        products=jnp.asarray(len(vectors) + probes, jnp.int32),
    )
