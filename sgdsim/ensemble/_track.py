"""What is watched at every step of a trajectory: membership, entry, exit, distance, divergence."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from sgdsim._typing import Number

#: Value of a step that never came.
NEVER = -1


class AbstractRegion(eqx.Module):
    """A set of parameters ``{theta: distance(theta) <= radius}``."""

    radius: eqx.AbstractVar[Number]

    def squared_distance(self, theta: PyTree) -> Float[Array, ""]:
        """Squared distance of ``theta`` from what the region surrounds.

        Not finite where ``theta`` is not: the loop recognises divergence by it.
        """
        raise NotImplementedError

    def basin(self, theta: PyTree) -> Int[Array, ""] | int:
        """Give the number of the basin of ``theta``; it counts only inside the region.

        The default, a Python 0, says that the region is one basin: no work in the loop then.
        """
        return 0


class Track(eqx.Module):
    """Streaming record of one trajectory; every field is updated at every step.

    Attributes
    ----------
    entry_step, exit_step
        First step inside the region, and first step outside after that; ``-1`` for never.
    steps_inside
        Number of steps ``k >= 1`` spent inside.
    maximum
        Largest distance so far.
    late_sum
        Sum of squared distances over the second half of the run.
    diverged_step
        First step with a non-finite iterate; ``-1`` for never.
    entry_basin
        Basin at ``entry_step``; 0 before the entry.
    basin
        Basin at the last step inside; 0 before the entry.
    hops
        How often the basin at a step inside differed from that at the last step inside before.
        Steps outside between the two do not matter.
    switch_step
        First step inside another basin than ``entry_basin``; ``-1`` for never.

    Notes
    -----
    A trajectory stays in the region until ``exit_step``, whichever basins it visits, and in one
    and the same basin until the earlier one of ``exit_step`` and ``switch_step``.
    """

    entry_step: Int[Array, "..."]
    exit_step: Int[Array, "..."]
    steps_inside: Int[Array, "..."]
    maximum: Float[Array, "..."]
    late_sum: Float[Array, "..."]
    diverged_step: Int[Array, "..."]
    entry_basin: Int[Array, "..."]
    basin: Int[Array, "..."]
    hops: Int[Array, "..."]
    switch_step: Int[Array, "..."]

    @property
    def diverged(self) -> Bool[Array, "..."]:
        """Whether the trajectory has left the finite numbers."""
        return self.diverged_step != NEVER


def start_track(region: AbstractRegion, theta: PyTree) -> Track:
    """Record of a trajectory at step 0."""
    squared = region.squared_distance(theta)
    inside = _contains(region, squared)
    entry = jnp.where(inside, 0, NEVER).astype(jnp.int32)
    never = jnp.full((), NEVER, jnp.int32)
    zero = jnp.zeros((), jnp.int32)
    basin = jnp.where(inside, region.basin(theta), 0).astype(jnp.int32)
    return Track(
        entry_step=entry,
        exit_step=never,
        steps_inside=zero,
        maximum=jnp.sqrt(squared),
        late_sum=jnp.zeros_like(squared),
        diverged_step=never,
        entry_basin=basin,
        basin=basin,
        hops=zero,
        switch_step=never,
    )


def update_track(
    track: Track, region: AbstractRegion, theta: PyTree, step: Int[Array, ""], late: Bool[Array, ""]
) -> tuple[Track, Bool[Array, ""]]:
    """Account for the iterate at ``step``; ``late`` says whether it counts for ``late_sum``.

    Returns
    -------
    track
        The new record; that of a diverged trajectory stays as it is.
    finite
        Whether the iterate is finite. A divergent iterate counts as an exit.
    """
    squared = region.squared_distance(theta)
    finite = jnp.isfinite(squared)
    inside = finite & _contains(region, squared)
    enters = (track.entry_step == NEVER) & inside
    leaves = (track.entry_step != NEVER) & (track.exit_step == NEVER) & ~inside
    # A non-finite distance is kept out of the statistics; the diverged step tells the story.
    known = jnp.where(finite, squared, 0.0)
    entry_basin, basin, hops, switch_step = _update_basins(track, region, theta, step, inside)
    new = Track(
        entry_step=jnp.where(enters, step, track.entry_step),
        exit_step=jnp.where(leaves, step, track.exit_step),
        steps_inside=track.steps_inside + inside.astype(jnp.int32),
        maximum=jnp.maximum(track.maximum, jnp.sqrt(known)),
        late_sum=track.late_sum + jnp.where(late, known, 0.0),
        diverged_step=jnp.where(finite, track.diverged_step, step),
        entry_basin=entry_basin,
        basin=basin,
        hops=hops,
        switch_step=switch_step,
    )
    stopped = track.diverged

    def keep(before: Array, after: Array) -> Array:
        return before if before is after else jnp.where(stopped, before, after)

    return jax.tree.map(keep, track, new), finite & ~stopped


def _update_basins(
    track: Track,
    region: AbstractRegion,
    theta: PyTree,
    step: Int[Array, ""],
    inside: Bool[Array, ""],
) -> tuple[Array, Array, Array, Array]:
    """Entry basin, last basin, hops and switch step after the iterate at ``step``."""
    found = region.basin(theta)
    if isinstance(found, int):
        # Handed on untouched, the four numbers leave the compiled loop altogether.
        return track.entry_basin, track.basin, track.hops, track.switch_step
    number = found.astype(jnp.int32)
    entered = track.entry_step != NEVER
    returns = inside & entered
    switches = returns & (track.switch_step == NEVER) & (number != track.entry_basin)
    return (
        jnp.where(inside & ~entered, number, track.entry_basin),
        jnp.where(inside, number, track.basin),
        track.hops + (returns & (number != track.basin)).astype(jnp.int32),
        jnp.where(switches, step, track.switch_step),
    )


def _contains(region: AbstractRegion, squared: Float[Array, ""]) -> Bool[Array, ""]:
    radius = jnp.asarray(region.radius, squared.dtype)
    return squared <= radius * radius
