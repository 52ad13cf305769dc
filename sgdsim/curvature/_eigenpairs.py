"""Extreme eigenpairs of a symmetric operator, with residuals and a stop rule."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from sgdsim._checks import check_count, check_positive
from sgdsim._typing import Number
from sgdsim.curvature._products import MatVec, flat_product

FlatMatVec = Callable[[Float[Array, " p"]], Float[Array, " p"]]


class Eigenpairs(NamedTuple):
    r"""Eigenpairs at one end of a spectrum.

    Attributes
    ----------
    values
        Ritz values, the outermost first; shape ``(k,)``. Ritz values at the upper end are never
        above the eigenvalues they stand for.
    residuals
        :math:`\|Av-\lambda v\|` of every pair: some eigenvalue lies that close to the value.
    vectors
        Ritz vectors of norm one as flat rows, shape ``(k, p)``.
    products
        Products that were taken.
    errors
        Estimated errors of the values, :math:`\min(r, r^2/\mathrm{gap})`, r being the residual and
        the gap the distance to the nearest interval ``value +- residual`` of another Ritz pair.
        Sharper than the residuals, and no bounds: of a pair that the space has not seen yet they
        know nothing.
    """

    values: Float[Array, " k"]
    residuals: Float[Array, " k"]
    vectors: Float[Array, "k p"]
    products: Int[Array, ""]
    errors: Float[Array, " k"]


def eigenpairs(
    matvec: MatVec,
    start: PyTree,
    k: int = 1,
    *,
    tolerance: Number = 1e-3,
    most_products: int = 32,
    end: Literal["largest", "smallest"] = "largest",
) -> Eigenpairs:
    r"""Outermost k eigenpairs by Lanczos, which stops when their residuals are small.

    .. math:: \|Av_i-\lambda_iv_i\| \le \mathrm{tolerance}\cdot\max_j|\lambda_j|
        \quad\text{for } i = 1, \dots, k

    Parameters
    ----------
    matvec
        The symmetric operator on pytrees shaped like ``start``.
    start
        Start vector: a random direction, or the best guess of the wanted eigenvector.
    k
        Number of pairs.
    tolerance
        Relative to the largest Ritz value in modulus.
    most_products
        Products after which the search ends in any case; the residuals then tell how far it came.
    end
        Which end of the spectrum.

    Returns
    -------
    Eigenpairs
        With values and residuals NaN and vectors zero where a product was not finite.

    Raises
    ------
    ValueError
        If k exceeds the number of parameters or of products.

    Notes
    -----
    Full reorthogonalisation. A pair that the space has not seen yet comes up late, so that with k
    of two or more the residuals must stay small for ``(k + 2) // 4`` more products. A Krylov space
    holds one vector for each eigenvalue: a multiple one usually counts once; where the space ends
    before k pairs are found, the search goes on from another direction. The error estimate is
    that of Kato and Temple (Parlett 1980, section 10.5) with Ritz values in place of the unknown
    eigenvalues; only the residual is a bound, and that to the nearest eigenvalue.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import eigenpairs
    >>> spectrum = jnp.array([1.0, 2.0, 5.0])
    >>> found = eigenpairs(lambda v: spectrum * v, jnp.ones(3), k=2)
    >>> [round(float(value), 3) for value in found.values], int(found.products)
    ([5.0, 2.0], 3)
    """
    flat, _ = ravel_pytree(start)
    check_search(k, flat.size, tolerance, most_products)
    product = flat_product(matvec, start)
    if end not in ("largest", "smallest"):
        raise ValueError(f"end must be 'largest' or 'smallest', got {end!r}.")
    if end == "largest":
        return band_lanczos(product, flat[None], k, tolerance, most_products)
    found = band_lanczos(lambda v: -product(v), flat[None], k, tolerance, most_products)
    return found._replace(values=-found.values)


def require_finite(found: Eigenpairs) -> Eigenpairs:
    """Give eigenpairs back if they are finite; not for compiled programs, where NaN is data.

    Parameters
    ----------
    found
        Eigenpairs with known numbers.

    Returns
    -------
    Eigenpairs
        ``found``.

    Raises
    ------
    ValueError
        If a product was not finite.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import eigenpairs, require_finite
    >>> float(require_finite(eigenpairs(lambda v: 2 * v, jnp.ones(3))).values[0])
    2.0
    """
    if not jnp.all(jnp.isfinite(found.values)):
        raise ValueError(
            f"Product {int(found.products)} of the operator with a vector is not finite: check "
            "that parameters, loss and its second derivatives are finite there."
        )
    return found


def check_search(k: int, parameters: int, tolerance: Number, most_products: int) -> None:
    """Refuse numbers with which no search for eigenpairs can be made."""
    check_count("k", k)
    check_count("most_products", most_products)
    check_positive("tolerance", tolerance)
    if k > parameters:
        raise ValueError(
            f"k must be at most the number of parameters, {parameters}, got {k}: a symmetric "
            "operator has no more eigenpairs."
        )
    if k > most_products:
        raise ValueError(
            f"most_products must be at least k = {k}, got {most_products}: every pair takes at "
            "least one product."
        )


class _Search(NamedTuple):
    """State of the loop: ``step`` products were taken, the last ``good`` of them met the rule.

    ``basis`` holds orthonormal rows, zero where there is none (yet); column ``i`` of ``coupling``
    holds the coordinates of ``A basis[i]`` in the basis, of which it is a combination.
    """

    basis: Float[Array, "rows p"]
    coupling: Float[Array, "rows most"]
    step: Int[Array, ""]
    finite: Bool[Array, ""]
    ritz: "_Ritz"
    good: Int[Array, ""]


class _Ritz(NamedTuple):
    """Ritz pairs of the products so far, the largest first, and the largest modulus of a value."""

    values: Float[Array, " most"]
    residuals: Float[Array, " most"]
    errors: Float[Array, " most"]
    coefficients: Float[Array, "most most"]
    rest: Float[Array, "rows most"]
    scale: Float[Array, ""]


def band_lanczos(
    product: FlatMatVec,
    block: Float[Array, "b p"],
    k: int,
    tolerance: Number,
    most: int,
    rule: Literal["residuals", "errors", "extrapolated"] = "residuals",
) -> Eigenpairs:
    """Largest k eigenpairs from the Krylov space of a block of start vectors, one by one.

    Every product is orthogonalised against all vectors there are, also those of the block that
    wait for their turn (Ruhe 1979). Hence ``A V = V T + rest`` holds with a small known rest after
    every product, not only after whole blocks, and for one start vector this is Lanczos.
    The rule says what is compared with the tolerance; for extrapolation see `follow`.
    """
    b, p = block.shape
    most = min(most, p)
    rows = most + b
    basis = jnp.zeros((rows, p), block.dtype).at[0].set(_unit(block[0]))
    for i in range(1, b):
        row, _, _ = _orthonormal(basis, i, block[i], jnp.linalg.norm(block[i]))
        basis = basis.at[i].set(row)

    # A pair that a cold search has not seen yet comes up late, above pairs that were done.
    more = (k + 2) // 4 if rule == "residuals" else 0

    def goes_on(state: _Search) -> Array:
        return (state.step < most) & state.finite & (state.good <= more)

    def advance(state: _Search) -> _Search:
        basis, coupling, step = state.basis, state.coupling, state.step
        image = product(basis[step])
        finite = jnp.all(jnp.isfinite(image))
        image = jnp.where(finite, image, 0.0)
        row, below, coordinates = _orthonormal(basis, step + b, image, jnp.linalg.norm(image))
        basis = basis.at[step + b].set(row)
        coupling = coupling.at[:, step].set(coordinates.at[step + b].set(below))
        step = step + 1
        ritz = _ritz(coupling, step)
        if rule == "extrapolated":
            ritz = _extrapolated(ritz, step == b)
        judged = ritz.residuals if rule == "residuals" else ritz.errors
        meets = (step >= k) & jnp.all(judged[:k] <= tolerance * ritz.scale)
        good = jnp.where(meets, state.good + 1, 0)
        return _Search(basis, coupling, step, finite, ritz, good)

    coupling = jnp.zeros((rows, most), block.dtype)
    line, square = coupling[0], coupling[:most]
    nothing = _Ritz(line, line, line, square, coupling, line[0])
    none, finite = jnp.asarray(0, jnp.int32), jnp.all(jnp.isfinite(block))
    state = _Search(basis, coupling, none, finite, nothing, none)
    basis, _, step, finite, ritz, _ = jax.lax.while_loop(goes_on, advance, state)
    vectors = ritz.coefficients.T[:k] @ basis[:most]
    if rule == "extrapolated":
        vectors = vectors + ritz.rest.T[:k] @ basis
        vectors = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)
    blank = jnp.where(finite, 0.0, jnp.nan).astype(block.dtype)
    return Eigenpairs(
        ritz.values[:k] + blank,
        ritz.residuals[:k] + blank,
        jnp.where(finite, vectors, 0.0),
        step,
        ritz.errors[:k] + blank,
    )


def _orthonormal(
    basis: Float[Array, "rows p"],
    active: Int[Array, ""] | int,
    vector: Float[Array, " p"],
    size: Float[Array, ""],
) -> tuple[Float[Array, " p"], Float[Array, ""], Float[Array, " rows"]]:
    """Next basis row from a vector; its length over the old rows, and its coordinates in them.

    If nothing but rounding of numbers of that size is left, the row is a random one and the
    length zero; if there is no direction left at all, the row is zero.
    """
    rest, coordinates = _project(basis, active, vector)
    rest, more = _project(basis, active, rest)
    below: Array = jnp.linalg.norm(rest)
    # Written so that a NaN, too, counts as nothing left.
    new = below > 100 * jnp.finfo(basis.dtype).eps * size

    def random(_: Array) -> Array:
        drawn = _scrambled(vector, active)
        for _repeat in range(2):
            drawn, _coordinates = _project(basis, active, drawn / jnp.linalg.norm(drawn))
        left: Array = jnp.linalg.norm(drawn)
        return jnp.where(left > 0.5, drawn / left, 0.0)

    row = jax.lax.cond(new, lambda rest: rest / below, random, rest)
    return row, jnp.where(new, below, 0.0), coordinates + more


def _unit(vector: Float[Array, " p"]) -> Float[Array, " p"]:
    """Divide a vector by its norm; instead of zero take some other one."""
    vector = jnp.where(jnp.any(vector != 0.0), vector, _scrambled(vector, 0))
    return vector / jnp.linalg.norm(vector)


def _scrambled(like: Float[Array, " p"], seed: Int[Array, ""] | int) -> Float[Array, " p"]:
    """Numbers in [-1, 1) without pattern: a few steps of integer hashing (MurmurHash3).

    Not `jax.random`, whose compilation takes longer than that of the rest of a search.
    """
    bits = jnp.arange(1, like.size + 1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    bits = bits + jnp.asarray(seed, jnp.uint32) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return (bits ^ (bits >> 16)).astype(jnp.int32).astype(like.dtype) / 2.0**31


def _project(
    basis: Float[Array, "rows p"], active: Int[Array, ""] | int, vector: Float[Array, " p"]
) -> tuple[Float[Array, " p"], Float[Array, " rows"]]:
    """Take the first ``active`` basis rows out of a vector; what is left, and what was taken."""

    def take(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, coordinates = state
        along = basis[i] @ rest
        return rest - along * basis[i], coordinates.at[i].set(along)

    start = (vector, jnp.zeros(basis.shape[0], basis.dtype))
    return jax.lax.fori_loop(0, active, take, start)


def _ritz(coupling: Float[Array, "rows most"], step: Int[Array, ""]) -> _Ritz:
    """Ritz pairs with residuals, which need no further product, and estimates of errors."""
    most = coupling.shape[1]
    used = jnp.arange(most) < step
    square = jnp.where(jnp.outer(used, used), coupling[:most], 0.0)
    projected = (square + square.T) / 2
    # What is not there yet comes last: below all Ritz values.
    size: Array = jnp.linalg.norm(projected)
    filler = -2 * jnp.where(size > 0, size, 1.0)
    values, coefficients = jnp.linalg.eigh(projected + jnp.diag(jnp.where(used, 0.0, filler)))
    values, coefficients = values[::-1], coefficients[:, ::-1]
    outside = jnp.arange(coupling.shape[0]) >= step
    rest = jnp.where(outside[:, None], coupling, 0.0) @ coefficients
    residuals: Array = jnp.linalg.norm(rest, axis=0)

    # The gap of two neighbours is what lies between one value and the interval of the other.
    # Nothing is known about what comes below the last one.
    above = jnp.append(jnp.inf, values[:-1] - residuals[:-1] - values[1:])
    below: Array = values - jnp.append(values[1:] + residuals[1:], jnp.inf)
    below = jnp.where(jnp.append(used[1:], False), below, -jnp.inf)
    gap = jnp.minimum(above, below)
    errors = jnp.where(gap > residuals, residuals**2 / jnp.where(gap > 0, gap, 1.0), residuals)
    scale = jnp.max(jnp.where(used, jnp.abs(values), 0.0))
    return _Ritz(values, residuals, errors, coefficients, rest, scale)


def _extrapolated(ritz: _Ritz, judge: Bool[Array, ""]) -> _Ritz:
    """Go on along the residuals without products, see `follow`; values and errors if ``judge``.

    ``rest`` becomes what is to be added to the Ritz vectors.
    """
    value, residual = ritz.values, ritz.residuals

    def gain(curvature: Array | float) -> Array:
        """Largest eigenvalue of ``[[value, residual], [residual, curvature]]``, less ``value``."""
        half = (value - curvature) / 2
        # Of the two forms of the root of a quadratic the one without cancellation.
        root = jnp.hypot(half, residual)
        kind = residual**2 / jnp.where(half > 0, half + root, 1.0)
        return jnp.where(half > 0, kind, root - half)

    low, high = gain(0.0), gain(value[0] / 2)
    step, half_width = (low + high) / 2, (high - low) / 2
    usable = value > 0
    share = jnp.where(usable & (residual > 0), step / residual**2, 0.0)
    judge = judge & usable
    return ritz._replace(
        values=jnp.where(judge, value + step, value),
        residuals=jnp.where(judge, jnp.hypot(residual, step), residual),
        errors=jnp.where(judge, half_width, ritz.errors),
        rest=ritz.rest * share[None],
    )
