"""Run a scenario: prepare, simulate time chunk by time chunk, finish; resume after a kill."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from sgdsim._errors import StoreError
from sgdsim.ensemble import use_host_devices
from sgdsim.runs._dynamics import DynamicsRun
from sgdsim.runs._exits import ExitsRun
from sgdsim.runs._output import check_output, clear_output, find_run
from sgdsim.runs._progress import Reporter
from sgdsim.runs._provenance import provenance
from sgdsim.runs._signals import stop_on_signal
from sgdsim.runs._stagnation import StagnationRun
from sgdsim.runs._study import StudyRun
from sgdsim.scenario import Scenario
from sgdsim.store import RunStore

#: How the run of each study is done.
STUDIES: dict[str, type[StudyRun]] = {
    "stagnation": StagnationRun,
    "dynamics": DynamicsRun,
    "exits": ExitsRun,
}


def run(
    scenario: Scenario, out: str | Path, *, overwrite: bool = False, quiet: bool = False
) -> Path:
    """Run a scenario into a folder.

    Parameters
    ----------
    scenario
        What to run.
    out
        Run folder; the dataset is ``out/run.zarr``, the figures are in ``out/figures``.
    overwrite
        Replace a run that is already there.
    quiet
        Show neither progress nor claims.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    StoreError
        If the folder cannot be used; nothing is written then.
    RunInterrupted
        If a signal stopped the run; ``resume`` continues it.

    Notes
    -----
    On CPU it makes one JAX device per core for the whole process, if JAX has not started yet.

    Examples
    --------
    >>> import sgdsim
    >>> tiny = [
    ...     "problem.data.training=40", "problem.data.reference=40", "ensemble.trajectories=2",
    ...     "ensemble.steps=4", "ensemble.record_every=2", "ensemble.chunk_steps=2",
    ...     "convexity.directions=2", "convexity.eigenvectors=1", "convexity.radii=2",
    ... ]
    >>> scenario = sgdsim.load_scenario("stagnation", tiny)
    >>> folder = sgdsim.run(scenario, "sgdsim-runs/tiny", quiet=True)
    >>> sgdsim.open_run(folder)["trajectory"].loss.shape
    (2, 3)
    """
    out = Path(out)
    check_output(out, overwrite)
    reporter = Reporter(quiet)
    with _session(scenario), stop_on_signal(reporter.stage) as stop:
        began = time.monotonic()

        def stage(text: str) -> None:
            stop.check(f"stopped before the first step; nothing to resume in {out}.")
            reporter.stage(text)

        simulation = STUDIES[scenario.study].prepare(scenario, stage)
        stage("compiling")
        # Only now: until here a run that is replaced was still whole.
        simulation.create(clear_output(out))
        simulation.go(reporter, stop, began)
    return out


def resume(path: str | Path, *, quiet: bool = False) -> Path:
    """Continue an interrupted run from its last finished time chunk.

    Parameters
    ----------
    path
        Run folder or the dataset in it.
    quiet
        Show neither progress nor claims.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    StoreError
        If there is no run, it is finished, it was made by another version of the conventions,
        or its state cannot be read.
    """
    paths = find_run(Path(path))
    if paths.store.exists():
        raise StoreError(f"{paths.folder} is finished already; open it with sgdsim.open_run.")
    store = RunStore.open(paths.partial)
    scenario = Scenario.from_json(str(store.attrs["scenario"]))
    if scenario.digest() != store.attrs["scenario_digest"]:
        raise StoreError(
            f"the scenario stored in {paths.partial} does not match its digest; the dataset was "
            "edited and cannot be resumed."
        )
    if not paths.checkpoint.exists():
        if "wall_seconds" in store.attrs:  # steps were made, so there was a checkpoint
            raise StoreError(
                f"{paths.checkpoint} is gone, and without it the run cannot go on; the dataset in "
                f"{paths.partial} can still be read. Start again with --overwrite."
            )
        return run(scenario, paths.folder, overwrite=True, quiet=quiet)
    reporter = Reporter(quiet)
    with _session(scenario), stop_on_signal(reporter.stage) as stop:
        began = time.monotonic() - float(str(store.attrs.get("wall_seconds", 0.0)))
        simulation = STUDIES[scenario.study].restore(scenario, paths)
        _require_same_machine(store, provenance(simulation.layout))
        simulation.load(paths, store)
        simulation.go(reporter, stop, began)
    return paths.folder


@contextlib.contextmanager
def _session(scenario: Scenario) -> Iterator[None]:
    """All cores as devices, float64 available."""
    use_host_devices(scenario.compute.devices)
    with jax.enable_x64(True):
        yield


def _require_same_machine(store: RunStore, here: dict[str, Any]) -> None:
    """Refuse to continue where the numbers would silently differ."""
    for name in ("backend", "device", "device_count", "mapping", "versions"):
        before, now = store.attrs.get(name), here[name]
        if before != now:
            raise StoreError(
                f"the run was started with {name} = {before}, here it is {now}; the rest would "
                "not equal an uninterrupted run. Resume it in the same environment or start again."
            )
