"""Half widths of intervals and the jackknife, against scipy and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sgdsim.curvature._estimates import half_width, jackknife

pytestmark = pytest.mark.usefixtures("x64")


def test_half_widths_are_quantiles_of_students_t():
    degrees = jnp.array([6, 7, 11, 31, 1000])
    exact = scipy.stats.t.ppf(0.975, degrees)
    np.testing.assert_allclose(half_width(jnp.full(5, 2.0), degrees), 2 * exact, rtol=1e-4)
    few = jnp.array([1, 2, 3])
    ratio = np.asarray(half_width(jnp.ones(3), few)) / scipy.stats.t.ppf(0.975, few)
    np.testing.assert_allclose(ratio, [0.89, 0.99, 0.999], atol=5e-3)


@pytest.mark.parametrize("degrees", [0, -1])
def test_no_interval_without_a_degree_of_freedom(degrees):
    assert np.isnan(half_width(jnp.asarray(1.0), degrees))


@pytest.mark.statistical
def test_the_jackknife_of_a_ratio_of_means():
    """Its standard error is the spread of the estimates, its bias below that of the plain ratio."""
    random = np.random.default_rng(2)
    n, repeats = 40, 4000
    x = random.exponential(size=(repeats, n))
    draws = np.stack([x + random.normal(size=x.shape), x], axis=-1)
    found = jax.vmap(lambda d: jackknife(lambda mean: mean[:1] / jnp.square(mean[1:]), d))(
        jnp.asarray(draws)
    )
    values, stderr = np.asarray(found.value)[:, 0], np.asarray(found.stderr)[:, 0]
    spread = values.std() / np.sqrt(repeats)
    plain = draws.mean(axis=1)[:, 0] / draws.mean(axis=1)[:, 1] ** 2
    assert abs(plain.mean() - 1) > 8 * plain.std() / np.sqrt(repeats)
    assert abs(values.mean() - 1) < abs(plain.mean() - 1) / 2
    assert 0.8 < np.sqrt(np.mean(stderr**2)) / values.std() < 1.5
    assert spread < 0.02


def test_the_jackknife_leaves_one_draw_out_at_a_time():
    draws = np.random.default_rng(0).normal(size=(6, 2)) + 3
    found = jackknife(lambda mean: mean[:1] * mean[1:] ** 3, jnp.asarray(draws))
    left_out = np.array(
        [m[0] * m[1] ** 3 for m in (np.delete(draws, i, axis=0).mean(axis=0) for i in range(6))]
    )
    mean = draws.mean(axis=0)
    value = 6 * mean[0] * mean[1] ** 3 - 5 * left_out.mean()
    np.testing.assert_allclose(found.value, [value], rtol=1e-12)
    np.testing.assert_allclose(found.stderr, [np.sqrt(5 * left_out.var())], rtol=1e-12)
