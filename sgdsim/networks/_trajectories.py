"""One network after another: on CPU a small network then stays in the cache."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def lead_of(theta: PyTree, axes: int) -> tuple[int, ...]:
    """Lengths of the leading axes that number networks, which all leaves must share."""
    leads = {leaf.shape[:axes] for leaf in jax.tree.leaves(theta)}
    if axes < 0 or len(leads) != 1 or any(len(lead) != axes for lead in leads):
        raise ValueError(
            f"Every leaf of theta must begin with the same {axes} axes that number networks; got "
            f"the shapes {[leaf.shape for leaf in jax.tree.leaves(theta)]}."
        )
    (lead,) = leads
    return lead


def map_over_networks(
    function: Callable[[PyTree, Array], PyTree], thetas: PyTree, key: Array, axes: int
) -> PyTree:
    """Apply ``function(theta, key)`` to every network, each with a key of its own."""
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[axes:]), thetas)
    count = jax.tree.leaves(flat)[0].shape[0]

    def of_one(item: tuple[PyTree, Array]) -> PyTree:
        theta, index = item
        return function(theta, jax.random.fold_in(key, index))

    return jax.lax.map(of_one, (flat, jnp.arange(count)))
