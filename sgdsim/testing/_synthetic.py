"""A small made-up run, written through the store layer, for tests of whatever reads runs."""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy import stats

from sgdsim.store import CONDITIONS, DIRECTIONS, TERMS, PointStore, RunStore

_STEPS, _RECORD_EVERY, _CHUNK_STEPS = 200, 10, 50
_DIMENSION, _MEMORY, _NOISE, _RADIUS = 8, 0.9, 0.02, 0.22
_BOUNDS = {
    "centre_lipschitz": "certificate",
    "spectral_entropy": "certificate",
    "pac_bayes": "certificate",
    "path_norm": "measure",
}
_RADII = np.geomspace(0.01, _RADIUS, 6)
_DETAILS = {
    "wall_seconds": 0.0,
    "verdict": "A made-up run.",
    "stay_statement": "Made-up constants.",
    "combined_statement": "Nothing is claimed.",
    "convexity_statement": "Made-up ratios.",
    "basin_statement": "Made-up basins.",
}


def synthetic_run(
    folder: Path,
    *,
    trajectories: int = 12,
    diverged: int = 1,
    applicable: bool = True,
    finished: bool = True,
    precision: str = "float32",
    seed: int = 0,
) -> Path:
    r"""Fabricate a run: an autoregression in place of SGD, invented curvature and bounds.

    Distances are norms of ``theta' = 0.9 theta + 0.02 N(0, I_8)``, watched at every step; exits,
    stay probabilities and their Clopper-Pearson limits follow from them. Theory S2 is informative,
    S1 informative at first, S0 vacuous. The certificate ``spectral_entropy`` is vacuous and
    ``pac_bayes`` violates an assumption (NaN). No number here comes from a simulator.

    Parameters
    ----------
    folder
        Run folder to create.
    trajectories
        Number of trajectories, at least 2.
    diverged
        How many of them diverge half-way.
    applicable
        Whether the exit bounds apply; if not they are NaN.
    finished
        Whether the store gets its final name.
    precision
        ``"float32"`` or ``"float64"``.
    seed
        Seed of the made-up numbers.

    Returns
    -------
    pathlib.Path
        ``folder``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(dict(open_run(synthetic_run(Path(folder)))["trajectory"].loss.sizes))
    {'trajectory': 12, 'step': 21}
    """
    random = np.random.default_rng(seed)
    step = np.arange(0, _STEPS + 1, _RECORD_EVERY)
    probe = np.arange(0, _STEPS + 1, _CHUNK_STEPS)
    store = RunStore.create(
        folder / "run.zarr.partial",
        coords=_coordinates(trajectories, step, probe),
        attrs=_attributes(precision, seed),
        precision=precision,
        chunk_sizes={"step": _CHUNK_STEPS // _RECORD_EVERY, "probe": 1},
    )
    point = store.point()
    point.write_coords({"time": 0.1 * step, "convexity_radius": _RADII})
    distance = _distances(random, trajectories, diverged)
    _write_trajectories(point, distance, step, precision)
    _write_stagnation(point, distance, step, applicable)
    _write_convexity(point, random)
    alive = np.where(np.isnan(distance[:, probe]), np.nan, 1.0)
    _write_curvature(point, random, alive)
    _write_bounds(point, random, alive)
    excess = np.array([-0.02, 0.001])
    point.write(
        "claims",
        {
            "measured": excess,
            "expected_low": np.array([-np.inf, 0.0]),
            "expected_high": np.array([0.0, np.inf]),
            "holds": np.array([True, True]),
        },
    )
    point.set_attrs(_DETAILS)
    point.set_status("done")
    if finished:
        store.finish(folder / "run.zarr")
    return folder


def _coordinates(trajectories: int, step: np.ndarray, probe: np.ndarray) -> dict:
    return {
        "trajectory": range(trajectories),
        "step": step,
        "probe": probe,
        "shell": range(len(_RADII)),
        "bound": list(_BOUNDS),
        "kind": list(_BOUNDS.values()),
        "layer": [0, 1],
        "claim": [0, 1],
        "quantity": ["stay_bound_excess", "certificate_slack"],
        "text": ["The lower bound S2 is below the measured probability.", "No certificate lies."],
        "source": ["theorem S2", "definition of a certificate"],
    }


def _attributes(precision: str, seed: int) -> dict[str, str | int | float]:
    scenario = {
        "name": "synthetic",
        "title": "A made-up run",
        "stagnation": {"confidence": 0.95},
        "compute": {"precision": precision},
    }
    return {
        "scenario": json.dumps(scenario, sort_keys=True, separators=(",", ":")),
        "scenario_digest": "0" * 64,
        "title": "A made-up run",
        "versions": "{}",
        "backend": "cpu",
        "device": "none",
        "device_count": 1,
        "mapping": "map",
        "seed": seed,
        "created_at": "2025-01-01T00:00:00+00:00",
    }


def _distances(
    random: np.random.Generator, trajectories: int, diverged: int
) -> Float[np.ndarray, "trajectory every_step"]:
    theta = np.zeros((trajectories, _DIMENSION))
    distance = np.zeros((trajectories, _STEPS + 1))
    for k in range(1, _STEPS + 1):
        theta = _MEMORY * theta + _NOISE * random.standard_normal(theta.shape)
        distance[:, k] = np.linalg.norm(theta, axis=1)
    distance[trajectories - diverged :, _STEPS // 2 + 3 :] = np.nan
    return distance


def _write_trajectories(
    point: PointStore,
    distance: Float[np.ndarray, "trajectory every_step"],
    step: np.ndarray,
    precision: str,
) -> None:
    at = distance[:, step]
    bad = np.isnan(distance)
    ever = bad.any(axis=1)
    observables = {
        "loss": 0.3 + at**2,
        "test_risk": 0.35 + at**2,
        "error_rate": 0.05 + 0.1 * at,
        "test_error_rate": 0.08 + 0.1 * at,
        "gradient_norm": 2 * at,
        "distance": at,
    }
    inside = np.where(np.isnan(at), 0, at <= _RADIUS).astype(np.int8)
    chunk = _CHUNK_STEPS // _RECORD_EVERY
    for start in range(0, len(step), chunk):
        part = slice(start, min(start + chunk, len(step)))
        values = {name: value[:, part].astype(precision) for name, value in observables.items()}
        point.write("trajectory", {**values, "inside": inside[:, part]}, {"step": part})
    point.write(
        "trajectory",
        {
            "status": np.where(ever, 2, 1).astype(np.int8),
            "diverged_step": np.where(ever, bad.argmax(axis=1), -1).astype(np.int32),
        },
    )


def _write_stagnation(
    point: PointStore,
    distance: Float[np.ndarray, "trajectory every_step"],
    step: np.ndarray,
    applicable: bool,
) -> None:
    # A diverged trajectory has left the set: NaN compares as outside.
    outside = ~(distance <= _RADIUS)
    exited = outside.any(axis=1)
    exit_step = np.where(exited, outside.argmax(axis=1), -1).astype(np.int32)
    count = len(distance)
    stayed = np.array([np.sum(~exited | (exit_step > k)) for k in step])
    squared = distance**2
    alive = np.sum(~np.isnan(squared[:, step]), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN once all have diverged
        ensemble = np.nansum(squared[:, step], axis=0) / alive
        spread = np.sqrt(np.nansum((squared[:, step] - ensemble) ** 2, axis=0)) / alive
    stationary = _NOISE**2 * _DIMENSION / (1 - _MEMORY**2)
    log_exit = np.stack(
        [np.log1p(30.0 * step), np.log(0.02 + 0.02 * step), np.log(1e-6 + 3e-3 * step)]
    )
    if not applicable:
        log_exit = np.full_like(log_exit, np.nan)
    point.write(
        "stagnation",
        {
            "entry_step": np.zeros(count, np.int32),
            "exit_step": exit_step,
            "exited": exited,
            "occupancy": np.mean(~outside, axis=1),
            "mean_squared_distance": np.mean(squared[:, _STEPS // 2 :], axis=1),
            "max_distance": np.fmax.reduce(distance, axis=1),
            "stay_probability": stayed / count,
            "stay_probability_low": np.nan_to_num(
                stats.beta.ppf(0.025, stayed, count - stayed + 1), nan=0.0
            ),
            "stay_probability_high": np.nan_to_num(
                stats.beta.ppf(0.975, stayed + 1, count - stayed), nan=1.0
            ),
            "linearised_mean_squared_distance": stationary * (1 - _MEMORY ** (2 * step)),
            "mean_squared_distance_ensemble": ensemble,
            "mean_squared_distance_stderr": spread,
            "stay_lower_bound": np.maximum(-np.expm1(log_exit), 0.0),
            "log_exit_bound": log_exit,
            **_evidence(log_exit),
            "radius": _RADIUS,
            "contraction": _MEMORY,
            "rsi": 1.0,
            "growth": 1.2,
            "noise_operator_norm": 0.04,
            "noise_trace": 0.04 * _DIMENSION,
            "effective_rank": float(_DIMENSION),
            "noise_operator_norm_at_minimum": 0.03,
            "noise_trace_at_minimum": 0.03 * _DIMENSION,
            "gradient_deviation": 0.01,
            "hessian_deviation": 0.05,
            "start_distance": 0.0,
            "certified_radius": 1.8 * _RADIUS if applicable else np.nan,
            "delta_star": _RADIUS,
            "delta_star_bounded": np.int8(0),
            "stationary_radius": np.sqrt(stationary),
            "stagnation_number": _RADIUS / np.sqrt(stationary),
            "basin": np.where(np.arange(count) < 4, np.arange(count) % 2, -1).astype(np.int32),
            "basins": np.int32(2),
            "unseen_basins": 0.1,
            "nearest_minimum_distance": np.where(np.arange(count) < 4, 0.04, np.nan),
            "symmetry_distance": np.where(np.arange(count) < 4, 0.05, np.nan),
        },
    )


def _evidence(log_exit: Float[np.ndarray, "theory step"]) -> dict:
    """Constants by certificate and plug-in; the certificate is the weaker one."""
    values = np.array([[0.93, 0.08, 0.5, 0.0, 0.0], [0.9, 0.04, 0.32, 0.0, 0.0]])
    certified = log_exit + 1.5
    applicable = bool(np.isfinite(log_exit[:, 1:]).all())
    return {
        "constant_value": values,
        "constant_low": values,
        "constant_high": values * np.array([[1.0], [1.1]]),
        "constant_sample_size": np.array([[0] * 5, [0, 99, 99, 0, 0]], np.int32),
        "assumption_violated": np.full(2, not applicable, np.int8),
        "mean_exit_time_bound": np.array([3.0, 40.0]) if applicable else np.full(2, np.nan),
        "certified_log_exit_bound": certified,
        "certified_stay_lower_bound": np.maximum(-np.expm1(certified), 0.0),
    }


def _write_convexity(point: PointStore, random: np.random.Generator) -> None:
    # ESC alone turns negative in the bottom directions at large radii.
    modulus = np.array([0.2, 0.5, 0.6, 0.7, 0.8])[:, None, None]
    slope = np.array([3.0, 0.5, 0.3, 0.2, 0.1])[:, None, None]
    by_direction = modulus + np.array([0.6, 0.8, 1.4, 0.0])[None, :, None] - slope * _RADII
    by_direction = by_direction + 0.01 * random.random((len(CONDITIONS), len(DIRECTIONS), 6))
    smallest = by_direction.min(axis=1)
    point.write(
        "stagnation",
        {
            "convexity_ratio_by_direction": by_direction,
            "convexity_ratio_minimum": smallest,
            "convexity_ratio_quantile_01": smallest + 0.05,
            "convexity_ratio_quantile_05": smallest + 0.15,
            "convexity_ratio_quantile_50": smallest + 0.7,
            "convexity_violation_fraction": np.where(smallest <= 0, 0.02, 0.0),
            "convexity_violation_fraction_high": np.where(smallest <= 0, 0.05, 0.012),
            "convexity_sample_size": np.full(smallest.shape, 256, np.int32),
        },
    )


def _write_curvature(
    point: PointStore, random: np.random.Generator, alive: Float[np.ndarray, "trajectory probe"]
) -> None:
    wobble = alive * (1 + 0.05 * random.standard_normal(alive.shape))
    extremes = np.stack([2.4 * wobble, 0.02 * wobble], axis=-1)
    probes = alive.shape[1]
    point.write(
        "curvature",
        {
            "minimum_gradient_norm": 3e-9,
            "reference_minimum_gradient_norm": 4e-9,
            "threshold": 20.0,
            "minimum_distance": 0.1,
            "minimum_hessian_eigenvalue": np.array([2.4, 0.02]),
            "minimum_hessian_residual": np.array([1e-7, 1e-6]),
            "hessian_eigenvalue": extremes,
            "hessian_residual": 1e-6 * extremes,
            "hessian_trace": 12 * wobble,
            "hessian_trace_stderr": 0.3 * wobble,
            "batch_sharpness": 3.1 * wobble,
            "batch_sharpness_stderr": 0.2 * wobble,
            "noise_operator_norm": 0.03 * wobble,
            "noise_operator_norm_residual": 1e-6 * wobble,
            "noise_trace": 0.2 * wobble,
            "noise_alignment": 0.6 * wobble,
            "noise_effective_rank": 6.7 * wobble,
            "participation_ratio": np.append(np.nan, np.full(probes - 1, 5.0)),
            "participation_ratio_low": np.append(np.nan, np.full(probes - 1, 3.5)),
            "participation_ratio_high": np.append(np.nan, np.full(probes - 1, 7.0)),
            "top_space_energy": np.append(np.nan, np.full(probes - 1, 0.4)),
            "top_space_energy_stderr": np.append(np.nan, np.full(probes - 1, 0.03)),
            "top_space_energy_null": 2 / 80,
            "hessian_noise_overlap": 0.7,
            "hessian_noise_overlap_null": 2 / 80,
            "hessian_noise_angle": 0.6,
            "parameters": np.int32(80),
        },
    )


def _write_bounds(
    point: PointStore, random: np.random.Generator, alive: Float[np.ndarray, "trajectory probe"]
) -> None:
    wobble = alive * (1 + 0.02 * random.standard_normal(alive.shape))
    level = np.array([0.4, 37.0, np.nan, 12.0])
    value = wobble[..., None] * level
    gap = 0.05 * wobble[..., None] * random.uniform(0.9, 1.1, len(level))
    layers = wobble[..., None] * np.array([1.5, 0.8])
    certificate = np.array([kind == "certificate" for kind in _BOUNDS.values()])
    terms = np.full((len(_BOUNDS), len(TERMS)), np.nan)
    terms[0, :2] = np.log([0.1, 0.3])
    point.write(
        "bounds",
        {
            "value": value,
            "log_value": np.log(value),
            "generalization_gap": gap,
            "generalization_gap_stderr": 0.2 * gap,
            "tightness": value / gap,
            "assumption_violated": np.broadcast_to(np.isnan(level), value.shape),
            "vacuous": (value > 1) & certificate,
            "holds_with_probability": np.where(certificate, 0.95, np.nan),
            "zero_one_gap": 0.03 * wobble,
            "zero_one_gap_stderr": 0.008 * wobble,
            "spectral_norm_low": layers,
            "spectral_norm_high": 1.001 * layers,
            "frobenius_norm": 2 * layers,
            "distance_from_reference": 0.1 * layers,
            "certificate_radius": 0.25,
            "log_gap_term": terms,
            "margin": 1.5,
        },
    )
