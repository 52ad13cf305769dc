"""From the start table of a scenario to parameters: one start for all trajectories, or for each."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from sgdsim.problems._biased import biased_network
from sgdsim.problems._build import build_landscape, build_regression, build_task, initial_network
from sgdsim.problems._landscapes_edge import ScalarDeepLinear
from sgdsim.problems._streams import stream
from sgdsim.scenario import Problem, RandomStart, Start


def build_start(problem: Problem, start: Start) -> PyTree:
    """Make the start that all trajectories share.

    Parameters
    ----------
    problem, start
        Tables of a scenario that fit together.

    Returns
    -------
    PyTree
        A network, or the coordinates on a landscape, in the default precision.

    Raises
    ------
    ValueError
        Every trajectory has a start of its own.

    Examples
    --------
    >>> from sgdsim.problems import build_start
    >>> from sgdsim.scenario import Landscape, RandomStart
    >>> chain = {"kind": "deep_linear", "target": 0, "hidden": [4]}
    >>> table = Landscape.model_validate({"kind": "landscape", "landscape": chain})
    >>> build_start(table, RandomStart(kind="random", seed=3)).shape
    (8,)
    """
    if start.kind == "point":
        return jnp.asarray(start.theta, float)
    if start.each:
        raise ValueError(
            "start.each = true gives every trajectory weights of its own; build_starts makes them."
        )
    return _draw(problem, start, stream(start.seed, "start"))


def build_starts(problem: Problem, start: Start, trajectories: int) -> PyTree:
    """Make the starts of all trajectories, along a new leading axis, as `Ensemble` takes them.

    Parameters
    ----------
    problem, start
        Tables of a scenario that fit together. With ``start.each`` every trajectory has random
        weights of its own, whatever the number of the others; else all have the same start.
    trajectories
        How many.

    Examples
    --------
    >>> from sgdsim.problems import build_starts
    >>> from sgdsim.scenario import Landscape, RandomStart
    >>> chain = {"kind": "deep_linear", "target": 0, "hidden": [4]}
    >>> table = Landscape.model_validate({"kind": "landscape", "landscape": chain})
    >>> build_starts(table, RandomStart(kind="random", seed=3, each=True), 5).shape
    (5, 8)
    """
    if start.kind == "random" and start.each:
        root = stream(start.seed, "start")
        members = jnp.arange(trajectories)
        return jax.vmap(lambda i: _draw(problem, start, jax.random.fold_in(root, i)))(members)
    theta = build_start(problem, start)
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (trajectories, *a.shape)), theta)


def _draw(problem: Problem, start: RandomStart, key: Key[Array, ""]) -> PyTree:
    """Draw weights by the usual law of the model, times the gain."""
    if problem.kind == "classification":
        theta = initial_network(problem, build_task(problem), key)
    elif problem.kind == "regression":
        rows = build_regression(problem).training
        model = problem.model
        widths = (rows.inputs.shape[1], *model.widths, rows.targets.shape[1])
        law = model.initial, model.hidden_gain, model.output_bias
        theta = biased_network(key, widths, model.activation, *law)
    else:
        landscape = build_landscape(problem.landscape)
        assert isinstance(landscape, ScalarDeepLinear)  # the scenario demands it
        theta = landscape.random_point(key)
    return jax.tree.map(lambda a: start.gain * a, theta)
