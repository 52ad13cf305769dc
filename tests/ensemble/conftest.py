"""A small ensemble, built in any layout, run to the end."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

HESSIAN = np.array([[1.0, 0.3], [0.3, 0.6]])
CENTRES = np.random.default_rng(5).normal(size=(4, 2))
START = np.array([1.0, -0.5])


@dataclasses.dataclass(frozen=True)
class Finished:
    """Everything that a run leaves, as numpy."""

    theta: np.ndarray
    track: dict[str, np.ndarray]
    records: dict[str, np.ndarray]
    final: dict[str, np.ndarray]


def extra_observables(problem, theta):
    return {
        "gradient_norm": jnp.linalg.norm(jax.grad(problem.empirical_risk)(theta)),
        "first": theta[0],
    }


@pytest.fixture(scope="module")
def make_ensemble(quadratic):
    """Build an ensemble on the quadratic; keywords replace single numbers."""
    from sgdsim.dynamics import SDE, MinibatchNoise
    from sgdsim.ensemble import Ensemble, Layout, Schedule, no_observables
    from sgdsim.stagnation import Ball

    default_problem = quadratic(HESSIAN, CENTRES)[0]

    def make(**changes: Any) -> Ensemble:
        settings = {
            "problem": default_problem,
            "eta": 0.4,
            "batch": 1.0,
            "substeps": 1,
            "radius": 0.7,
            "steps": 60,
            "record_every": 5,
            "chunk_steps": 20,
            "mapping": "map",
            "devices": 1,
            "observed": False,
            "dtype": "float64",
        } | changes
        stepper = SDE(settings["eta"], MinibatchNoise(settings["batch"]), settings["substeps"])
        return Ensemble(
            settings["problem"].astype(settings["dtype"]),
            stepper,
            Ball(centre=jnp.zeros(2, settings["dtype"]), radius=settings["radius"]),
            extra_observables if settings["observed"] else no_observables,
            Schedule(settings["steps"], settings["record_every"], settings["chunk_steps"]),
            Layout(settings["mapping"], settings["devices"]),
        )

    return make


@pytest.fixture(scope="module")
def finish() -> Callable[..., Finished]:
    """Run an ensemble from a state to the end."""
    from sgdsim.ensemble import Chunk, Ensemble

    def run(ensemble: Ensemble, keys: Any, state: Any, start: int = 0) -> Finished:
        chunks: list[Chunk] = list(ensemble.run(keys, state, start))
        last = chunks[-1].state
        records = {
            name: np.concatenate([np.asarray(chunk.records[name]) for chunk in chunks], axis=1)
            for name in chunks[0].records
        }
        return Finished(
            np.asarray(last.theta),
            {
                f.name: np.asarray(getattr(last.track, f.name))
                for f in dataclasses.fields(last.track)
            },
            records,
            {name: np.asarray(value) for name, value in ensemble.observe(last).items()},
        )

    return run


@pytest.fixture(scope="module")
def run_case(make_ensemble, finish) -> Callable[..., Finished]:
    """Run the ensemble with some settings replaced; every case runs once."""

    @functools.cache
    def run(trajectories: int = 3, seed: int = 0, **changes: Any) -> Finished:
        ensemble = make_ensemble(**changes)
        keys = ensemble.keys(seed, trajectories)
        start = jnp.asarray(START, changes.get("dtype", "float64"))
        return finish(ensemble, keys, ensemble.start(start, trajectories))

    return run
