"""The compiled loop: many trajectories, one program, one time chunk after another."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from sgdsim.dynamics import AbstractStepper, Iterate
from sgdsim.ensemble._layout import Layout, map_ensemble
from sgdsim.ensemble._track import NEVER, AbstractRegion, Track, start_track, update_track
from sgdsim.problems import Problem


class CarryingObserver(eqx.Module):
    """An observer that also sees the memory of the process and remembers what it saw before.

    What it carries from one recorded step to the next is part of the state of a run, so that a
    resumed run observes as an uninterrupted one does. Concrete classes are final.
    """

    def start(
        self, problem: Problem, stepper: AbstractStepper, iterate: Iterate, member: Int[Array, ""]
    ) -> PyTree:
        """Carry nothing yet; ``member`` is the number of the trajectory."""
        raise NotImplementedError

    def observe(
        self, problem: Problem, stepper: AbstractStepper, iterate: Iterate, carried: PyTree
    ) -> tuple[dict[str, Array], PyTree]:
        """Observables of one iterate, and what is carried on."""
        raise NotImplementedError


#: ``observer(problem, theta) -> {name: array}``, evaluated at recorded steps.
Observer = Callable[[Problem, PyTree], dict[str, Array]]


class EnsembleState(eqx.Module):
    """Iterates, memories and records of all trajectories: the state of a run beside its step."""

    theta: PyTree
    memory: PyTree
    track: Track
    carried: PyTree = ()


class Chunk(NamedTuple):
    """One finished time chunk.

    Attributes
    ----------
    start, stop
        The chunk took the ensemble from step ``start`` to step ``stop``.
    records
        Observables, each of shape ``(trajectory, recorded step)``, at the steps ``start``,
        ``start + record_every``, ... below ``stop``.
    state
        State at ``stop``.
    """

    start: int
    stop: int
    records: dict[str, Array]
    state: EnsembleState


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Steps of a run: how many, how often recorded, how many in one compiled chunk.

    Parameters
    ----------
    steps
        Steps of the run; a multiple of ``chunk_steps``.
    record_every
        Steps between two recorded values.
    chunk_steps
        Steps of one call of the compiled program; a multiple of ``record_every``.

    Examples
    --------
    >>> from sgdsim import Schedule
    >>> Schedule(steps=100, record_every=5, chunk_steps=50).halfway
    50
    """

    steps: int
    record_every: int
    chunk_steps: int

    def __post_init__(self):
        if self.chunk_steps % self.record_every or self.steps % self.chunk_steps:
            raise ValueError(
                f"chunk_steps ({self.chunk_steps}) must be a multiple of record_every "
                f"({self.record_every}) and divide steps ({self.steps})."
            )

    @property
    def halfway(self) -> int:
        """Step after which the statistics of the second half count."""
        return self.steps // 2


class Ensemble(eqx.Module):
    """Independent trajectories of one process on one problem.

    Parameters
    ----------
    problem, stepper, region
        What is minimised, how theta moves, which set is watched.
    observer
        Extra observables at recorded steps; a pytree if it holds data.
    schedule
        Steps, record interval, chunk length.
    layout
        Devices and mapping.

    Notes
    -----
    Every number in ``problem``, ``stepper`` and ``region`` is a traced argument of the compiled
    program, so that other values (another learning rate, another radius) reuse it.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import sgdsim
    >>> rows = jnp.array([[0.0, 1.0], [2.0, 1.0]])
    >>> problem = sgdsim.Problem(lambda t, z: 0.5 * jnp.sum((t[None] - z) ** 2, axis=1), rows)
    >>> ensemble = sgdsim.Ensemble(
    ...     problem=problem,
    ...     stepper=sgdsim.gaussian_sgd(0.1, sgdsim.MinibatchNoise(1)),
    ...     region=sgdsim.Ball(centre=jnp.ones(2), radius=1.0),
    ...     observer=sgdsim.no_observables,
    ...     schedule=sgdsim.Schedule(steps=20, record_every=5, chunk_steps=10),
    ...     layout=sgdsim.choose_layout(),
    ... )
    >>> state = ensemble.start(jnp.ones(2), trajectories=4)
    >>> for chunk in ensemble.run(ensemble.keys(seed=0, trajectories=4), state):
    ...     print(chunk.stop, chunk.records["distance"].shape)
    10 (4, 2)
    20 (4, 2)
    """

    problem: Problem
    stepper: AbstractStepper
    region: AbstractRegion
    observer: Observer | CarryingObserver
    schedule: Schedule = eqx.field(static=True)
    layout: Layout = eqx.field(static=True)

    def start(self, theta: PyTree, trajectories: int) -> EnsembleState:
        """All trajectories at ``theta``; padded to a multiple of the device count.

        Raises
        ------
        ValueError
            If the stepper does not fit the problem or the parameters.
        """
        self.stepper.check(self.problem, theta)
        copies = self.layout.padded(trajectories)
        return self._start(jax.tree.map(lambda a: jnp.broadcast_to(a, (copies, *a.shape)), theta))

    def start_each(self, thetas: PyTree) -> EnsembleState:
        """Every trajectory at a point of its own, along the leading axis of ``thetas``.

        The last point is repeated up to a multiple of the device count.

        Raises
        ------
        ValueError
            If the stepper does not fit the problem or the parameters.
        """
        self.stepper.check(self.problem, jax.tree.map(lambda a: a[0], thetas))
        return self._start(self.layout.pad(thetas))

    def _start(self, thetas: PyTree) -> EnsembleState:
        return self.layout.place(_start(jax.tree.map(as_array, self), thetas))

    def keys(self, seed: int, trajectories: int, point: int = 0) -> Key[Array, " trajectory"]:
        """One key per trajectory, whatever the size of the ensemble."""
        root = root_key(seed, point)
        members = jnp.arange(self.layout.padded(trajectories))
        return self.layout.place(jax.vmap(lambda member: jax.random.fold_in(root, member))(members))

    def run(
        self, keys: Key[Array, " trajectory"], state: EnsembleState, start: int = 0
    ) -> Iterator[Chunk]:
        """Yield finished time chunks from step ``start`` to the last step."""
        traced = jax.tree.map(as_array, self)
        for first in range(start, self.schedule.steps, self.schedule.chunk_steps):
            state, records = advance(traced, keys, state, jnp.asarray(first, jnp.int32))
            yield Chunk(first, first + self.schedule.chunk_steps, records, state)

    def observe(self, state: EnsembleState) -> dict[str, Array]:
        """Observables of the present state, each of shape ``(trajectory, 1)``."""
        ensemble: Ensemble = self
        if not isinstance(self.observer, CarryingObserver):
            # Without stepper and memory one program serves all processes on a problem.
            ensemble = eqx.tree_at(lambda ensemble: ensemble.stepper, self, None)
            state = EnsembleState(state.theta, (), state.track)
        return _observe(jax.tree.map(as_array, ensemble), state)


def root_key(seed: int, point: int) -> Key[Array, ""]:
    """Key of all random numbers of one point: its numbers 0, 1, ... are those of trajectories."""
    return jax.random.fold_in(jax.random.key(seed), point)


@eqx.filter_jit
def advance(
    ensemble: Ensemble, keys: Key[Array, " trajectory"], state: EnsembleState, start: Int[Array, ""]
) -> tuple[EnsembleState, dict[str, Array]]:
    """Advance every trajectory by one time chunk; one compilation per shape."""
    arrays, static = eqx.partition(ensemble, eqx.is_array)

    def one(key, state, shared):
        arrays, start = shared
        return advance_one(eqx.combine(arrays, static), key, state, start)

    return map_ensemble(ensemble.layout, one, (keys, state), (arrays, start))


@eqx.filter_jit
def _start(ensemble: Ensemble, thetas: PyTree) -> EnsembleState:
    problem, stepper, observer = ensemble.problem, ensemble.stepper, ensemble.observer

    def one(theta: PyTree, member: Int[Array, ""]) -> EnsembleState:
        iterate = stepper.start(problem, theta)
        track = start_track(ensemble.region, theta)
        carried: PyTree = ()
        if isinstance(observer, CarryingObserver):
            carried = observer.start(problem, stepper, iterate, member)
        return EnsembleState(iterate.theta, iterate.memory, track, carried)

    members = jnp.arange(jax.tree.leaves(thetas)[0].shape[0], dtype=jnp.int32)
    return jax.vmap(one)(thetas, members)


@eqx.filter_jit
def _observe(ensemble: Ensemble, state: EnsembleState) -> dict[str, Array]:
    arrays, static = eqx.partition(ensemble, eqx.is_array)

    def one(state, arrays):
        whole = eqx.combine(arrays, static)
        record, _ = _record(whole, state, whole.problem.empirical_risk(state.theta))
        return jax.tree.map(lambda a: a[None], record)

    return map_ensemble(ensemble.layout, one, (state,), arrays)


def advance_one(
    ensemble: Ensemble, key: Key[Array, ""], state: EnsembleState, start: Int[Array, ""]
) -> tuple[EnsembleState, dict[str, Array]]:
    """Advance one trajectory by one time chunk."""
    problem, stepper, schedule = ensemble.problem, ensemble.stepper, ensemble.schedule

    def one_step(carry, step):
        state, randomness = carry
        iterate = Iterate(state.theta, state.memory)
        moved, risk = stepper.step(problem, iterate, randomness)
        track, good = update_track(
            state.track, ensemble.region, moved.theta, step + 1, step + 1 > schedule.halfway
        )
        # A diverged trajectory keeps its last finite iterate; the others are not disturbed. A
        # branch saves the pass over all parameters that a select makes (vmap makes it a select).
        iterate = jax.lax.cond(good, lambda new, old: new, lambda new, old: old, moved, iterate)
        # The normals of the next step are drawn here and carried: XLA then makes them once
        # instead of once for each of their uses.
        upcoming = stepper.draw(key, step + 1, problem, iterate.theta)
        state = EnsembleState(iterate.theta, iterate.memory, track, state.carried)
        return (state, upcoming), risk

    def block(carry, first):
        state, randomness = carry
        steps = first + jnp.arange(schedule.record_every, dtype=jnp.int32)
        (moved, randomness), risks = jax.lax.scan(one_step, (state, randomness), steps)
        # The first step of the block has passed the recorded iterate and knows its risk.
        risk = problem.empirical_risk(state.theta) if risks is None else risks[0]
        record, carried = _record(ensemble, state, risk)
        moved = EnsembleState(moved.theta, moved.memory, moved.track, carried)
        return (moved, randomness), record

    blocks = schedule.chunk_steps // schedule.record_every
    firsts = start + schedule.record_every * jnp.arange(blocks, dtype=jnp.int32)
    randomness = stepper.draw(key, start, problem, state.theta)
    (state, _), records = jax.lax.scan(block, (state, randomness), firsts)
    return state, records


def _record(
    ensemble: Ensemble, state: EnsembleState, risk: Array
) -> tuple[dict[str, Array], PyTree]:
    """Observables of one trajectory, missing ones of a diverged one; what is carried on."""
    squared = ensemble.region.squared_distance(state.theta)
    radius = jnp.asarray(ensemble.region.radius, squared.dtype)
    record = {"loss": risk, "distance": jnp.sqrt(squared)}
    observer, carried = ensemble.observer, state.carried
    if isinstance(observer, CarryingObserver):
        iterate = Iterate(state.theta, state.memory)
        observed, carried = observer.observe(ensemble.problem, ensemble.stepper, iterate, carried)
    else:
        observed = observer(ensemble.problem, state.theta)
    diverged = state.track.diverged

    def unless_diverged(value: Array) -> Array:
        missing = jnp.nan if jnp.issubdtype(value.dtype, jnp.floating) else NEVER
        return jnp.where(diverged, missing, value)

    record = {name: unless_diverged(value) for name, value in (record | observed).items()}
    return record | {"inside": (squared <= radius * radius) & ~diverged}, carried


def as_array(leaf: Any) -> Any:
    """Turn a number into an array, which a program takes as an argument; the rest stays."""
    return jnp.asarray(leaf) if eqx.is_array_like(leaf) else leaf
