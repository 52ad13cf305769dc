"""Points and dimensions of a scenario that sweeps."""

from typing import TypeVar

from sgdsim.scenario._schema import Scenario
from sgdsim.scenario._sweep_points import SweepDimension, dimensions_of, points_of

_Scenario = TypeVar("_Scenario", bound=Scenario)


def sweep_dimensions(scenario: Scenario) -> tuple[SweepDimension, ...]:
    """List the dimensions of a scenario's sweep.

    Every axis is a dimension, in alphabetical order; then ``zip``, the keys that advance together,
    then ``draw``, those that are drawn. A dimension is named after the last part of its key. Where
    two keys would have one name, each takes as many of its parts before as tell it from the other,
    joined by ``_``: ``sgd_dynamics_learning_rate``. So does an entry of a list: ``hidden_0``.

    Parameters
    ----------
    scenario
        Any scenario.

    Returns
    -------
    tuple of SweepDimension
        Empty without a sweep.

    Examples
    --------
    >>> from sgdsim.scenario import load_scenario, sweep_dimensions
    >>> axes = ["sweep.learning_rate={log = [0.01, 1], points = 3}", "sweep.batch_size=[8, 16]"]
    >>> scenario = load_scenario("stagnation", axes)
    >>> [(dimension.name, dimension.size) for dimension in sweep_dimensions(scenario)]
    [('batch_size', 2), ('learning_rate', 3)]
    """
    return () if scenario.sweep is None else dimensions_of(scenario.sweep, scenario)


def sweep_points(scenario: _Scenario) -> tuple[_Scenario, ...]:
    """List the scenarios that a sweep stands for, one for every combination of its labels.

    Parameters
    ----------
    scenario
        Any scenario.

    Returns
    -------
    tuple of Scenario
        Of the same study, without sweeps, in C order over :func:`sweep_dimensions`: the last one
        changes fastest. The scenario alone if it has no sweep.

    Examples
    --------
    >>> from sgdsim.scenario import load_scenario, sweep_points
    >>> scenario = load_scenario("stagnation", ["sweep.learning_rate=[0.1, 0.2]"])
    >>> [point.dynamics.learning_rate for point in sweep_points(scenario)]
    [0.1, 0.2]
    """
    return (scenario,) if scenario.sweep is None else points_of(scenario.sweep, scenario)


def point_label(scenario: Scenario, number: int) -> str:
    """Say which point of a sweep it is.

    Parameters
    ----------
    scenario
        Any scenario.
    number
        Number of the point in :func:`sweep_points`.

    Returns
    -------
    str
        Empty without a sweep.

    Examples
    --------
    >>> from sgdsim.scenario import load_scenario, point_label
    >>> axes = ["sweep.learning_rate=[0.1, 0.2]", "sweep.batch_size=[8, 16]"]
    >>> point_label(load_scenario("stagnation", axes), 1)
    'batch_size = 8, learning_rate = 0.2'
    """
    parts: list[str] = []
    for axis in reversed(sweep_dimensions(scenario)):
        number, index = divmod(number, axis.size)
        labels = {name: values[index] for name, values in axis.coords.items()}
        parts = [f"{name} = {value}" for name, value in labels.items()] + parts
    return ", ".join(parts)
