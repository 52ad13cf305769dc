"""After the last step of a dynamics study: means, verdicts on the SDE, escapes."""

import json
from typing import Any

import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import AbstractStepper, step_times
from sgdsim.runs._complete import NOT_JUDGED
from sgdsim.runs._escapes import escape_values
from sgdsim.runs._processes import mean_over_trajectories
from sgdsim.runs._validity import effective_batch_size
from sgdsim.runs._workbench import Workbench
from sgdsim.scenario import Dynamics, DynamicsScenario, Sgd, Svag
from sgdsim.stability import SdeProbes, SdeValidity, SvagTest, judge_sde, svag_sweep_test
from sgdsim.store import PointStore

# Processes that follow plain SGD: what the gauges of the verdict are made for.
_PLAIN = ("gd", "sgd", "gaussian_sgd", "sde", "svag", "sgld", "label_noise_sgd")


def evaluate_dynamics(
    scenario: DynamicsScenario,
    bench: Workbench,
    steppers: list[AbstractStepper],
    store: PointStore,
) -> None:
    """Complete the dataset: mean losses, escapes, gauges and verdicts.

    Parameters
    ----------
    scenario, bench, steppers
        What ran.
    store
        Dataset of the point.
    """
    dynamics = store.tree()["dynamics"].to_dataset()
    store.write("dynamics", _losses(dynamics))
    if scenario.escape is not None:
        store.write("dynamics", escape_values(scenario, bench, steppers, dynamics))
    dynamics = store.tree()["dynamics"].to_dataset()
    verdicts = {
        process.name: _judge(scenario, bench, (number, steppers[number]), dynamics)
        if process.dynamics.kind in _PLAIN
        else None
        for number, process in enumerate(scenario.process)
    }
    store.write("dynamics", _gauges(dynamics, list(verdicts.values())))
    sentences = {
        name: _divergence(dynamics.sel(process=name))
        + (NOT_JUDGED if verdict is None else verdict.sentence)
        for name, verdict in verdicts.items()
    }
    store.set_attrs({"verdicts": json.dumps(sentences)})


def _losses(dynamics: xr.Dataset) -> dict[str, np.ndarray]:
    """Mean loss with its standard error, and the late loss of every trajectory."""
    loss = dynamics["loss"].astype(np.float64)
    mean, stderr = mean_over_trajectories(loss)
    late = loss.where(loss["step"] > int(loss["step"][-1]) // 2).mean("step", skipna=True)
    late = late.where(dynamics["status"] != 2)
    return {
        "mean_loss": np.asarray(mean),
        "mean_loss_stderr": np.asarray(stderr),
        "late_loss": np.asarray(late),
    }


def _divergence(one: xr.Dataset) -> str:
    """Say how many trajectories of a process diverged; nothing if none did."""
    steps = np.asarray(one["diverged_step"])[np.asarray(one["status"] == 2)]
    if not steps.size:
        return ""
    count = f"{steps.size} of {one.sizes['trajectory']} trajectories diverged"
    return f"{count}, the first at step {int(steps.min()):,}. "


def _judge(
    scenario: DynamicsScenario,
    bench: Workbench,
    process: tuple[int, AbstractStepper],
    dynamics: xr.Dataset,
) -> SdeValidity:
    """Judge whether the SDE describes one process, given by number and stepper."""
    number, stepper = process
    table, one = scenario.process[number].dynamics, dynamics.isel(process=number)
    # The member with the largest sharpness at each probe stands for the ensemble.
    sharpness = one["hessian_eigenvalue"].isel(rank=0, drop=True)
    worst = sharpness.fillna(-np.inf).argmax("member")
    eigenvalues = one["hessian_eigenvalue"].isel(member=worst)
    known = eigenvalues["rank"] < int(eigenvalues.notnull().any("probe").sum())
    eigenvalues = np.asarray(eigenvalues.transpose("probe", "rank"))[:, np.asarray(known)]
    # Decoupled weight decay adds to every eigenvalue of the linearised step.
    decay, size = table.weight_decay, ravel_pytree(bench.theta)[0].size
    probes = SdeProbes(
        step=np.asarray(one["probe"]),
        sharpness=np.asarray(sharpness.isel(member=worst)) + decay,
        eigenvalues=eigenvalues + decay,
        trace=np.asarray(one["hessian_trace"].isel(member=worst)) + decay * size,
        excess_kurtosis=np.asarray(one["noise_kurtosis"].transpose("probe", "member")),
    )
    steps = scenario.ensemble.steps
    rates = np.diff(step_times(stepper, steps))[np.minimum(probes.step, steps - 1)]
    return judge_sde(
        probes,
        np.maximum(rates, np.finfo(np.float64).tiny),  # a schedule may end at zero
        effective_batch_size(table, bench.problem.n),
        tolerance=scenario.validity.tolerance,
        svag=_svag_sweep(scenario, dynamics, table),
    )


def _svag_sweep(
    scenario: DynamicsScenario, dynamics: xr.Dataset, table: Dynamics
) -> SvagTest | None:
    """Sweep over l among the processes that differ from this one in nothing else."""
    sweep = {}
    for process in scenario.process:
        other = process.dynamics
        if not isinstance(other, Sgd | Svag) or _all_but_l(other) != _all_but_l(table):
            continue
        late = dynamics["late_loss"].sel(process=process.name)
        count = int(late.notnull().sum())
        spread = float(late.std(ddof=1)) if count > 1 else 0.0
        if count == late.size and spread > 0:
            l = other.l if isinstance(other, Svag) else 1
            sweep[l] = float(late.mean()), spread / count**0.5
    if len(sweep) < 2:
        return None
    values, stderrs = zip(*sweep.values(), strict=True)
    return svag_sweep_test(values, stderrs, list(sweep), name="late mean loss")


def _all_but_l(table: Dynamics) -> tuple[Any, ...]:
    """List what SVAG and the process that it is a sweep for have in common."""
    return (
        table.learning_rate,
        getattr(table, "batch_size", None),
        table.repeats_rows,
        table.weight_decay,
        table.schedule,
        table.projection,
    )


def _gauges(dynamics: xr.Dataset, verdicts: list[SdeValidity | None]) -> dict[str, np.ndarray]:
    shape = len(verdicts), dynamics.sizes["probe"]
    names = {
        "sde_gauge": "edge",
        "variance_ratio": "variance_ratio",
        "mean_square_gauge": "mean_square",
        "mean_square_gauge_sde": "mean_square_sde",
    }
    values = {name: np.full(shape, np.nan) for name in names}
    valid = np.full(shape, -1, np.int8)
    for number, verdict in enumerate(verdicts):
        if verdict is None:
            continue
        for name, field in names.items():
            values[name][number] = getattr(verdict.gauges, field)
        failure = verdict.gauges.failure
        valid[number] = np.where(failure < 0, -1, failure == 0)
    return {**values, "sde_valid": valid}
