"""The edge study: processes side by side, each with its sharpness along the way."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree
from rich.console import Console

from sgdsim.dynamics import (
    AbstractStepper,
    Past,
    WithPast,
    on_one_path,
)
from sgdsim.ensemble import (
    CurvatureObserver,
    Ensemble,
    EnsembleState,
    Schedule,
    Track,
    choose_layout,
    on_host,
)
from sgdsim.problems import Problem, Rows, array_count, build_problem, build_starts, cast
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.runs._edge_assess import assess, distances
from sgdsim.runs._edge_report import print_edge
from sgdsim.runs._processes_run import Position, ProcessesRun, checked_stepper
from sgdsim.runs._provenance import recorded_steps
from sgdsim.runs._study import Dimensions
from sgdsim.scenario import Dynamics, EdgeProcess, EdgeScenario, Noise
from sgdsim.stagnation import Ball
from sgdsim.store import Location, variables_of

#: What is recorded of a process; the distance that the loop itself records is not that variable.
_RECORDED = {name: spec for name, spec in variables_of("edge").items() if name != "distance"}


class Setting(NamedTuple):
    """What a process minimises, and from where.

    Attributes
    ----------
    problem, held_out
        In the precision of the simulation.
    thetas
        Starts of all trajectories, along the leading axis.
    """

    problem: Problem
    held_out: Rows | None
    thetas: PyTree

    @property
    def theta(self) -> PyTree:
        """Start of the first trajectory."""
        return jax.tree.map(lambda a: a[0], self.thetas)


class EdgeRun(ProcessesRun[EdgeScenario]):
    """A run of the edge study.

    Parameters
    ----------
    scenario
        What runs.
    settings, steppers
        One per process.
    point
        Number of the point in a sweep.
    """

    group = "edge"

    def __init__(
        self,
        scenario: EdgeScenario,
        settings: list[Setting],
        steppers: list[AbstractStepper],
        point: int = 0,
    ):
        self.scenario, self.settings, self.steppers, self.point = (
            scenario,
            settings,
            steppers,
            point,
        )
        self.layout = choose_layout(scenario.compute.mapping, scenario.compute.devices)
        self.position = Position(0, 0)
        self.state: EnsembleState = self.fresh_start(0)

    @classmethod
    def dimensions(cls, scenario: EdgeScenario) -> Dimensions:
        """Work out the size of the dataset."""
        schedule, curvature = scenario.ensemble, scenario.curvature
        dense = "density" in curvature.also
        coords = {
            "process": [process.name for process in scenario.process],
            "trajectory": np.arange(schedule.trajectories),
            "step": recorded_steps(scenario),
            "rank": np.arange(curvature.eigenvalues),
            "bucket": np.arange(curvature.sketch),
            "block": np.arange(_most_arrays(scenario) if "blocks" in curvature.also else 0),
            "draw": np.arange(curvature.density_probes if dense else 0),
            "node": np.arange(curvature.density_depth if dense else 0),
        }
        return Dimensions(coords, {"step": schedule.chunk_steps // schedule.record_every})

    @classmethod
    def prepare(cls, scenario: EdgeScenario, point: int, stage: Callable[[str], None]) -> "EdgeRun":
        """Build problems and processes; a process that cannot be is refused here."""
        stage("building the problems and the processes")
        settings: list[Setting] = []
        steppers: list[AbstractStepper] = []
        names = [process.name for process in scenario.process]
        for process in scenario.process:
            fork = process.fork
            # What leaves another process has its problem, and is never where it would have begun.
            parent = None if fork is None else settings[names.index(fork.process)]
            setting = parent or _setting(scenario, process)
            settings.append(setting)
            precision = scenario.compute.precision
            steppers.append(checked_stepper(process, setting.problem, setting.theta, precision))
        return cls(scenario, settings, on_one_path(steppers), point)

    def clock_values(self, times: Float[np.ndarray, " time"]) -> dict[str, np.ndarray]:
        """Give times and learning rates of all steps."""
        return {**super().clock_values(times), "step_size": np.diff(times)}

    def evaluate(self, stage: Callable[[str], None]) -> None:
        """Compare the sharpness of every process with its threshold."""
        stage("looking for the edge of stability")
        scenario = self.scenario
        edge = self.store.tree()["edge"].to_dataset()
        tables = [process.dynamics.model_dump() for process in scenario.process]
        values, attrs = assess(edge, tables, scenario.detector.band)
        if scenario.curvature.sketch:
            first = scenario.process[0].problem
            sizes = [
                ravel_pytree(setting.theta)[0].size if process.problem == first else 0
                for process, setting in zip(scenario.process, self.settings, strict=True)
            ]
            values |= distances(edge, sizes)
        self.store.write("edge", values)
        self.store.set_attrs(attrs)

    @staticmethod
    def report(tree: xr.DataTree, console: Console) -> None:
        """Print one row per process, and what each is doing."""
        print_edge(tree, console)

    def first_step(self, number: int) -> int:
        """Step at which a process starts: that of its fork, if it is one."""
        fork = self.scenario.process[number].fork
        return 0 if fork is None else fork.step

    def last_step(self, number: int) -> int:
        """Step at which a process ends."""
        return self.scenario.process[number].steps or self.scenario.ensemble.steps

    def ensemble_of(self, number: int) -> Ensemble:
        """Trajectories of one process."""
        setting, schedule = self.settings[number], self.scenario.ensemble
        return Ensemble(
            problem=setting.problem,
            stepper=WithPast(self.steppers[number]),
            region=Ball(centre=setting.theta, radius=jnp.asarray(jnp.inf, _dtype(setting.theta))),
            observer=self._observer(number),
            schedule=Schedule(self.last_step(number), schedule.record_every, schedule.chunk_steps),
            layout=self.layout,
        )

    def _observer(self, number: int) -> CurvatureObserver:
        wanted, dynamics = self.scenario.curvature, self.scenario.process[number].dynamics
        return CurvatureObserver(
            held_out=self.settings[number].held_out,
            tolerance=wanted.tolerance,
            batch_error=wanted.batch_error,
            seed=wanted.seed,
            eigenvalues=wanted.eigenvalues,
            most_products=wanted.most_products,
            midpoint=wanted.midpoint,
            batch_size=_batch_size(dynamics),
            replacement=dynamics.repeats_rows,
            most_batches=wanted.most_batches,
            trace_products=wanted.trace_products,
            sketch=wanted.sketch,
            also=wanted.also,
            density_probes=wanted.density_probes,
            density_depth=wanted.density_depth,
        )

    def start_of(self, number: int) -> EnsembleState:
        """Place the trajectories at their starts, or where the process leaves another."""
        fork = self.scenario.process[number].fork
        if fork is None:
            return self.fresh_start(number)
        parent = self._number(fork.process)
        like = on_host(self.fresh_start(parent), self.trajectories)
        members, _ = load_tree(self._fork_file(parent, fork.step), like, self.scenario.digest())
        left: EnsembleState = self.layout.place(self.layout.pad(members))
        return _leave(left, self.ensemble_of(number).start_each(left.theta))

    def fresh_start(self, number: int) -> EnsembleState:
        """Place the trajectories at their starts."""
        return self.ensemble_of(number).start_each(self.settings[number].thetas)

    def _number(self, name: str) -> int:
        return [process.name for process in self.scenario.process].index(name)

    def _fork_file(self, number: int, step: int) -> Location:
        return self.files.folder / f"fork-{number}-{step}.npz"

    def record(self, records: Mapping[str, Array | np.ndarray], rows: slice) -> None:
        """Write the observables of one time chunk, or the last ones of a process."""
        found = {name: value for name, value in records.items() if name in _RECORDED}
        schedule = self.scenario.ensemble
        chunk = schedule.chunk_steps // schedule.record_every
        # The dataset is written by whole chunks; behind the end of a shorter process are none.
        beyond = 0 if rows.stop - rows.start == chunk else chunk - 1
        beyond = min(beyond, schedule.steps // schedule.record_every + 1 - rows.stop)
        blocks = _most_arrays(self.scenario)
        values = {}
        for name, value in on_host(found, self.trajectories).items():
            spec = _RECORDED[name]
            whole = value[None].astype(spec.dtype)
            # Networks of other processes may have more arrays.
            more = {"step": beyond, "block": blocks - whole.shape[-1]}
            padding = [(0, more.get(dim, 0)) for dim in spec.dims]
            values[name] = np.pad(whole, padding, constant_values=spec.fill)
        here = {**self.here, "step": slice(rows.start, rows.stop + beyond)}
        self.store.write("edge", values, here)

    def probe(self) -> None:
        """Keep the state if another process leaves from here; all else is recorded on the way."""
        number, step = self.position
        name = self.scenario.process[number].name
        forks = [one.fork for one in self.scenario.process if one.fork is not None]
        if any(fork.process == name and fork.step == step for fork in forks):
            members = on_host(self.state, self.trajectories)
            save_tree(self._fork_file(number, step), members, self.scenario.digest())

    def track_values(self, track: Track) -> dict[str, np.ndarray]:
        """Give nothing more: no region is watched."""
        return {}


def _batch_size(dynamics: Dynamics) -> int | None:
    """Rows of the minibatches whose gradients a process follows, or whose covariance it has."""
    noise: Noise | None = getattr(dynamics, "noise", None)
    foreign = noise is not None and noise.kind != "minibatch"
    if foreign or dynamics.kind in ("label_noise_sgd", "sgld") or not dynamics.draws_rows:
        return None
    return getattr(dynamics, "batch_size", None)


def _most_arrays(scenario: EdgeScenario) -> int:
    """Largest number of parameter arrays of a process."""
    return max(array_count(process.problem or scenario.problem) for process in scenario.process)


def _setting(scenario: EdgeScenario, process: EdgeProcess) -> Setting:
    """Problem and starts of a process."""
    dtype = jnp.dtype(scenario.compute.precision)
    table, start = process.problem or scenario.problem, process.start or scenario.start
    minimised = build_problem(table)
    thetas = build_starts(table, start, scenario.ensemble.trajectories)
    held_out = None if minimised.held_out is None else cast(minimised.held_out, dtype)
    return Setting(minimised.problem.astype(dtype), held_out, cast(thetas, dtype))


def _leave(left: EnsembleState, fresh: EnsembleState) -> EnsembleState:
    """Go on from where another process is; what it remembers is kept if both remember alike."""
    memory: Past = fresh.memory
    inside = left.memory.inside if _alike(left.memory.inside, memory.inside) else memory.inside
    carried = left.carried if _alike(left.carried, fresh.carried) else fresh.carried
    past = Past(inside, left.memory.last, left.memory.before)
    return EnsembleState(left.theta, past, left.track, carried)


def _alike(a: PyTree, b: PyTree) -> bool:
    """Whether two memories have the same parts of the same shapes."""
    shapes = [[leaf.shape for leaf in jax.tree.leaves(one)] for one in (a, b)]
    return jax.tree.structure(a) == jax.tree.structure(b) and shapes[0] == shapes[1]


def _dtype(theta: PyTree) -> np.dtype:
    return jax.tree.leaves(theta)[0].dtype
