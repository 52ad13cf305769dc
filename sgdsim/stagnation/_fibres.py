r"""Normal fibres of a set of minima: a point of it and directions normal to it."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from sgdsim._checks import check_count
from sgdsim.curvature import ExtremeEigenvalues, hessian_product, lanczos, random_direction
from sgdsim.dynamics import AbstractGradientNoise
from sgdsim.problems import Problem, cast

# A vector of which less than this share is normal to the set gives no direction.
_TANGENT = 1e-8


@dataclass(frozen=True, kw_only=True)
class Fibre:
    r"""A minimum p of a set M and unit vectors normal to M at p.

    Parameters
    ----------
    point
        p, the pytree that the problem takes, float64.
    directions
        Unit vectors v, flat, shape (direction, p).
    gradient_norm
        :math:`\|\nabla L(p)\|`; small against ``rho`` times the curvature for the ratios at rho.
    families
        "top", "bottom", "random" or "noise", for every direction.
    curvatures
        :math:`v^\top H v`, to which the ratios along v tend for small radii.
    eigenvalues, residuals
        Ritz values of the Hessian above the tolerance, ascending, and how near to each of them
        some eigenvalue lies: the normal spectrum, as far as it was resolved.
    tolerance
        Curvature below which a direction counts as tangent to M.
    unresolved
        Bound on the share of the squared length of a sampled vector that was taken for normal
        though tangent, or the other way round, as too few Hessian products were made.
    assumption_violated
        Why p is no minimum, with the negative eigenvalue; "" if none was found.
    """

    point: PyTree
    directions: Float[np.ndarray, "direction p"]
    gradient_norm: float
    families: tuple[str, ...]
    curvatures: Float[np.ndarray, " direction"]
    eigenvalues: Float[np.ndarray, " eigenvalue"]
    residuals: Float[np.ndarray, " eigenvalue"]
    tolerance: float
    unresolved: float
    assumption_violated: str = ""


def normal_directions(
    problem: Problem,
    point: PyTree,
    key: Key[Array, ""],
    *,
    count: int = 8,
    ends: int = 2,
    noise: AbstractGradientNoise | None = None,
    depth: int = 100,
    tolerance: float = 1e-6,
) -> Fibre:
    r"""Draw directions normal to the set of minima at one of its points, matrix-free.

    The normal space is spanned by the eigenvectors of the Hessian with an eigenvalue above
    ``tolerance`` times the largest one. The families are its ends, "top" and "bottom" (smallest
    positive), "random" (isotropic in the normal space) and "noise"
    (:math:`\Sigma^{1/2}N(0, I)`, projected on it).

    Parameters
    ----------
    problem
        Whose empirical risk is L. For the *population* risk give a problem with a large fresh
        sample: every point is then evaluated on the same rows (common random numbers). It is
        converted to float64.
    point
        The minimum p, any pytree.
    key
        Random key.
    count
        Vectors in each of the families "random" and "noise".
    ends
        Most eigenvectors in each of the families "top" and "bottom".
    noise
        Noise model of the family "noise", which is left out without one.
    depth
        Hessian products per vector.
    tolerance
        Relative to the largest eigenvalue.

    Returns
    -------
    Fibre
        With negative curvature below minus the tolerance it says so, and every radius derived
        from it will be nan.

    Raises
    ------
    ValueError
        A count is not positive, the tolerance is not in (0, 1), or no curvature is positive.

    Notes
    -----
    A vector is projected in its own Krylov space, :math:`Pw = \sum_{\lambda_j > tol}
    y_j y_j^\top w`, which is exact once ``depth`` exceeds the number of distinct eigenvalues.
    With fewer products ``unresolved`` bounds the error: of a Ritz vector with value l and residual
    e at most the share :math:`(e/|l - tol|)^2` is on the wrong side. A vector without a
    normal part is dropped, and so is noise at the level of rounding errors (interpolation). Of a
    multiple eigenvalue one eigenvector is found.
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    section 4.4.

    Examples
    --------
    A valley whose floor is the third axis:

    >>> import jax, jax.numpy as jnp
    >>> from sgdsim.problems import Quadratic
    >>> from sgdsim.stagnation import normal_directions
    >>> valley = Quadratic([4.0, 1.0, 0.0]).problem()
    >>> fibre = normal_directions(valley, jnp.array([0.0, 0.0, 5.0]), jax.random.key(0), count=3)
    >>> fibre.eigenvalues.round(6).tolist(), abs(fibre.directions[:, 2]).max().round(9).item()
    ([1.0, 4.0], 0.0)
    """
    for name, value in (("count", count), ("ends", ends), ("depth", depth)):
        check_count(name, value)
    if not 0.0 < tolerance < 1.0:
        raise ValueError(f"tolerance must be in (0, 1), got {tolerance:g}: it is a relative gap")
    with jax.enable_x64(True):
        problem, point = problem.astype(jnp.float64), cast(point, jnp.float64)
        start, *keys = jax.random.split(key, 2 * count + 1)
        random = [random_direction(own, point) for own in keys[:count]]
        noisy = [] if noise is None else [noise.sample(own, problem, point) for own in keys[count:]]
        vectors = [ravel_pytree(v)[0] for v in [random_direction(start, point), *random, *noisy]]
        ritz = _krylov(problem, point, jnp.stack(vectors), depth)
        values, residuals, rows = (np.asarray(a) for a in ritz)
        starts = np.asarray(jnp.stack(vectors))
        size = float(jnp.linalg.norm(ravel_pytree(point)[0]))
    largest = float(values[0, -1])
    cut = tolerance * largest
    if not largest > 0.0:
        raise ValueError(
            f"the largest Hessian eigenvalue at the point is {largest:.3g}: no direction is normal "
            "to a set of minima there"
        )
    lowest = values.min(axis=1).argmin()
    reason = ""
    if values[lowest, 0] < -max(cut, float(residuals[lowest, 0])):
        reason = (
            f"the point is no minimum: its Hessian has the eigenvalue {values[lowest, 0]:.4g} "
            f"(residual {residuals[lowest, 0]:.1e})"
        )

    certain = np.flatnonzero((np.linalg.norm(rows[0], axis=1) > 0.5) & (values[0] > cut))
    resolved = certain[values[0, certain] - residuals[0, certain] > cut]
    normal, unresolved = _normal_parts(starts[1:], values[1:], residuals[1:], rows[1:], cut)
    families = np.array(["random"] * count + ["noise"] * (len(starts) - 1 - count), object)
    lengths, whole = np.linalg.norm(normal, axis=1), np.linalg.norm(starts[1:], axis=1)
    # Noise that the rounding errors of a gradient explain has no direction: interpolation.
    silent = 1e-12 * largest * (1.0 + size)
    kept = (lengths > _TANGENT * whole) & ((families == "random") | (whole > silent))
    directions = np.concatenate(
        [rows[0, resolved[-ends:]], rows[0, resolved[:ends]], normal[kept] / lengths[kept, None]]
    )
    names = ["top"] * len(resolved[-ends:]) + ["bottom"] * len(resolved[:ends]) + [*families[kept]]
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    with jax.enable_x64(True):
        curvatures, gradient_norm = _curvatures(problem, point, jnp.asarray(directions))
    return Fibre(
        point=point,
        directions=directions,
        families=tuple(names),
        gradient_norm=float(gradient_norm),
        curvatures=np.asarray(curvatures),
        eigenvalues=values[0, certain],
        residuals=residuals[0, certain],
        tolerance=cut,
        unresolved=unresolved,
        assumption_violated=reason,
    )


@eqx.filter_jit
def _krylov(
    problem: Problem, point: PyTree, starts: Float[Array, "vector p"], depth: int
) -> ExtremeEigenvalues:
    """Ritz pairs of the Hessian from every start vector, a leading axis over them."""
    flat, unravel = ravel_pytree(point)
    product = hessian_product(lambda v: problem.empirical_risk(unravel(v)), flat)
    return jax.lax.map(lambda start: lanczos(product, start, depth), starts)


@eqx.filter_jit
def _curvatures(problem: Problem, point: PyTree, directions: Array) -> tuple[Array, Array]:
    """Second derivative along every direction, and the norm of the gradient."""
    flat, unravel = ravel_pytree(point)

    def risk(v: Array) -> Array:
        return problem.empirical_risk(unravel(v))

    product = hessian_product(risk, flat)
    return (
        jax.lax.map(lambda v: v @ product(v), directions),
        jnp.linalg.norm(jax.grad(risk)(flat)),
    )


def _normal_parts(
    starts: Float[np.ndarray, "vector p"],
    values: Float[np.ndarray, "vector depth"],
    residuals: Float[np.ndarray, "vector depth"],
    rows: Float[np.ndarray, "vector depth p"],
    cut: float,
) -> tuple[Float[np.ndarray, "vector p"], float]:
    """Parts with Ritz values above the cut, and a bound on the share that is misjudged."""
    weights = np.einsum("vdp,vp->vd", rows, starts)
    normal = np.einsum("vd,vdp->vp", np.where(values > cut, weights, 0.0), rows)
    # (A - value) y is at least |value - cut| times the part of y on the wrong side of the cut.
    apart = np.abs(values - cut)
    wrong = np.where(residuals < apart, residuals / np.where(apart > 0, apart, 1.0), 1.0)
    squares = np.sum(starts**2, axis=1)
    share = np.sum(np.abs(weights) * wrong, axis=1) ** 2 / np.where(squares > 0, squares, 1.0)
    return normal, float(min(1.0, share.max(initial=0.0)))
