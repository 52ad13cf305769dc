"""The empirical risk of anything: arbitrary pytrees, custom losses, integer rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.problems import Problem, cast, inner, squared_norm, stream

pytestmark = pytest.mark.usefixtures("x64")

SCALES = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]])
GROUPS = np.array([0, 2, 1, 0, 2])
VALUES = np.array([0.1, -0.4, 2.0, 1.5, -3.0])


def losses(theta, data):
    """Regression on a table lookup; integer rows select entries of a parameter matrix."""
    predictions = theta["table"][data["group"]][:, 0] * theta["slope"] - data["value"]
    return predictions**2


@pytest.fixture
def problem():
    return Problem(losses, {"group": jnp.asarray(GROUPS), "value": jnp.asarray(VALUES)}, 0.7)


@pytest.fixture
def theta():
    return {"table": jnp.asarray(SCALES), "slope": jnp.asarray(1.25)}


def expected_losses() -> np.ndarray:
    penalty = 0.35 * (np.sum(SCALES**2) + 1.25**2)
    return (SCALES[GROUPS, 0] * 1.25 - VALUES) ** 2 + penalty


def test_losses_and_risk(problem, theta):
    assert problem.n == 5
    np.testing.assert_allclose(problem.per_sample_losses(theta), expected_losses(), rtol=1e-14)
    risk = problem.empirical_risk(theta)
    np.testing.assert_allclose(risk, expected_losses().mean(), rtol=1e-14)
    assert risk.shape == ()
    assert risk.dtype == jnp.float64


def test_take_is_a_problem_on_some_rows_repeats_included(problem, theta):
    rows = np.array([4, 4, 1])
    batch = problem.take(jnp.asarray(rows))
    assert batch.n == 3
    np.testing.assert_allclose(batch.per_sample_losses(theta), expected_losses()[rows], rtol=1e-14)


def test_astype_converts_floats_and_leaves_integers(problem, theta):
    single = problem.astype(jnp.float32)
    assert single.data["value"].dtype == jnp.float32
    assert single.data["group"].dtype == problem.data["group"].dtype
    assert jnp.asarray(single.ridge).dtype == jnp.float32
    single_losses = single.per_sample_losses(cast(theta, jnp.float32))
    assert single_losses.dtype == jnp.float32
    np.testing.assert_allclose(single_losses, expected_losses(), rtol=1e-6)


def test_the_penalty_does_not_raise_the_precision_of_the_parameters(problem, theta):
    """A Python number as ridge must not turn a float32 simulation into float64."""
    single = Problem(losses, cast(problem.data, jnp.float32), 0.7)
    assert single.empirical_risk(cast(theta, jnp.float32)).dtype == jnp.float32


def test_gradient_of_the_ridge_is_ridge_times_theta(problem, theta):
    unpenalised = Problem(losses, problem.data)
    difference = jax.tree.map(
        lambda a, b: a - b,
        jax.grad(problem.empirical_risk)(theta),
        jax.grad(unpenalised.empirical_risk)(theta),
    )
    np.testing.assert_allclose(difference["table"], 0.7 * SCALES, rtol=1e-12)
    np.testing.assert_allclose(difference["slope"], 0.7 * 1.25, rtol=1e-12)


def test_squared_norm_sums_over_all_leaves(theta):
    np.testing.assert_allclose(squared_norm(theta), np.sum(SCALES**2) + 1.25**2, rtol=1e-14)


def test_single_rows_are_the_problem_row_by_row(problem, theta):
    rows = [jax.tree.map(lambda a, i=i: a[i], problem.data) for i in range(5)]
    risks = [problem.single(row).empirical_risk(theta) for row in rows]
    np.testing.assert_allclose(risks, expected_losses(), rtol=1e-14)


def test_inner_product_sums_over_all_leaves(theta):
    other = {"table": jnp.asarray(SCALES + 1), "slope": jnp.asarray(-2.0)}
    expected = np.sum(SCALES * (SCALES + 1)) - 2.0 * 1.25
    np.testing.assert_allclose(inner(theta, other), expected, rtol=1e-14)


def test_streams_of_one_seed_are_disjoint():
    """Also from the keys of the trajectories, fold_in(fold_in(key(seed), point), trajectory)."""
    purposes = ["start", "convexity", "noise", "probe"]
    root = jax.random.key(3)
    points = [jax.random.fold_in(root, point) for point in range(50)]
    keys = [*(stream(3, purpose) for purpose in purposes), *points, stream(4, "start"), root]
    assert len({tuple(np.asarray(jax.random.key_data(key))) for key in keys}) == len(keys)
