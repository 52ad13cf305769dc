"""Escapes from a well: measured times with intervals, beside what the theory says."""

import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdsim.dynamics import (
    SDE,
    AbstractGradientNoise,
    AbstractStepper,
    Descent,
    FullGradient,
    IsotropicNoise,
    Langevin,
    LangevinNoise,
    Plain,
    step_times,
)
from sgdsim.problems import AbstractWells
from sgdsim.runs._passages import passage_times
from sgdsim.runs._workbench import Workbench
from sgdsim.scenario import DynamicsScenario, Escape
from sgdsim.stagnation import exit_rate

_CONFIDENCE = 0.95
_MEASURED = ("mean_escape_time", "mean_escape_time_low", "mean_escape_time_high")
_PREDICTED = ("kramers_time", "exact_escape_time", "corrected_escape_time")


def escape_values(
    scenario: DynamicsScenario,
    bench: Workbench,
    steppers: list[AbstractStepper],
    dynamics: xr.Dataset,
) -> dict[str, np.ndarray]:
    """Escape times of every process, survival, and predictions where the theory has some.

    Returns
    -------
    dict
        Variables of ``/dynamics`` by name.
    """
    assert scenario.escape is not None
    count = len(steppers)
    values = {name: np.full(count, np.nan) for name in (*_MEASURED, *_PREDICTED)}
    exits, lost = (np.asarray(dynamics[name]) for name in ("escape_step", "diverged_step"))
    # To diverge is not to escape: such a trajectory is under observation until then.
    exits = np.where((lost >= 0) & (exits >= lost), -1, exits)
    steps = np.asarray(dynamics["step"])
    values["survival"] = np.mean((exits[:, :, None] < 0) | (exits[:, :, None] > steps), axis=1)
    for number, stepper in enumerate(steppers):
        rate = float(scenario.process[number].dynamics.learning_rate)
        ends = np.where(exits[number] >= 0, exits[number], steps[-1])
        ends = np.where(lost[number] >= 0, np.minimum(ends, lost[number]), ends)
        exposure = float(step_times(stepper, int(steps[-1]))[ends].sum())
        if exposure > 0:
            estimate = exit_rate(int((exits[number] >= 0).sum()), exposure, _CONFIDENCE)
            times = [
                1 / x if x > 0 else np.inf for x in (estimate.rate, estimate.high, estimate.low)
            ]
            for name, time in zip(_MEASURED, times, strict=True):
                values[name][number] = time
        for name, time in _predictions(bench, stepper, scenario.escape, rate).items():
            values[name][number] = time
    return values


def _predictions(
    bench: Workbench, stepper: AbstractStepper, escape: Escape, learning_rate: float
) -> dict[str, float]:
    """Kramers, the exact mean passage time, and the latter corrected for the finite step."""
    noise, substeps = _white_noise(stepper)
    wells = bench.landscape
    if noise is None or not isinstance(wells, AbstractWells):
        return {}
    problem, start = bench.problem, jnp.ravel(bench.theta)
    variance = float(noise.trace(problem, start)) / start.size
    target = escape.coordinate, escape.level
    steps = learning_rate / substeps, learning_rate
    return passage_times(wells, start, target, learning_rate * variance / 2, steps)


def _white_noise(stepper: AbstractStepper) -> tuple[AbstractGradientNoise | None, int]:
    """Noise and Euler steps per learning rate of a process that is Langevin dynamics, else none."""
    noise, substeps = None, 1
    if isinstance(stepper, SDE) and stepper.order == 1 and stepper.solver == "euler":
        noise, substeps = stepper.noise, stepper.substeps
    elif isinstance(stepper, Langevin) and _is_gradient_descent(stepper.stepper):
        noise = LangevinNoise(stepper.inverse_temperature, stepper.learning_rate)
    return (noise, substeps) if isinstance(noise, IsotropicNoise | LangevinNoise) else (None, 1)


def _is_gradient_descent(stepper: AbstractStepper) -> bool:
    return (
        isinstance(stepper, Descent)
        and isinstance(stepper.rule, Plain)
        and isinstance(stepper.source, FullGradient)
    )
