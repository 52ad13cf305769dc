r"""Top subspaces of Hessian and noise, and how much of the motion of the iterates they hold."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from sgdsim._checks import check_count
from sgdsim.curvature import hessian_product, lanczos, random_direction
from sgdsim.dynamics import AbstractGradientNoise
from sgdsim.problems import Problem, cast
from sgdsim.stagnation._dimension import (
    EnergyShare,
    ParticipationRatio,
    SubspaceAngles,
    effective_rank,
    participation_ratio,
    subspace_angles,
    top_space_energy,
)


class TopSubspace(NamedTuple):
    r"""Eigenpairs of the largest eigenvalues of a symmetric operator.

    Attributes
    ----------
    values
        Eigenvalues, descending.
    residuals
        :math:`\|Av - \lambda v\|` of every pair: some eigenvalue lies that close.
    vectors
        Orthonormal rows.
    """

    values: Float[np.ndarray, " r"]
    residuals: Float[np.ndarray, " r"]
    vectors: Float[np.ndarray, "r p"]


def top_subspace(
    product: Callable[[PyTree], PyTree],
    like: PyTree,
    rank: int,
    key: Key[Array, ""],
    *,
    depth: int | None = None,
) -> TopSubspace:
    r"""Find the space of the ``rank`` largest eigenvalues of a symmetric operator by Lanczos.

    Parameters
    ----------
    product
        The operator, e.g. ``hessian_product(problem.empirical_risk, theta)`` or
        ``noise.covariance(problem, theta)``. One that is a pytree, such as a
        ``jax.tree_util.Partial``, is not compiled anew for other numbers.
    like
        Pytree that the operator takes; its precision is that of the result.
    rank
        r.
    key
        Random key of the start vectors.
    depth
        Products per Krylov space; ``max(4 rank, 2 rank + 20)`` if left out.

    Returns
    -------
    TopSubspace
        With fewer rows if the operator has fewer positive eigenvalues.

    Raises
    ------
    ValueError
        The rank is not a positive integer up to p.

    Notes
    -----
    One Krylov space holds one eigenvector of a multiple eigenvalue. Therefore the search goes on in
    the complement of what was found until that has no larger eigenvalue to offer: two Krylov
    spaces at least, ``rank + 1`` at most. Where the r-th and the next eigenvalue are equal, the
    space is one of many.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim.stagnation import top_subspace
    >>> spectrum = jnp.array([3.0, 1.0, 3.0, 0.5])
    >>> top = top_subspace(lambda v: spectrum * v, jnp.zeros(4), 2, jax.random.key(0))
    >>> top.values.round(4).tolist()
    [3.0, 3.0]
    """
    check_count("rank", rank)
    flat = ravel_pytree(like)[0]
    if rank > flat.size:
        raise ValueError(f"rank = {rank} is larger than the number of parameters, {flat.size}")
    depth = min(flat.size, max(4 * rank, 2 * rank + 20) if depth is None else depth)

    found = _empty(flat.size)
    for own in jax.random.split(key, rank + 1):
        padded = np.zeros((rank, flat.size))
        padded[: len(found.values)] = found.vectors
        start = random_direction(own, flat)
        values, rows = map(
            np.asarray, _search(product, like, start, jnp.asarray(padded, flat.dtype), depth)
        )
        # Missing Ritz vectors are zero.
        full = np.flatnonzero(np.linalg.norm(rows, axis=1) > 0.5)[-rank:]
        missing = len(found.values) < rank
        if not len(full) or not (
            missing or values[full[-1]] > found.values[-1] + found.residuals[-1]
        ):
            break
        union = np.concatenate([found.vectors, rows[full]])
        found = _rayleigh_ritz(
            lambda a: _images(product, like, jnp.asarray(a, flat.dtype)), union, rank
        )
    noise_floor = float(jnp.finfo(flat.dtype).eps) * 1e3
    good = found.values > noise_floor * np.max(np.abs(found.values), initial=0.0)
    return TopSubspace(found.values[good], found.residuals[good], found.vectors[good])


class LowDimension(NamedTuple):
    r"""How low-dimensional the motion of the iterates is in one window of snapshots.

    Attributes
    ----------
    participation
        Participation ratio of the covariance of the snapshots.
    hessian, noise
        Top subspaces at the reference point.
    hessian_energy, noise_energy
        Share of the displacement energy in them (nan without a positive eigenvalue).
    alignment
        Angles between the two; no angles and nan where one of them is empty.
    effective_rank
        :math:`\mathrm{tr}\,\Sigma/\|\Sigma\|_{op}` of the noise.
    hessian_outliers
        Hessian eigenvalues above the widest relative gap among those found.
    """

    participation: ParticipationRatio
    hessian: TopSubspace
    noise: TopSubspace
    hessian_energy: EnergyShare
    noise_energy: EnergyShare
    alignment: SubspaceAngles
    effective_rank: float
    hessian_outliers: int


def _flat(product: Callable[[PyTree], PyTree], like: PyTree) -> Callable[[Array], Array]:
    unravel = ravel_pytree(like)[1]
    return lambda v: ravel_pytree(product(unravel(v)))[0]


@eqx.filter_jit
def _search(
    product: Callable[[PyTree], PyTree], like: PyTree, start: Array, found: Array, depth: int
) -> tuple[Array, Array]:
    """Ritz pairs in the complement of what was found."""
    apply = _flat(product, like)

    def outside(v: Array) -> Array:
        return v - found.T @ (found @ v)

    ritz = lanczos(lambda v: outside(apply(outside(v))), outside(start), depth)
    return ritz.values, ritz.vectors


@eqx.filter_jit
def _images(product: Callable[[PyTree], PyTree], like: PyTree, rows: Array) -> Array:
    return jax.lax.map(_flat(product, like), rows)


def low_dimension_report(
    problem: Problem,
    theta: PyTree,
    noise: AbstractGradientNoise,
    snapshots: Float[np.ndarray, "snapshot p"],
    rank: int,
    key: Key[Array, ""],
    *,
    groups: int | None = None,
    confidence: float = 0.95,
) -> LowDimension:
    r"""Measure whether the iterates stay near a low-dimensional subspace, in one window.

    Parameters
    ----------
    problem, theta
        Risk, and the reference point (a minimum) of displacements, Hessian and noise.
    noise
        Model of the gradient noise.
    snapshots
        Flat iterates of the window, one a row.
    rank
        r of the top subspaces.
    key
        Random key of the Krylov spaces.
    groups
        Groups of consecutive snapshots for the standard errors, as in `participation_ratio`.
    confidence
        Of the interval of the participation ratio.

    Returns
    -------
    LowDimension
        Everything in float64.

    Raises
    ------
    ValueError
        As `participation_ratio` and `top_subspace`; or the snapshots have another number of
        parameters than ``theta``.

    Notes
    -----
    Every share and overlap comes with its value for random subspaces or isotropic displacements:
    only what exceeds that is alignment.
    Source: stagnation theory section 4.6.

    Examples
    --------
    Iterates that move along the steepest of three axes:

    >>> import jax, jax.numpy as jnp, numpy as np
    >>> from sgdsim.dynamics import IsotropicNoise
    >>> from sgdsim.problems import Quadratic
    >>> from sgdsim.stagnation import low_dimension_report
    >>> iterates = np.random.default_rng(0).normal(size=(50, 3)) * np.array([1.0, 0.1, 0.1])
    >>> report = low_dimension_report(
    ...     Quadratic([9.0, 1.0, 0.5]).problem(),
    ...     jnp.zeros(3),
    ...     IsotropicNoise(0.5),
    ...     iterates,
    ...     rank=1,
    ...     key=jax.random.key(0),
    ... )
    >>> report.hessian_energy.share > 0.9, round(report.effective_rank, 9)
    (True, 3.0)
    """
    with jax.enable_x64(True):
        problem, theta = problem.astype(jnp.float64), cast(theta, jnp.float64)
        flat = np.asarray(ravel_pytree(theta)[0])
        if snapshots.shape[1] != flat.size:
            raise ValueError(
                f"snapshots have {snapshots.shape[1]} parameters, but theta has {flat.size}"
            )
        of_hessian, of_noise = jax.random.split(key)
        product = hessian_product(problem.empirical_risk, theta)
        hessian = top_subspace(product, theta, rank, of_hessian)
        noisy = top_subspace(noise.covariance(problem, theta), theta, rank, of_noise)
        trace = float(noise.trace(problem, theta))
    displacements = np.asarray(snapshots, np.float64) - flat
    return LowDimension(
        participation=participation_ratio(snapshots, confidence, groups),
        hessian=hessian,
        noise=noisy,
        hessian_energy=_energy(displacements, hessian, groups),
        noise_energy=_energy(displacements, noisy, groups),
        alignment=_alignment(hessian, noisy),
        effective_rank=float(effective_rank(trace, noisy.values[0]))
        if len(noisy.values)
        else np.nan,
        hessian_outliers=spectral_outliers(hessian.values),
    )


def spectral_outliers(values: Float[np.ndarray, " r"]) -> int:
    r"""Count the eigenvalues above the widest relative gap.

    .. math:: \arg\max_i \lambda_i / \lambda_{i+1}

    Parameters
    ----------
    values
        Largest eigenvalues, positive and descending, some of the bulk among them.

    Returns
    -------
    int
        From 1 on; 0 if fewer than two values are given.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import spectral_outliers
    >>> spectral_outliers(np.array([9.0, 8.0, 0.4, 0.3]))
    2
    """
    return int(np.argmax(values[:-1] / values[1:])) + 1 if len(values) > 1 else 0


def _empty(p: int) -> TopSubspace:
    return TopSubspace(np.zeros(0), np.zeros(0), np.zeros((0, p)))


def _rayleigh_ritz(
    images: Callable[[np.ndarray], Array], rows: Float[np.ndarray, "k p"], rank: int
) -> TopSubspace:
    """Best eigenpairs in the span of the rows, with residuals from fresh products."""
    basis = np.linalg.qr(np.asarray(rows, np.float64).T)[0].T
    products = np.asarray(images(basis), np.float64)
    small = basis @ products.T
    values, coefficients = np.linalg.eigh((small + small.T) / 2)
    best = np.argsort(values)[::-1][:rank]
    vectors = coefficients[:, best].T @ basis
    errors = coefficients[:, best].T @ products - values[best, None] * vectors
    return TopSubspace(values[best], np.linalg.norm(errors, axis=1), vectors)


def _energy(displacements: np.ndarray, top: TopSubspace, groups: int | None) -> EnergyShare:
    if not len(top.values):
        return EnergyShare(np.nan, np.nan, np.nan)
    return top_space_energy(displacements, top.vectors, groups)


def _alignment(first: TopSubspace, second: TopSubspace) -> SubspaceAngles:
    if not (len(first.values) and len(second.values)):
        return SubspaceAngles(np.zeros(0), np.nan, np.nan)
    return subspace_angles(first.vectors, second.vectors)
