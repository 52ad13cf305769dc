"""Exit bounds of a case: from proved constants and, beside them, from sampled ones."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Int

from sgdsim.dynamics import probe_noise
from sgdsim.problems import LinearRegression, Problem, Quadratic, Sphere, cast, stream
from sgdsim.runs._case_result import (
    CaseResult,
    constant_noise,
    euclidean_radius,
)
from sgdsim.runs._evidence import EvidenceBounds, tabulate_evidence
from sgdsim.runs._plain import why_not_plain
from sgdsim.scenario import ConstantNoise, Evaluation
from sgdsim.stagnation import (
    CONDITIONS,
    ConvexityRatios,
    Fibre,
    Proved,
    Sampled,
    StayStatement,
    delta_star,
    hessian_spectrum,
    linear_regression_constants,
    log_tail_from_second_moment,
    mean_exit_time_bound,
    normal_directions,
    quadratic_constants,
    sample_fibres,
    sampled_maximum,
    sampled_minimum,
    stagnation_number,
    stationary_radius,
    stay_lower_bound,
    summarise_convexity,
)
from sgdsim.store import EVIDENCE

_SMALLEST = 0.05
_DEPTH = 200
_NOISE_POINTS = 12

Sources = dict[str, Proved | Sampled]


def exit_bounds(
    result: CaseResult, looks: Int[np.ndarray, " look"], evaluation: Evaluation
) -> EvidenceBounds:
    """Evaluate every bound on exits that the case allows, by certificate and by plug-in."""
    values: dict[str, Any] = {}
    sentences: dict[str, str] = {}
    statements: dict[str, StayStatement] = {}
    proved, sampled, missing = _sources(result, evaluation, values)
    for kind, sources in zip(EVIDENCE, (proved, sampled), strict=True):
        if sources is None:
            sentences[kind] = f"no {kind}: {missing[kind]}"
            continue
        statements[kind] = StayStatement(sources)
        sentences[kind] = str(statements[kind])
    steps = looks.astype(np.int64) * result.substeps
    best = statements.get("certificate") or statements.get("plug-in")
    if best is not None:
        eta = float(result.case.dynamics.learning_rate)
        values["mean_exit_time_bound"] = (
            float(mean_exit_time_bound(best.constants)) * eta / result.substeps
        )
        values["second_moment_stay_bound"] = stay_lower_bound(
            log_tail_from_second_moment(best.constants, steps)
        )
    values |= tabulate_evidence(statements, steps)
    return EvidenceBounds(values, sentences, statements)


def _sources(
    result: CaseResult, evaluation: Evaluation, values: dict[str, Any]
) -> tuple[Sources | None, Sources | None, dict[str, str]]:
    """Constants by proof and by sampling; where there are none, the reasons by evidence."""
    deviations = result.bench.known.deviations()
    values |= {
        "gradient_deviation": deviations.gradient,
        "hessian_deviation": deviations.hessian,
    }
    reason = why_not_plain(result.case.dynamics)
    if math.isnan(euclidean_radius(result.case)):
        reason = "the bounds are about Euclidean distance to the minima; take ball or tube"
    if result.left_along_minima:
        reason = "the ball is also left along the minima, which no bound sees; take tube"
    if reason:
        return None, None, dict.fromkeys(EVIDENCE, reason)
    common: Sources = {
        "radius": Proved(euclidean_radius(result.case), "chosen"),
        "start_distance": Proved(_start_distance(result), "computed"),
    }
    proved, missing = _proved(result), "no constant is proved on the whole set"
    sampled = _sampled(result, evaluation, values)
    return (
        None if proved is None else proved | common,
        None if sampled is None else sampled | common,
        {"certificate": missing, "plug-in": "evaluation.directions is 0, nothing was sampled"},
    )


def _start_distance(result: CaseResult) -> float:
    bench = result.bench
    start = bench.start
    nearest = bench.centre if bench.landscape is None else bench.landscape.project(start)
    gap = jax.tree.map(lambda a, b: a - b, start, nearest)
    return float(jnp.linalg.norm(ravel_pytree(gap)[0]))


def _proved(result: CaseResult) -> Sources | None:
    """Constants that are proved on the whole set, if they are."""
    bench, dynamics = result.bench, result.case.dynamics
    noise = constant_noise(dynamics)
    if noise is None:
        return None
    eta, m = float(dynamics.learning_rate) / result.substeps, result.substeps
    known = bench.known
    if isinstance(known, LinearRegression) and not isinstance(noise, ConstantNoise):
        rows = known.rows
        inputs = np.asarray(rows.inputs, np.float64)
        residuals = np.asarray(rows.targets, np.float64) - inputs @ np.asarray(known.truth)
        variance = m * _noise_trace(result) / inputs.shape[1]
        return dict(linear_regression_constants(inputs, residuals, eta, variance))
    landscape = bench.landscape
    if isinstance(landscape, Quadratic):
        eigenvalues = np.asarray(landscape.eigenvalues, np.float64)
        variances = m * _noise_spectrum(result)
        normal = eigenvalues > 0
        # Only isotropic noise has a known normal part; else all of it counts, which is safe.
        if np.ptp(variances) == 0:
            variances = variances[normal]
        return dict(quadratic_constants(eigenvalues[normal], eta, variances))
    if isinstance(landscape, Sphere):
        modulus = float(landscape.modulus)
        size = result.bench.start.size
        variances = m * _noise_spectrum(result)
        found = quadratic_constants(np.full(size, modulus), eta, variances)
        straight = Proved(found["contraction"].value, "straight fibres of curvature modulus")
        return {**found, "contraction": straight}
    return None


def _noise_spectrum(result: CaseResult) -> np.ndarray:
    """Eigenvalues of a constant covariance, per step of the process."""
    noise = constant_noise(result.case.dynamics)
    size = ravel_pytree(result.bench.centre)[0].size
    if isinstance(noise, ConstantNoise):
        return np.linalg.eigvalsh(np.asarray(noise.covariance, np.float64))
    return np.full(size, _noise_trace(result) / size)


def _noise_trace(result: CaseResult) -> float:
    bench = result.bench
    assert bench.noise is not None
    noise = cast(bench.noise, jnp.float64)
    return float(noise.trace(bench.known.training.astype(jnp.float64), bench.centre))


def _sampled(result: CaseResult, evaluation: Evaluation, values: dict[str, Any]) -> Sources | None:
    """Constants from samples of the set, and what the samples say about its convexity."""
    bench, dynamics = result.bench, result.case.dynamics
    eta, m = float(dynamics.learning_rate) / result.substeps, result.substeps
    population = bench.known.population.astype(jnp.float64)
    noise = cast(bench.noise, jnp.float64)
    training = bench.known.training.astype(jnp.float64)
    if not evaluation.directions:
        return None
    key = stream(result.number, "convexity")
    fibre = normal_directions(population, bench.centre, key, count=evaluation.directions)
    if result.case.region.kind == "ball":
        fibre = _with_flattest(population, fibre)
    radius = euclidean_radius(result.case)
    radii = radius * np.geomspace(1.0, _SMALLEST, evaluation.radii)[::-1]
    landscape = bench.landscape
    ratios = sample_fibres(
        population,
        [fibre],
        radii,
        learning_rate=eta,
        project=None if landscape is None else landscape.project,
    )
    values |= _convexity_values(ratios, evaluation.confidence)
    omega = values["hessian_deviation"]
    contraction = sampled_maximum(
        ratios.contraction.ravel() + eta * omega, evaluation.confidence, method="contraction"
    )
    modulus = sampled_minimum(
        ratios.ratio[CONDITIONS.index("RSI"), :, :, :2].ravel(), evaluation.confidence
    )
    if constant_noise(dynamics) is not None:
        spectrum = m * _noise_spectrum(result)
        trace = Proved(float(spectrum.sum()), "constant noise covariance")
        norm = Proved(float(spectrum.max()), "constant noise covariance")
        values["effective_rank"] = trace.value / norm.value
    else:
        traces, norms = _noise_samples(noise, training, (bench.centre, fibre), radius)
        trace = sampled_maximum(m * traces, evaluation.confidence, method="noise trace")
        norm = sampled_maximum(m * norms, evaluation.confidence, method="noise operator norm")
        values["effective_rank"] = traces[0] / norms[0]
    # Without a contraction there is no stationary state.
    if modulus.value > 0 and contraction.value < 1:
        spread = stationary_radius(eta, modulus.value, trace.value)
        values["stationary_radius"] = spread
        values["stagnation_number"] = stagnation_number(values["delta_star"], spread)
    return {
        "learning_rate": Proved(eta, "chosen"),
        "contraction": contraction,
        "noise_operator_norm": norm,
        "noise_trace": trace,
        "gradient_bias": Sampled(
            values["gradient_deviation"],
            values["gradient_deviation"],
            values["gradient_deviation"],
            bench.known.training.n,
            "measured at the centre",
        ),
    }


def _with_flattest(population: Problem, fibre: Fibre) -> Fibre:
    """Add the flattest direction, which a tube is free in and a ball is left along."""
    smallest = hessian_spectrum(population, fibre.point, _DEPTH)
    flattest = np.asarray(smallest.vectors[0], np.float64)
    return dataclasses.replace(
        fibre,
        directions=np.concatenate([fibre.directions, flattest[None] / np.linalg.norm(flattest)]),
        families=(*fibre.families, "bottom"),
        curvatures=np.append(fibre.curvatures, float(smallest.values[0])),
    )


def _convexity_values(ratios: ConvexityRatios, confidence: float) -> dict[str, Any]:
    summary = summarise_convexity(ratios, confidence)
    return {
        "delta_star": delta_star(ratios).value,
        "shell_radius": ratios.radii,
        "convexity_ratio_minimum": summary.minimum[: len(CONDITIONS)],
        "convexity_violation_fraction_high": summary.violation_fraction_high[: len(CONDITIONS)],
    }


def _noise_samples(
    noise: Any, problem: Problem, ball: tuple[Any, Fibre], radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Trace and operator norm of the noise at the centre and at points of the set."""
    centre, fibre = ball
    flat, unravel = ravel_pytree(centre)
    chosen = np.linspace(0, len(fibre.directions) - 1, _NOISE_POINTS).astype(int)
    points = [flat] + [
        flat + sign * radius * jnp.asarray(fibre.directions[i])
        for i in np.unique(chosen)
        for sign in (0.5, 1.0, -1.0)
    ]
    measured = [_probe(noise, problem, unravel(point)) for point in points]
    traces = np.array([float(one.trace) for one in measured])
    norms = np.array([float(one.operator_norm + one.operator_norm_residual) for one in measured])
    return traces, norms


@jax.jit
def _probe(noise: Any, problem: Problem, theta: Any) -> Any:
    return probe_noise(noise, problem, theta, stream(1, "noise"))
