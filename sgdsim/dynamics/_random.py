"""Counter-based normal numbers: the same (key, step) always gives the same draw."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
# On CPU jax lowers threefry to rolled loops, which cost up to three times as much as the unrolled
# form below. XLA spreads loops longer than about a thousand fused elements over threads, and the
# hand-off then costs more than unrolling saves.
_UNROLLED_AT_MOST = 1024


def step_normal(
    key: Key[Array, ""], step: Int[Array, ""] | int, shape: tuple[int, ...], dtype
) -> Float[Array, "..."]:
    """Draw the normals of a step, ``jax.random.normal(fold_in(key, step), shape)``.

    Parameters
    ----------
    key
        Key of the trajectory.
    step
        Integer step, the counter; no state is carried from step to step, so a resumed run draws
        what an uninterrupted one draws.
    shape, dtype
        Of the result.
    """
    short_vector = len(shape) == 1 and shape[0] <= _UNROLLED_AT_MOST and dtype == jnp.float32
    if short_vector and jax.default_backend() == "cpu":
        return unrolled_normal(key, step, shape[0])
    return jax.random.normal(jax.random.fold_in(key, step), shape, dtype)


@functools.partial(jax.jit, static_argnums=2)  # traced once for all its uses in a program
def unrolled_normal(key: Key[Array, ""], step: Int[Array, ""] | int, n: int) -> Float[Array, " n"]:
    """Bit for bit ``jax.random.normal(fold_in(key, step), (n,), float32)``, unrolled for CPU."""
    words = jax.random.key_data(key)
    counter = jnp.asarray(step).astype(jnp.uint32)
    words = _threefry(words[0], words[1], jnp.uint32(0), counter)
    high, low = _threefry(*words, jnp.zeros((n,), jnp.uint32), jax.lax.iota(jnp.uint32, n))
    # Without the barrier XLA fuses everything into one loop and hashes the key for every number.
    bits = jax.lax.optimization_barrier(high ^ low)
    mantissa = (bits >> jnp.uint32(9)) | jnp.uint32(0x3F800000)
    unit = jax.lax.bitcast_convert_type(mantissa, jnp.float32) - jnp.float32(1.0)
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    uniform = jnp.maximum(lowest, unit * (np.float32(1) - lowest) + lowest)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)


def normal_like(key: Key[Array, ""], step: Int[Array, ""] | int, tree: PyTree) -> PyTree:
    """Draw standard normals in the shape of a pytree, one sub-key per leaf."""
    leaves, treedef = jax.tree.flatten(tree)
    key = jax.random.fold_in(key, step)
    draws = [
        jax.random.normal(jax.random.fold_in(key, i), leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(treedef, draws)


def _threefry(key0, key1, word0, word1):
    """Threefry-2x32 with twenty rounds, every round written out."""
    schedule = (key0, key1, key0 ^ key1 ^ np.uint32(0x1BD11BDA))
    word0, word1 = word0 + schedule[0], word1 + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            word0 = word0 + word1
            left, right = word1 << np.uint32(rotation), word1 >> np.uint32(32 - rotation)
            word1 = (left | right) ^ word0
        word0 = word0 + schedule[(group + 1) % 3]
        word1 = word1 + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return word0, word1
