"""Extreme eigenvalues of a symmetric operator by Lanczos, each with its residual."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree
from matfree import decomp

from sgdsim.curvature._products import MatVec


class ExtremeEigenvalues(NamedTuple):
    r"""Ends of the spectrum as seen from a Krylov space.

    Attributes
    ----------
    values
        Ritz values in ascending order, shape ``(depth,)``; the first and the last are the
        estimates of the smallest and the largest eigenvalue.
    residuals
        :math:`\|Av - \lambda v\|` of every Ritz pair: some eigenvalue lies that close.
    vectors
        Ritz vectors as flat rows, shape ``(depth, p)``. If the Krylov space ends before
        ``depth``, the missing ones are zero and repeat a value from within the range.
    """

    values: Float[Array, " depth"]
    residuals: Float[Array, " depth"]
    vectors: Float[Array, "depth p"]

    @property
    def smallest(self) -> tuple[Array, Array]:
        """Smallest eigenvalue and its residual."""
        return self.values[0], self.residuals[0]

    @property
    def largest(self) -> tuple[Array, Array]:
        """Largest eigenvalue and its residual."""
        return self.values[-1], self.residuals[-1]


def random_direction(key: Key[Array, ""], like: PyTree) -> PyTree:
    """Independent standard normals in the shape of a pytree."""
    flat, unravel = ravel_pytree(like)
    return unravel(jax.random.normal(key, flat.shape, flat.dtype))


def lanczos(matvec: MatVec, start: PyTree, depth: int) -> ExtremeEigenvalues:
    r"""Ritz pairs of a symmetric operator from a Krylov space of dimension ``depth``.

    Parameters
    ----------
    matvec
        The operator on pytrees shaped like ``start``.
    start
        Start vector; any non-zero one, a random direction if nothing better is known.
    depth
        Number of products; capped at the dimension.

    Returns
    -------
    ExtremeEigenvalues
        Values, residuals and vectors. The largest Ritz value never exceeds the largest
        eigenvalue, the smallest is never below the smallest one.

    Notes
    -----
    Full reorthogonalisation (matfree); the residual of Ritz pair i is
    :math:`|\beta_m s_{mi}|`, free of further products (Parlett 1980, section 13.2).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import lanczos
    >>> spectrum = jnp.array([1.0, 2.0, 5.0])
    >>> ritz = lanczos(lambda v: spectrum * v, jnp.ones(3), depth=3)
    >>> round(float(ritz.largest[0]), 4)
    5.0
    """
    flat, unravel = ravel_pytree(start)
    depth = min(depth, flat.size)

    def flat_matvec(v: Array) -> Array:
        return ravel_pytree(matvec(unravel(v)))[0]

    # Not matfree's tridiag_sym: it averages the two triangles, which hides a breakdown.
    decompose = decomp.hessenberg(depth, reortho="full", custom_vjp=False)
    basis, hessenberg, remainder, _ = decompose(flat_matvec, flat)
    hessenberg = jnp.asarray(hessenberg)
    below = jnp.append(jnp.diag(hessenberg, -1), jnp.linalg.norm(remainder))
    basis, tridiagonal, coupling = _stop_at_breakdown(
        jnp.asarray(basis), jnp.diag(hessenberg), below
    )
    values, coefficients = jnp.linalg.eigh(tridiagonal)
    residuals = jnp.abs(coupling @ coefficients)
    return ExtremeEigenvalues(values, residuals, coefficients.T @ basis)


def _stop_at_breakdown(
    basis: Float[Array, "depth p"], diagonal: Float[Array, " depth"], below: Float[Array, " depth"]
) -> tuple[Float[Array, "depth p"], Float[Array, "depth depth"], Float[Array, " depth"]]:
    """Cut off what follows an invariant subspace, where matfree normalises rounding errors.

    ``below[i]`` couples vector ``i`` to the next one. The cut part is decoupled, its vectors are
    zero and its diagonal is set to a Rayleigh quotient, which lies between the extreme Ritz
    values and so changes neither of them. Results: vectors, tridiagonal matrix, and the coupling
    of the kept vectors to what comes after them, from which residuals are read off.
    """
    sizes = jax.lax.cummax(jnp.maximum(jnp.abs(diagonal), below))
    # Written so that a NaN, too, ends the Krylov space.
    goes_on = below[:-1] > 100 * jnp.finfo(basis.dtype).eps * sizes[:-1]
    goes_on = jnp.append(jnp.isfinite(diagonal[:1]), goes_on)
    valid = jax.lax.cummin(goes_on.astype(jnp.int32)) == 1

    quotient = jnp.where(valid[0], diagonal[0], 0.0)
    off = jnp.where(valid[1:], below[:-1], 0.0)
    tridiagonal = (
        jnp.diag(jnp.where(valid, diagonal, quotient)) + jnp.diag(off, 1) + jnp.diag(off, -1)
    )
    last = valid & ~jnp.append(valid[1:], False)
    coupling = jnp.where(last & jnp.isfinite(below), below, 0.0)
    return jnp.where(valid[:, None], basis, 0.0), tridiagonal, coupling
