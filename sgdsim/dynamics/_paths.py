"""Several equations on one Brownian path: common random numbers for every step size."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from sgdsim.dynamics._adaptive_sde import AdamSDE, RMSPropSDE
from sgdsim.dynamics._modifiers import AbstractModifier
from sgdsim.dynamics._sde import SDE
from sgdsim.dynamics._steppers import AbstractStepper
from sgdsim.dynamics._underdamped import UnderdampedSDE

_EQUATIONS = (SDE, UnderdampedSDE, RMSPropSDE, AdamSDE)


def on_one_path(steppers: Any) -> Any:
    """Draw the noise of all equations on one grid, so that with one key they follow one path.

    The ``resolution`` of every :class:`SDE` (Gaussian SGD is one), :class:`UnderdampedSDE`,
    :class:`RMSPropSDE` and :class:`AdamSDE`, also inside modifiers, becomes the least common
    multiple of the resolutions of all that have its learning rate, which sets the time of a step.
    Everything else stays as it is: other steppers, and heavy-tailed noise, which has no Brownian
    path.

    Parameters
    ----------
    steppers
        A dictionary or a list of steppers.

    Returns
    -------
    steppers
        The same, a dictionary or a list.

    Notes
    -----
    In law no process changes. Every step costs as many normals as the grid has points.

    Examples
    --------
    >>> from sgdsim import SDE, IsotropicNoise, gaussian_sgd
    >>> from sgdsim.dynamics import on_one_path
    >>> noise = IsotropicNoise(0.1)
    >>> pair = on_one_path({"SGD": gaussian_sgd(0.1, noise), "SDE": SDE(0.1, noise, 4)})
    >>> {name: stepper.resolution for name, stepper in pair.items()}
    {'SGD': 4, 'SDE': 4}
    """
    if isinstance(steppers, Mapping):
        return dict(zip(steppers, _together(steppers.values()), strict=True))
    return _together(steppers)


def _together(steppers: Iterable[AbstractStepper]) -> list[AbstractStepper]:
    steppers = list(steppers)
    grids: dict[float, list[int]] = {}
    for equation in filter(None, map(_equation, steppers)):
        points = equation.resolution or equation.substeps
        grids.setdefault(float(equation.learning_rate), []).append(points)
    together = []
    for stepper in steppers:
        equation = _equation(stepper)
        grid = [] if equation is None else grids[float(equation.learning_rate)]
        shared = len(grid) > 1
        together.append(_with_resolution(stepper, math.lcm(*grid)) if shared else stepper)
    return together


def _equation(stepper: AbstractStepper) -> Any:
    """Innermost stepper, if it is an equation driven by Brownian motion."""
    while isinstance(stepper, AbstractModifier):
        stepper = stepper.stepper
    brownian = isinstance(stepper, _EQUATIONS) and stepper.noise.brownian
    return stepper if brownian else None


def _with_resolution(stepper: Any, points: int) -> Any:
    if isinstance(stepper, AbstractModifier):
        return dataclasses.replace(stepper, stepper=_with_resolution(stepper.stepper, points))
    return dataclasses.replace(stepper, resolution=points)
