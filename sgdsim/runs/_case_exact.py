"""What is known exactly about the exits of a case, and what the escape formulas say."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from sgdsim.problems import AbstractWells, Quadratic
from sgdsim.runs._case_result import CaseResult, constant_noise
from sgdsim.runs._passages import passage_times
from sgdsim.scenario import ConstantNoise, HalfSpaceRegion
from sgdsim.stagnation import (
    OrnsteinUhlenbeckExit,
    exact_exit_probability,
    exact_exit_rate,
    quasi_potential,
)


def exact_values(result: CaseResult, looks: Int[np.ndarray, " look"]) -> dict[str, Any]:
    """Exact laws and escape formulas, as far as they are known for the case.

    Returns
    -------
    dict
        Variables of ``/exits`` by name; empty for a case without theory.
    """
    if result.starts_outside or constant_noise(result.case.dynamics) is None:
        return {}
    kind, landscape = result.case.region.kind, result.bench.landscape
    values: dict[str, Any] = {}
    round_set = kind in ("ball", "tube") and not result.left_along_minima
    if isinstance(landscape, Quadratic) and round_set:
        values |= _of_quadratic(result, landscape, looks)
    if kind == "half_space" and landscape is not None:
        values |= _of_level(result)
    return values


def _noise_variances(result: CaseResult) -> np.ndarray:
    """Diagonal of the covariance of the noise of one step."""
    bench = result.bench
    assert bench.noise is not None
    problem = bench.known.training.astype(jnp.float64)
    return np.asarray(bench.noise.diagonal(problem, bench.centre), np.float64).ravel()


def _of_quadratic(result: CaseResult, landscape: Quadratic, looks: np.ndarray) -> dict[str, Any]:
    h = np.asarray(landscape.eigenvalues, np.float64)
    variances, radius = _noise_variances(result), float(result.bench.region.radius)
    m, eta = result.substeps, float(result.case.dynamics.learning_rate)
    isotropic_noise = np.ptp(variances) == 0 and not isinstance(
        constant_noise(result.case.dynamics), ConstantNoise
    )
    values: dict[str, Any] = {}
    normal = h > 0
    stable = bool(np.all(np.abs(1 - eta / m * h[normal]) < 1))
    if landscape.rotation is None and isotropic_noise and stable:
        values["quasi_potential"] = quasi_potential(
            np.diag(h[normal]), np.diag(variances[normal])
        ).exit_cost(radius)
        # The ball is left anywhere only if the bowl is round; else near its flattest axis.
        flattest = np.isclose(h[normal], h[normal].min())
        values["prefactor_power"] = float(flattest.sum()) / 2
    curvature = h[normal]
    if not (isotropic_noise and np.ptp(curvature) == 0 and m == 1):
        return values
    start = float(np.linalg.norm(np.asarray(result.bench.start)[h > 0]))
    rho = 1 - eta * float(curvature[0])
    sigma = eta * math.sqrt(float(variances[0]))
    chain = rho, sigma, curvature.size, radius
    exits = exact_exit_probability(*chain, start, max(int(looks[-1]), 1))
    exits = np.concatenate([[0.0], exits])
    values["exact_stay_probability"] = 1 - exits[looks]
    values["exact_exit_probability"] = exits[-1]
    values["exact_exit_rate"] = exact_exit_rate(*chain)
    if 0 <= 1 - rho < 1:
        process = OrnsteinUhlenbeckExit.of_chain(
            eta, float(curvature[0]), float(variances[0]), curvature.size, radius
        )
        values["exact_exit_time"] = process.mean_time(start)
    return values


def _of_level(result: CaseResult) -> dict[str, Any]:
    bench, region = result.bench, result.case.region
    landscape, start = bench.landscape, np.asarray(bench.start, np.float64)
    assert isinstance(region, HalfSpaceRegion)
    coordinate, level = region.coordinate, region.level
    variances = _noise_variances(result)
    if landscape is None or not (start.size == 1 or isinstance(landscape, AbstractWells)):
        return {}
    eta = float(result.case.dynamics.learning_rate)
    times = passage_times(
        landscape,
        jnp.asarray(start),
        (coordinate, level),
        diffusion=eta * float(variances[coordinate]) / 2,
        steps=(eta / result.substeps, eta),
    )
    values = {
        "exact_exit_time": times["corrected_escape_time"],
        "kramers_time": times["kramers_time"],
    }
    values["prefactor_power"] = 0.0
    if isinstance(landscape, AbstractWells) and np.isfinite(times["kramers_time"]):
        well = int(np.argmin(np.linalg.norm(np.asarray(landscape.minima) - start, axis=1)))
        # A gradient system with a = s I: V = 2 (U(saddle) - U(minimum))/s.
        values["quasi_potential"] = (
            2 * float(landscape.barrier[well]) / float(variances[coordinate])
        )
    elif start.size == 1:
        height = jax.vmap(landscape.risk)(jnp.asarray([[level], [float(bench.centre[0])]]))
        values["quasi_potential"] = 2 * float(height[0] - height[1]) / float(variances[0])
    return values
