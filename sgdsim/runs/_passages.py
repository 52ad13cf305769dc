"""Passage times over a level of one coordinate: Kramers, exact, corrected for finite steps."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.problems import AbstractLandscape, AbstractWells
from sgdsim.stagnation import kramers_time, mean_first_passage_time


def passage_times(
    landscape: AbstractLandscape,
    start: Float[Array, " d"],
    target: tuple[int, float],
    diffusion: float,
    steps: tuple[float, float],
) -> dict[str, float]:
    """Mean time until a coordinate of Langevin dynamics exceeds a level.

    Parameters
    ----------
    landscape
        In one dimension, or one whose risk is separable in the coordinate.
    start
        Start, shape (d,).
    target
        Coordinate and level.
    diffusion
        D of the Ito equation.
    steps
        Length of an integration step, and time between two looks at the trajectory.

    Returns
    -------
    dict
        ``kramers_time`` (NaN where no saddle lies between), ``exact_escape_time`` and
        ``corrected_escape_time``, in units of t = eta k; NaN where the theory has none.
    """
    coordinate, level = target
    bottom = np.asarray(landscape.project(start))

    def potential(x: np.ndarray) -> np.ndarray:
        points = np.tile(bottom, (len(x), 1))
        points[:, coordinate] = x
        return np.asarray(jax.vmap(landscape.risk)(jnp.asarray(points)))

    origin = float(start[coordinate])
    passage = functools.partial(mean_first_passage_time, potential, diffusion, origin, level)
    return {
        "kramers_time": _over_the_saddle(landscape, start, target, diffusion),
        "exact_escape_time": _or_nan(passage),
        # Exits are looked for once per learning rate, whatever the step of the integrator.
        "corrected_escape_time": _or_nan(
            functools.partial(passage, step_size=steps[0], monitoring_step=steps[1])
        ),
    }


def _over_the_saddle(
    landscape: AbstractLandscape,
    start: Float[Array, " d"],
    target: tuple[int, float],
    diffusion: float,
) -> float:
    """Kramers' time, which speaks of the way over the saddle between start and level."""
    coordinate, level = target
    if not isinstance(landscape, AbstractWells) or coordinate != 0:
        return np.nan
    if not float(start[0]) < float(landscape.saddle[0]) <= level:
        return np.nan
    well = int(jnp.argmin(jnp.linalg.norm(landscape.minima - start, axis=1)))
    return kramers_time(
        float(landscape.barrier[well]),
        float(landscape.curvature_minimum[well]),
        float(landscape.curvature_saddle),
        diffusion,
    )


def _or_nan(passage: Callable[[], float]) -> float:
    """Passage time, NaN where the theory has none: the run is over, and its data must be kept."""
    try:
        return passage()
    except ValueError:
        return np.nan
