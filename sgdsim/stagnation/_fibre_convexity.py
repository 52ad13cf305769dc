r"""Convexity sampled on the normal fibres of a set of minima, and where it ends."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree
from scipy.optimize import brentq

from sgdsim.problems import Problem, cast
from sgdsim.stagnation._convexity import sample_convexity
from sgdsim.stagnation._convexity_radius import ConvexityRadius
from sgdsim.stagnation._convexity_ratios import CONDITIONS, ConvexityRatios
from sgdsim.stagnation._fibres import Fibre


def sample_fibres(
    problem: Problem,
    fibres: Sequence[Fibre],
    radii: Float[np.ndarray, " radius"],
    *,
    learning_rate: float | int,
    project: Callable[[PyTree], PyTree] | None = None,
) -> ConvexityRatios:
    r"""Evaluate all convexity ratios on straight fibres through several points of a set of minima.

    Parameters
    ----------
    problem
        Whose empirical risk is L; a problem on a large fresh sample for the population risk. It is
        converted to float64.
    fibres
        Points p of M, from quenches, tangent walks or a formula, with normal directions.
    radii
        Radii rho > 0, strictly increasing, shape (radius,).
    learning_rate
        eta of the contraction ratio.
    project
        The true nearest minimum, ``project(theta) -> p(theta)`` on pytrees. Without it the nearest
        minimum of :math:`p + \rho v` is taken to be p, which holds within the reach of M.

    Returns
    -------
    ConvexityRatios
        Of all fibres, one after the other; ``fibre`` tells which. A pair of ESC lies within one
        fibre. If one of the points is no minimum, the whole sample says so.

    Raises
    ------
    ValueError
        There is no fibre, one has no direction, or `sample_convexity` refuses.

    Notes
    -----
    M is one connected set: the value of L at each p is its :math:`L^*`.
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    section 4.4.

    Examples
    --------
    On the sphere all ratios are the modulus, whatever the point:

    >>> import jax, jax.numpy as jnp, numpy as np
    >>> from sgdsim.problems import Sphere
    >>> from sgdsim.stagnation import normal_directions, sample_fibres
    >>> sphere = Sphere(2.0, dimension=3)
    >>> points = [jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, -1.0, 0.0])]
    >>> fibres = [normal_directions(sphere.problem(), p, jax.random.key(0)) for p in points]
    >>> radii = np.array([0.1, 0.5])
    >>> ratios = sample_fibres(sphere.problem(), fibres, radii, learning_rate=0.1)
    >>> np.nanquantile(ratios.ratio, [0.0, 1.0]).round(6).tolist()
    [2.0, 2.0]
    """
    if not fibres:
        raise ValueError("fibres is empty: there is no minimum to sample around")
    parts = []
    for number, fibre in enumerate(fibres):
        if not len(fibre.directions):
            raise ValueError(f"fibre {number} has no direction normal to the set of minima")
        risk, data, flat = _flat(problem, fibre, project)
        part = sample_convexity(
            risk.value_and_grad,
            data,
            flat,
            fibre.directions,
            radii,
            learning_rate=learning_rate,
            families=fibre.families,
            project=None if project is None else risk.project,
        )
        parts.append(replace(part, fibre=np.full(len(part.families), number)))

    def joined(name: str, axis: int = 0) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts], axis=axis)

    reasons = [
        f"fibre {number}: {fibre.assumption_violated}"
        for number, fibre in enumerate(fibres)
        if fibre.assumption_violated
    ]
    return ConvexityRatios(
        ratio=joined("ratio", 1),
        counted=joined("counted", 1),
        contraction=joined("contraction"),
        growth=joined("growth"),
        distance=joined("distance"),
        radii=parts[0].radii,
        families=tuple(name for part in parts for name in part.families),
        fibre=joined("fibre"),
        assumption_violated="; ".join(reasons),
    )


def refine_delta_star(
    problem: Problem,
    fibres: Sequence[Fibre],
    ratios: ConvexityRatios,
    found: ConvexityRadius,
    *,
    project: Callable[[PyTree], PyTree] | None = None,
) -> float:
    r"""Find where the restricted secant inequality fails along the worst direction.

    The root of :math:`\rho \mapsto \langle\nabla L(p + \rho v), u\rangle` between the shell before
    the first violation and that violation, by Brent's method (scipy).

    Parameters
    ----------
    problem, fibres, project
        What was sampled, as in `sample_fibres`.
    ratios, found
        Its result, and what `delta_star` makes of it.

    Returns
    -------
    float
        Distance from M at which the inequality fails first on that ray; ``found.value`` where the
        sample has no violation, and nan where that is nan.

    Notes
    -----
    Other rays may fail between the two shells, too, and unsampled ones earlier: the result bounds
    :math:`\delta^*` from above and improves on ``found.first_violation``.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, numpy as np
    >>> from sgdsim.problems import DoubleWell
    >>> from sgdsim.stagnation import (
    ...     delta_star, normal_directions, refine_delta_star, sample_fibres
    ... )
    >>> well = DoubleWell(1.0).problem()
    >>> fibres = [normal_directions(well, jnp.ones(1), jax.random.key(0), count=1)]
    >>> radii = np.array([0.3, 0.6, 0.9, 1.2])
    >>> ratios = sample_fibres(well, fibres, radii, learning_rate=0.1)
    >>> round(refine_delta_star(well, fibres, ratios, delta_star(ratios)), 9)
    1.0
    """
    if math.isnan(found.value) or not found.bounded:
        return found.value
    direction, shell, sign = found.worst
    fibre = fibres[int(ratios.fibre[direction])]
    within = np.flatnonzero(ratios.fibre == ratios.fibre[direction])
    vector = fibre.directions[direction - within[0]] * (1.0, -1.0)[sign]
    risk, data, flat = _flat(problem, fibre, project)

    @eqx.filter_jit
    def at(data: tuple, flat: Array, rho: Array) -> tuple[Array, Array]:
        theta = flat + rho * jnp.asarray(vector)
        away = theta - (flat if project is None else risk.project(data, theta))
        return risk.value_and_grad(data, theta)[1] @ away, jnp.linalg.norm(away)

    def secant(rho: float) -> float:
        return float(at(data, jnp.asarray(flat), jnp.asarray(rho))[0])

    high = float(ratios.radii[shell])
    good = ratios.ratio[CONDITIONS.index("RSI"), direction, :shell, sign] > 0
    if not good.any():
        return found.first_violation
    low = float(ratios.radii[:shell][good][-1])
    with jax.enable_x64(True):
        if not secant(high) < 0.0:
            return found.first_violation
        root = float(np.asarray(brentq(secant, low, high, xtol=1e-12 * high)))
        return float(at(data, jnp.asarray(flat), jnp.asarray(root))[1])


class _FlatRisk(eqx.Module):
    """Risk and projection on flat vectors; static, so that fibres share one compiled program."""

    unravel: Callable = eqx.field(static=True)

    def value_and_grad(self, data: tuple, theta: Array) -> tuple[Array, Array]:
        problem, _ = data
        return jax.value_and_grad(lambda v: problem.empirical_risk(self.unravel(v)))(theta)

    def project(self, data: tuple, theta: Array) -> Array:
        _, project = data
        return ravel_pytree(project(self.unravel(theta)))[0]


def _flat(
    problem: Problem, fibre: Fibre, project: Callable[[PyTree], PyTree] | None
) -> tuple[_FlatRisk, tuple, np.ndarray]:
    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(cast(fibre.point, jnp.float64))
        return _FlatRisk(unravel), (problem.astype(jnp.float64), project), np.asarray(flat)
