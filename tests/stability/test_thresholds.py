"""Each edge is where an update, written as code, stops being a contraction (C1, C2, C10, C15)."""

import math

import numpy as np
import pytest

from sgdsim.stability import (
    adam_threshold,
    batch_sharpness_threshold,
    critical_curvature_variance,
    gradient_descent_threshold,
    heavy_ball_threshold,
    momentum_plateaus,
    nesterov_threshold,
    rmsprop_threshold,
    variance_ratio,
)

CASES = [(0.05, 0.9), (0.3, 0.5), (1.7, 0.0), (1e-3, 0.99)]


def spectral_radius(update, size):
    """Of a linear update of a state, found by applying it to every unit vector."""
    matrix = np.stack([update(unit) for unit in np.eye(size)], axis=1)
    return np.abs(np.linalg.eigvals(matrix)).max()


def gradient_descent(state, eta, b, h, decay):
    return state - eta * h * state - eta * decay * state


def heavy_ball(state, eta, b, h, decay):
    theta, momentum = state
    momentum = h * theta + b * momentum
    return np.array([theta - eta * momentum - eta * decay * theta, momentum])


def nesterov(state, eta, b, h, decay):
    theta, momentum = state
    gradient = h * theta
    momentum = gradient + b * momentum
    step = gradient + b * momentum
    return np.array([theta - eta * step - eta * decay * theta, momentum])


def nesterov_that_looks_ahead(state, eta, b, h, decay):
    assert decay == 0
    theta, before = state
    ahead = theta + b * (theta - before)
    return np.array([ahead - eta * h * ahead, theta])


def adam_with_frozen_preconditioner(state, eta, b, h, decay):
    theta, average = state
    average = b * average + (1 - b) * h * theta
    return np.array([theta - eta * average - eta * decay * theta, average])


UPDATES = [
    (gradient_descent, 1, lambda eta, b, decay: gradient_descent_threshold(eta, decay)),
    (gradient_descent, 1, lambda eta, b, decay: rmsprop_threshold(eta, decay)),
    (heavy_ball, 2, heavy_ball_threshold),
    (nesterov, 2, nesterov_threshold),
    (adam_with_frozen_preconditioner, 2, adam_threshold),
]


def assert_edge(update, size, edge):
    """Check that the spectral radius is one at the edge and crosses one there."""

    def radius(relative):
        return spectral_radius(lambda state: update(state, edge * relative), size)

    assert abs(radius(1.0) - 1) < 1e-9
    assert radius(1 - 1e-3) < 1 - 1e-7
    assert radius(1 + 1e-3) > 1 + 1e-7


@pytest.mark.parametrize(("update", "size", "edge"), UPDATES)
@pytest.mark.parametrize(("eta", "b"), CASES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_radius_is_one_at_the_edge_and_crosses_it_there(update, size, edge, eta, b, share):
    """With a decoupled decay of a share of 2/eta."""
    decay = share * 2 / eta
    assert_edge(lambda state, h: update(state, eta, b, h, decay), size, edge(eta, b, decay))


@pytest.mark.parametrize(("eta", "b"), CASES)
def test_both_forms_of_nesterov_have_one_edge(eta, b):
    assert_edge(
        lambda state, h: nesterov_that_looks_ahead(state, eta, b, h, 0.0),
        2,
        nesterov_threshold(eta, b),
    )


def test_decay_lowers_the_edge_of_adamw_by_more_than_itself():
    """By lambda (1+b1)/(1-b1): it does not pass through the averaged gradient."""
    shift = adam_threshold(1e-3, 0.9) - adam_threshold(1e-3, 0.9, 0.1)
    assert shift == pytest.approx(0.1 * 19)
    assert rmsprop_threshold(1e-3) - rmsprop_threshold(1e-3, 0.1) == pytest.approx(0.1)


def test_threshold_is_two_over_the_learning_rate():
    assert gradient_descent_threshold(0.5) == 4.0
    assert gradient_descent_threshold(2.0) == 1.0


def moments_of_heavy_ball(eta, b, h, s2, decay):
    """Spectral radius on E theta^2, E theta m, E m^2, of a curvature of mean h and variance s2.

    The curvature takes two values; only its mean and variance matter.
    """
    moments = np.zeros((3, 3))
    for node in (-math.sqrt(s2), math.sqrt(s2)):
        step = np.stack([heavy_ball(unit, eta, b, h + node, decay) for unit in np.eye(2)], axis=1)
        (p, q), (r, s) = step
        moments += 0.5 * np.array(
            [[p * p, 2 * p * q, q * q], [p * r, p * s + q * r, q * s], [r * r, 2 * r * s, s * s]]
        )
    return np.abs(np.linalg.eigvals(moments)).max()


@pytest.mark.parametrize("b", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_random_curvature_at_its_critical_variance(b, share):
    """C10: the second moments of heavy ball neither grow nor decay."""
    eta = 0.4
    h = share * 2 * (1 + b) / eta
    variance = critical_curvature_variance(eta, b, h)
    assert abs(moments_of_heavy_ball(eta, b, h, variance, 0.0) - 1) < 1e-9
    assert moments_of_heavy_ball(eta, b, h, 0.99 * variance, 0.0) < 1 - 1e-6
    assert moments_of_heavy_ball(eta, b, h, 1.01 * variance, 0.0) > 1 + 1e-6


@pytest.mark.parametrize("b", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("decay", [0.0, 0.2, 1.5])
def test_batch_sharpness_at_its_threshold(b, share, decay):
    eta = 0.4
    h = share * heavy_ball_threshold(eta, b, decay)
    level = float(batch_sharpness_threshold(eta, h, b, decay))
    variance = h * (level - h)  # E a^2 = h^2 + s^2
    assert abs(moments_of_heavy_ball(eta, b, h, variance, decay) - 1) < 1e-9
    assert moments_of_heavy_ball(eta, b, h, 0.99 * variance, decay) < 1 - 1e-6
    assert moments_of_heavy_ball(eta, b, h, 1.01 * variance, decay) > 1 + 1e-6


def test_batch_sharpness_without_momentum_is_two_over_the_learning_rate():
    eta = np.array([0.1, 0.5, 2.0])
    np.testing.assert_allclose(batch_sharpness_threshold(eta, 0.7 / eta), 2 / eta, rtol=1e-14)
    assert np.all(np.isnan(batch_sharpness_threshold(1.0, [0.0, -1.0, 2.1, np.nan])))


def test_plateaus_are_the_two_ends_of_that_line():
    eta, b = 0.2, 0.9
    small_batch, large_batch = momentum_plateaus(eta, b)
    edge = 2 * (1 + b) / eta
    levels = batch_sharpness_threshold(eta, [1e-9, edge / 2, edge * (1 - 1e-12)], b)
    middle = (small_batch + large_batch) / 2
    np.testing.assert_allclose(levels, [small_batch, middle, large_batch], rtol=1e-8)
    # C10 in its own words.
    h = 0.3 * edge
    level = h + critical_curvature_variance(eta, b, h) / h
    assert float(batch_sharpness_threshold(eta, h, b)) == pytest.approx(level, rel=1e-12)
    assert np.isnan(critical_curvature_variance(eta, b, 19.1))


@pytest.mark.parametrize(
    ("product", "ratio"), [(1.5, 4.0), (1.8, 10.0), (1.0, 2.0), (0.0, 1.0), (2.0, math.inf)]
)
def test_variance_ratio(product, ratio):
    """C3 and C4: 3.000 against 0.75 at eta = 1.5, 9.0 against 0.9 at 1.8; none from 2 on."""
    np.testing.assert_allclose(variance_ratio(product, 1.0), ratio, rtol=1e-12)
    np.testing.assert_allclose(variance_ratio(0.25, 4 * product), ratio, rtol=1e-12)


def test_variance_ratio_at_the_edge():
    assert math.isfinite(variance_ratio(1.0, math.nextafter(2.0, 0.0)))
    assert math.isinf(variance_ratio(1.0, 2.0))
    assert math.isinf(variance_ratio(1.0, 5.0))
