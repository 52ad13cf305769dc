"""Processes side by side on a loss of one's own, from Python, without a scenario file."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import PyTree
from rich.console import Console
from rich.progress import Progress

from sgdsim._checks import check_count
from sgdsim.dynamics import AbstractStepper, on_one_path
from sgdsim.ensemble import NEVER, Ensemble, Observer, Schedule, choose_layout, no_observables
from sgdsim.problems import Problem
from sgdsim.stagnation import Ball

_MOST_STEPS_PER_CHUNK = 1000


def simulate(
    problem: Problem,
    theta: PyTree,
    processes: AbstractStepper | Mapping[str, AbstractStepper],
    steps: int,
    *,
    trajectories: int = 1,
    record_every: int = 1,
    seed: int = 0,
    observer: Observer = no_observables,
) -> xr.Dataset:
    r"""Simulate one process or several side by side, with common random numbers.

    Every trajectory of every process starts at ``theta``; trajectory ``i`` has the same key in
    all processes: algorithms see the same batches, equations (Gaussian SGD is one) of one learning
    rate the same Brownian path.

    Parameters
    ----------
    problem
        What is minimised; ``Problem.from_mean_loss`` makes one of ``loss(params, batch)``.
    theta
        Start, any pytree of floating-point arrays.
    processes
        A stepper, or steppers by name.
    steps
        Steps of every process; a multiple of ``record_every``.
    trajectories
        Independent trajectories of each process.
    record_every
        Steps between two recorded values.
    seed
        Of all random numbers.
    observer
        ``observer(problem, theta) -> {name: scalar or vector}``, evaluated at recorded steps.

    Returns
    -------
    xarray.Dataset
        ``loss``, ``distance`` (from the start) and the observables, with dimensions
        ``(process, trajectory, step)``; ``diverged_step``, -1 for never. A diverged trajectory is
        NaN from that step on. Without names there is no dimension ``process``.

    Raises
    ------
    ValueError
        If ``steps`` is not a multiple of ``record_every``, the losses are not one number per row,
        or something in ``processes`` is no stepper.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import sgdsim
    >>> def loss(params, batch):
    ...     inputs, targets = batch
    ...     return jnp.mean((inputs @ params["w"] - targets) ** 2)
    >>> rows = jnp.eye(4), jnp.array([1.0, -1.0, 2.0, 0.0])
    >>> problem = sgdsim.Problem.from_mean_loss(loss, rows)
    >>> processes = {
    ...     "SGD": sgdsim.minibatch_sgd(0.1, batch_size=2),
    ...     "Gaussian SGD": sgdsim.gaussian_sgd(0.1, sgdsim.MinibatchNoise(2)),
    ... }
    >>> start = {"w": jnp.zeros(4)}
    >>> run = sgdsim.simulate(problem, start, processes, 50, trajectories=8, record_every=10)
    >>> dict(run.loss.sizes)
    {'process': 2, 'trajectory': 8, 'step': 6}
    """
    for name, count in (("steps", steps), ("record_every", record_every)):
        check_count(name, count)
    check_count("trajectories", trajectories)
    if steps % record_every:
        raise ValueError(f"steps must be a multiple of record_every, got {steps}, {record_every}.")
    _check_problem(problem, theta)
    _check_processes(processes)
    if isinstance(processes, AbstractStepper):
        one = simulate(
            problem,
            theta,
            {"": processes},
            steps,
            trajectories=trajectories,
            record_every=record_every,
            seed=seed,
            observer=observer,
        )
        return one.isel(process=0).drop_vars("process")
    steppers: dict[str, AbstractStepper] = on_one_path(processes)
    schedule = Schedule(steps, record_every, _chunk(steps, record_every))
    theta = jax.tree.map(jnp.asarray, theta)
    runs = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for name, stepper in steppers.items():
            ensemble = Ensemble(
                problem=problem,
                stepper=stepper,
                region=Ball(centre=theta, radius=np.inf),
                observer=observer,
                schedule=schedule,
                layout=choose_layout(),
            )
            task = bar.add_task(name or "simulating", total=steps)
            state = ensemble.start(theta, trajectories)
            records = []
            for chunk in ensemble.run(ensemble.keys(seed, trajectories), state):
                records.append(chunk.records)
                state = chunk.state
                bar.update(task, completed=chunk.stop)
            records.append(ensemble.observe(state))
            diverged = np.asarray(state.track.diverged_step)[:trajectories]
            runs.append(_dataset(records, diverged, trajectories))
    # Dimensions must be in the same order in all processes, which concat does not change.
    whole = xr.concat(runs, xr.Variable("process", list(steppers)))
    rates = [float(stepper.learning_rate) for stepper in steppers.values()]
    return whole.assign_coords(
        step=("step", np.arange(0, steps + 1, record_every), {"long_name": "step"}),
        learning_rate=("process", rates, {"long_name": "learning rate eta"}),
    )


def _check_problem(problem: Problem, theta: PyTree) -> None:
    """Refuse parameters and losses with which JAX would fail somewhere inside."""
    for leaf in jax.tree.leaves(theta):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(
                f"theta must hold floating-point arrays only, got {jnp.result_type(leaf)}; keep "
                "other things in the loss or in the data."
            )
    rows = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(problem.data)}
    if len(rows) != 1 or rows == {()}:
        raise ValueError(
            "all arrays of the data must have the same number of rows along their first axis, got "
            f"{sorted(rows)}."
        )
    losses = jax.eval_shape(problem.per_sample_losses, theta)
    if losses.shape != (problem.n,):
        raise ValueError(
            f"the losses must be one number per row, shape ({problem.n},), got {losses.shape}; a "
            "loss that is a mean over the batch is for Problem.from_mean_loss."
        )


def _check_processes(processes: AbstractStepper | Mapping[str, AbstractStepper]) -> None:
    if isinstance(processes, AbstractStepper):
        return
    if not isinstance(processes, Mapping) or not processes:
        raise ValueError(
            "processes must be a stepper or a dictionary of at least one stepper by name, got "
            f"{type(processes).__name__}."
        )
    for name, stepper in processes.items():
        if not isinstance(stepper, AbstractStepper):
            raise ValueError(
                f"process {name!r} must be a stepper, such as minibatch_sgd(0.1, 16), got "
                f"{type(stepper).__name__}; an optax transformation goes into "
                "Descent(learning_rate, source, OptaxRule(transformation))."
            )


def _chunk(steps: int, record_every: int) -> int:
    """Largest chunk of a few hundred steps that fits between records and divides the run."""
    blocks = steps // record_every
    most = max(1, _MOST_STEPS_PER_CHUNK // record_every)
    return record_every * max(d for d in range(1, min(blocks, most) + 1) if blocks % d == 0)


def _dataset(records: list[dict[str, Any]], diverged: np.ndarray, trajectories: int) -> xr.Dataset:
    """Join the records of the chunks of one process along the steps."""
    names = {
        "loss": "penalised empirical risk",
        "distance": "distance from the start",
    }
    variables = {}
    for name in records[0]:
        if name == "inside":  # nothing is watched here
            continue
        parts = [np.asarray(jax.device_get(record[name]))[:trajectories] for record in records]
        values = np.concatenate(parts, axis=1)
        further = [f"{name}_{axis}" for axis in range(values.ndim - 2)]
        attrs = {"long_name": names.get(name, name)}
        variables[name] = (("trajectory", "step", *further), values, attrs)
    missing = {"long_name": f"first step with a non-finite iterate; {NEVER}: never"}
    variables["diverged_step"] = ("trajectory", diverged, missing)
    return xr.Dataset(variables, coords={"trajectory": np.arange(trajectories)})
