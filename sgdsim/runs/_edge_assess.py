"""From measured curvature to what each process is doing: thresholds, states, distances."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from sgdsim.stability import (
    DetectorSettings,
    Edge,
    EdgeRecord,
    break_even,
    detect,
    edge_of,
)
from sgdsim.store import EDGE_OPERATORS

_PER_TRAJECTORY = (
    "final_state",
    "reason",
    "entry_step",
    "entry_low",
    "entry_high",
    "late_ratio",
    "late_ratio_stderr",
    "late_batch_ratio",
    "late_batch_ratio_stderr",
)


def assess(
    edge: xr.Dataset, dynamics: Sequence[Mapping[str, Any]], band: float | int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Compare the sharpness of every trajectory with its threshold.

    Parameters
    ----------
    edge
        Group ``edge`` of a dataset, with everything that was measured.
    dynamics
        For every process its kind and its numbers, as in the table of a scenario.
    band
        Relative distance from the threshold within which a run is at the edge.

    Returns
    -------
    values
        Variables of the group ``edge`` that follow from what was measured.
    attrs
        Attributes of the dataset: formulas of the thresholds, and a sentence per process.
    """
    settings = DetectorSettings(band=(1 - band, 1 + band), slack=band / 2)
    shape = edge.sizes["process"], edge.sizes["trajectory"], edge.sizes["step"]
    values: dict[str, np.ndarray] = {
        "threshold": np.full(shape, np.nan),
        "state": np.zeros(shape, np.int8),
        "operator": np.zeros(shape[0], np.int8),
    }
    for name in ("final_state", "reason"):
        values[name] = np.zeros(shape[:2], np.int8)
    for name in ("entry_step", "entry_low", "entry_high", "break_even_step"):
        values[name] = np.full(shape[:2], -1, np.int32)
    for name in (
        "late_ratio",
        "late_ratio_stderr",
        "late_raw_ratio",
        "late_batch_ratio",
        "late_batch_ratio_stderr",
        "maximum_ratio",
        "late_loss",
        "break_even_sharpness",
    ):
        values[name] = np.full(shape[:2], np.nan)
    formulas, sentences = {}, {}
    for number, table in enumerate(dynamics):
        one = edge.isel(process=number)
        name = str(one["process"].item())
        known = edge_of(str(table["kind"]), table)
        batches = edge_of(str(table["kind"]), table, batch=True)
        values["operator"][number] = EDGE_OPERATORS.index(known.operator)
        formulas[name] = known.formula
        told = []
        for trajectory in range(shape[1]):
            found, sentence = _assess_one(one.isel(trajectory=trajectory), known, batches, settings)
            for variable, value in found.items():
                values[variable][number, trajectory] = value
            told.append(sentence)
        sentences[name] = told[0] if len(set(told)) == 1 else f"trajectory 0: {told[0]}"
    return values, {
        "thresholds": json.dumps(formulas),
        "edge_sentences": json.dumps(sentences),
    }


def _assess_one(
    one: xr.Dataset, known: Edge, batches: Edge, settings: DetectorSettings
) -> tuple[dict[str, Any], str]:
    """Variables of one trajectory, and what it does in words."""
    adaptive = known.operator == "preconditioned_hessian"
    sharpness = _series(one, "preconditioned_sharpness" if adaptive else "sharpness")
    rates = _series(one, "step_size")
    measured = _series(one, known.measured) if known.measured else None
    threshold = known.threshold(rates, measured)
    batch = _series(one, "batch_sharpness")
    batch_threshold = batches.threshold(rates, _series(one, "sharpness"))
    # Records of the process, those after a divergence among them.
    own = np.flatnonzero(np.isfinite(rates))
    last = int(own[-1]) + 1 if own.size else 1
    midpoint = None if adaptive else _series(one, "midpoint_sharpness")[:last]
    record = EdgeRecord(
        step=np.asarray(one["step"])[:last],
        loss=_series(one, "loss")[:last],
        sharpness=sharpness[:last],
        threshold=threshold[:last],
        midpoint=midpoint,
        residual=None if adaptive else _series(one, "sharpness_residual")[:last],
        batch_sharpness=batch[:last],
        batch_stderr=_series(one, "batch_sharpness_stderr")[:last],
        batch_threshold=batch_threshold[:last],
        stochastic=bool(np.isfinite(batch).any()),
        binds=known.binds,
        oscillates=known.binds,
        diverged_step=int(one["diverged_step"]),
        edge_name=known.formula,
        batch_edge_name=batches.formula,
    )
    detection = detect(record, settings)
    ratio = sharpness / threshold
    state = np.zeros(threshold.size, np.int8)
    state[:last] = _carried(detection.state, np.isfinite(sharpness[:last]))
    found = {name: getattr(detection, name) for name in _PER_TRAJECTORY}
    error = None if adaptive else _series(one, "sharpness_residual")[:last]
    level = sharpness[:last]
    if midpoint is not None:  # free of the oscillation of period two, where measured
        level = np.where(np.isfinite(midpoint), midpoint, level)
    turned = break_even(record.step, level, error=error)
    found |= {
        "threshold": threshold,
        "state": state,
        "late_raw_ratio": _late(ratio[:last]),
        "maximum_ratio": _maximum(ratio[:last]),
        "late_loss": _late(_series(one, "loss")[:last]),
        "break_even_step": turned.step,
        "break_even_sharpness": turned.sharpness,
    }
    return found, detection.sentence


def _carried(state: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Give a record between two measured ones the state of the first of them."""
    if not measured.any():
        return state
    rows = np.arange(state.size)
    before = np.maximum.accumulate(np.where(measured, rows, 0))
    return np.where(rows <= np.flatnonzero(measured)[-1], state[before], state)


def distances(
    edge: xr.Dataset, sizes: Sequence[int]
) -> dict[str, Float[np.ndarray, "process trajectory step"]]:
    r"""Estimate how far every process is from the first one, at equal steps and trajectories.

    .. math:: \hat d = \|S\theta - S\theta'\|, \qquad
        \mathrm{stderr}(\hat d) \approx \hat d/\sqrt{2m}

    Parameters
    ----------
    edge
        Group with ``sketch``, projections of length m.
    sizes
        Number of parameters of every process; 0 where it has none in common with the first one.
        Up to m parameters the distance is exact.
    """
    sketch = np.asarray(edge["sketch"], np.float64)
    length = sketch.shape[-1]
    distance = np.linalg.norm(sketch - sketch[:1], axis=-1)
    stderr = distance / np.sqrt(2 * length)
    stderr[[size <= length for size in sizes]] = 0.0
    apart = [size == 0 for size in sizes]
    distance[apart], stderr[apart] = np.nan, np.nan
    stderr[~np.isfinite(distance)] = np.nan
    return {"distance": distance, "distance_stderr": stderr}


def _series(one: xr.Dataset, name: str) -> Float[np.ndarray, " step"]:
    return np.asarray(one[name], np.float64)


def _late(values: np.ndarray) -> float:
    """Mean over the last quarter of what was measured."""
    values = values[np.isfinite(values)]
    return float(values[3 * values.size // 4 :].mean()) if values.size else np.nan


def _maximum(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.max()) if values.size else np.nan
