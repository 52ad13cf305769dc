"""Random projections keep distances in the mean, with the stated variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.ensemble import count_sketch

VECTOR = jnp.asarray(np.random.default_rng(0).standard_normal(400), jnp.float32)


def test_short_parameters_are_kept():
    sketch = count_sketch({"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}, 5, jax.random.key(1))
    assert sketch.tolist() == [1.0, 2.0, 3.0, 0.0, 0.0]


def test_it_is_linear():
    key, other = jax.random.key(1), jnp.flip(VECTOR)
    both = count_sketch(VECTOR, 32, key) - 2 * count_sketch(other, 32, key)
    np.testing.assert_allclose(count_sketch(VECTOR - 2 * other, 32, key), both, atol=1e-4)


@pytest.mark.parametrize("size", [16, 64])
def test_squared_lengths_have_the_stated_mean_and_variance(size):
    keys = jax.random.split(jax.random.key(2), 4000)
    squares = jax.vmap(lambda key: jnp.sum(count_sketch(VECTOR, size, key) ** 2))(keys)
    squares = np.asarray(squares, np.float64)
    truth = float(jnp.sum(VECTOR**2))
    z = (squares.mean() - truth) / (squares.std(ddof=1) / squares.size**0.5)
    assert abs(z) < 4
    # Equality up to the fourth moment of the vector: 2/m (|x|^4 - sum x^4).
    expected = 2 / size * (truth**2 - float(jnp.sum(VECTOR**4)))
    assert squares.var() == pytest.approx(expected, rel=0.12)
    assert not abs((squares.mean() - 1.05 * truth) / (squares.std() / squares.size**0.5)) < 4
