"""Counter-based normals: what is drawn depends on the key and the step alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from sgdsim.dynamics import step_normal, unrolled_normal
from sgdsim.dynamics._random import _erf_inv, normal_like

STEPS = [0, 1, 7, 999_983, 2**31 - 1]


def same_up_to_rounding(found, expected):
    # Far out jax takes log1p(-x^2), which has lost digits; those of scipy are compared below.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_unrolled_normal_is_the_normal_of_jax(n):
    unrolled = jax.jit(lambda key, step: unrolled_normal(key, step, n))
    plain = jax.jit(
        lambda key, step: jax.random.normal(jax.random.fold_in(key, step), (n,), jnp.float32)
    )
    for seed in [0, 1, 2**31 + 5]:
        key = jax.random.fold_in(jax.random.key(seed), 3)
        for step in STEPS:
            step = jnp.asarray(step, jnp.int32)
            same_up_to_rounding(unrolled(key, step), plain(key, step))


def test_the_inverse_error_function_is_that_of_scipy():
    """From the smallest to the largest uniform number that can be drawn."""
    unit = np.arange(2**23, dtype=np.float32)[:: 2**23 // 40_000 + 1] / np.float32(2**23)
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    uniform = np.append(unit * (1 - lowest) + lowest, [np.nextafter(np.float32(1), 0)])
    uniform = np.maximum(uniform, lowest).astype(np.float32)
    found = np.asarray(_erf_inv(jnp.asarray(uniform)))
    expected = special.erfinv(uniform.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


def test_unrolled_normal_is_the_same_in_a_vectorised_loop(getkey):
    """As the ensemble uses it: traced steps, mapped keys."""
    keys, steps = jax.random.split(getkey(), 3), jnp.arange(4, dtype=jnp.int32)

    def all_draws(draw):
        return jax.jit(jax.vmap(lambda key: jax.lax.map(lambda step: draw(key, step), steps)))(keys)

    plain = all_draws(lambda key, step: jax.random.normal(jax.random.fold_in(key, step), (5,)))
    same_up_to_rounding(all_draws(lambda key, step: unrolled_normal(key, step, 5)), plain)
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
            same_up_to_rounding(found, expected)


def test_normal_like_draws_independent_leaves(getkey):
    tree = {"a": jnp.zeros((40, 50)), "b": jnp.zeros((40, 50))}
    first, second = normal_like(getkey(), 4, tree).values()
    correlation = np.corrcoef(np.ravel(first), np.ravel(second))[0, 1] * np.sqrt(2000)
    assert abs(correlation) < 5
    assert abs(np.var(first) - 1) * np.sqrt(2000 / 2) < 5
