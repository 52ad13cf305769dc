"""C14: both forms of sharpness-aware minimisation on quadratics, from their definitions."""

import math

import numpy as np
import pytest

from sgdsim.stability import (
    gradient_descent_threshold,
    sam_threshold,
    unnormalised_sam_threshold,
)

CASES = [(0.1, 0.1, 0.0), (0.5, 1.0, 0.3), (0.01, 0.05, 20.0), (1.5, 2.0, 0.0)]


def uphill_step(theta, hessian, eta, rho, decay, norm=None):
    """One step on a quadratic; normalised if a norm is given."""
    gradient = hessian @ theta
    way = rho if norm is None else rho / norm
    return theta - eta * hessian @ (theta + way * gradient) - eta * decay * theta


def radius(hessian, *numbers, **norm):
    size = len(hessian)
    matrix = np.stack([uphill_step(unit, hessian, *numbers, **norm) for unit in np.eye(size)], 1)
    return np.abs(np.linalg.eigvals(matrix)).max()


def random_hessian(top, seed=0):
    """Symmetric, with a given largest eigenvalue and small others."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((4, 4)))
    return basis * np.array([top, 0.2 * top, 0.1 * top, 0.05 * top]) @ basis.T


@pytest.mark.parametrize(("eta", "rho", "decay"), CASES)
def test_radius_is_one_at_the_unnormalised_edge(eta, rho, decay):
    edge = float(unnormalised_sam_threshold(eta, rho, decay))
    assert abs(radius(random_hessian(edge), eta, rho, decay) - 1) < 1e-9
    assert radius(random_hessian(0.999 * edge), eta, rho, decay) < 1 - 1e-6
    assert radius(random_hessian(1.001 * edge), eta, rho, decay) > 1 + 1e-6


@pytest.mark.parametrize(("eta", "rho", "decay"), CASES)
@pytest.mark.parametrize("norm", [1e-3, 0.7, 1e3])
def test_radius_is_one_at_the_normalised_edge_of_that_gradient_norm(eta, rho, decay, norm):
    edge = float(sam_threshold(eta, rho, norm, decay))
    assert abs(radius(random_hessian(edge), eta, rho, decay, norm=norm) - 1) < 1e-9
    assert radius(random_hessian(0.999 * edge), eta, rho, decay, norm=norm) < 1 - 1e-6
    assert radius(random_hessian(1.001 * edge), eta, rho, decay, norm=norm) > 1 + 1e-6


@pytest.mark.parametrize(("eta", "rho", "h"), [(0.1, 0.1, 12.0), (0.5, 1.0, 2.5), (1.0, 0.3, 1.2)])
def test_normalised_sam_flips_at_its_own_edge(eta, rho, h):
    """On one direction, iterated: the norm of the gradient settles where h is the edge."""
    theta = 3.0
    for _ in range(4000):
        theta -= eta * h * (theta + rho * math.copysign(1.0, h * theta))
    norm = abs(h * theta)
    assert float(sam_threshold(eta, rho, norm)) == pytest.approx(h, rel=1e-9)


def test_formulas_as_printed():
    norm, rho, eta = np.array([0.05, 0.3, 2.0]), 0.1, np.array([0.1, 0.2, 0.05])
    printed = norm / (2 * rho) * (np.sqrt(1 + 8 * rho / (eta * norm)) - 1)
    np.testing.assert_allclose(sam_threshold(eta, rho, norm), printed, rtol=1e-13)
    printed = (np.sqrt(1 + 8 * rho / eta) - 1) / (2 * rho)
    np.testing.assert_allclose(unnormalised_sam_threshold(eta, rho), printed, rtol=1e-13)


def test_limits():
    assert float(sam_threshold(0.1, 0.1, 0.0)) == 0.0
    assert float(sam_threshold(0.1, 0, 0.0)) == 20.0
    assert float(unnormalised_sam_threshold(0.1, 0)) == 20.0
    np.testing.assert_allclose(unnormalised_sam_threshold(0.1, 1e-12), 20.0, rtol=1e-9)
    np.testing.assert_allclose(sam_threshold(0.1, 0.1, 1e15), 20.0, rtol=1e-9)
    assert np.isnan(sam_threshold(0.1, 0.1, np.nan))
    assert float(sam_threshold(0.0, 0.1, 1.0)) == math.inf
    # A decay that diverges by itself leaves no room.
    assert float(unnormalised_sam_threshold(0.5, 0.1, 5.0)) == -1.0
    assert gradient_descent_threshold(0.5, 5.0) == -1.0
