"""All ingredients of the measures that a network and its training rows determine."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from sgdsim.bounds import MAGNITUDE_FLOOR, check_ingredients
from sgdsim.networks._architecture import Architecture
from sgdsim.networks._ascent import Ball, ascent_tolerance, worst_sharpness
from sgdsim.networks._compression import log_compression
from sgdsim.networks._gradients import fisher_rao, gradient_noise
from sgdsim.networks._outputs import (
    LabelledRows,
    Outputs,
    cross_entropies_of,
    margin_percentile,
    margins_of,
    output_entropy,
)
from sgdsim.networks._path_norm import layers_without_paths, log_l3_15_product, path_norm
from sgdsim.networks._perturbation import (
    average_sharpness,
    noise_tolerance,
    published_noise_tolerance,
)
from sgdsim.networks._trajectories import lead_of, map_over_networks
from sgdsim.problems import Network, Rows


@dataclasses.dataclass(frozen=True)
class Effort:
    """How carefully the perturbations are searched, and which.

    Parameters
    ----------
    draws
        Draws of normal noise.
    halvings
        Halvings of the range of the noise tolerances.
    ascent_halvings
        Halvings of the range of the ascent tolerances.
    steps
        Steps of every ascent.
    starts
        Ascents of ``worst_sharpness``, of which the highest counts: one may end in a local maximum.
    drop
        Share of the training accuracy that the tolerances give up.
    average_radius, worst_radius
        Scale of the noise of ``average_sharpness``, radius of the ball of ``worst_sharpness``.
    adaptive
        Whether these two are relative to the size of the weights.
    ball
        Norm of the ball.
    """

    draws: int = 20
    halvings: int = 13
    ascent_halvings: int = 10
    steps: int = 20
    starts: int = 5
    drop: float = 0.1
    average_radius: float = 0.1
    worst_radius: float = 0.5
    adaptive: bool = True
    ball: Ball = "l2"


#: Ingredients by what is measured at once.
_GROUPS: dict[str, tuple[str, ...]] = {
    "outputs": (
        "margin_10",
        "margin_05",
        "margin_10_dziugaite2020",
        "margin_05_neyshabur2018",
        "cross_entropy",
        "output_entropy",
    ),
    "sizes": ("parameters", "input_size", "parameter_norm", "log_l3_15_product"),
    "distance": ("parameter_distance",),
    "paths": ("path_norm_1", "path_norm_2"),
    "fisher": ("fisher_rao",),
    "gradients": ("gradient_noise_final",),
    "noise": ("noise_tolerance", "noise_tolerance_low", "noise_tolerance_high"),
    "magnitude": (
        "magnitude_tolerance",
        "magnitude_tolerance_low",
        "magnitude_tolerance_high",
        "magnitude_log_mean",
    ),
    "published_noise": ("noise_tolerance_dziugaite2020",),
    "published_magnitude": (
        "magnitude_tolerance_dziugaite2020",
        "magnitude_log_mean_dziugaite2020",
    ),
    "ascent": ("ascent_tolerance",),
    "magnitude_ascent": ("magnitude_ascent_tolerance", "magnitude_ascent_log_mean"),
    "average": ("average_sharpness",),
    "worst": ("worst_sharpness",),
    "compression": ("log_compression",),
}

#: Ingredients that ``measure_network`` can measure.
MEASURABLE = tuple(name for names in _GROUPS.values() for name in names)
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
        impossible |= dict.fromkeys(_GROUPS["paths"], needed)
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
        network = _Network(outputs, *pair, rows, key, effort)
        found: dict[str, Array] = {}
        for group, members in _GROUPS.items():
            if any(name in names for name in members):
                found |= _MEASURED_BY[group](network)
        return {name: found[name] for name in names}

    return map_over_networks(of_network, (thetas, starts), key, axes)


@dataclasses.dataclass(frozen=True)
class _Network:
    """What the groups are measured on."""

    outputs: Outputs
    theta: PyTree
    initial: PyTree | None
    rows: Rows | LabelledRows
    key: Array
    effort: Effort


def _of_outputs(network: _Network) -> dict[str, Array]:
    logits = network.outputs(network.theta, jnp.asarray(network.rows.inputs))
    margins = margins_of(logits, network.rows)
    tenth = margins.size // 10
    published = jnp.sort(margins)[tenth - 1] if tenth else jnp.full_like(margins[0], jnp.nan)
    return {
        "margin_10": margin_percentile(margins, 10),
        "margin_05": margin_percentile(margins, 5),
        "margin_10_dziugaite2020": jnp.abs(published),
        "margin_05_neyshabur2018": jnp.percentile(margins, 5.0),
        "cross_entropy": jnp.mean(cross_entropies_of(logits, network.rows)),
        "output_entropy": output_entropy(logits),
    }


def _of_sizes(network: _Network) -> dict[str, Array]:
    leaves = jax.tree.leaves(network.theta)
    dtype = leaves[0].dtype
    return {
        "parameters": jnp.asarray(sum(leaf.size for leaf in leaves), dtype),
        "input_size": jnp.asarray(math.prod(network.rows.inputs.shape[1:]), dtype),
        "parameter_norm": jnp.linalg.norm(jnp.stack([jnp.linalg.norm(a.ravel()) for a in leaves])),
        "log_l3_15_product": log_l3_15_product(network.theta),
    }


def _of_distance(network: _Network) -> dict[str, Array]:
    moved = jax.tree.leaves(jax.tree.map(jnp.subtract, network.theta, network.initial))
    norms = jnp.stack([jnp.linalg.norm(leaf.ravel()) for leaf in moved])
    return {"parameter_distance": jnp.linalg.norm(norms)}


def _of_paths(network: _Network) -> dict[str, Array]:
    shape = network.rows.inputs.shape[1:]
    return {
        f"path_norm_{power}": path_norm(network.outputs, network.theta, shape, power)
        for power in (1, 2)
    }


def _of_noise(network: _Network, magnitude: bool) -> dict[str, Array]:
    effort = network.effort
    name = "magnitude_tolerance" if magnitude else "noise_tolerance"
    found = noise_tolerance(
        network.outputs,
        network.theta,
        network.rows,
        jax.random.fold_in(network.key, int(magnitude)),
        magnitude,
        effort.drop,
        effort.draws,
        effort.halvings,
    )
    result = {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    if magnitude and network.initial is not None:
        result["magnitude_log_mean"] = _log_mean(network, found.value)
    return result


def _of_published_noise(network: _Network, magnitude: bool) -> dict[str, Array]:
    name = "magnitude" if magnitude else "noise"
    key = jax.random.fold_in(network.key, 2 + int(magnitude))
    scale = published_noise_tolerance(network.outputs, network.theta, network.rows, key, magnitude)
    result = {f"{name}_tolerance_dziugaite2020": scale}
    if magnitude and network.initial is not None:
        result["magnitude_log_mean_dziugaite2020"] = _log_mean(network, scale, biases=False)
    return result


def _of_ascent(network: _Network, magnitude: bool) -> dict[str, Array]:
    effort = network.effort
    scale = ascent_tolerance(
        network.outputs,
        network.theta,
        network.rows,
        jax.random.fold_in(network.key, 4 + int(magnitude)),
        magnitude,
        effort.drop,
        effort.steps,
        effort.ascent_halvings,
    )
    if not magnitude:
        return {"ascent_tolerance": scale}
    result = {"magnitude_ascent_tolerance": scale}
    if network.initial is not None:
        result["magnitude_ascent_log_mean"] = _log_mean(network, scale)
    return result


def _log_mean(network: _Network, scale: Array, biases: bool = True) -> Array:
    """Mean of ln(e^2 + scale^2 (w - w0)^2); a sum would lose digits in single precision."""
    moved = jax.tree.leaves(jax.tree.map(jnp.subtract, network.theta, network.initial))
    kept = [leaf for leaf in moved if biases or leaf.ndim > 1]
    means = [jnp.mean(jnp.log(MAGNITUDE_FLOOR**2 + scale**2 * leaf**2)) for leaf in kept]
    total = sum(leaf.size for leaf in kept)
    return jnp.stack(
        [mean * (leaf.size / total) for mean, leaf in zip(means, kept, strict=True)]
    ).sum()


def _of_average(network: _Network) -> dict[str, Array]:
    effort, key = network.effort, jax.random.fold_in(network.key, 6)
    value = average_sharpness(
        network.outputs,
        network.theta,
        network.rows,
        key,
        effort.average_radius,
        effort.adaptive,
        effort.draws,
    )
    return {"average_sharpness": value}


def _of_worst(network: _Network) -> dict[str, Array]:
    effort, key = network.effort, jax.random.fold_in(network.key, 7)

    def from_start(key: Array) -> Array:
        return worst_sharpness(
            network.outputs,
            network.theta,
            network.rows,
            key,
            effort.worst_radius,
            effort.adaptive,
            effort.ball,
            effort.steps,
        )

    return {
        "worst_sharpness": jnp.max(jax.lax.map(from_start, jax.random.split(key, effort.starts)))
    }


_MEASURED_BY: dict[str, Callable[[_Network], dict[str, Array]]] = {
    "outputs": _of_outputs,
    "sizes": _of_sizes,
    "distance": _of_distance,
    "paths": _of_paths,
    "fisher": lambda n: {"fisher_rao": fisher_rao(n.outputs, n.theta, n.rows)},
    "gradients": lambda n: {"gradient_noise_final": gradient_noise(n.outputs, n.theta, n.rows)},
    "noise": functools.partial(_of_noise, magnitude=False),
    "magnitude": functools.partial(_of_noise, magnitude=True),
    "published_noise": functools.partial(_of_published_noise, magnitude=False),
    "published_magnitude": functools.partial(_of_published_noise, magnitude=True),
    "ascent": functools.partial(_of_ascent, magnitude=False),
    "magnitude_ascent": functools.partial(_of_ascent, magnitude=True),
    "average": _of_average,
    "worst": _of_worst,
    "compression": lambda n: {"log_compression": log_compression(n.theta, n.rows)},
}
