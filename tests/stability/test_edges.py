"""C1, C2, C10, C15: each edge is where an update, written as code, stops being a contraction."""

import numpy as np
import pytest

from sgdsim.stability import (
    adam_threshold,
    critical_curvature_variance,
    gradient_descent_threshold,
    heavy_ball_threshold,
    momentum_plateaus,
    nesterov_threshold,
    rmsprop_threshold,
)

CASES = [(0.05, 0.9), (0.3, 0.5), (1.7, 0.0), (1e-3, 0.99)]


def spectral_radius(update, size):
    """Of a linear update of a state, found by applying it to every unit vector."""
    matrix = np.stack([update(unit) for unit in np.eye(size)], axis=1)
    return np.abs(np.linalg.eigvals(matrix)).max()


def gradient_descent(state, eta, b, h):
    return state - eta * h * state


def heavy_ball(state, eta, b, h):
    theta, before = state
    return np.array([theta - eta * h * theta + b * (theta - before), theta])


def nesterov(state, eta, b, h):
    theta, before = state
    ahead = theta + b * (theta - before)
    return np.array([ahead - eta * h * ahead, theta])


def adam_with_frozen_preconditioner(state, eta, b, h):
    theta, average = state
    average = b * average + (1 - b) * h * theta
    return np.array([theta - eta * average, average])


@pytest.mark.parametrize(
    ("update", "size", "edge"),
    [
        (gradient_descent, 1, lambda eta, b: gradient_descent_threshold(eta)),
        (gradient_descent, 1, lambda eta, b: rmsprop_threshold(eta)),
        (heavy_ball, 2, heavy_ball_threshold),
        (nesterov, 2, nesterov_threshold),
        (adam_with_frozen_preconditioner, 2, adam_threshold),
    ],
)
@pytest.mark.parametrize(("eta", "b"), CASES)
def test_radius_is_one_at_the_edge_and_crosses_it_there(update, size, edge, eta, b):
    def radius(relative):
        h = edge(eta, b) * relative
        return spectral_radius(lambda state: update(state, eta, b, h), size)

    assert abs(radius(1.0) - 1) < 1e-9
    assert radius(1 - 1e-3) < 1 - 1e-7
    assert radius(1 + 1e-3) > 1 + 1e-7


@pytest.mark.parametrize("b", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_random_curvature_at_its_critical_variance(b, share):
    """C10, on E theta^2, E theta theta_before, E theta_before^2 of heavy ball."""
    eta = 0.4
    h = share * 2 * (1 + b) / eta
    variance = critical_curvature_variance(eta, b, h)

    def radius(s2):
        # theta' = c theta - b theta_before with a random c
        mean = 1 + b - eta * h

        def update(moments):
            square, cross, before = moments
            grown = (mean**2 + eta**2 * s2) * square - 2 * mean * b * cross + b**2 * before
            return np.array([grown, mean * square - b * cross, square])

        return spectral_radius(update, 3)

    assert abs(radius(variance) - 1) < 1e-9
    assert radius(0.99 * variance) < 1 - 1e-6
    assert radius(1.01 * variance) > 1 + 1e-6


def test_plateaus_are_the_two_ends_of_that_line():
    eta, b = 0.2, 0.9
    small_batch, large_batch = momentum_plateaus(eta, b)

    def level(h):
        return h + critical_curvature_variance(eta, b, h) / h

    assert level(1e-9) == pytest.approx(small_batch, rel=1e-8)
    assert level(2 * (1 + b) / eta * (1 - 1e-9)) == pytest.approx(large_batch, rel=1e-8)
    # Without momentum the line is flat: the edge of stochastic stability.
    assert [h + critical_curvature_variance(eta, 0.0, h) / h for h in (0.1, 5.0, 9.0)] == (
        pytest.approx([10.0] * 3)
    )
    assert np.isnan(critical_curvature_variance(eta, b, 19.1))
