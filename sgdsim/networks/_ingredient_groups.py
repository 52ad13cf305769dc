"""Ingredients by groups: what is measured at once on one network."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from sgdsim.bounds import MAGNITUDE_FLOOR
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
from sgdsim.networks._path_norm import log_l3_15_product, path_norm
from sgdsim.networks._perturbation import (
    average_sharpness,
    noise_tolerance,
    published_noise_tolerance,
)
from sgdsim.problems import Rows


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
GROUPS: dict[str, tuple[str, ...]] = {
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


@dataclasses.dataclass(frozen=True)
class MeasuredNetwork:
    """What the groups are measured on."""

    outputs: Outputs
    theta: PyTree
    initial: PyTree | None
    rows: Rows | LabelledRows
    key: Array
    effort: Effort


def _of_outputs(network: MeasuredNetwork) -> dict[str, Array]:
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


def _of_sizes(network: MeasuredNetwork) -> dict[str, Array]:
    leaves = jax.tree.leaves(network.theta)
    dtype = leaves[0].dtype
    return {
        "parameters": jnp.asarray(sum(leaf.size for leaf in leaves), dtype),
        "input_size": jnp.asarray(math.prod(network.rows.inputs.shape[1:]), dtype),
        "parameter_norm": jnp.linalg.norm(jnp.stack([jnp.linalg.norm(a.ravel()) for a in leaves])),
        "log_l3_15_product": log_l3_15_product(network.theta),
    }


def _of_distance(network: MeasuredNetwork) -> dict[str, Array]:
    moved = jax.tree.leaves(jax.tree.map(jnp.subtract, network.theta, network.initial))
    norms = jnp.stack([jnp.linalg.norm(leaf.ravel()) for leaf in moved])
    return {"parameter_distance": jnp.linalg.norm(norms)}


def _of_paths(network: MeasuredNetwork) -> dict[str, Array]:
    shape = network.rows.inputs.shape[1:]
    return {
        f"path_norm_{power}": path_norm(network.outputs, network.theta, shape, power)
        for power in (1, 2)
    }


def _of_noise(network: MeasuredNetwork, magnitude: bool) -> dict[str, Array]:
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


def _of_published_noise(network: MeasuredNetwork, magnitude: bool) -> dict[str, Array]:
    name = "magnitude" if magnitude else "noise"
    key = jax.random.fold_in(network.key, 2 + int(magnitude))
    scale = published_noise_tolerance(network.outputs, network.theta, network.rows, key, magnitude)
    result = {f"{name}_tolerance_dziugaite2020": scale}
    if magnitude and network.initial is not None:
        result["magnitude_log_mean_dziugaite2020"] = _log_mean(network, scale, biases=False)
    return result


def _of_ascent(network: MeasuredNetwork, magnitude: bool) -> dict[str, Array]:
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


def _log_mean(network: MeasuredNetwork, scale: Array, biases: bool = True) -> Array:
    """Mean of ln(e^2 + scale^2 (w - w0)^2); a sum would lose digits in single precision."""
    moved = jax.tree.leaves(jax.tree.map(jnp.subtract, network.theta, network.initial))
    kept = [leaf for leaf in moved if biases or leaf.ndim > 1]
    means = [jnp.mean(jnp.log(MAGNITUDE_FLOOR**2 + scale**2 * leaf**2)) for leaf in kept]
    total = sum(leaf.size for leaf in kept)
    return jnp.stack(
        [mean * (leaf.size / total) for mean, leaf in zip(means, kept, strict=True)]
    ).sum()


def _of_average(network: MeasuredNetwork) -> dict[str, Array]:
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


def _of_worst(network: MeasuredNetwork) -> dict[str, Array]:
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


MEASURED_BY: dict[str, Callable[[MeasuredNetwork], dict[str, Array]]] = {
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
