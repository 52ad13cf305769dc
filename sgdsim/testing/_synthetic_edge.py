"""A small made-up run of the edge study, for tests of whatever reads runs."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sgdsim.store import EDGE_OPERATORS, EDGE_STATES, RunStore

_STEPS, _RECORD_EVERY = 4000, 20
_RANKS, _BUCKETS = 3, 4
_BLOCKS, _DRAWS, _NODES = 3, 2, 6
_CATAPULT_END = 400


class _Process(NamedTuple):
    kind: str
    learning_rate: float
    plateau: float  # of the sharpness, as a multiple of the threshold
    state: str
    threshold: float = np.nan  # that of the learning rate otherwise
    batch_size: int | None = None
    batch_plateau: float = np.nan
    steps: int = _STEPS
    operator: str = "hessian"


_PROCESSES = {
    "GD": _Process("gd", 0.5, 1.0, "at_the_edge"),
    "GD, half": _Process("gd", 0.25, 1.0, "at_the_edge"),
    "catapult": _Process("gd", 1.0, 0.7, "catapult"),
    "SGD": _Process("sgd", 0.5, 0.75, "below_the_edge", batch_size=8, batch_plateau=1.0),
    "SDE": _Process("sde", 0.5, 1.4, "above_the_edge", batch_size=8, batch_plateau=1.3, steps=3000),
    "Adam": _Process("adam", 1e-3, 0.97, "at_the_edge", 38e3, operator="preconditioned_hessian"),
    "central flow": _Process("central_flow", 0.5, 1.0, "at_the_edge"),
    "gradient flow": _Process("gradient_flow", 0.5, 2.4, "not_judged", operator="none"),
}


def synthetic_edge_run(
    folder: Path,
    *,
    trajectories: int = 3,
    diverged: int = 1,
    processes: int = len(_PROCESSES),
    finished: bool = True,
    seed: int = 0,
) -> Path:
    r"""Fabricate a run of eight processes with sharpness that rises to a plateau and stays.

    Sharpness grows exponentially to an invented multiple of the threshold; at the edge it flips
    from side to side in every record while the midpoint stays. SGD stays below, its batch
    sharpness at 2/eta, the SDE goes above both, Adam is at an edge of its own, one process starts
    above the edge and is thrown out, a flow predicts the loss. No number here comes from a
    simulator, and no state from the detector.

    Parameters
    ----------
    folder
        Run folder to create.
    trajectories
        Trajectories of each process.
    diverged
        How many trajectories of the SDE diverge half-way.
    processes
        How many of the processes there are, in their order.
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
    >>> from sgdsim.testing import synthetic_edge_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(dict(open_run(synthetic_edge_run(Path(folder)))["edge"].sharpness.sizes))
    {'process': 8, 'trajectory': 3, 'step': 201}
    """
    random = np.random.default_rng(seed)
    step = np.arange(0, _STEPS + 1, _RECORD_EVERY)
    chosen = dict(list(_PROCESSES.items())[:processes])
    store = RunStore.create(
        folder / "run.zarr.partial",
        coords={
            "process": list(chosen),
            "trajectory": range(trajectories),
            "step": step,
            "rank": range(_RANKS),
            "bucket": range(_BUCKETS),
            "block": range(_BLOCKS),
            "draw": range(_DRAWS),
            "node": range(_NODES),
            "claim": [0],
            "quantity": ["late_ratio"],
            "text": ["GD ends at the edge."],
            "source": ["Cohen et al. 2021"],
        },
        attrs=_attributes(chosen, seed),
        study="edge",
        precision="float32",
        chunk_sizes={"step": step.size},
    )
    point = store.point()
    rates = np.array([process.learning_rate for process in chosen.values()])
    point.write_coords({"learning_rate": rates})
    found = []
    for number, process in enumerate(chosen.values()):
        lost = np.full(trajectories, -1, np.int32)
        if process.kind == "sde" and diverged:
            lost[-diverged:] = process.steps // 2 + 3
        found.append(_values(random, number, process, step, lost))
    unknown = np.full((trajectories, step.size), np.nan)
    for name in {name for one in found for name in one}:
        point.write("edge", {name: np.stack([one.get(name, unknown) for one in found])})
    point.write(
        "claims",
        {
            "measured": np.array([1.0]),
            "expected_low": np.array([0.97]),
            "expected_high": np.array([1.03]),
            "holds": np.array([True]),
        },
    )
    point.set_attrs({"wall_seconds": 0.0, **_words(chosen)})
    point.set_status("done")
    if finished:
        store.finish(folder / "run.zarr")
    return folder


def _words(chosen: dict[str, _Process]) -> dict[str, str]:
    formulas = {
        name: "38/eta" if process.kind == "adam" else "2/eta"
        for name, process in chosen.items()
        if process.operator != "none"
    }
    sentences = {name: f"A sentence on {name}." for name in chosen}
    return {"thresholds": json.dumps(formulas), "edge_sentences": json.dumps(sentences)}


def _attributes(chosen: dict[str, _Process], seed: int) -> dict[str, str | int | float]:
    tables = []
    for name, one in chosen.items():
        dynamics: dict = {"kind": one.kind, "learning_rate": one.learning_rate}
        if one.batch_size is not None:
            dynamics["batch_size"] = one.batch_size
        tables.append({"name": name, "dynamics": dynamics})
    scenario = {
        "study": "edge",
        "name": "synthetic",
        "title": "Made-up processes at the edge",
        "compute": {"precision": "float32"},
        "process": tables,
    }
    return {
        "scenario": json.dumps(scenario, sort_keys=True, separators=(",", ":")),
        "scenario_digest": "0" * 64,
        "title": "Made-up processes at the edge",
        "versions": "{}",
        "backend": "cpu",
        "device": "none",
        "device_count": 1,
        "mapping": "map",
        "seed": seed,
        "created_at": "2025-01-01T00:00:00+00:00",
    }


def _values(
    random: np.random.Generator,
    number: int,
    process: _Process,
    step: np.ndarray,
    lost: np.ndarray,
) -> dict[str, np.ndarray]:
    """Make everything of one process."""
    edge = 2 / process.learning_rate if np.isnan(process.threshold) else process.threshold
    shape = lost.size, step.size
    gone = (step > process.steps) | ((lost[:, None] >= 0) & (step >= lost[:, None]))
    rate = (900 + 150 * np.arange(lost.size))[:, None]
    rise = 1 - 0.85 * np.exp(-step / rate)
    ratio = process.plateau * rise * (1 + 0.01 * random.standard_normal(shape))
    if process.state == "catapult":
        ratio = np.where(step < _CATAPULT_END, 1.4 - 0.7 * step / _CATAPULT_END, ratio)
        ratio = np.where(step >= _CATAPULT_END, process.plateau * (1 + 0.01 * ratio), ratio)
    flips = np.where(rise > 0.95, 0.06 * (-1.0) ** np.arange(step.size), 0.0)
    if process.kind in ("sgd", "sde", "central_flow", "gradient_flow"):
        flips = 0.0 * flips
    between, sharpness = edge * ratio, edge * (ratio + flips)
    loss = 0.8 * np.exp(-step / 1500) + 0.01 + 0.02 * np.abs(flips)
    loss = loss * (1 + 0.02 * random.standard_normal(shape))
    if process.state == "catapult":
        loss = loss * (1 + 20 * np.exp(-(((step - 200) / 80) ** 2)))
    values = {"loss": loss, "gradient_norm": 0.5 * loss, "test_error_rate": 0.1 * loss}
    adaptive = process.operator == "preconditioned_hessian"
    if adaptive:
        values["preconditioned_sharpness"] = sharpness
        between, sharpness = 1e-3 * between, 1e-3 * sharpness
    values |= {
        "sharpness": sharpness,
        "sharpness_residual": 1e-3 * sharpness,
        "midpoint_sharpness": between,
        "hessian_trace": 3 * sharpness,
        "hessian_trace_stderr": 0.1 * sharpness,
    }
    if process.operator != "none":
        values["threshold"] = np.full(shape, edge)
    if process.batch_size is not None:
        batch = 2 / process.learning_rate * process.batch_plateau * rise
        values["batch_sharpness"] = batch * (1 + 0.05 * random.standard_normal(shape))
        values["batch_sharpness_stderr"] = 0.05 * batch
    if process.kind == "central_flow":
        values["predicted_loss"] = 1.02 * loss
    if number:
        values["distance"] = 0.3 * number * (1 - np.exp(-step / 800)) * (1 + 0.05 * rise)
        values["distance"] = np.broadcast_to(values["distance"], shape)
        values["distance_stderr"] = 0.08 * values["distance"]
    known = {name: np.where(gone, np.nan, value) for name, value in values.items()}
    states = _states(process, np.broadcast_to(rise, shape), step, gone)
    falling = known["sharpness"][..., None] * np.array([1.0, 0.6, 0.45])
    return {
        **known,
        "hessian_eigenvalue": falling,
        "hessian_residual": 0.02 * falling,
        **_dense(random, known["sharpness"], arrays=2 if process.kind == "sde" else _BLOCKS),
        "state": states,
        "products": np.full(shape, 4, np.int32),
        "time": process.learning_rate * step,
        "operator": np.array(EDGE_OPERATORS.index(process.operator), np.int8),
        **_summary(process, known, edge, step, lost, states),
    }


def _dense(
    random: np.random.Generator, sharpness: Float[np.ndarray, "m k"], arrays: int
) -> dict[str, np.ndarray]:
    """Make blocks, of which a process may have fewer, and a density that ends at the sharpness."""
    share = np.where(np.arange(_BLOCKS) < arrays, [0.5, 0.9, 0.2], np.nan)
    # Most eigenvalues are near zero, some negative; fewer nodes than there is room for.
    places = np.array([-0.08, 0.0, 0.04, 0.35, 1.0])
    weights = np.array([0.1, 0.7, 0.15, 0.03, 0.02])
    top = sharpness[..., None, None]
    shape = (*sharpness.shape, _DRAWS, places.size)
    moved = np.append(0.02 * random.standard_normal((_DRAWS, places.size - 1)), [[0.0]] * _DRAWS, 1)
    room = [(0, 0)] * 3 + [(0, _NODES - places.size)]
    weights = np.broadcast_to(weights, shape)
    return {
        "block_sharpness": sharpness[..., None] * share,
        "block_residual": 1e-4 * sharpness[..., None] * share,
        "density_node": np.pad(top * (places + moved), room, constant_values=np.nan),
        "density_weight": np.where(np.isnan(top), np.nan, np.pad(weights, room)),
        "fisher_sharpness": 0.95 * sharpness,
        "noise_eigenvalue": 0.1 * sharpness,
        "noise_trace": 0.3 * sharpness,
        "further_products": np.full(sharpness.shape, 40, np.int32),
    }


def _states(
    process: _Process, rise: Float[np.ndarray, "m k"], step: np.ndarray, gone: np.ndarray
) -> Int[np.ndarray, "m k"]:
    """State of every record, as the numbers were made."""
    codes = {name: code for code, name in enumerate(EDGE_STATES)}
    if process.operator == "none":
        return np.zeros(rise.shape, np.int8)
    there = rise >= 0.95
    state = np.where(there, codes[process.state], codes["progressive_sharpening"])
    if process.state == "catapult":
        late = np.broadcast_to(step >= _CATAPULT_END, rise.shape)
        state = np.where(late, codes["not_reached"], codes["catapult"])
    return np.where(gone, 0, state).astype(np.int8)


def _summary(
    process: _Process,
    known: dict[str, np.ndarray],
    edge: float,
    step: np.ndarray,
    lost: np.ndarray,
    states: np.ndarray,
) -> dict[str, np.ndarray]:
    """Say of every trajectory as a whole what is said of real ones."""
    judged = known["preconditioned_sharpness" if process.threshold > 0 else "midpoint_sharpness"]
    late = (step > 0.75 * process.steps) & (step <= process.steps)
    edges = EDGE_STATES.index(process.state)
    there = (states == edges) & (process.state not in ("catapult", "not_judged"))
    first = np.where(there.any(axis=1), there.argmax(axis=1), -1)
    entry = np.where(first >= 0, step[first], -1)
    has_edge = process.operator != "none"
    ends = np.where(lost >= 0, lost, process.steps)
    last = np.array([np.flatnonzero(step <= end)[-1] for end in ends])
    final = states[np.arange(lost.size), last]
    ratio = judged[:, late].mean(axis=1) / edge if has_edge else np.full(lost.size, np.nan)
    batch = known.get("batch_sharpness", np.full(judged.shape, np.nan))
    return {
        "late_ratio": ratio,
        "late_ratio_stderr": 0.002 * ratio,
        "late_batch_ratio": batch[:, late].mean(axis=1) * process.learning_rate / 2,
        "late_batch_ratio_stderr": np.full(lost.size, 0.01),
        "maximum_ratio": np.nanmax(judged, axis=1) / edge,
        "late_loss": known["loss"][:, late].mean(axis=1),
        "status": np.where(lost >= 0, 2, 1).astype(np.int8),
        "diverged_step": lost,
        "final_state": final,
        "reason": np.where(lost >= 0, 4, 0 if has_edge else 6).astype(np.int8),
        "entry_step": entry.astype(np.int32),
        "entry_low": np.where(entry >= 0, entry - 3 * _RECORD_EVERY, -1).astype(np.int32),
        "entry_high": np.where(entry >= 0, entry + 4 * _RECORD_EVERY, -1).astype(np.int32),
        "break_even_step": np.full(lost.size, 800, np.int32),
        "break_even_sharpness": known["midpoint_sharpness"][:, 40],
    }
