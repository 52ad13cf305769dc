"""Counter-based normals: what is drawn depends on the key and the step alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.dynamics import step_normal, unrolled_normal
from sgdsim.dynamics._random import normal_like

STEPS = [0, 1, 7, 999_983, 2**31 - 1]


def bits(array) -> np.ndarray:
    return np.asarray(array).view(np.uint32)


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_unrolled_normal_is_the_normal_of_jax_bit_for_bit(n):
    unrolled = jax.jit(lambda key, step: unrolled_normal(key, step, n))
    plain = jax.jit(
        lambda key, step: jax.random.normal(jax.random.fold_in(key, step), (n,), jnp.float32)
    )
    for seed in [0, 1, 2**31 + 5]:
        key = jax.random.fold_in(jax.random.key(seed), 3)
        for step in STEPS:
            step = jnp.asarray(step, jnp.int32)
            np.testing.assert_array_equal(bits(unrolled(key, step)), bits(plain(key, step)))


def test_unrolled_normal_is_the_same_in_a_vectorised_loop(getkey):
    """As the ensemble uses it: traced steps, mapped keys."""
    keys, steps = jax.random.split(getkey(), 3), jnp.arange(4, dtype=jnp.int32)

    def all_draws(draw):
        return jax.jit(jax.vmap(lambda key: jax.lax.map(lambda step: draw(key, step), steps)))(keys)

    plain = all_draws(lambda key, step: jax.random.normal(jax.random.fold_in(key, step), (5,)))
    np.testing.assert_array_equal(
        bits(all_draws(lambda key, step: unrolled_normal(key, step, 5))), bits(plain)
    )
    assert len(np.unique(plain)) == plain.size


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_step_normal_folds_the_step_into_the_key(getkey, shape, dtype):
    key = getkey()
    with jax.enable_x64(dtype == jnp.float64):
        for step in STEPS:
            found = step_normal(key, step, shape, dtype)
            expected = jax.random.normal(jax.random.fold_in(key, step), shape, dtype)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, expected)


def test_normal_like_draws_independent_leaves(getkey):
    tree = {"a": jnp.zeros((40, 50)), "b": jnp.zeros((40, 50))}
    first, second = normal_like(getkey(), 4, tree).values()
    correlation = np.corrcoef(np.ravel(first), np.ravel(second))[0, 1] * np.sqrt(2000)
    assert abs(correlation) < 5
    assert abs(np.var(first) - 1) * np.sqrt(2000 / 2) < 5
