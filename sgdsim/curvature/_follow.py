"""Eigenpairs along a run: each search starts where the last one ended."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sgdsim._checks import check_not_negative
from sgdsim._typing import Number
from sgdsim.curvature._eigenpairs import Eigenpairs, FlatMatVec, band_lanczos, check_search


def follow(
    matvec: FlatMatVec,
    previous: Float[Array, "k p"],
    key: Key[Array, ""],
    *,
    tolerance: Number = 1e-3,
    most_products: int = 16,
    noise: Number = 0.01,
    extrapolate: bool = False,
) -> Eigenpairs:
    r"""Largest k eigenpairs, from those of a nearby operator; k products at least.

    .. math:: q_i = v_i + \mathrm{noise}\cdot\xi_i/\sqrt p, \qquad
        \xi_i \text{ uniform on } \{-1, 1\}^p

    Parameters
    ----------
    matvec
        The symmetric operator on flat vectors; see `flat_product`.
    previous
        ``vectors`` of the last search. Rows of zeros are no knowledge: a random direction.
    key
        Random key of the noise.
    tolerance
        Relative to the largest Ritz value in modulus; no further product is taken when all k
        ``errors`` are below. The vectors are known already, so that these estimates, sharper than
        the residuals that decide in `eigenpairs`, can be trusted.
    most_products
        Products after which the search ends in any case.
    noise
        Length of what is added to each vector, so that eigenvectors which the last search has not
        seen get into this one.
    extrapolate
        Go on along the residuals, which costs no product; see the notes. For many cheap probes.

    Returns
    -------
    Eigenpairs
        As from `eigenpairs`; hand its ``vectors`` to the next search. With ``extrapolate`` they
        are not quite orthogonal, and the residual is that of the stated value with the vector
        from before: some eigenvalue lies that close to the value, as always.

    Raises
    ------
    ValueError
        If there are more rows than parameters or products, or a number has no meaning.

    Notes
    -----
    The search is the block Krylov space of the start vectors, taken one product at a time. The
    noise costs an error of the order of its square. A pair that is not among the k followed ones
    and rises above them is found as its share, at first that of the noise, grows from search to
    search; with k of two or more it is followed before it becomes the largest.

    A Ritz pair with residual vector :math:`r` is, in the plane of the two, the matrix
    :math:`\begin{pmatrix}\lambda & \|r\| \\ \|r\| & \mu\end{pmatrix}`, of which only the
    curvature :math:`\mu` along the residual takes another product. Extrapolation supposes
    :math:`0 \le \mu \le \lambda_1/2`, which holds where the largest eigenvalues stand out. Then
    the error of :math:`\lambda` lies between about one and two :math:`\|r\|^2/\lambda`; the middle
    is added to the value, half the width is its stated error, and the vector goes the step along
    the residual that belongs to it (one of power iteration, a little longer). Values are changed
    only if the k first products are enough; otherwise they are Ritz values. Where two followed
    values nearly meet, an unresolved mixture of their vectors has an error up to its residual,
    which no estimate from one product can see: follow one vector more.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import follow
    >>> spectrum = jnp.array([1.0, 2.0, 5.0])
    >>> cold = follow(lambda v: spectrum * v, jnp.zeros((1, 3)), jax.random.key(0))
    >>> warm = follow(lambda v: 1.1 * spectrum * v, cold.vectors, jax.random.key(1))
    >>> round(float(warm.values[0]), 2)
    5.5
    """
    k, p = previous.shape
    check_search(k, p, tolerance, most_products)
    check_not_negative("noise", noise)
    # Normals: vectors of signs may be orthogonal to a symmetric eigenvector exactly.
    random = jax.random.normal(key, previous.shape, previous.dtype)
    random = random / jnp.linalg.norm(random, axis=1, keepdims=True)
    known = jnp.any(previous != 0.0, axis=1, keepdims=True)
    block = jnp.where(known, previous + jnp.asarray(noise, previous.dtype) * random, random)
    rule = "extrapolated" if extrapolate else "errors"
    return band_lanczos(matvec, block, k, tolerance, most_products, rule)
