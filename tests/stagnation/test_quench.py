"""A quench ends where the gradient flow ends: checked against scipy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.optimize import minimize_scalar

from sgdsim.problems import (
    DoubleWell,
    LeastSquares,
    OutputLoss,
    Problem,
    Quadratic,
    cross_entropies,
    random_network,
)
from sgdsim.stagnation import quench
from sgdsim.stagnation._exponential_flow import _phi1, _phi3, follow_gradient_flow
from sgdsim.stagnation._refine import _residuals, half_square_curvature, refine
from sgdsim.testing._dense import dense_hessian

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


def egg_box(theta):
    """Four kinds of wells in a bowl; the borders of the basins are curved."""
    x, y = theta[0], theta[1]
    return jnp.cos(2 * x + y) + jnp.sin(3 * y - x) * 0.7 + 0.1 * (x**2 + 2 * y**2)


def flow_of_scipy(risk, start, time=400.0, **options):
    gradient = jax.jit(jax.grad(risk))
    options = {"method": "LSODA", "rtol": 1e-10, "atol": 1e-12} | options
    return solve_ivp(lambda t, y: -np.asarray(gradient(y)), (0, time), start, **options)


@pytest.fixture(scope="module")
def egg_box_ends(x64):
    """Starts and the ends of their flows according to scipy."""
    starts = np.random.default_rng(4).uniform(-4, 4, (24, 2))
    return starts, np.array([flow_of_scipy(egg_box, start).y[:, -1] for start in starts])


def test_every_start_falls_into_its_own_basin(egg_box_ends):
    starts, expected = egg_box_ends
    found = quench(egg_box, jnp.asarray(starts))
    np.testing.assert_allclose(found.theta, expected, atol=1e-7)
    assert found.is_minimum.all()
    assert found.followed.all()
    assert found.gradient_norm.max() < 1e-10
    assert len(np.unique(np.round(found.theta, 4), axis=0)) >= 5
    np.testing.assert_allclose(
        found.displacement, np.linalg.norm(expected - starts, axis=1), atol=1e-7
    )
    hessians = np.asarray(jax.vmap(jax.hessian(egg_box))(found.theta))
    np.testing.assert_allclose(
        found.smallest_eigenvalue, np.linalg.eigvalsh(hessians)[:, 0], rtol=1e-8
    )


def test_without_the_flow_the_test_would_fail(egg_box_ends):
    """The local method alone, from the starts, ends elsewhere: the comparison above sees it."""
    starts, expected = egg_box_ends
    ends = jax.vmap(lambda start: refine(egg_box, lambda flat: flat, start, 1e-8, None))(
        jnp.asarray(starts)
    )
    wrong = ~(np.linalg.norm(np.asarray(ends) - expected, axis=1) < 0.1)
    assert wrong.sum() >= 6


def test_the_flow_itself_against_scipy():
    """Left where the gradient norm has fallen to 0.3, it is on the path, as near as asked."""
    start = np.array([1.5, -2.0])
    path = flow_of_scipy(egg_box, start, time=10.0, dense_output=True).sol
    for rtol, least, most in ((1e-2, 1e-5, 2e-2), (1e-5, 0.0, 5e-6)):
        end = follow_gradient_flow(egg_box, jnp.asarray(start), 0.3, rtol)
        assert end.arrived

        def miss(t, end=end):
            return np.linalg.norm(path(t) - np.asarray(end.theta))

        times = np.linspace(0, 10, 2001)
        near = times[np.argmin([miss(t) for t in times])]
        bounds = (near - 0.01, near + 0.01)
        found = minimize_scalar(miss, bounds=bounds, options={"xatol": 1e-10})
        assert least < miss(found.x) < most  # pyright: ignore[reportAttributeAccessIssue]
    stopped = follow_gradient_flow(egg_box, jnp.asarray(start), 1e-9, max_steps=3)
    assert stopped.steps == 3
    assert not stopped.arrived


def test_stiffness_does_not_hold_up_the_flow():
    """Curvatures from 1 to 1e8: an explicit method would need some 1e9 steps."""
    bowl = Quadratic(jnp.geomspace(1.0, 1e8, 20))
    start = jnp.linspace(1.0, 2.0, 20)
    end = follow_gradient_flow(bowl.risk, start, 1e-6)
    assert end.arrived
    assert end.steps < 60
    np.testing.assert_allclose(end.theta, 0, atol=1e-6)


@pytest.mark.parametrize("z", [-1e4, -3.0, -1.001, -0.999, -1e-3, 0.0, 0.5, 0.999, 2.0])
def test_phi_functions_against_quadrature(z):
    for function, weight in ((_phi1, lambda s: 1.0), (_phi3, lambda s: s**2 / 2)):
        # Most of the integral is within a few 1/|z| of the upper end.
        points = [1 - min(1.0, 40 / max(abs(z), 1.0))]
        value = quad(
            lambda s, weight=weight: np.exp((1 - s) * z) * weight(s), 0, 1, points=points, limit=200
        )[0]
        np.testing.assert_allclose(function(jnp.array([z]))[0], value, rtol=1e-9)


def test_a_saddle_is_reported_and_one_beside_the_path_is_not():
    well = DoubleWell(1.0, 2.0)
    found = quench(well.risk, jnp.array([[0.0, 1.0], [1e-5, 1.0], [-1e-5, 1.0]]))
    np.testing.assert_allclose(found.theta[:, 0], [0.0, 1.0, -1.0], atol=1e-8)
    np.testing.assert_allclose(found.smallest_eigenvalue, [-1.0, 2.0, 2.0], rtol=1e-6)
    assert found.is_minimum.tolist() == [False, True, True]
    assert "no minimum: the Hessian has the eigenvalue -1.00e+00" in found.reason[0]
    assert found.reason[1:] == ("", "")


def test_a_slope_without_end_and_a_start_that_is_not_finite():
    found = quench(lambda theta: theta[0], jnp.array([[0.0], [jnp.nan]]), max_flow_steps=20)
    assert not found.is_minimum.any()
    assert found.reason[0].startswith("the gradient norm stays at 1.00e+00, above the tolerance")
    assert np.isnan(found.risk[1])


def half_squares(outputs, rows):
    return 0.5 * jnp.sum(jnp.square(outputs - rows[1]), axis=1)


def student(theta, rows):
    return theta(rows[0])


def teacher_student(noise, ridge, activation="tanh"):
    random = np.random.default_rng(2)
    inputs = jnp.asarray(random.normal(size=(60, 2)))
    teacher = random_network(jax.random.key(7), (2, 2, 1), activation, gain=2.0)
    targets = teacher(inputs) + noise * random.normal(size=(60, 1))
    return Problem(OutputLoss(student, half_squares), (inputs, targets), jnp.asarray(ridge))


def test_levenberg_marquardt_sees_the_penalised_risk():
    """Half the squared residuals is the risk up to a constant; the loss may have any scale."""
    problem = teacher_student(0.3, 0.05)
    tripled = Problem(
        OutputLoss(student, lambda outputs, rows: 3 * half_squares(outputs, rows) + 7),
        problem.data,
        problem.ridge,
    )
    thetas = [random_network(jax.random.key(i), (2, 2, 1)) for i in range(2)]
    for given, expected in ((problem, 1.0), (tripled, 3.0)):
        curvature = half_square_curvature(given, thetas[0])
        assert curvature is not None
        np.testing.assert_allclose(curvature, expected, rtol=1e-12)
        halves = [
            0.5 * sum(np.sum(np.square(part)) for part in _residuals(given, theta, curvature))
            for theta in thetas
        ]
        risks = [given.empirical_risk(theta) for theta in thetas]
        np.testing.assert_allclose(halves[1] - halves[0], risks[1] - risks[0], rtol=1e-10)


def test_other_losses_are_not_taken_for_half_squares(network_problem):
    problem, theta = network_problem
    through_outputs = Problem(
        OutputLoss(lambda t, rows: t(rows.inputs), lambda o, rows: jnp.sum(jnp.cosh(o), axis=1)),
        problem.data,
    )
    assert half_square_curvature(through_outputs, theta) is None
    assert half_square_curvature(Problem(cross_entropies, problem.data), theta) is None
    assert half_square_curvature(lambda t: jnp.zeros(()), theta) is None


@pytest.mark.parametrize(("noise", "ridge"), [(0.0, 0.0), (0.5, 0.01)])
def test_teacher_student_quenches_are_minima(noise, ridge):
    """With and without residuals at the minimum; the dense Hessian has the same smallest value."""
    problem = teacher_student(noise, ridge)
    keys = jax.random.split(jax.random.key(1), 6)
    starts = jax.vmap(lambda key: random_network(key, (2, 2, 1), gain=2.0))(keys)
    found = quench(problem, starts)
    assert found.is_minimum.sum() >= 4
    for i in np.flatnonzero(found.is_minimum):
        theta = jax.tree.map(lambda leaf, i=i: leaf[i], found.theta)
        np.testing.assert_allclose(found.risk[i], problem.empirical_risk(theta), rtol=1e-12)
        exact = np.linalg.eigvalsh(dense_hessian(problem, theta))[0]
        np.testing.assert_allclose(found.smallest_eigenvalue[i], exact, atol=1e-9)
    if noise == 0:
        assert found.risk.min() < 1e-20


def test_rank_deficient_regression_in_single_precision_rows():
    """The flow keeps the null component; its end is the projection on the affine minima."""
    random = np.random.default_rng(5)
    inputs, targets = random.normal(size=(4, 7)), random.normal(size=4)
    landscape = LeastSquares(jnp.asarray(inputs, jnp.float32), jnp.asarray(targets, jnp.float32))
    starts = jnp.asarray(random.normal(size=(70, 7)))  # more than one chunk
    found = quench(landscape.problem(), starts)
    exact = LeastSquares(landscape.inputs.astype(float), landscape.targets.astype(float))
    np.testing.assert_allclose(found.theta, jax.vmap(exact.project)(starts), atol=1e-8)
    assert found.theta.dtype == jnp.float64
    assert found.is_minimum.all()
    assert abs(found.smallest_eigenvalue).max() < 1e-10


def test_refusals():
    with jax.enable_x64(False), pytest.raises(ValueError, match="double precision"):
        quench(egg_box, jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="tolerance must be a positive"):
        quench(egg_box, jnp.zeros((1, 2)), tolerance=0.0)
    with pytest.raises(ValueError, match="max_flow_steps must be a positive"):
        quench(egg_box, jnp.zeros((1, 2)), max_flow_steps=0)
