"""A small made-up run of the dynamics study, for tests of whatever reads runs."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from sgdsim.store import PointStore, RunStore

_STEPS, _RECORD_EVERY, _CHUNK_STEPS = 200, 10, 50
_MEMBERS, _RANKS, _BATCH, _TOLERANCE = 2, 3, 8, 0.1


class _Process(NamedTuple):
    kind: str
    learning_rate: float
    plateau: float
    sharpness: float
    escape_rate: float


_PROCESSES = {
    "SGD, small": _Process("sgd", 0.1, 0.5, 1.0, 0.02),
    "SDE, small": _Process("sde", 0.1, 0.502, 1.0, 0.02),
    "SGD, large": _Process("sgd", 1.0, 0.9, 2.4, 0.006),
    "SDE, large": _Process("sde", 1.0, 0.6, 2.2, 0.004),
}


def synthetic_dynamics_run(
    folder: Path,
    *,
    trajectories: int = 12,
    diverged: int = 2,
    escapes: bool = True,
    finished: bool = True,
    precision: str = "float32",
    seed: int = 0,
) -> Path:
    r"""Fabricate a run of four processes, SGD and its SDE at two learning rates.

    Losses fall exponentially to a plateau, with independent noise around it; eigenvalues wobble
    around an invented sharpness, and gauges follow from them, so that the SDE is valid at the
    small learning rate and not at the large one; escapes come at geometric times. No number here
    comes from a simulator, and none is the result of an analysis.

    Parameters
    ----------
    folder
        Run folder to create.
    trajectories
        Trajectories of each process, at least 2.
    diverged
        How many trajectories of the last process diverge half-way.
    escapes
        Whether the run watches escapes; if not all of that is NaN.
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
    >>> from sgdsim.testing import synthetic_dynamics_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(dict(open_run(synthetic_dynamics_run(Path(folder)))["dynamics"].loss.sizes))
    {'process': 4, 'trajectory': 12, 'step': 21}
    """
    random = np.random.default_rng(seed)
    step = np.arange(0, _STEPS + 1, _RECORD_EVERY)
    probe = np.arange(0, _STEPS + 1, _CHUNK_STEPS)
    lost = np.full((len(_PROCESSES), trajectories), -1, np.int32)
    lost[-1, trajectories - diverged :] = _STEPS // 2 + 3
    store = RunStore.create(
        folder / "run.zarr.partial",
        coords=_coordinates(trajectories, step, probe),
        attrs=_attributes(precision, seed),
        study="dynamics",
        precision=precision,
        chunk_sizes={"step": _CHUNK_STEPS // _RECORD_EVERY, "probe": 1},
    )
    rates = np.array([process.learning_rate for process in _PROCESSES.values()])
    point = store.point()
    point.write_coords({"learning_rate": rates})
    point.write("dynamics", {"time": rates[:, None] * step})
    _write_losses(point, random, lost, step, precision)
    _write_gauges(point, random, lost, probe)
    if escapes:
        _write_escapes(point, random, lost, step)
    point.write(
        "claims",
        {
            "measured": np.array([0.9, 0.05]),
            "expected_low": np.array([0.5, -np.inf]),
            "expected_high": np.array([np.inf, 0.1]),
            "holds": np.array([True, True]),
        },
    )
    point.set_attrs(
        {
            "wall_seconds": 0.0,
            "verdicts": json.dumps({name: f"A verdict on {name}." for name in _PROCESSES}),
        }
    )
    point.set_status("done")
    if finished:
        store.finish(folder / "run.zarr")
    return folder


def _coordinates(trajectories: int, step: np.ndarray, probe: np.ndarray) -> dict:
    return {
        "process": list(_PROCESSES),
        "trajectory": range(trajectories),
        "step": step,
        "probe": probe,
        "member": range(_MEMBERS),
        "rank": range(_RANKS),
        "coordinate": [],
        "claim": [0, 1],
        "quantity": ["loss_agreement", "sde_gauge"],
        "text": ["SGD and the SDE agree.", "The gauge is small."],
        "source": ["weak order 1", "stationary variance of an AR(1) process"],
    }


def _attributes(precision: str, seed: int) -> dict[str, str | int | float]:
    scenario = {
        "study": "dynamics",
        "name": "synthetic",
        "title": "Made-up processes",
        "validity": {"tolerance": _TOLERANCE},
        "compute": {"precision": precision},
        "process": [
            {"name": name, "dynamics": {"kind": one.kind, "learning_rate": one.learning_rate}}
            for name, one in _PROCESSES.items()
        ],
    }
    return {
        "scenario": json.dumps(scenario, sort_keys=True, separators=(",", ":")),
        "scenario_digest": "0" * 64,
        "title": "Made-up processes",
        "versions": "{}",
        "backend": "cpu",
        "device": "none",
        "device_count": 1,
        "mapping": "map",
        "seed": seed,
        "created_at": "2025-01-01T00:00:00+00:00",
    }


def _write_losses(
    point: PointStore,
    random: np.random.Generator,
    lost: np.ndarray,
    step: np.ndarray,
    precision: str,
) -> None:
    count = lost.shape[1]
    loss = np.empty((len(_PROCESSES), count, len(step)))
    for number, process in enumerate(_PROCESSES.values()):
        mean = process.plateau + (2.3 - process.plateau) * np.exp(-0.05 * step)
        spread = 0.02 * process.learning_rate**0.5 * np.sqrt(step / _STEPS)
        loss[number] = mean + spread * random.standard_normal((count, len(step)))
    gone = (lost[:, :, None] >= 0) & (step >= lost[:, :, None])
    loss = np.where(gone, np.nan, loss).astype(precision)
    observables = {"loss": loss, "gradient_norm": 0.5 * loss, "test_error_rate": 0.1 * loss}
    chunk = _CHUNK_STEPS // _RECORD_EVERY
    for start in range(0, len(step), chunk):
        part = slice(start, min(start + chunk, len(step)))
        values = {name: value[:, :, part] for name, value in observables.items()}
        point.write("dynamics", values, {"step": part})
    known = loss.astype(np.float64)
    alive = np.sum(~np.isnan(known), axis=1)
    late = np.mean(known[:, :, step > _STEPS // 2], axis=2)  # NaN for a diverged trajectory
    point.write(
        "dynamics",
        {
            "status": np.where(lost >= 0, 2, 1).astype(np.int8),
            "diverged_step": lost,
            "mean_loss": np.nanmean(known, axis=1),
            "mean_loss_stderr": np.nanstd(known, axis=1, ddof=1) / np.sqrt(alive),
            "late_loss": late,
        },
    )


def _write_gauges(
    point: PointStore, random: np.random.Generator, lost: np.ndarray, probe: np.ndarray
) -> None:
    shape = len(_PROCESSES), _MEMBERS, len(probe)
    rates = np.array([process.learning_rate for process in _PROCESSES.values()])[:, None]
    sharpness = np.array([process.sharpness for process in _PROCESSES.values()])
    wobble = 1 + 0.05 * random.standard_normal(shape)
    largest = sharpness[:, None, None] * wobble
    gone = lost[:, :_MEMBERS, None]
    largest = np.where((gone >= 0) & (probe >= gone), np.nan, largest)
    trace = 3 * largest
    edge = rates * np.max(largest, axis=1) / 2
    point.write(
        "dynamics",
        {
            "hessian_eigenvalue": largest[..., None] * np.array([1.0, 0.5, 0.25]),
            "hessian_residual": 1e-6 * largest[..., None] * np.ones(_RANKS),
            "hessian_trace": trace,
            "hessian_trace_stderr": 0.1 * trace,
            "noise_kurtosis": 0.3 * wobble,
            "sde_gauge": edge,
            "variance_ratio": np.where(edge < 1, 1 / np.abs(1 - edge), np.inf),
            "mean_square_gauge": edge / 2,
            "mean_square_gauge_sde": rates * np.max(trace, axis=1) / (2 * _BATCH),
            "sde_valid": (edge <= _TOLERANCE).astype(np.int8),
        },
    )


def _write_escapes(
    point: PointStore, random: np.random.Generator, lost: np.ndarray, step: np.ndarray
) -> None:
    rates = np.array([process.learning_rate for process in _PROCESSES.values()])
    hazard = np.array([process.escape_rate for process in _PROCESSES.values()])[:, None]
    drawn = random.geometric(hazard, size=lost.shape)
    end = np.where(lost >= 0, lost, _STEPS + 1)
    escape_step = np.where(drawn < end, drawn, -1).astype(np.int32)
    escaped = escape_step >= 0
    exposure = rates * np.sum(np.where(escaped, escape_step, np.minimum(end, _STEPS)), axis=1)
    number = np.sum(escaped, axis=1)
    time = exposure / number
    point.write(
        "dynamics",
        {
            "escape_step": escape_step,
            "survival": _survival(escape_step, step),
            "mean_escape_time": time,
            "mean_escape_time_low": 2 * exposure / stats.chi2.ppf(0.975, 2 * number + 2),
            "mean_escape_time_high": 2 * exposure / stats.chi2.ppf(0.025, 2 * number),
            "kramers_time": 0.8 * time,
            "exact_escape_time": 1.1 * time,
            "corrected_escape_time": 1.02 * time,
        },
    )


def _survival(escape_step: np.ndarray, step: np.ndarray) -> Float[np.ndarray, "process step"]:
    inside = (escape_step[..., None] < 0) | (escape_step[..., None] > step)
    return np.mean(inside, axis=1)
