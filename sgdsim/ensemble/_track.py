"""What is watched at every step of a trajectory: membership, entry, exit, distance, divergence."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from sgdsim._typing import Number

#: Value of a step that never came.
NEVER = -1


class AbstractRegion(eqx.Module):
    """A set of parameters ``{theta: distance(theta) <= radius}``."""

    radius: eqx.AbstractVar[Number]

    def squared_distance(self, theta: PyTree) -> Float[Array, ""]:
        """Squared distance of ``theta`` from what the region surrounds."""
        raise NotImplementedError


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
    """

    entry_step: Int[Array, "..."]
    exit_step: Int[Array, "..."]
    steps_inside: Int[Array, "..."]
    maximum: Float[Array, "..."]
    late_sum: Float[Array, "..."]
    diverged_step: Int[Array, "..."]

    @property
    def diverged(self) -> Bool[Array, "..."]:
        """Whether the trajectory has left the finite numbers."""
        return self.diverged_step != NEVER


def start_track(region: AbstractRegion, theta: PyTree) -> Track:
    """Record of a trajectory at step 0."""
    squared = region.squared_distance(theta)
    entry = jnp.where(_contains(region, squared), 0, NEVER).astype(jnp.int32)
    never = jnp.full((), NEVER, jnp.int32)
    zero = jnp.zeros((), jnp.int32)
    return Track(entry, never, zero, jnp.sqrt(squared), jnp.zeros_like(squared), never)


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
    new = Track(
        jnp.where(enters, step, track.entry_step),
        jnp.where(leaves, step, track.exit_step),
        track.steps_inside + inside.astype(jnp.int32),
        jnp.maximum(track.maximum, jnp.sqrt(known)),
        track.late_sum + jnp.where(late, known, 0.0),
        jnp.where(finite, track.diverged_step, step),
    )
    stopped = track.diverged
    kept = [
        jnp.where(stopped, before, after)
        for before, after in zip(_fields(track), _fields(new), strict=True)
    ]
    return Track(*kept), finite & ~stopped


def _contains(region: AbstractRegion, squared: Float[Array, ""]) -> Bool[Array, ""]:
    radius = jnp.asarray(region.radius, squared.dtype)
    return squared <= radius * radius


def _fields(track: Track) -> tuple[Array, ...]:
    return (
        track.entry_step,
        track.exit_step,
        track.steps_inside,
        track.maximum,
        track.late_sum,
        track.diverged_step,
    )
