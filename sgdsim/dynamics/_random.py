"""Counter-based normal numbers: the same (key, step) always gives the same draw."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

# Coefficients of Giles (2010), highest power first, for -log(1 - x^2) below and above 5.
_CENTRAL = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_TAIL = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)
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
    size = math.prod(shape)
    if size <= _UNROLLED_AT_MOST and dtype == jnp.float32 and jax.default_backend() == "cpu":
        return unrolled_normal(key, step, size).reshape(shape)
    return jax.random.normal(jax.random.fold_in(key, step), shape, dtype)


@functools.partial(jax.jit, static_argnums=2)  # traced once for all its uses in a program
def unrolled_normal(key: Key[Array, ""], step: Int[Array, ""] | int, n: int) -> Float[Array, " n"]:
    """``jax.random.normal(fold_in(key, step), (n,), float32)`` up to rounding, fast on CPU."""
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
    return np.float32(np.sqrt(2)) * _erf_inv(uniform)


def normal_like(key: Key[Array, ""], step: Int[Array, ""] | int, tree: PyTree) -> PyTree:
    """Draw standard normals in the shape of a pytree, one sub-key per leaf."""
    leaves, treedef = jax.tree.flatten(tree)
    key = jax.random.fold_in(key, step)
    draws = [step_normal(key, i, leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(treedef, draws)


def _erf_inv(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Inverse error function by the polynomials that ``jax.lax.erf_inv`` uses (Giles 2010).

    Written out, XLA vectorises them on CPU; its own operation is three to six times slower there
    and would be most of the cost of a cheap step. ``(1 - x)(1 + x)`` keeps the digits near one.
    """
    w = -jnp.log((1 - x) * (1 + x))
    central = w < 5
    w = jnp.where(central, w - np.float32(2.5), jnp.sqrt(w) - np.float32(3))
    value = jnp.zeros_like(x)
    for middle, tail in zip(_CENTRAL, _TAIL, strict=True):
        value = jnp.where(central, np.float32(middle), np.float32(tail)) + value * w
    return value * x


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
