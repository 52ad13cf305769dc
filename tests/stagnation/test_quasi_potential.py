"""Quasi-potential against the minimised action, the stationary law and exact exit rates."""

import math

import numpy as np
import pytest
from scipy import integrate, linalg, optimize

from sgdsim.stagnation import (
    exact_exit_rate,
    gradient_quasi_potential,
    kramers_time,
    quasi_potential,
)

# They do not commute.
HESSIAN = np.array([[2.0, 0.6], [0.6, 0.9]])
NOISE = np.array([[0.3, 0.4], [0.4, 1.5]])
END = np.array([0.7, 0.4])


def least_action(end, steps, residual):
    """Half the smallest sum of squares over paths of given length from the origin to the end."""
    size = end.size

    def residuals(path):
        points = np.vstack([np.zeros(size), path.reshape(-1, size), end])
        return residual(points).ravel()

    start = np.zeros((steps - 1) * size)
    # The action is quadratic: one Gauss-Newton step, with the Jacobian by columns.
    base = residuals(start)
    jacobian = np.stack([residuals(e) - base for e in np.eye(start.size)], axis=1)
    found = optimize.lsq_linear(jacobian, -base)
    return found.cost


def test_continuous_potential_is_the_least_action():
    inverse_root = linalg.inv(linalg.sqrtm(NOISE))
    values = []
    for steps in (100, 200):
        dt = 12.0 / steps

        def residual(points, dt=dt):
            middle = (points[1:] + points[:-1]) / 2
            velocity = np.diff(points, axis=0) / dt + middle @ HESSIAN
            return velocity @ inverse_root * math.sqrt(dt)

        values.append(least_action(END, steps, residual))
    # The midpoint rule is of second order.
    action = (4 * values[1] - values[0]) / 3
    value = float(quasi_potential(HESSIAN, NOISE)(END))
    assert value == pytest.approx(action, rel=1e-4)
    naive = float(END @ HESSIAN @ np.linalg.inv(NOISE) @ END)
    assert abs(naive / action - 1) > 0.05


def test_chain_potential_is_the_least_action_of_the_chain():
    eta = 0.6
    step, inverse_root = np.eye(2) - eta * HESSIAN, linalg.inv(linalg.sqrtm(NOISE))

    def residual(points):
        return (points[1:] - points[:-1] @ step) @ inverse_root / math.sqrt(eta)

    action = least_action(END, 80, residual)
    assert float(quasi_potential(HESSIAN, NOISE, eta)(END)) == pytest.approx(action, rel=1e-9)
    small = quasi_potential(HESSIAN, NOISE, 1e-6).spread
    np.testing.assert_allclose(small, quasi_potential(HESSIAN, NOISE).spread, rtol=1e-5)


def test_spread_is_that_of_the_stationary_law():
    def integrand(t):
        return linalg.expm(-HESSIAN * t) @ NOISE @ linalg.expm(-HESSIAN * t)

    exact, _ = integrate.quad_vec(integrand, 0, 60)
    np.testing.assert_allclose(quasi_potential(HESSIAN, NOISE).spread, exact, rtol=1e-7)
    eta, law = 0.6, np.zeros((2, 2))
    step = np.eye(2) - eta * HESSIAN
    for _ in range(200):
        law = step @ law @ step + eta**2 * NOISE
    np.testing.assert_allclose(eta * quasi_potential(HESSIAN, NOISE, eta).spread, law, rtol=1e-12)


def test_exit_costs_are_the_smallest_values_on_the_boundary():
    potential = quasi_potential(HESSIAN, NOISE)
    angle = np.linspace(0, math.pi, 20_001)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    values = potential(0.3 * circle)
    assert potential.exit_cost(0.3) == pytest.approx(values.min(), rel=1e-6)
    best = circle[values.argmin()]
    assert abs(potential.exit_direction() @ best) == pytest.approx(1, abs=1e-6)
    shape = np.array([[3.0, 1.0], [1.0, 0.8]])
    on_ellipse = 0.3 * circle / np.sqrt(np.einsum("ai,ij,aj->a", circle, shape, circle))[:, None]
    values = potential(on_ellipse)
    assert potential.exit_cost(0.3, shape) == pytest.approx(values.min(), rel=1e-6)
    best = circle[values.argmin()]
    assert abs(potential.exit_direction(shape) @ best) == pytest.approx(1, abs=1e-6)
    normal = np.array([0.8, -1.5])
    along = np.linspace(-3, 3, 60_001)[:, None] * np.array([1.5, 0.8])
    plane = 0.3 * normal / (normal @ normal) + along
    assert potential.half_space_cost(normal, 0.3) == pytest.approx(potential(plane).min(), rel=1e-5)


def test_isotropic_case_and_directions_without_noise():
    assert quasi_potential(1.7 * np.eye(3), 0.2 * np.eye(3)).exit_cost(0.4) == pytest.approx(
        1.7 * 0.4**2 / 0.2
    )
    flat = quasi_potential(np.diag([1.0, 2.0]), np.diag([1.0, 0.0]))
    np.testing.assert_allclose(flat(np.array([[1.0, 0.0], [0.0, 1.0]])), [1.0, np.inf])
    assert flat.half_space_cost(np.array([0.0, 1.0]), 1.0) == math.inf
    assert flat.exit_cost(1.0) == pytest.approx(1.0)


def test_exponent_of_the_exact_exit_rate():
    """Slope of the log rate against one over the noise, at a coarse step; the limit is exact."""
    eta, curvature, radius = 0.5, 1.0, 0.3
    cost = quasi_potential(curvature * np.eye(2), np.eye(2), eta).exit_cost(radius)
    precision = np.array([500.0, 1000.0, 2000.0])
    logs = [
        math.log(exact_exit_rate(1 - eta * curvature, eta / math.sqrt(p), 2, radius))
        for p in precision
    ]
    slopes = -np.diff(logs) / np.diff(precision) * eta
    # The prefactor is a power of the noise: its slope falls like the noise.
    assert abs(slopes[1] / cost - 1) < 0.02
    assert slopes[1] / cost - 1 == pytest.approx((slopes[0] / cost - 1) / 2, rel=0.1)
    continuous = quasi_potential(curvature * np.eye(2), np.eye(2)).exit_cost(radius)
    assert cost / continuous == pytest.approx(1 - eta * curvature / 2)
    assert abs(slopes[1] / continuous - 1) > 0.2


def test_gradient_system_has_the_exponent_of_kramers():
    eta, variance, barrier = 0.01, 0.3, 0.25
    ratio = kramers_time(2 * barrier, 2.0, -1.0, eta * variance / 2) / kramers_time(
        barrier, 2.0, -1.0, eta * variance / 2
    )
    assert eta * math.log(ratio) == pytest.approx(gradient_quasi_potential(barrier, variance))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.diag([1.0, -0.2]), np.eye(2)), "smallest eigenvalue is -0.2"),
        ((np.eye(2), np.zeros((2, 2))), "positive semi-definite and not zero"),
        ((np.eye(2), np.diag([1.0, -1.0])), "positive semi-definite and not zero"),
        ((np.array([[1.0, 1.0], [0.0, 1.0]]), np.eye(2)), "hessian must be symmetric"),
        ((np.eye(2), np.eye(2), 2.0), "chain is unstable"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        quasi_potential(*arguments)
    with pytest.raises(ValueError, match="radius must be a positive"):
        quasi_potential(np.eye(2), np.eye(2)).exit_cost(0.0)
