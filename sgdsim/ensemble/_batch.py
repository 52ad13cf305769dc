"""Ensembles that share a compiled program, advanced together: the points of a sweep."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, PyTree

from sgdsim.ensemble._layout import Layout, map_ensemble, on_host
from sgdsim.ensemble._loop import Chunk, Ensemble, EnsembleState, advance_one, as_array


class Leg(NamedTuple):
    """What one time chunk of one ensemble needs.

    Attributes
    ----------
    ensemble
        What moves.
    keys
        Keys of its trajectories.
    state
        State at ``start``.
    start
        Step from which the chunk goes on.
    trajectories
        Members that count; the rest of ``state`` is padding of the layout.
    """

    ensemble: Ensemble
    keys: Key[Array, " trajectory"]
    state: EnsembleState
    start: int
    trajectories: int

    def advance(self) -> Chunk:
        """Compute the chunk, alone."""
        return next(self.ensemble.run(self.keys, self.state, self.start))


class Batch:
    """Points of a sweep whose ensembles differ in numbers only: one program advances all.

    The members of the program are points times trajectories, spread over the devices of the
    layout. Rows of data that all points share are held once; all other numbers (learning rates,
    batch sizes, radii, centres) are stacked along the points, whether they differ or not, so that
    every batch of a sweep is the same program.

    Parameters
    ----------
    legs
        One per point; of one `signature` and one start.
    capacity
        Points that the program is compiled for; a smaller batch is filled up with copies of its
        last point. ``None``: as many as there are legs.

    Raises
    ------
    ValueError
        If the legs do not share a program.
    """

    def __init__(self, legs: Sequence[Leg], capacity: int | None = None):
        if len({signature(leg) for leg in legs}) != 1:
            raise ValueError("the ensembles of a batch must share one compiled program.")
        self._ensembles = [leg.ensemble for leg in legs]
        self._layout = legs[0].ensemble.layout
        self._trajectories = legs[0].trajectories
        self._copies = max(0, (capacity or 0) - len(legs))
        self._points = len(legs)
        self._stacked, self._shared, self._static = _stack(
            [*self._ensembles, *[self._ensembles[-1]] * self._copies]
        )
        self._keys = self._layout.place(
            jax.random.wrap_key_data(
                jnp.asarray(self._members([jax.random.key_data(leg.keys) for leg in legs]))
            )
        )
        points = [np.full(self._trajectories, i) for i in range(self._points + self._copies)]
        numbers = self._layout.pad(np.concatenate(points).astype(np.int32))
        self._numbers: Int[Array, " member"] = self._layout.place(numbers)

    def holds(self, legs: Sequence[Leg]) -> bool:
        """Whether these are further legs of the very ensembles that the batch was made of."""
        return len(legs) == self._points and all(
            leg.ensemble is known for leg, known in zip(legs, self._ensembles, strict=True)
        )

    def advance(self, legs: Sequence[Leg]) -> list[Chunk]:
        """Advance every leg by one time chunk; one program call, one chunk per leg."""
        start = legs[0].start
        states = [leg.state for leg in legs]
        stacked = self._layout.place(
            jax.tree.map(lambda *leaves: self._members(list(leaves)), *states)
        )
        state, records = _advance_batch(
            self._layout,
            self._static,
            (self._keys, stacked, self._numbers),
            (self._stacked, self._shared, jnp.asarray(start, jnp.int32)),
        )
        # On the host, where the split is a view; a program per slice would cost more.
        state, records = on_host((state, records))
        stop = start + self._ensembles[0].schedule.chunk_steps
        return [
            Chunk(start, stop, self._of_point(records, i), self._placed(state, i))
            for i in range(self._points)
        ]

    def _members(self, parts: list[Any]) -> np.ndarray:
        """Members of all points in a row, without the padding of each."""
        whole = [np.asarray(part)[: self._trajectories] for part in parts]
        return self._layout.pad(np.concatenate([*whole, *[whole[-1]] * self._copies]))

    def _of_point(self, tree: PyTree, point: int) -> PyTree:
        """Members of one point, padded as an ensemble of its own is."""
        first = point * self._trajectories
        own = jax.tree.map(lambda members: members[first : first + self._trajectories], tree)
        return self._layout.pad(own)

    def _placed(self, state: PyTree, point: int) -> PyTree:
        return self._layout.place(self._of_point(state, point))


def signature(leg: Leg) -> Hashable:
    """Give what decides the compiled program of a leg: equal for legs that can share one."""
    arrays, static = eqx.partition(jax.tree.map(as_array, leg.ensemble), eqx.is_array)
    leaves, structure = jax.tree.flatten((arrays, leg.state))
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
    fixed, form = jax.tree.flatten(static)
    return structure, shapes, tuple(fixed), form, leg.trajectories


def _stack(ensembles: list[Ensemble]) -> tuple[PyTree, PyTree, PyTree]:
    """Numbers stacked along the points, arrays that all share, and what is no array."""
    parts = [eqx.partition(jax.tree.map(as_array, one), eqx.is_array) for one in ensembles]
    arrays = [part[0] for part in parts]
    is_shared = jax.tree_util.tree_map_with_path(
        lambda path, *leaves: _is_data(path) and _same(*leaves), *arrays
    )
    parted = [eqx.partition(one, is_shared) for one in arrays]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[own for _, own in parted])
    return stacked, parted[0][0], parts[0][1]


def _is_data(path: tuple[Any, ...]) -> bool:
    """Whether a leaf belongs to the rows of the problem or of the observer."""
    names = [getattr(key, "name", "") for key in path]
    return names[:1] == ["observer"] or names[:2] == ["problem", "data"]


def _same(*arrays: Array) -> bool:
    """Whether all are one array, or equal ones (built anew for every point)."""
    first = arrays[0]
    return all(
        other is first or np.array_equal(np.asarray(first), np.asarray(other))
        for other in arrays[1:]
    )


@eqx.filter_jit
def _advance_batch(
    layout: Layout, static: PyTree, mapped: tuple[Any, ...], shared: PyTree
) -> tuple[EnsembleState, dict[str, Array]]:
    """Advance every member by one time chunk, each with the numbers of its own point."""

    def one(
        key: Key[Array, ""], state: EnsembleState, point: Int[Array, ""], shared: PyTree
    ) -> tuple[EnsembleState, dict[str, Array]]:
        stacked, common, start = shared
        own = jax.tree.map(lambda leaf: leaf[point], stacked)
        ensemble = eqx.combine(own, common, static)
        return advance_one(ensemble, key, state, start)

    return map_ensemble(layout, one, mapped, shared)
