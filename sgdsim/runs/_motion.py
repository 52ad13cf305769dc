"""How low-dimensional the motion around the minimum is, at every probe."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Float

from sgdsim.curvature import hessian_product
from sgdsim.dynamics import AbstractGradientNoise
from sgdsim.problems import Network, Problem, stream
from sgdsim.stagnation import (
    participation_ratio,
    subspace_angles,
    top_space_energy,
    top_subspace,
)

_FEWEST = 5  # trajectories from which a participation ratio can be estimated without bias


def top_spaces(
    problem: Problem,
    centre: Network,
    noise: AbstractGradientNoise | None,
    rank: int,
    seed: int,
) -> tuple[Float[np.ndarray, "r p"], dict[str, Any]]:
    """Top Hessian eigenspace at the minimum, and how far it is that of the noise.

    Parameters
    ----------
    problem, centre
        Training problem and its minimum, float64.
    noise
        Model of the gradient noise; ``None`` without noise.
    rank
        Dimension asked for.
    seed
        Seed of the start vectors.

    Returns
    -------
    space
        Orthonormal rows, padded with zeros.
    values
        Variables of ``/curvature``.
    """
    size = ravel_pytree(centre)[0].size
    rank = min(rank, size)
    of_hessian, of_noise = jax.random.split(jax.random.fold_in(stream(seed, "convexity"), 1))
    rows = top_subspace(Partial(_hessian, problem, centre), centre, rank, of_hessian).vectors
    space = np.zeros((rank, size))
    space[: len(rows)] = rows
    values: dict[str, Any] = {
        "parameters": np.int32(size),
        "top_space_energy_null": len(rows) / size,
    }
    if noise is not None and len(rows):
        product = Partial(_covariance, noise, problem, centre)
        noisy = top_subspace(product, centre, rank, of_noise).vectors
        if len(noisy):
            found = subspace_angles(rows, noisy)
            values |= {
                "hessian_noise_overlap": found.overlap,
                "hessian_noise_overlap_null": found.null_overlap,
                "hessian_noise_angle": found.angles[0],
            }
    return space, values


# Operators as pytrees: the points of a sweep then share their compiled search.
def _hessian(problem: Problem, centre: Network, v: Network) -> Network:
    return hessian_product(problem.empirical_risk, centre)(v)


def _covariance(
    noise: AbstractGradientNoise, problem: Problem, centre: Network, v: Network
) -> Network:
    return noise.covariance(problem, centre)(v)


class Motion:
    """Measures the displacements of all trajectories of one probe.

    Parameters
    ----------
    centre
        Minimum on the training rows.
    space
        Rows that span the top Hessian eigenspace there; zero rows are left out.
    confidence
        Of the interval of the participation ratio.
    """

    def __init__(self, centre: Network, space: Float[np.ndarray, "r p"], confidence: float):
        self._centre = np.asarray(ravel_pytree(jax.tree.map(jnp.asarray, centre))[0], np.float64)
        self._space = space[np.linalg.norm(space, axis=1) > 0.5]
        self._confidence = confidence

    def __call__(self, theta: Float[np.ndarray, "trajectory p"]) -> dict[str, np.ndarray]:
        """Variables of ``/curvature`` for one probe; NaN where too few trajectories have moved."""
        alive = theta[np.isfinite(theta).all(axis=1)].astype(np.float64)
        values = dict.fromkeys(
            (
                "participation_ratio",
                "participation_ratio_low",
                "participation_ratio_high",
                "top_space_energy",
                "top_space_energy_stderr",
            ),
            np.nan,
        )
        if len(alive) >= _FEWEST:
            found = participation_ratio(alive, self._confidence)
            values |= {
                "participation_ratio": found.corrected,
                "participation_ratio_low": found.low,
                "participation_ratio_high": found.high,
            }
        # At the start all are at the minimum, up to the rounding of the simulation.
        if len(self._space) and len(alive) > 1 and np.any(alive != alive[0]):
            energy = top_space_energy(alive - self._centre, self._space)
            values |= {
                "top_space_energy": energy.share,
                "top_space_energy_stderr": energy.stderr,
            }
        return {name: np.array([value]) for name, value in values.items()}
