"""A small made-up run of the bounds study, for tests of whatever reads runs."""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sgdsim.bounds import FACTORS
from sgdsim.store import CHANGES, PointStore, RunStore

_STEPS, _RECORD_EVERY, _CHUNK_STEPS = 200, 10, 50
_BOUNDS = {
    "BFT": "certificate",
    "VC": "certificate",
    "PB-kl": "certificate",
    "linear": "certificate",
    "path.norm": "measure",
    "l2": "measure",
}
_INGREDIENTS = ("margin_10", "parameters")
_EXPECTATION = "gradient_norm"


def synthetic_training_run(
    folder: Path,
    *,
    trajectories: int = 3,
    diverged: int = 0,
    probes: int = 5,
    finished: bool = True,
    seed: int = 0,
) -> Path:
    r"""Fabricate a run of the bounds study: a loss that falls, norms that grow.

    The factors of ``BFT`` are a constant, a spectral product :math:`e^{1+t/100}`, a distance
    :math:`0.1+t/100` and one over the margin; it is vacuous. ``VC`` does not change, ``PB-kl`` is
    about 0.4, ``linear`` violates an assumption (NaN). The gap of the error rate grows from 0 to
    about 0.1. No number here comes from a simulator.

    Parameters
    ----------
    folder
        Run folder to create.
    trajectories
        Number of trajectories.
    diverged
        How many of them diverge after the first probe.
    probes
        Number of probes, 50 steps apart; at least one.
    finished
        Whether the store gets its final name.
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
    >>> from sgdsim.testing import synthetic_training_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(dict(open_run(synthetic_training_run(Path(folder)))["bounds"].value.sizes))
    {'trajectory': 3, 'probe': 5, 'bound': 6}
    """
    random = np.random.default_rng(seed)
    probe = _CHUNK_STEPS * np.arange(probes)
    step = np.arange(0, probe[-1] + 1, _RECORD_EVERY)
    store = RunStore.create(
        folder / "run.zarr.partial",
        coords=_coordinates(trajectories, step, probe),
        attrs=_attributes(seed),
        study="bounds",
        precision="float32",
        chunk_sizes={"step": _CHUNK_STEPS // _RECORD_EVERY, "probe": 1},
    )
    point = store.point()
    point.write_coords({"time": 0.1 * step})
    ever = np.arange(trajectories) >= trajectories - diverged
    _write_trajectories(point, random, step, ever)
    _write_bounds(point, random, probe, ever)
    one = np.ones(1)
    point.write(
        "claims",
        {"measured": one, "expected_low": one, "expected_high": np.inf * one, "holds": one > 0},
    )
    point.set_attrs({"wall_seconds": 0.0})
    point.set_status("done")
    if finished:
        store.finish(folder / "run.zarr")
    return folder


def _coordinates(trajectories: int, step: np.ndarray, probe: np.ndarray) -> dict:
    return {
        "trajectory": np.arange(trajectories),
        "step": step,
        "probe": probe,
        "bound": list(_BOUNDS),
        "kind": list(_BOUNDS.values()),
        "ingredient": list(_INGREDIENTS),
        "expectation": [_EXPECTATION],
        "layer": np.arange(2),
        "claim": [0],
        "quantity": ["reached"],
        "text": ["Every network reaches the target loss."],
        "source": ["made up"],
    }


def _attributes(seed: int) -> dict[str, str | int | float]:
    scenario = {"study": "bounds", "name": "synthetic", "title": "Made-up training"}
    return {
        "scenario": json.dumps(scenario, sort_keys=True, separators=(",", ":")),
        "scenario_digest": "0" * 64,
        "title": "Made-up training",
        "versions": "{}",
        "backend": "cpu",
        "device": "none",
        "device_count": 1,
        "mapping": "map",
        "seed": seed,
        "created_at": "2025-01-01T00:00:00+00:00",
    }


def _write_trajectories(
    point: PointStore, random: np.random.Generator, step: np.ndarray, ever: np.ndarray
) -> None:
    alive = np.where(ever[:, None] & (step > 0), np.nan, 1.0)
    loss = alive * np.exp(-step / 80.0) * (1 + 0.01 * random.random(alive.shape))
    values = {
        "loss": loss,
        "test_risk": loss + 0.1,
        "error_rate": 0.5 * loss,
        "test_error_rate": 0.5 * loss + 0.05,
        "gradient_norm": loss,
        "distance_from_start": alive * step / 100.0,
    }
    point.write("trajectory", {k: v.astype(np.float32) for k, v in values.items()})
    point.write(
        "trajectory",
        {
            "status": np.where(ever, 2, 1).astype(np.int8),
            "diverged_step": np.where(ever, 1, -1).astype(np.int32),
        },
    )


def _write_bounds(
    point: PointStore, random: np.random.Generator, probe: np.ndarray, ever: np.ndarray
) -> None:
    alive = np.where(ever[:, None] & (probe > 0), np.nan, 1.0)
    wobble = alive * (1 + 0.02 * random.standard_normal(alive.shape))
    factor = _log_factors(wobble, probe)
    log_value = factor.sum(axis=-1)
    value = np.exp(log_value)
    gap = 0.1 * wobble * probe / _STEPS
    certificate = np.array([kind == "certificate" for kind in _BOUNDS.values()])
    last = np.where(ever, -1, probe[-1]).astype(np.int32)
    change = np.zeros((len(ever), len(_BOUNDS), len(CHANGES)))
    layers = wobble[..., None] * np.array([1.5, 0.8])
    with np.errstate(divide="ignore"):
        tightness = np.where(certificate, value / gap[..., None], np.nan)
    point.write(
        "bounds",
        {
            "value": value,
            "log_value": log_value,
            "log_factor": factor,
            "generalization_gap": np.broadcast_to(gap[..., None], value.shape),
            "generalization_gap_stderr": np.full(value.shape, 0.01),
            "tightness": tightness,
            "assumption_violated": np.where(certificate, np.isnan(value), -1).astype(np.int8),
            "vacuous": np.where(certificate & ~np.isnan(value), value > 1, -1).astype(np.int8),
            "holds_with_probability": np.where(certificate, 0.99, np.nan),
            "zero_one_gap": gap,
            "zero_one_gap_stderr": 0.01 * alive,
            "spectral_norm_low": layers,
            "spectral_norm_high": 1.001 * layers,
            "frobenius_norm": 2 * layers,
            "distance_from_reference": 0.1 * layers,
            "distance_from_start": 0.2 * layers,
            "measured": np.stack([wobble, 80.0 * alive], axis=-1),
            "reached": ((probe == probe[-1]) & ~ever[:, None]).astype(np.int8),
            "stopped_step": last,
            "log_ratio_after": change,
            "mean_gap": 0.1 * probe / _STEPS,
            "mean_gap_stderr": np.full(len(probe), 0.01),
            "expected_gap_bound": (0.3 + 0.1 * probe / _STEPS)[:, None],
            "expected_gap_bound_stderr": np.full((len(probe), 1), 0.01),
            "margin": 1.5,
        },
    )


def _log_factors(
    wobble: Float[np.ndarray, "trajectory probe"], probe: np.ndarray
) -> Float[np.ndarray, "trajectory probe bound factor"]:
    factors = np.zeros((*wobble.shape, len(_BOUNDS), len(FACTORS)))
    names = list(_BOUNDS)

    def put(bound: str, factor: str, log: np.ndarray | float) -> None:
        factors[..., names.index(bound), FACTORS.index(factor)] = log + 0.0 * wobble

    put("BFT", "constant", 3.0)
    put("BFT", "spectral_product", wobble + probe / 100.0)
    put("BFT", "distance", np.log(0.1 + probe / 100.0))
    put("BFT", "margin", -np.log(1.5))
    put("VC", "dimension", np.log(1.2))
    put("PB-kl", "divergence", np.log(0.4) + probe / 1000.0)
    put("linear", "rest", np.nan)
    put("path.norm", "rest", 0.7)
    put("l2", "rest", 0.5)
    return factors
