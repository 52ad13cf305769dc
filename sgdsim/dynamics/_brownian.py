"""One Brownian path for every step size: normals on a fine grid, summed to the steps asked for."""

import math
from collections.abc import Callable
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, PyTree

from sgdsim._checks import check_count
from sgdsim.dynamics._noise import AbstractGradientNoise
from sgdsim.problems import Problem

# Beyond every step, which is a non-negative int32: these streams meet no other draw of the key.
_AREA_STREAMS = (np.uint32(0x8000_0001), np.uint32(0x8000_0002))
# Its children are the keys of the paths of more than one point per step, one for each resolution.
_PATHS = np.uint32(0x8000_0003)


class LevyNormals(NamedTuple):
    r"""A Brownian path over one step of length ``h``, all parts standard normal.

    Attributes
    ----------
    increment
        :math:`W/\sqrt h`.
    area
        :math:`H/\sqrt{h/12}` of the space-time Levy area
        :math:`H=\frac1h\int_0^h (W_t-\tfrac thW_h)\,dt`.
    second_area
        :math:`K/\sqrt{h/720}` of the space-time-time Levy area
        :math:`K=\frac1{h^2}\int_0^h (W_t-\tfrac thW_h)(\tfrac h2-t)\,dt`.

    Areas that the solver does not need are ``None``.
    """

    increment: PyTree
    area: PyTree = None
    second_area: PyTree = None


class LevyPath(diffrax.AbstractPath):
    """The normals of one step as a diffrax path with Levy areas; the step has length ``length``.

    As in ``StepNoise`` no key and no number depends on the times that diffrax asks for.
    """

    normals: LevyNormals
    length: Array | float = 1.0

    @property
    def t0(self):
        """Start of the path."""
        return -jnp.inf

    @property
    def t1(self):
        """End of the path."""
        return jnp.inf

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        """Give increment and areas of the step, whatever the interval."""

        def scaled(normals: PyTree, divisor: float) -> PyTree:
            scale = jnp.sqrt(jnp.asarray(self.length) / divisor)
            return jax.tree.map(lambda a: scale.astype(a.dtype) * a, normals)

        increment = scaled(self.normals.increment, 1.0)
        if not use_levy:
            return increment
        area = scaled(self.normals.area, 12.0)
        if self.normals.second_area is None:
            return diffrax.SpaceTimeLevyArea(dt=self.length, W=increment, H=area)
        second = scaled(self.normals.second_area, 720.0)
        return diffrax.SpaceTimeTimeLevyArea(dt=self.length, W=increment, H=area, K=second)


def draw_substeps(
    noise: AbstractGradientNoise,
    key: Key[Array, ""],
    step: Int[Array, ""],
    problem: Problem,
    theta: PyTree,
    *,
    substeps: int,
    resolution: int | None = None,
    levy: int = 0,
) -> PyTree:
    """Draw the normals of all substeps of one step.

    Parameters
    ----------
    noise, key, step, problem, theta
        As in ``AbstractGradientNoise.draw``.
    substeps
        Substeps of the step; with one there is no leading axis.
    resolution
        Points per step of the grid on which the path is drawn, a multiple of ``substeps``; point
        ``j`` of step ``k`` is drawn with the counter ``k resolution + j``. Runs with the same
        resolution and key see the same path whatever their number of substeps; paths of different
        resolutions are independent, since they would else share numbers at different times.
    levy
        Space-time Levy areas drawn as well: 0, 1 (``H``) or 2 (``H`` and ``K``).

    Returns
    -------
    normals
        As drawn by ``noise``, or ``LevyNormals`` of them.
    """
    resolution = resolution or substeps
    if resolution > 1:
        key = jax.random.fold_in(jax.random.fold_in(key, _PATHS), resolution)
    keys = (key, *(jax.random.fold_in(key, stream) for stream in _AREA_STREAMS[:levy]))

    def draw(counter: Array) -> PyTree:
        parts = [noise.draw(key, counter, problem, theta) for key in keys]
        return LevyNormals(*parts) if levy else parts[0]

    if resolution == 1:
        return draw(step)
    counters = step * resolution + jnp.arange(resolution, dtype=jnp.int32)
    fine = jax.vmap(draw)(counters)
    if resolution == substeps:
        return fine
    return _coarsen(fine, substeps, resolution // substeps, levy)


def check_resolution(substeps: int, resolution: int | None) -> None:
    """Refuse substeps that do not end on the grid of the path."""
    check_count("substeps", substeps)
    if resolution is None:
        return
    check_count("resolution", resolution)
    if resolution % substeps:
        raise ValueError(
            f"resolution must be a multiple of substeps = {substeps}, so that steps end on the "
            f"grid of the path; got {resolution}."
        )


def coarsen_increments(fine: Array) -> Array:
    """Standardised increment over an interval from those of its equal parts, on axis 0."""
    return jnp.sum(fine, axis=0) / math.sqrt(fine.shape[0])


def coarsen_areas(increments: Array, areas: Array) -> Array:
    r"""Standardised space-time Levy area from those of equal parts, on axis 0: Chen's relation.

    .. math:: H = \frac1r\sum_{j=1}^r\Big(H_j + \tfrac12W_j + \sum_{i<j}W_i\Big) - \tfrac12W
    """
    parts = increments.shape[0]
    before = jnp.cumsum(increments, axis=0) - 0.5 * increments
    mean = jnp.mean(areas / math.sqrt(12) + before, axis=0)
    area = mean - 0.5 * jnp.sum(increments, axis=0)
    return area * math.sqrt(12 / parts)


def coarsen_second_areas(increments: Array, areas: Array, second_areas: Array) -> Array:
    r"""Standardised space-time-time Levy area from those of equal parts, on axis 0.

    .. math:: K = \frac1{r^2}\sum_{j=1}^r\Big((\tfrac{r+1}2-j)\big(H_j+\tfrac12W_j
        + \sum_{i<j}W_i\big) + K_j - \tfrac1{12}W_j\Big) + \tfrac1{12}W
    """
    parts = increments.shape[0]
    path = jnp.cumsum(increments, axis=0) - 0.5 * increments + areas / math.sqrt(12)
    levers = (parts - 1) / 2 - jnp.arange(parts, dtype=increments.dtype)
    within = second_areas / math.sqrt(720) - increments / 12
    total = jnp.tensordot(levers, path, 1) + jnp.sum(within, axis=0)
    second = total / parts**2 + jnp.sum(increments, axis=0) / 12
    return second * math.sqrt(720 / parts)


def _coarsen(fine: PyTree, substeps: int, parts: int, levy: int) -> PyTree:
    def per_substep(rule: Callable[..., Array], *trees: PyTree) -> PyTree:
        def of_leaf(*leaves: Array) -> Array:
            split = [leaf.reshape(substeps, parts, *leaf.shape[1:]) for leaf in leaves]
            coarse = jax.vmap(rule)(*split)
            return coarse[0] if substeps == 1 else coarse

        return jax.tree.map(of_leaf, *trees)

    if not levy:
        return per_substep(coarsen_increments, fine)
    second = per_substep(coarsen_second_areas, *fine) if levy == 2 else None
    return LevyNormals(
        per_substep(coarsen_increments, fine.increment),
        per_substep(coarsen_areas, fine.increment, fine.area),
        second,
    )
