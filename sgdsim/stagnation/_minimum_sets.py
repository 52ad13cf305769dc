"""Sets of minima that are not isolated: normal space, nullity, nearest point."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from sgdsim._checks import check_count, check_positive
from sgdsim._errors import SgdsimError
from sgdsim.curvature import ExtremeEigenvalues, hessian_product, lanczos, random_direction
from sgdsim.problems import AbstractLandscape, Problem
from sgdsim.stagnation._quench import quench, require_double_precision
from sgdsim.stagnation._refine import Objective, refine, risk_function

# A Ritz pair with a residual above this part of the largest eigenvalue is not yet an eigenpair.
_RESOLVED = 1e-6
_BISECTIONS = 12


class NormalSpace(NamedTuple):
    r"""Eigenvectors of the Hessian with eigenvalues above a tolerance.

    Attributes
    ----------
    eigenvalues
        In descending order, shape (r,).
    vectors
        Orthonormal rows on the flat parameters, shape (r, p).
    rest
        Largest eigenvalue found outside of their span: at most the tolerance.
    """

    eigenvalues: Float[np.ndarray, " r"]
    vectors: Float[np.ndarray, "r p"]
    rest: float

    @property
    def nullity(self) -> int:
        """Number of flat directions p - r, the dimension of a smooth set of minima."""
        return self.vectors.shape[1] - self.vectors.shape[0]


class NearestMinimum(NamedTuple):
    r"""Points of the set of minima nearest to given points.

    Attributes
    ----------
    theta
        Nearest points, with the leading axis of the given ones.
    distance
        :math:`d = \|\theta - p(\theta)\|`, shape (point,).
    quench_distance
        Distance to where the gradient flow ends, an upper bound that is too large by
        :math:`O(d^3)`, shape (point,); NaN if the landscape knows its projection.
    tangent
        Norm of the displacement's part along the set, zero at the nearest point, shape (point,).
    gradient_norm
        At the nearest point, shape (point,).
    is_nearest
        A minimum was reached and the tangent part is below the tolerance, shape (point,).
    reason
        One sentence for every point; empty where ``is_nearest``.
    """

    theta: PyTree
    distance: Float[np.ndarray, " point"]
    quench_distance: Float[np.ndarray, " point"]
    tangent: Float[np.ndarray, " point"]
    gradient_norm: Float[np.ndarray, " point"]
    is_nearest: Bool[np.ndarray, " point"]
    reason: tuple[str, ...]


def normal_space(
    objective: Objective, theta: PyTree, tolerance: float = 1e-6, depth: int = 200
) -> NormalSpace:
    r"""Find all eigenvectors of the Hessian with :math:`\lambda > \text{tol}\cdot\lambda_{\max}`.

    At a minimum they span the directions in which the risk rises; what is left is the tangent
    space of a smooth set of minima. Lanczos runs follow each other on what the last ones left,
    since one run sees a multiple eigenvalue once only.

    Parameters
    ----------
    objective
        A problem or the risk as a function of ``theta``.
    theta
        A minimum.
    tolerance
        Relative to the largest eigenvalue, in (0, 1).
    depth
        Hessian products of each Lanczos run.

    Raises
    ------
    ValueError
        Double precision is off, the tolerance is out of range.
    SgdsimError
        Eigenvalues above the tolerance are too close together for the depth.

    Notes
    -----
    Needs memory for r + depth vectors of the length of ``theta``. The number of runs is the
    largest multiplicity, plus one. Deterministic: the start vectors have fixed keys.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim.problems import Hyperbola
    >>> from sgdsim.stagnation import normal_space
    >>> with jax.enable_x64(True):
    ...     normal = normal_space(Hyperbola(1.0).risk, jnp.array([2.0, 0.5]))
    >>> normal.nullity, normal.eigenvalues.round(4).tolist()
    (1, [4.25])
    """
    require_double_precision("normal_space")
    check_count("depth", depth)
    check_positive("tolerance", tolerance)
    if tolerance >= 1:
        raise ValueError(
            f"tolerance must be below 1, got {tolerance!r}: it is relative to the largest "
            "eigenvalue, and none would be above it."
        )
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), theta))
    size = flat.size
    values, vectors, largest = np.zeros(0), np.zeros((0, size)), 0.0
    for run in range(size):
        # Padded to few different shapes, since every shape is compiled anew.
        padded = np.zeros((min(size, depth * -(-len(vectors) // depth)), size))
        padded[: len(vectors)] = vectors
        ritz, residuals, rows = (
            np.asarray(leaf)
            for leaf in _deflated_lanczos(
                objective, flat, jnp.asarray(padded), unravel, min(depth, size), jnp.asarray(run)
            )
        )
        rest = float(ritz[-1])
        largest = max(largest, rest)
        if rest <= tolerance * largest:
            return NormalSpace(values, vectors, rest)
        norms = np.linalg.norm(rows, axis=1)
        found = (ritz > tolerance * largest) & (residuals <= _RESOLVED * largest) & (norms > 0.5)
        if not found.any():
            raise SgdsimError(
                f"the normal space is not resolved: eigenvalue {rest:.2e} is above the tolerance "
                f"{tolerance:.0e} times {largest:.2e}, but {depth} Hessian products do not "
                "separate its neighbours; raise depth or the tolerance."
            )
        values, vectors = _extend(values, vectors, ritz[found], rows[found])
        if len(vectors) == size:
            break
    return NormalSpace(values, vectors, 0.0)


def hessian_nullity(
    objective: Objective, theta: PyTree, tolerance: float = 1e-6, depth: int = 200
) -> int:
    r"""Count the eigenvalues of the Hessian that are not above ``tolerance`` times the largest.

    .. math:: p - \#\{i : \lambda_i > \text{tol}\cdot\lambda_{\max}\}

    Parameters
    ----------
    objective, theta, tolerance, depth
        As for `normal_space`.

    Raises
    ------
    ValueError, SgdsimError
        As for `normal_space`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim.problems import Sphere
    >>> from sgdsim.stagnation import hessian_nullity
    >>> with jax.enable_x64(True):
    ...     hessian_nullity(Sphere(2.0, dimension=5).risk, jnp.eye(5)[0])
    4
    """
    return normal_space(objective, theta, tolerance, depth).nullity


def nearest_minimum(
    objective: AbstractLandscape | Objective,
    thetas: PyTree,
    tolerance: float = 1e-8,
    eigenvalue_tolerance: float = 1e-6,
    max_iterations: int = 100,
    depth: int = 200,
) -> NearestMinimum:
    r"""Project points on the set of minima that their gradient flow ends in.

    .. math:: p(\theta) = \arg\min_p \|\theta - p\| \quad\text{subject to}\quad \nabla L(p) = 0

    A landscape that knows its projection is asked. Otherwise `quench` gives a first point, off by
    :math:`O(d^2)`; then Gauss-Newton steps move it by the part of :math:`\theta - p` in the null
    space of the Hessian and back to the set by the shortest Newton step, halved until the
    distance falls, until that part is gone: :math:`\theta - p` is normal to the set.

    Parameters
    ----------
    objective
        A landscape, a problem, or the risk as a function of ``theta``.
    thetas
        Points with a leading axis.
    tolerance
        Of the gradient norm, and of the tangent part relative to ``1 + distance``.
    eigenvalue_tolerance
        Eigenvalues up to this part of the largest belong to the null space.
    max_iterations
        Gauss-Newton steps.
    depth
        Hessian products of a Lanczos run.

    Returns
    -------
    NearestMinimum
        With ``is_nearest`` and ``reason`` for every point; nothing is raised where a flow ends in
        a saddle.

    Raises
    ------
    ValueError
        Double precision is off, or a number is out of range.

    Notes
    -----
    A local search: the result is a nearest point among its neighbours, and the nearest one
    within the reach of the set. The projection on the null space starts Lanczos at the
    displacement itself, so multiple eigenvalues do no harm and no matrix is formed.
    Converges linearly at the rate (curvature of the set times distance).
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    section 4.3.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim.problems import Hyperbola
    >>> from sgdsim.stagnation import nearest_minimum
    >>> with jax.enable_x64(True):
    ...     found = nearest_minimum(Hyperbola(1.0).risk, jnp.array([[2.25, 1.5]]))
    >>> found.theta.round(6).tolist(), found.is_nearest.tolist()
    ([[2.0, 0.5]], [True])
    """
    require_double_precision("nearest_minimum")
    check_positive("tolerance", tolerance)
    check_positive("eigenvalue_tolerance", eigenvalue_tolerance)
    check_count("max_iterations", max_iterations)
    check_count("depth", depth)
    thetas = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), thetas)
    if isinstance(objective, AbstractLandscape):
        try:
            return _by_landscape(objective, thetas)
        except NotImplementedError:
            objective = objective.risk
    elif isinstance(objective, Problem):
        objective = objective.astype(jnp.float64)

    ends = quench(objective, thetas, tolerance, depth=depth)
    first, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], thetas))
    flatten = jax.vmap(lambda theta: ravel_pytree(theta)[0])
    points, tangent, norm = _gauss_newton(
        objective,
        flatten(thetas),
        flatten(ends.theta),
        jnp.asarray(ends.is_minimum),
        unravel,
        jnp.array([tolerance, eigenvalue_tolerance]),
        (max_iterations, min(depth, first.size)),
    )
    distance = np.linalg.norm(np.asarray(flatten(thetas) - points), axis=1)
    tangent = np.asarray(tangent)
    normal = tangent <= tolerance * (1 + distance)
    reasons = [
        why
        if not minimum
        else ""
        if done
        else f"the displacement keeps a part of {part:.2e} along the set of minima after "
        f"{max_iterations} steps; raise max_iterations, or the point is outside of its reach."
        for why, minimum, done, part in zip(
            ends.reason, ends.is_minimum, normal, tangent, strict=True
        )
    ]
    return NearestMinimum(
        theta=jax.vmap(unravel)(points),
        distance=distance,
        quench_distance=ends.displacement,
        tangent=tangent,
        gradient_norm=np.asarray(norm),
        is_nearest=ends.is_minimum & normal,
        reason=tuple(reasons),
    )


def _by_landscape(landscape: AbstractLandscape, thetas: PyTree) -> NearestMinimum:
    points = jax.vmap(landscape.project)(thetas)
    gradients = jax.vmap(lambda p: ravel_pytree(jax.grad(landscape.risk)(p))[0])(points)
    distance = np.asarray(jax.vmap(landscape.distance)(thetas))
    return NearestMinimum(
        theta=points,
        distance=distance,
        quench_distance=np.full_like(distance, np.nan),
        tangent=np.zeros_like(distance),
        gradient_norm=np.linalg.norm(np.asarray(gradients), axis=1),
        is_nearest=np.ones(distance.shape, bool),
        reason=("",) * len(distance),
    )


@eqx.filter_jit
def _gauss_newton(
    objective: Objective,
    targets: Float[Array, "point p"],
    starts: Float[Array, "point p"],
    is_minimum: Bool[Array, " point"],
    unravel: Callable,
    tolerances: Float[Array, " 2"],
    counts: tuple[int, int],
) -> tuple[Array, Array, Array]:
    """Nearest points, the tangent parts and the gradient norms."""
    risk = risk_function(objective, unravel)
    gradient = jax.grad(risk)
    tolerance, cut = tolerances
    max_iterations, depth = counts

    def tangent_part(point: Array, target: Array) -> Array:
        displacement = target - point
        ritz = lanczos(hessian_product(risk, point), displacement, depth)
        normal = ritz.values > cut * ritz.values[-1]
        weights = jnp.where(normal, ritz.vectors @ displacement, 0.0)
        # At distance zero there is no start vector and Lanczos answers with zeros or NaN.
        part = displacement - weights @ ritz.vectors
        return jnp.where(jnp.all(jnp.isfinite(part)), part, 0.0)

    def improve(state: tuple, target: Array) -> tuple:
        point: Array
        point, tangent, fraction, steps = state
        candidate: Array = refine(objective, unravel, point + fraction * tangent, tolerance, None)
        good = (jnp.linalg.norm(gradient(candidate)) <= tolerance) & (
            jnp.linalg.norm(target - candidate) <= jnp.linalg.norm(target - point)
        )
        point = jnp.where(good, candidate, point)
        tangent = jnp.where(good, tangent_part(point, target), tangent)
        return point, tangent, jnp.where(good, 1.0, fraction / 2), steps + 1

    def project(target: Array, start: Array, minimum: Array) -> tuple[Array, Array, Array]:
        def goes_on(state: tuple) -> Array:
            point, tangent, fraction, steps = state
            # A tenth of what the report accepts.
            small = 0.1 * tolerance * (1 + jnp.linalg.norm(target - point))
            unfinished = minimum & (jnp.linalg.norm(tangent) > small)
            return unfinished & (fraction > 2.0**-_BISECTIONS) & (steps < max_iterations)

        state = (start, tangent_part(start, target), jnp.asarray(1.0), jnp.asarray(0))
        point, tangent, *_ = jax.lax.while_loop(goes_on, lambda s: improve(s, target), state)
        return point, jnp.linalg.norm(tangent), jnp.linalg.norm(gradient(point))

    # One after another: the Krylov bases of all points would need much memory.
    return jax.lax.map(lambda args: project(*args), (targets, starts, is_minimum))


@eqx.filter_jit
def _deflated_lanczos(
    objective: Objective,
    flat: Float[Array, " p"],
    known: Float[Array, "r p"],
    unravel: Callable,
    depth: int,
    run: Int[Array, ""],
) -> ExtremeEigenvalues:
    """Lanczos on the complement of the known eigenvectors."""
    product = hessian_product(risk_function(objective, unravel), flat)

    def outside(v: Array) -> Array:
        return v - (known @ v) @ known

    start = outside(random_direction(jax.random.fold_in(jax.random.key(0), run), flat))
    return lanczos(lambda v: outside(product(outside(v))), start, depth)


def _extend(
    values: np.ndarray, vectors: np.ndarray, new_values: np.ndarray, new_vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add Ritz pairs, in descending order, with the rows made orthonormal again."""
    order = np.argsort(-np.concatenate([values, new_values]), kind="stable")
    stacked = np.concatenate([vectors, new_vectors])
    stacked = stacked - 0.5 * (stacked @ stacked.T - np.eye(len(stacked))) @ stacked
    return np.concatenate([values, new_values])[order], stacked[order]
