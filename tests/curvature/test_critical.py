"""Critical sharpness against closed forms and the root of the loss difference by scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from sgdsim.curvature import critical_sharpness
from sgdsim.testing._dense import dense_gradients, dense_hessian

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

SPECTRUM = np.array([1.0, 3.0, 10.0])
THETA = np.array([1.0, 2.0, 0.3])


def quadratic(theta):
    return 0.5 * jnp.sum(SPECTRUM * theta**2)


@jax.jit
def on_quadratic(theta, direction, start):
    return critical_sharpness(quadratic, theta, direction, start)


def assert_consistent(found):
    assert found.low <= found.value <= found.high
    np.testing.assert_allclose(found.value * found.learning_rate, 2.0, rtol=1e-12)


@pytest.mark.parametrize("start", [0.02, 0.2, 0.46, 0.47, 3.0])
def test_a_quadratic_gives_the_rayleigh_quotient(start):
    gradient = SPECTRUM * THETA
    exact = gradient @ (SPECTRUM * gradient) / (gradient @ gradient)
    found = on_quadratic(THETA, gradient, start)
    assert_consistent(found)
    np.testing.assert_allclose(found.value, exact, rtol=1e-12)
    assert found.high / found.low < 1.02001
    # Both ends, two looks inside, one look for every doubling or halving, the start.
    assert found.passes <= 5 + abs(np.log2(start / 0.46))


@pytest.mark.parametrize("coordinate", range(3))
def test_an_eigenvector_gives_its_eigenvalue(coordinate):
    direction = SPECTRUM * THETA * (np.arange(3) == coordinate)
    found = on_quadratic(THETA, direction, 0.3)
    np.testing.assert_allclose(found.value, SPECTRUM[coordinate], rtol=1e-12)


def test_any_update_direction():
    """A preconditioned step: the curvature along it over its descent."""
    direction = np.array([0.2, 1.0, 1.0])
    found = on_quadratic(THETA, direction, 1.0)
    exact = direction @ (SPECTRUM * direction) / (direction @ (SPECTRUM * THETA))
    np.testing.assert_allclose(found.value, exact, rtol=1e-12)


@pytest.mark.parametrize("start", [0.02, 0.1, 0.7])
def test_a_loss_that_is_not_quadratic(start):
    def risk(theta):
        return jnp.sum(theta**4) + 0.3 * jnp.sum(jnp.sin(3 * theta))

    gradient = jax.grad(risk)(THETA)
    found = jax.jit(lambda start: critical_sharpness(risk, THETA, gradient, start, most=20))(start)
    root = scipy.optimize.root_scalar(
        lambda eta: float(risk(THETA - eta * gradient) - risk(THETA)), bracket=(0.05, 0.3)
    )
    exact = 2 / root.root
    assert_consistent(found)
    assert found.low <= exact <= found.high <= 1.0201 * found.low
    np.testing.assert_allclose(found.value, exact, rtol=2e-3)
    assert found.passes < 14


def test_a_network(network_problem):
    problem, theta = network_problem
    gradient = jax.grad(problem.empirical_risk)(theta)
    measure = jax.jit(
        lambda problem, theta, start: critical_sharpness(
            problem.empirical_risk, theta, gradient, start
        )
    )
    found = measure(problem, theta, 1.0)
    assert_consistent(found)
    assert found.passes <= 10
    # The interval holds a rise and no rise; the value is near the Rayleigh quotient, not equal.
    for end, rises in [(found.low, True), (found.high, False)]:
        moved = jax.tree.map(lambda a, g: a - 2 / end * g, theta, gradient)  # noqa: B023
        assert bool(problem.empirical_risk(moved) > problem.empirical_risk(theta)) == rises
    flat = dense_gradients(problem, theta).mean(axis=0)
    quotient = flat @ dense_hessian(problem, theta) @ flat / (flat @ flat)
    assert 0.2 < found.value / quotient < 5


def test_passes_are_limited_and_the_interval_tells_what_is_known():
    found = critical_sharpness(quadratic, THETA, SPECTRUM * THETA, 0.2, most=4)
    exact = 4.326086956521739
    assert found.passes == 4
    assert found.low <= exact <= found.high
    assert found.high / found.low == 2
    np.testing.assert_allclose(found.value, exact, rtol=1e-12)


def test_uphill_there_is_no_upper_end():
    found = on_quadratic(THETA, -SPECTRUM * THETA, 0.1)
    assert np.isnan(found.value)
    assert np.isnan(found.learning_rate)
    assert found.high == np.inf
    assert found.low == 2 / (0.1 / 2**8)
    assert found.passes == 10


@pytest.mark.parametrize("direction", [np.zeros(3), np.array([1e-9, 0.0, 0.0])])
def test_where_the_loss_never_rises_the_lower_end_is_zero(direction):
    found = on_quadratic(THETA, direction, 0.1)
    assert np.isnan(found.value)
    assert found.low == 0
    assert found.high == 2 / (0.1 * 2**8)


def test_a_loss_that_overflows_counts_as_a_rise():
    def risk(theta):
        return jnp.asarray(jnp.where(jnp.abs(theta) > 3.0, jnp.nan, theta**2))

    found = critical_sharpness(risk, jnp.asarray(1.0), jnp.asarray(1.0), 64.0, most=20)
    assert found.low <= 2 / 2.0 <= found.high < 1.03 * found.low


def test_a_start_that_is_not_finite_gives_no_number():
    found = critical_sharpness(lambda t: jnp.nan * t, jnp.asarray(1.0), jnp.asarray(1.0), 1.0)
    assert np.all(np.isnan(np.array(found[:4])))
    assert found.passes == 1


def test_warm_start_inside_scan_and_vmap():
    """The last result is the next guess: few passes while the curvature drifts."""

    def step(start, scale):
        gradient = scale * SPECTRUM * THETA
        found = critical_sharpness(lambda t: scale * quadratic(t), THETA, gradient, start)
        return found.learning_rate, found

    scales = jnp.array([1.0, 1.1, 1.2, 1.3])
    along = jax.jit(lambda start: jax.lax.scan(step, start, scales)[1])(jnp.asarray(0.1))
    np.testing.assert_allclose(along.value, 4.326086956521739 * scales, rtol=1e-12)
    assert np.all(along.passes[1:] <= 5)
    together = jax.vmap(on_quadratic, in_axes=(0, None, None))(
        np.stack([THETA, 2 * THETA]), SPECTRUM * THETA, 0.3
    )
    alone = on_quadratic(2 * THETA, SPECTRUM * THETA, 0.3)
    np.testing.assert_allclose(together.value[1], alone.value, rtol=1e-12)
    assert together.passes[1] == alone.passes


def test_single_precision_on_pytrees():
    theta = {"a": jnp.float32(1.0), "b": jnp.ones((2, 1), jnp.float32)}

    def risk(theta):
        return 2.0 * theta["a"] ** 2 + jnp.sum(theta["b"] ** 2)

    found = critical_sharpness(risk, theta, jax.grad(risk)(theta), 0.1)
    assert found.value.dtype == jnp.float32
    np.testing.assert_allclose(found.value, (4 * 16 + 2 * 8) / 24, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": 0.0}, "start must be a positive finite number, got 0.0"),
        ({"relative_width": -1.0}, "relative_width must be a positive"),
        ({"most": 3}, "most must be at least 4 passes, got 3"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        critical_sharpness(quadratic, THETA, THETA, **({"start": 1.0} | options))
