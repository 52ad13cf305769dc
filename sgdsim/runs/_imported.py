"""Runs that were made elsewhere, as a dataset of the edge study."""

import datetime as dt
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sgdsim._errors import SgdsimError
from sgdsim.readers import SERIES, ForeignRun
from sgdsim.runs._edge_analysis import BAND
from sgdsim.runs._edge_assess import assess
from sgdsim.runs._lock import lock_run
from sgdsim.runs._output import RunPaths, check_output, clear_output, remove
from sgdsim.store import Location, PointStore, RunStore, as_location, variables_of

#: Series of a run that the dataset has a variable for.
_STORED = tuple(name for name in ("loss", *SERIES) if name in variables_of("edge"))
_LIBRARIES = ("sgdsim", "numpy", "xarray", "zarr")
_FINISHED, _DIVERGED = 1, 2
#: Runs whose names make a title.
_NAMED = 3
#: Recorded steps in one chunk on disk.
_CHUNK = 4096


def import_runs(
    runs: Sequence[ForeignRun],
    out: str | os.PathLike[str] | Location,
    *,
    title: str | None = None,
    overwrite: bool = False,
) -> Location:
    """Write runs that were made elsewhere into one dataset of the edge study.

    Every run becomes a process with one trajectory. Steps are those of all runs together; NaN
    stands where a run has no record. Thresholds, states and steps of entry are worked out as for
    runs of the edge study.

    Parameters
    ----------
    runs
        What a reader returned, at least one.
    out
        Folder, or its URL; the dataset is ``out/run.zarr``.
    title
        Title of the dataset; the names of the runs if left out, and their number if they are many.
    overwrite
        Replace a run that is already there.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SgdsimError
        If there is no run.
    StoreError
        If the folder is taken or cannot be used; nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> import sgdsim
    >>> from sgdsim.readers import SERIES, ForeignRun
    >>> from sgdsim.runs._imported import import_runs
    >>> step = np.arange(0, 5000, 50)
    >>> run = ForeignRun(
    ...     name="mine", step=step, loss=np.exp(-step / 2000), learning_rate=np.array(0.1),
    ...     sharpness=np.minimum(5 + step / 100, 20.0),
    ... )
    >>> folder = import_runs([run], "imported")
    >>> sgdsim.open_run(folder)["edge"].entry_step.values.tolist()
    [[1500]]
    """
    if not runs:
        raise SgdsimError("There is no run to import; give one file or folder at least.")
    names = distinct([run.name for run in runs])
    few = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} runs made elsewhere"
    scenario = _scenario(runs, names, title or few)
    folder = as_location(out)
    check_output(folder, overwrite)
    with lock_run(folder):
        paths = clear_output(folder, overwrite)
        remove(paths.state)  # nothing is resumed from here
        try:
            store = _create(runs, names, paths, _attributes(runs, names, scenario))
            _fill(store.point(), runs, [one["dynamics"] for one in scenario["process"]])
        except BaseException:
            remove(paths.partial)
            raise
        store.finish(paths.store)
    return folder


def distinct(names: Sequence[str]) -> list[str]:
    """Names that differ: of those that come again, the second gets " (2)" at its end."""
    found: list[str] = []
    for name in names:
        number, own = 1, name
        while own in found:
            number += 1
            own = f"{name} ({number})"
        found.append(own)
    return found


def _scenario(runs: Sequence[ForeignRun], names: Sequence[str], title: str) -> dict[str, Any]:
    """Describe in the words of a scenario what ran; it cannot be run, for it has no problem."""
    return {
        "study": "edge",
        "name": title,
        "title": title,
        "compute": {"precision": "float64"},
        "process": [
            {
                "name": name,
                "dynamics": {
                    **run.optimizer.parameters(),
                    "learning_rate": float(run.learning_rate[0]),
                },
            }
            for run, name in zip(runs, names, strict=True)
        ],
    }


def _attributes(
    runs: Sequence[ForeignRun], names: Sequence[str], scenario: dict[str, Any]
) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    versions["python"] = platform.python_version()
    sources = {name: dict(run.sources) for run, name in zip(runs, names, strict=True)}
    return {
        "scenario": json.dumps(scenario, sort_keys=True, separators=(",", ":")),
        "imported": json.dumps(sources, sort_keys=True),
        "title": scenario["title"],
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "creation_library": "sgdsim",
        "versions": json.dumps(versions, sort_keys=True),
    }


def _create(
    runs: Sequence[ForeignRun], names: Sequence[str], paths: RunPaths, attrs: dict[str, Any]
) -> RunStore:
    """Make the empty dataset that holds all runs."""
    steps = np.unique(np.concatenate([run.step for run in runs]))
    ranks = max(1, *(0 if one is None else one.shape[1] for one in (r.eigenvalues for r in runs)))
    return RunStore.create(
        paths.partial,
        coords={
            "process": list(names),
            "trajectory": [0],
            "step": steps,
            "rank": np.arange(ranks),
            "bucket": [],
            "block": [],
            "draw": [],
            "node": [],
            "claim": [],
            "quantity": [],
            "text": [],
            "source": [],
        },
        attrs=attrs,
        study="edge",
        precision="float64",
        chunk_sizes={"step": min(len(steps), _CHUNK)},
    )


def _fill(
    point: PointStore, runs: Sequence[ForeignRun], dynamics: Sequence[Mapping[str, Any]]
) -> None:
    """Write what was measured, then what follows from it."""
    point.write_coords({"learning_rate": np.array([run.learning_rate[0] for run in runs])})
    _write_measurements(point, runs)
    _write_ends(point, runs)
    values, said = assess(point.tree()["edge"].to_dataset(), dynamics, BAND)
    point.write("edge", values)
    point.set_attrs(said)
    point.set_status("done")


def _write_measurements(point: PointStore, runs: Sequence[ForeignRun]) -> None:
    edge = point.tree()["edge"].to_dataset()
    steps, ranks = edge["step"].values, edge.sizes["rank"]
    rows = [np.searchsorted(steps, run.step) for run in runs]
    shape = len(runs), 1, len(steps)
    values = {name: np.full(shape, np.nan) for name in _STORED}
    spectrum = np.full((*shape, ranks), np.nan)
    for number, run in enumerate(runs):
        for name in _STORED:
            if (series := getattr(run, name)) is not None:
                values[name][number, 0, rows[number]] = series
        if run.eigenvalues is not None:
            count = run.eigenvalues.shape[1]
            spectrum[number, 0, rows[number], :count] = run.eigenvalues
        elif run.sharpness is not None:
            spectrum[number, 0, rows[number], 0] = run.sharpness
    rates = np.stack([_rates(run, steps) for run in runs])
    passed = rates[:, :-1] * np.diff(steps)
    time = np.cumsum(np.concatenate([rates[:, :1] * steps[0], passed], axis=1), axis=1)
    known = {"hessian_eigenvalue": spectrum, "step_size": rates, "time": time}
    point.write("edge", {**values, **known})


def _rates(run: ForeignRun, steps: Int[np.ndarray, " step"]) -> Float[np.ndarray, " step"]:
    """Learning rate at the steps of all runs: of its last record, NaN after the end of the run."""
    last = np.searchsorted(run.step, steps, side="right") - 1
    rates = run.learning_rate[np.maximum(last, 0)]
    return np.where(steps <= run.step[-1], rates, np.nan)


def _write_ends(point: PointStore, runs: Sequence[ForeignRun]) -> None:
    """Say which runs diverged, and when."""
    lost = np.array([[_diverged_step(run)] for run in runs], np.int32)
    status = np.where(lost >= 0, _DIVERGED, _FINISHED).astype(np.int8)
    point.write("edge", {"diverged_step": lost, "status": status})


def _diverged_step(run: ForeignRun) -> int:
    """First step at which the loss is infinite, or from which on nothing is finite; or -1."""
    finite = np.isfinite(run.loss)
    for series in (run.sharpness, run.preconditioned_sharpness, run.gradient_norm):
        if series is not None:
            finite |= np.isfinite(series)
    end = int(np.flatnonzero(finite)[-1]) + 1
    infinite = np.flatnonzero(np.isinf(run.loss))
    first = min([end, *infinite[:1].tolist()])
    return int(run.step[first]) if first < len(run.step) else -1
