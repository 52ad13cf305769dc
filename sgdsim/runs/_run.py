"""Run a scenario: prepare, simulate time chunk by time chunk, finish; resume after a kill."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from sgdsim._errors import StoreError
from sgdsim.dynamics import build_stepper
from sgdsim.ensemble import (
    NEVER,
    ClassificationObserver,
    Ensemble,
    EnsembleState,
    Schedule,
    choose_layout,
    use_host_devices,
)
from sgdsim.problems import ClassificationTask, Network, build_task, cast, initial_network
from sgdsim.runs._bounds import Certifier
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.runs._constants import BallConstants, visited_constants
from sgdsim.runs._dataset import create_store, provenance
from sgdsim.runs._finish import finish_run
from sgdsim.runs._output import RunPaths, check_output, clear_output, find_run
from sgdsim.runs._prepare import Setting, prepare
from sgdsim.runs._probe import CURVATURE_VARIABLES, build_prober, probe_ensemble
from sgdsim.runs._progress import Reporter
from sgdsim.runs._signals import StopRequest, stop_on_signal
from sgdsim.scenario import Scenario
from sgdsim.stagnation import Ball
from sgdsim.store import RunStore


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

        task = build_task(scenario)
        setting, values = prepare(scenario, task, stage)
        stage("compiling")
        paths = clear_output(out)  # only now: until here a run that is replaced was still whole
        save_tree(paths.preparation, setting, scenario.digest())
        simulation = _Run(scenario, paths, task, setting)
        simulation.store = create_store(
            scenario, paths.partial, setting, values, simulation.ensemble.layout
        )
        simulation.begin()
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
        task = build_task(scenario)
        setting = _load_setting(paths, scenario, task)
        simulation = _Run(scenario, paths, task, setting)
        _require_same_machine(store, provenance(simulation.ensemble.layout))
        simulation.store = store
        simulation.load()
        simulation.go(reporter, stop, began)
    return paths.folder


class _Run:
    """One run in progress: the compiled ensemble, its state, its dataset."""

    store: RunStore

    def __init__(
        self, scenario: Scenario, paths: RunPaths, task: ClassificationTask, setting: Setting
    ):
        self.scenario, self.paths, self.task, self.setting = scenario, paths, task, setting
        self.certifier = Certifier(scenario, task, setting)
        dtype = jnp.dtype(scenario.compute.precision)
        self.start_point: Network = cast(setting.centre, dtype)
        schedule = scenario.ensemble
        layout = choose_layout(scenario.compute.mapping, scenario.compute.devices)
        self.ensemble = Ensemble(
            problem=task.problem(task.training).astype(dtype),
            stepper=cast(build_stepper(scenario), dtype),
            region=Ball(centre=self.start_point, radius=jnp.asarray(setting.radius, dtype)),
            observer=ClassificationObserver(cast(task.held_out, dtype)),
            schedule=Schedule(schedule.steps, schedule.record_every, schedule.chunk_steps),
            layout=layout,
        )
        self.prober = build_prober(scenario, task, setting.centre)
        self.step = 0
        self.state: EnsembleState = self.ensemble.start(self.start_point, schedule.trajectories)
        self.visited = BallConstants()

    @property
    def keys(self) -> Key[Array, " trajectory"]:
        """Keys of the trajectories."""
        ensemble = self.scenario.ensemble
        return self.ensemble.keys(ensemble.seed, ensemble.trajectories)

    def begin(self) -> None:
        """Write what never changes, probe the start, make the first checkpoint."""
        self.store.write("bounds", self.certifier.fixed)
        self.probe()
        self.checkpoint()

    def go(self, reporter: Reporter, stop: StopRequest, began: float) -> None:
        """Simulate what is left and finish the dataset."""
        total = self.scenario.ensemble.steps
        how = f"stopped; continue with: sgdsim resume {self.paths.folder}"
        with reporter.steps(self.scenario.name, self.step, total):
            for chunk in self.ensemble.run(self.keys, self.state, self.step):
                every = self.scenario.ensemble.record_every
                self.record(chunk.records, slice(chunk.start // every, chunk.stop // every))
                self.step, self.state = chunk.stop, chunk.state
                self.probe()
                self.store.set_attrs({"wall_seconds": time.monotonic() - began})
                self.checkpoint()
                reporter.reached(self.step)
                stop.check(how)
        last = self.scenario.ensemble.steps // self.scenario.ensemble.record_every
        self.record(self.ensemble.observe(self.state), slice(last, last + 1))
        constants = self.setting.sampled.merge(self.visited)
        finish_run(self.scenario, self.task, (self.setting, constants), self.paths, reporter, began)

    def record(self, records: dict[str, Array], rows: slice) -> None:
        """Write the observables of one time chunk."""
        count = self.scenario.ensemble.trajectories
        values = {name: np.asarray(value)[:count] for name, value in records.items()}
        values["inside"] = values["inside"].astype(np.int8)
        self.store.write("trajectory", values, {"step": rows})

    def probe(self) -> None:
        """Measure curvature, noise and bounds of the present iterates."""
        count = self.scenario.ensemble.trajectories
        measured = probe_ensemble(
            self.ensemble.layout, self.prober, self.state, jnp.asarray(self.step, jnp.int32)
        )
        measured = {name: np.asarray(value)[:count] for name, value in measured.items()}
        self.visited = self.visited.merge(visited_constants(measured, float(self.setting.radius)))
        index = self.step // self.scenario.ensemble.chunk_steps
        region = {"probe": slice(index, index + 1)}
        known = {name: measured[name][:, None] for name in CURVATURE_VARIABLES if name in measured}
        self.store.write("curvature", known, region)
        theta = jax.tree.map(lambda a: a[:count], self.state.theta)
        margins = measured["training_margins"], measured["held_out_margins"]
        inside = measured["distance"] <= float(self.setting.radius)
        bounds = self.certifier(theta, margins, inside)
        self.store.write("bounds", {k: v[:, None] for k, v in bounds.items()}, region)

    def checkpoint(self) -> None:
        """Write what every trajectory has done so far, then the state to resume from."""
        track = jax.tree.map(
            lambda a: np.asarray(a)[: self.scenario.ensemble.trajectories], self.state.track
        )
        # Nothing is measured yet where a count is zero: 0/0 is NaN, not 0.
        late = self.step - self.ensemble.schedule.halfway
        diverged = track.diverged_step != NEVER
        status = np.where(diverged, 2, 1 if self.step == self.scenario.ensemble.steps else 0)
        self.store.write(
            "stagnation",
            {
                "entry_step": track.entry_step,
                "exit_step": track.exit_step,
                "exited": (track.exit_step != NEVER).astype(np.int8),
                "occupancy": track.steps_inside / (self.step or np.nan),
                "max_distance": track.maximum.astype(np.float64),
                "mean_squared_distance": np.where(
                    diverged,
                    np.nan,
                    track.late_sum / (late if late > 0 else np.nan),
                ).astype(np.float64),
            },
        )
        self.store.write(
            "trajectory",
            {"status": status.astype(np.int8), "diverged_step": track.diverged_step},
        )
        digest = self.scenario.digest()
        save_tree(self.paths.checkpoint, (self.state, self.visited), digest, step=self.step)

    def load(self) -> None:
        """Take up the state of the last checkpoint."""
        like = self.state, self.visited
        (self.state, visited), scalars = load_tree(
            self.paths.checkpoint, like, self.scenario.digest()
        )
        self.state = self.ensemble.layout.place(self.state)
        self.visited = BallConstants(*(float(x) for x in visited))
        self.step = int(scalars["step"])


@contextlib.contextmanager
def _session(scenario: Scenario) -> Iterator[None]:
    """All cores as devices, float64 available."""
    use_host_devices(scenario.compute.devices)
    with jax.enable_x64(True):
        yield


def _load_setting(paths: RunPaths, scenario: Scenario, task: ClassificationTask) -> Setting:
    network = cast(initial_network(scenario, task), jnp.float64)
    like = Setting(network, network, 0.0, 0.0, BallConstants())
    setting, _ = load_tree(paths.preparation, like, scenario.digest())
    return setting._replace(
        margin=float(setting.margin),
        radius=float(setting.radius),
        sampled=BallConstants(*(float(x) for x in setting.sampled)),
    )


def _require_same_machine(store: RunStore, here: dict[str, Any]) -> None:
    """Refuse to continue where the numbers would silently differ."""
    for name in ("backend", "device", "device_count", "mapping", "versions"):
        before, now = store.attrs.get(name), here[name]
        if before != now:
            raise StoreError(
                f"the run was started with {name} = {before}, here it is {now}; the rest would "
                "not equal an uninterrupted run. Resume it in the same environment or start again."
            )
