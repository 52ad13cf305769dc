"""Constants of the stagnation set: what was sampled, what was visited."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key

from sgdsim.dynamics import AbstractGradientNoise, NoiseProbe, probe_noise
from sgdsim.problems import Network, Problem, stream
from sgdsim.stagnation import Sampled, sampled_maximum

_DIRECTIONS = 6  # of each random kind


#: What is looked for in the ball, in the order of the arrays of `BallConstants`.
_NAMES = ("noise_operator_norm", "noise_trace", "contraction", "rsi", "growth")
_EMPTY = np.full(len(_NAMES), -np.inf)


class BallConstants(NamedTuple):
    r"""Worst values of what the stay bounds need, over the points looked at so far.

    In order: largest :math:`\|\Sigma\|`, estimated as Ritz value plus residual, and largest
    :math:`\mathrm{tr}\,\Sigma`, of the noise of one step; largest contraction
    :math:`\|u-\eta\nabla L\|/\|u\|`; smallest :math:`\langle\nabla L,u\rangle/\|u\|^2`, kept with
    the other sign; largest :math:`\|\nabla L\|/\|u\|`.

    Attributes
    ----------
    first, second
        The two worst values, from which an interval for the supremum is made.
    size
        Number of points.
    """

    first: Float[np.ndarray, " constant"] = _EMPTY
    second: Float[np.ndarray, " constant"] = _EMPTY
    size: Int[np.ndarray, " constant"] = np.zeros(len(_NAMES), np.int64)

    @classmethod
    def of(cls, **values: Any) -> "BallConstants":
        """Worst of values at points, by name; what has no name was not looked at."""
        first, second, count = _EMPTY.copy(), _EMPTY.copy(), np.zeros(len(_NAMES), np.int64)
        for name, given in values.items():
            index = _NAMES.index(name)
            found = np.ravel(np.asarray(given, np.float64))
            # A failed measurement (NaN) is sorted to the end and stays visible.
            worst = np.sort(-found if name == "rsi" else found)[::-1]
            first[index], second[index] = np.append(worst, [-np.inf, -np.inf])[:2]
            count[index] = found.size
        return cls(first, second, count)

    def merge(self, other: "BallConstants") -> "BallConstants":
        """Worst of two; a failed measurement in either stays visible."""
        ranked = np.sort([self.first, self.second, other.first, other.second], axis=0)
        return BallConstants(ranked[-1], ranked[-2], self.size + other.size)

    def worst(self, name: str) -> float:
        """Worst value, NaN without a point."""
        index = _NAMES.index(name)
        value = float(self.first[index]) if self.size[index] else math.nan
        return -value if name == "rsi" else value

    def source(self, name: str, confidence: float) -> Sampled:
        """Largest value as a sampled constant, with its interval and the number of points."""
        index = _NAMES.index(name)
        count, words = int(self.size[index]), f"{name} at sampled and visited points"
        value = self.worst(name)
        if count < 2:
            return Sampled(value, value, math.inf, count, words)
        # The end point depends on the two largest values alone.
        two = np.array([self.second[index], self.first[index]])
        return replace(sampled_maximum(two, confidence, method=words), sample_size=count)


def visited_constants(
    measured: dict[str, Float[np.ndarray, " trajectory"]], radius: float
) -> BallConstants:
    """Worst values over the probed iterates that lie inside the ball (and not at its centre)."""
    inside = (measured["distance"] <= radius) & (measured["distance"] > 1e-6 * radius)
    values = {name: measured[name][inside] for name in ("contraction", "rsi", "growth")}
    if "noise_trace" in measured:
        upper = measured["noise_operator_norm"] + measured["noise_operator_norm_residual"]
        values |= {
            "noise_operator_norm": upper[inside],
            "noise_trace": measured["noise_trace"][inside],
        }
    return BallConstants.of(**values)


def noise_constants(
    noise: AbstractGradientNoise | None, problem: Problem, theta: Network
) -> BallConstants:
    """Noise at one point."""
    if noise is None:
        return BallConstants()
    measured = _probe(noise, problem, theta)
    norm = measured.operator_norm + measured.operator_norm_residual
    return BallConstants.of(noise_operator_norm=norm, noise_trace=measured.trace)


def sampled_noise(
    noise: AbstractGradientNoise | None, problem: Problem, theta: Network, radius: float
) -> BallConstants:
    """Largest noise over the centre and points at and half-way to the sphere: a sample, no proof.

    Directions: along the noise at the centre, random, and towards and away from the origin, where
    the scale of the outputs and with it the noise changes most.
    """
    largest = noise_constants(noise, problem, theta)
    if noise is None:
        return largest
    flat, unravel = ravel_pytree(theta)
    keys = jax.random.split(stream(0, "noise"), _DIRECTIONS + 1)
    aligned = noise_draws(problem, theta, keys[:-1])
    free = jax.random.normal(keys[-1], (_DIRECTIONS, flat.size), flat.dtype)
    directions = jnp.concatenate([aligned, free, flat[None], -flat[None]])
    unit = directions / jnp.linalg.norm(directions, axis=1, keepdims=True)
    for length in (0.5 * radius, radius):
        for direction in unit:
            point = unravel(flat + length * direction)
            largest = largest.merge(noise_constants(noise, problem, point))
    return largest


@jax.jit
def noise_draws(
    problem: Problem, theta: Network, keys: Key[Array, " draw"]
) -> Float[Array, "draw p"]:
    r"""Draws of :math:`C^{1/2}\xi` at ``theta`` as flat rows, one backward pass each."""
    losses, pullback = jax.vjp(problem.per_sample_losses, theta)

    def one(key: Array) -> Array:
        normals = jax.random.normal(key, losses.shape, losses.dtype)
        return ravel_pytree(pullback(normals - jnp.mean(normals))[0])[0]

    return jax.lax.map(one, keys)


@jax.jit
def _probe(noise: AbstractGradientNoise, problem: Problem, theta: Network) -> NoiseProbe:
    return probe_noise(noise, problem, theta, stream(1, "noise"))
