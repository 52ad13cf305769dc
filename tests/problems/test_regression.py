"""Linear regression with known truth, against textbook formulas and fresh rows."""

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.problems import linear_regression

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.statistical
def test_train_and_test_error_of_least_squares():
    r"""Mean square errors sigma^2 (1 - d/n) and sigma^2 (1 + d/(n - d - 1)) at the estimate."""
    d, n, sigma = 4, 20, 0.7
    errors = []
    for seed in range(400):
        known = linear_regression(d, n, sigma, seed)
        estimate = known.rows.minimum_norm
        train = 2 * known.training.empirical_risk(estimate)
        errors.append([train, train + 2 * known.gap(estimate).value])
    errors = np.array(errors)
    stderr = errors.std(axis=0, ddof=1) / len(errors) ** 0.5
    expected = sigma**2 * np.array([1 - d / n, 1 + d / (n - d - 1)])
    z = (errors.mean(axis=0) - expected) / stderr
    assert np.all(np.abs(z) < 5), z
    # The same test refuses the errors with n in place of n - d - 1, and without the factor of d.
    wrong = sigma**2 * np.array([1.0, 1 + d / n])
    assert np.all(np.abs((errors.mean(axis=0) - wrong) / stderr) > 5)


@pytest.mark.statistical
def test_the_population_risk_is_the_mean_over_fresh_rows():
    known, theta = linear_regression(3, 10, 0.4, 1), jnp.array([0.2, -1.0, 0.5])
    fresh = linear_regression(3, 50_000, 0.4, 77)
    losses = np.asarray(fresh.training.per_sample_losses(theta))
    z = (losses.mean() - float(known.population.empirical_risk(theta))) / (
        losses.std(ddof=1) / len(losses) ** 0.5
    )
    assert abs(z) < 5


@pytest.mark.parametrize(("d", "n"), [(5, 200), (5, 3), (2, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_deviations_against_dense_matrices(d, n, seed):
    """With fewer rows than parameters too, where H_n - I has the eigenvalue -1."""
    known = linear_regression(d, n, 0.5, seed)
    inputs = np.asarray(known.rows.inputs)
    noise = np.asarray(known.rows.targets) - inputs @ np.asarray(known.truth)
    deviations = known.deviations()
    np.testing.assert_allclose(deviations.gradient, np.linalg.norm(inputs.T @ noise) / n)
    difference = inputs.T @ inputs / n - np.eye(d)
    np.testing.assert_allclose(deviations.hessian, np.linalg.norm(difference, 2), rtol=1e-12)


@pytest.mark.statistical
def test_deviations_have_the_size_that_the_rows_give_them():
    r"""E eps^2 = sigma^2 d/n; the numbers of theory 6.9 (.01926, .0910) are one such draw."""
    draws = np.array([linear_regression(5, 2000, 0.5, seed).deviations() for seed in range(300)])
    squares = draws[:, 0] ** 2
    z = (squares.mean() - 0.25 * 5 / 2000) / (squares.std(ddof=1) / len(squares) ** 0.5)
    assert abs(z) < 5
    low, high = np.quantile(draws, [0.005, 0.995], axis=0)
    quoted = np.array([0.01926, 0.0910])
    assert np.all((low < quoted) & (high > quoted)), (low, high)


def test_seeds_rows_and_noise():
    base = linear_regression(3, 20, 0.5, 4)
    np.testing.assert_array_equal(base.rows.inputs, linear_regression(3, 20, 0.5, 4).rows.inputs)
    longer = linear_regression(3, 30, 0.5, 4)
    np.testing.assert_array_equal(longer.rows.inputs[:20], base.rows.inputs)
    np.testing.assert_array_equal(longer.rows.targets[:20], base.rows.targets)
    assert not np.array_equal(linear_regression(3, 20, 0.5, 5).rows.inputs, base.rows.inputs)
    quiet = linear_regression(3, 20, 0.0, 4)
    assert quiet.deviations().gradient < 1e-15
    np.testing.assert_allclose(jnp.linalg.norm(quiet.truth), 1.0)
