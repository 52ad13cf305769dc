"""All ingredients of the measures that a network and its training rows determine."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from sgdsim.bounds import check_ingredients
from sgdsim.networks._architecture import Architecture
from sgdsim.networks._ingredient_groups import GROUPS, MEASURED_BY, Effort, MeasuredNetwork
from sgdsim.networks._outputs import LabelledRows, Outputs
from sgdsim.networks._path_norm import layers_without_paths
from sgdsim.networks._trajectories import lead_of, map_over_networks
from sgdsim.problems import Network, Rows

#: Ingredients that ``measure_network`` can measure.
MEASURABLE = tuple(name for names in GROUPS.values() for name in names)
_NEED_INITIAL = (
    "parameter_distance",
    "magnitude_log_mean",
    "magnitude_log_mean_dziugaite2020",
    "magnitude_ascent_log_mean",
)


def measure_network(
    outputs: Outputs,
    theta: PyTree,
    initial: PyTree | None,
    rows: Rows | LabelledRows,
    key: Key[Array, ""],
    names: Sequence[str] | None = None,
    axes: int = 0,
    effort: Effort | None = None,
) -> dict[str, Float[np.ndarray, "..."]]:
    r"""Measure what the measures need of a network, or of an array of networks.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``, for example ``call_network`` for a
        ``Network``; compiled once per function, shapes and effort.
    theta
        Parameters of one network, or of an array of networks along the first ``axes`` axes.
    initial
        Parameters at the initialisation, one for all networks or one for each; ``None`` leaves
        out what needs it.
    rows
        Training rows.
    key
        Random key of all perturbations; every network has its own draws.
    names
        Which ingredients of ``MEASURABLE``; all but those of published code if left out.
    axes
        Number of leading axes of every leaf that number networks, such as (trajectory, probe).
    effort
        Draws, steps and radii.

    Returns
    -------
    dict
        Arrays of shape ``lead`` in float64, by name, for ``BoundInputs.measured``.

    Raises
    ------
    ValueError
        If a name is unknown or belongs to what a run supplies, if shapes disagree, or if
        something that is asked for by name needs ``initial`` or a ``Network`` and there is none,
        or is a path norm of an ``Architecture`` with batch norms that are not folded.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import LabelledRows, call_network, measure_network
    >>> from sgdsim.problems import Network
    >>> rows = LabelledRows(2.0 * jnp.eye(3), jnp.eye(3))
    >>> found = measure_network(
    ...     call_network,
    ...     Network((jnp.eye(3),)),
    ...     Network((jnp.zeros((3, 3)),)),
    ...     rows,
    ...     jax.random.key(0),
    ...     names=["margin_10", "parameters", "path_norm_1"],
    ... )
    >>> {name: float(value) for name, value in found.items()}
    {'margin_10': 2.0, 'parameters': 9.0, 'path_norm_1': 3.0}
    """
    chosen = _chosen(names, _impossible(theta, initial))
    lead = lead_of(theta, axes)
    starts = None if initial is None else _initial_of_each(theta, initial, axes)
    found = _measure(theta, starts, rows, key, outputs, chosen, axes, effort or Effort())
    return {name: np.asarray(found[name], np.float64).reshape(lead) for name in chosen}


def _impossible(theta: PyTree, initial: PyTree | None) -> dict[str, str]:
    """Say what the ingredients need that cannot be measured here."""
    impossible: dict[str, str] = {}
    if initial is None:
        impossible |= {name: "the initialisation" for name in _NEED_INITIAL}
    if not isinstance(theta, Network):
        impossible["log_compression"] = "a fully connected Network"
    if isinstance(theta, Architecture) and layers_without_paths(theta.layers):
        needed = "a network of known layers whose batch norms are folded (architecture.folded())"
        impossible |= dict.fromkeys(GROUPS["paths"], needed)
    return impossible


def _chosen(names: Sequence[str] | None, impossible: dict[str, str]) -> tuple[str, ...]:
    """Names to measure, in the order of ``MEASURABLE``."""
    if names is None:
        published = ("_dziugaite2020", "_neyshabur2018")
        return tuple(n for n in MEASURABLE if n not in impossible and not n.endswith(published))
    check_ingredients(names)
    for name in names:
        if name not in MEASURABLE:
            raise ValueError(
                f"{name} is not determined by a network and its training rows; put it into "
                "measured yourself, from the run or from fft_ingredients."
            )
        if name in impossible:
            raise ValueError(f"{name} needs {impossible[name]}; give it, or leave the name out.")
    return tuple(name for name in MEASURABLE if name in names)


def _initial_of_each(theta: PyTree, initial: PyTree, axes: int) -> PyTree:
    """Give every network its initialisation."""
    if jax.tree.structure(theta) != jax.tree.structure(initial):
        raise ValueError(
            f"initial must have the structure of theta, {jax.tree.structure(theta)}; got "
            f"{jax.tree.structure(initial)}."
        )

    def of_leaf(leaf: Array, start: Array) -> Array:
        if start.shape not in (leaf.shape, leaf.shape[axes:]):
            raise ValueError(
                f"A leaf of initial must have the shape {leaf.shape} or {leaf.shape[axes:]}; got "
                f"{start.shape}."
            )
        shape = start.shape if start.ndim == leaf.ndim else (1,) * axes + start.shape
        return jnp.broadcast_to(jnp.reshape(start, shape), leaf.shape)

    return jax.tree.map(of_leaf, theta, initial)


@functools.partial(jax.jit, static_argnames=("outputs", "names", "axes", "effort"))
def _measure(
    thetas: PyTree,
    starts: PyTree | None,
    rows: Rows | LabelledRows,
    key: Array,
    outputs: Outputs,
    names: tuple[str, ...],
    axes: int,
    effort: Effort,
) -> dict[str, Array]:
    """Ingredients by name, one after another network."""

    def of_network(pair: tuple[PyTree, PyTree | None], key: Array) -> dict[str, Array]:
        network = MeasuredNetwork(outputs, *pair, rows, key, effort)
        found: dict[str, Array] = {}
        for group, members in GROUPS.items():
            if any(name in names for name in members):
                found |= MEASURED_BY[group](network)
        return {name: found[name] for name in names}

    return map_over_networks(of_network, (thetas, starts), key, axes)
