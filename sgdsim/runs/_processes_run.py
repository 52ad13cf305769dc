"""A run of several processes, one after another with the same keys."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from sgdsim._errors import ScenarioError
from sgdsim.dynamics import AbstractStepper, build_stepper, step_times
from sgdsim.ensemble import NEVER, Ensemble, EnsembleState, Leg, Track, on_host
from sgdsim.problems import Problem, cast
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.runs._output import PointFiles
from sgdsim.runs._provenance import recorded_steps
from sgdsim.runs._study import S, Simulation, StudyRun
from sgdsim.scenario import EdgeProcess, Process
from sgdsim.store import PointStore


class Position(NamedTuple):
    """How far a run has come: steps of one process, all of those before it."""

    process: int
    step: int


class ProcessesRun(StudyRun[S]):
    """A run of processes side by side, recorded and checkpointed after every time chunk.

    The processes run one after another with the same keys: trajectory ``i`` of every algorithm sees
    the same batches, and that of every equation of one learning rate the same Brownian path.

    Attributes
    ----------
    group
        Group of the dataset that has the dimension ``process``.
    steppers
        One per process.
    position, state
        Where the run is.
    """

    group: ClassVar[str]

    steppers: list[AbstractStepper]
    position: Position
    state: EnsembleState

    @abstractmethod
    def ensemble_of(self, number: int) -> Ensemble:
        """Trajectories of one process."""

    @abstractmethod
    def record(self, records: Mapping[str, Array | np.ndarray], rows: slice) -> None:
        """Write the observables of one time chunk of the present process."""

    @abstractmethod
    def probe(self) -> None:
        """Measure the present iterates beyond what is recorded."""

    @abstractmethod
    def track_values(self, track: Track) -> dict[str, np.ndarray]:
        """Further variables of the trajectories, from what was watched at every step."""

    @abstractmethod
    def fresh_start(self, number: int) -> EnsembleState:
        """Where the trajectories of one process start if they leave no other process."""

    def start_of(self, number: int) -> EnsembleState:
        """Where the trajectories of one process start."""
        return self.fresh_start(number)

    def first_step(self, number: int) -> int:
        """Step at which a process starts."""
        return 0

    def last_step(self, number: int) -> int:
        """Step at which a process ends."""
        return self.scenario.ensemble.steps

    @classmethod
    def sketch(cls, scenario: S) -> list[Leg]:
        """First leg of every process."""
        run = cls.prepare(scenario, 0, lambda text: None)
        assert isinstance(run, ProcessesRun)
        return [
            run.leg(run.ensemble_of(number), run.fresh_start(number))
            for number in range(len(run.steppers))
        ]

    @classmethod
    def restore(cls, scenario: S, point: int, files: PointFiles) -> StudyRun[S]:
        """Build it again; nothing random was prepared."""
        return cls.prepare(scenario, point, lambda text: None)

    def create(self, files: PointFiles, store: PointStore) -> None:
        """Write what never changes, probe the first process at its start."""
        self.files, self.store = files, store
        scenario: Any = self.scenario  # of a study with processes
        rates = [process.dynamics.learning_rate for process in scenario.process]
        store.write_coords({"learning_rate": np.array(rates, np.float64)})
        for number, stepper in enumerate(self.steppers):
            values = self.clock_values(step_times(stepper, self.last_step(number) + 1))
            here = {"process": slice(number, number + 1)}
            store.write(self.group, {k: self._recorded(v, number) for k, v in values.items()}, here)
        self.probe()
        self.checkpoint()

    def clock_values(self, times: Float[np.ndarray, " time"]) -> dict[str, np.ndarray]:
        """Variables that follow from the times of all steps of a process, one value a step."""
        return {"time": times[:-1]}

    def _recorded(self, values: Float[np.ndarray, " time"], number: int) -> np.ndarray:
        """Values at the recorded steps; NaN behind the end of a shorter process."""
        steps = recorded_steps(self.scenario)
        there = steps <= self.last_step(number)
        found = np.full((1, steps.size), np.nan)
        found[0, there] = values[steps[there]]
        return found

    def load(self, files: PointFiles, store: PointStore) -> None:
        """Take up the last checkpoint."""
        self.files, self.store = files, store
        digest = self.scenario.digest()
        # Processes differ in what they remember, so the position must be known first.
        _, where = load_tree(files.checkpoint, (), digest)
        self.position = Position(int(where["process"]), int(where["step"]))
        like = on_host(self.start_of(self.position.process), self.trajectories)
        members, _ = load_tree(files.checkpoint, like, digest)
        self.state = self.layout.place(self.layout.pad(members))

    @property
    def done(self) -> int:
        """Steps that have been made."""
        number, step = self.position
        return sum(map(self._length, range(number))) + step - self.first_step(number)

    @property
    def total(self) -> int:
        """Steps of all processes."""
        return sum(map(self._length, range(len(self.steppers))))

    def _length(self, number: int) -> int:
        return self.last_step(number) - self.first_step(number)

    def simulate(self) -> Simulation:
        """Ask for what is left of every process, one after another."""
        every = self.scenario.ensemble.record_every
        for number in range(self.position.process, len(self.steppers)):
            if number != self.position.process:
                self.position = Position(number, self.first_step(number))
                self.state = self.start_of(number)
                self.probe()
            ensemble, last = self.ensemble_of(number), self.last_step(number)
            while self.position.step < last:
                chunk = yield self.leg(ensemble, self.state)
                self.record(chunk.records, slice(chunk.start // every, chunk.stop // every))
                self.position, self.state = Position(number, chunk.stop), chunk.state
                self.probe()
                self.checkpoint()
            self.record(ensemble.observe(self.state), slice(last // every, last // every + 1))

    def leg(self, ensemble: Ensemble, state: EnsembleState) -> Leg:
        """Make what the next time chunk needs."""
        keys = ensemble.keys(self.scenario.ensemble.seed, self.trajectories, self.point)
        return Leg(ensemble, keys, state, self.position.step, self.trajectories)

    @property
    def trajectories(self) -> int:
        """Members of the ensemble of a process, without padding."""
        return self.scenario.ensemble.trajectories

    @property
    def here(self) -> dict[str, slice]:
        """Where the present process is in the dataset."""
        return {"process": slice(self.position.process, self.position.process + 1)}

    def checkpoint(self) -> None:
        """Write what every trajectory has done so far, then the state to resume from."""
        track = on_host(self.state.track, self.trajectories)
        finished = self.position.step == self.last_step(self.position.process)
        status = np.where(track.diverged_step != NEVER, 2, 1 if finished else 0)
        values: dict[str, Any] = {
            "status": status.astype(np.int8),
            "diverged_step": track.diverged_step,
            **self.track_values(track),
        }
        values = {name: value[None] for name, value in values.items()}
        self.store.write(self.group, values, self.here)
        members = on_host(self.state, self.trajectories)
        save_tree(self.files.checkpoint, members, self.scenario.digest(), **self.position._asdict())


def checked_stepper(
    process: Process | EdgeProcess, problem: Problem, theta: PyTree, precision: str
) -> AbstractStepper:
    """Make the stepper of a process; one that cannot be is refused before the first one runs.

    Raises
    ------
    ScenarioError
        If dynamics, problem and parameters do not go together.
    """
    try:
        stepper = cast(build_stepper(process.dynamics, theta), jnp.dtype(precision))
        _rehearse(stepper, problem, theta)
    except ValueError as error:
        raise ScenarioError(f"process {process.name!r}: {error}") from error
    return stepper


def _rehearse(stepper: AbstractStepper, problem: Problem, theta: PyTree) -> None:
    """Trace one step, so that what a process refuses to do is known before the first one runs."""

    def step(key: Key[Array, ""], theta: PyTree) -> PyTree:
        randomness = stepper.draw(key, jnp.asarray(0, jnp.int32), problem, theta)
        return stepper.step(problem, stepper.start(problem, theta), randomness)[0]

    jax.eval_shape(step, jax.random.key(0), theta)
