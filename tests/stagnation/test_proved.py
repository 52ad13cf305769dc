"""Constants that claim to hold on the whole ball: dense checks at random and extreme points."""

import numpy as np
import pytest
from scipy import optimize, special

from sgdsim.stagnation import (
    Proved,
    StayStatement,
    clopper_pearson,
    linear_regression_constants,
    quadratic_constants,
    ridge_softmax_constants,
)


def values(constants):
    assert all(isinstance(constant, Proved) for constant in constants.values())
    return {name: float(constant.value) for name, constant in constants.items()}


def test_quadratic_constants_are_the_norms_of_dense_matrices():
    rng = np.random.default_rng(0)
    for eta in (0.1, 0.55):
        eigenvalues, variances = rng.uniform(0.2, 3, 5), rng.uniform(0, 1, 5)
        basis, axes = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
        hessian, covariance = basis * eigenvalues @ basis.T, axes * variances @ axes.T
        found = values(quadratic_constants(eigenvalues, eta, variances))
        assert found["contraction"] == pytest.approx(
            np.linalg.norm(np.eye(5) - eta * hessian, 2), rel=1e-12
        )
        assert found["noise_operator_norm"] == pytest.approx(np.linalg.norm(covariance, 2))
        assert found["noise_trace"] == pytest.approx(np.trace(covariance))


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(1)
    root = np.diag([1.0, 0.8, 0.7, 1.1, 1.0]) + 0.1 * rng.standard_normal((5, 5))
    inputs = rng.standard_normal((2000, 5)) @ root
    return inputs, 0.5 * rng.standard_normal(2000), root.T @ root


def test_linear_regression_contracts_at_every_point(regression):
    inputs, residuals, hessian = regression
    eta = 0.05
    found = values(linear_regression_constants(inputs, residuals, eta, 0.04, hessian=hessian))
    q, bias = found["contraction"], found["gradient_bias"]
    assert found["noise_trace"] == pytest.approx(5 * found["noise_operator_norm"])
    rng = np.random.default_rng(2)
    for size in (1e-3, 0.1, 1.0, 30.0):
        for u in size * rng.standard_normal((50, 5)):
            # Predictions minus targets at theta* + u, sample by sample.
            gradient = np.mean((inputs @ u - residuals)[:, None] * inputs, axis=0)
            reached = np.linalg.norm(u - eta * gradient)
            assert reached <= q * np.linalg.norm(u) + eta * bias
    at_minimum = np.mean(-residuals[:, None] * inputs, axis=0)
    assert bias == pytest.approx(np.linalg.norm(at_minimum), rel=1e-12)


def test_linear_regression_needs_the_deviation_of_the_data():
    # Few samples: the Hessian of the data is much flatter than the identity of the population.
    inputs, eta = np.random.default_rng(6).standard_normal((30, 5)), 0.05
    found = values(linear_regression_constants(inputs, np.zeros(30), eta, 0.04))
    flattest = np.linalg.eigh(inputs.T @ inputs)[1][:, 0]
    reached = np.linalg.norm(flattest - eta * inputs.T @ (inputs @ flattest) / 30)
    assert 1 - eta < reached <= found["contraction"]
    assert found["gradient_bias"] == 0.0


@pytest.mark.statistical
def test_linear_regression_certificate_holds_end_to_end():
    # Section 6.9 of the theory with a draw of its own: x ~ N(0, I), population Hessian I.
    rng = np.random.default_rng(3)
    inputs, residuals = rng.standard_normal((2000, 5)), 0.5 * rng.standard_normal(2000)
    eta, s, runs, steps, radius = 0.05, 0.04, 3000, 500, 0.18
    statement = StayStatement(
        linear_regression_constants(inputs, residuals, eta, s)
        | {"radius": Proved(radius, "chosen")}
    )
    assert statement.kind == "certificate"
    assert statement.violation is None
    assert statement.constants.gradient_bias == pytest.approx(0.0193, abs=0.015)
    gram, pull = inputs.T @ inputs / 2000, inputs.T @ residuals / 2000
    theta, inside = np.zeros((runs, 5)), np.ones(runs, bool)
    for _ in range(steps):
        noise = np.sqrt(s) * rng.standard_normal(theta.shape)
        theta = theta - eta * (theta @ gram - pull + noise)
        inside &= np.linalg.norm(theta, axis=1) <= radius
    low, high = clopper_pearson(int(runs - inside.sum()), runs, 0.999)
    bound = np.exp(statement.log_exit_bound(np.array([steps]))[0])
    assert low > 0
    assert high <= bound < 1


CLASSES, FEATURES, SAMPLES, RIDGE = 3, 4, 40, 0.2


class Softmax:
    """Ridge softmax regression, written out sample by sample."""

    def __init__(self):
        rng = np.random.default_rng(4)
        self.inputs = np.column_stack(
            [rng.standard_normal((SAMPLES, FEATURES - 1)) * [1.5, 1.0, 0.3], np.ones(SAMPLES)]
        )
        self.targets = np.eye(CLASSES)[rng.integers(0, CLASSES, SAMPLES)]
        found = optimize.minimize(
            self.risk, np.zeros(CLASSES * FEATURES), jac=self.gradient, options={"gtol": 1e-6}
        )
        self.centre = found.x

    def risk(self, theta):
        logits = self.inputs @ theta.reshape(CLASSES, FEATURES).T
        losses = special.logsumexp(logits, axis=1) - np.sum(self.targets * logits, axis=1)
        return losses.mean() + RIDGE / 2 * theta @ theta

    def gradients(self, theta):
        logits = self.inputs @ theta.reshape(CLASSES, FEATURES).T
        error = special.softmax(logits, axis=1) - self.targets
        outer = error[:, :, None] * self.inputs[:, None, :]
        return outer.reshape(SAMPLES, -1) + RIDGE * theta

    def gradient(self, theta):
        return self.gradients(theta).mean(axis=0)

    def noise(self, theta):
        covariance = np.cov(self.gradients(theta).T, bias=True)
        return float(np.linalg.norm(covariance, 2)), float(np.trace(covariance))

    def hessian(self, theta):
        logits = self.inputs @ theta.reshape(CLASSES, FEATURES).T
        p = special.softmax(logits, axis=1)
        total = RIDGE * np.eye(CLASSES * FEATURES)
        for row, x in zip(p, self.inputs, strict=True):
            total += np.kron(np.diag(row) - np.outer(row, row), np.outer(x, x)) / SAMPLES
        return total

    def points(self, radius):
        """Random points, along Hessian axes and along single samples, up to the sphere."""
        rng = np.random.default_rng(5)
        directions = [
            *rng.standard_normal((150, CLASSES * FEATURES)),
            *np.linalg.eigh(self.hessian(self.centre))[1].T,
            *self.gradients(self.centre),
            -self.centre,
        ]
        for direction in directions:
            for sign in (-1, 1):
                scale = sign * radius * rng.choice([0.3, 1.0])
                yield self.centre + scale * direction / np.linalg.norm(direction)


@pytest.fixture(scope="module")
def softmax():
    return Softmax()


def softmax_constants(softmax, radius, batch_size=8, learning_rate=0.3):
    return ridge_softmax_constants(
        softmax.inputs,
        softmax.noise(softmax.centre),
        ridge=RIDGE,
        learning_rate=learning_rate,
        batch_size=batch_size,
        radius=radius,
        centre_gradient_norm=float(np.linalg.norm(softmax.gradient(softmax.centre))),
    )


def test_softmax_oracle_is_consistent(softmax):
    theta = softmax.centre + 0.1
    assert optimize.check_grad(softmax.risk, softmax.gradient, theta) < 1e-5
    step = 1e-5 * np.eye(theta.size)
    difference = [softmax.gradient(theta + e) - softmax.gradient(theta - e) for e in step]
    np.testing.assert_allclose(np.array(difference) / 2e-5, softmax.hessian(theta), atol=1e-7)


@pytest.mark.parametrize("radius", [0.05, 0.5, 5.0])
def test_ridge_softmax_constants_hold_at_every_point(softmax, radius):
    found = values(softmax_constants(softmax, radius))
    eta, q, bias = 0.3, found["contraction"], found["gradient_bias"]
    assert q < 1
    assert found["radius"] == radius
    norms, traces = [], []
    for theta in softmax.points(radius):
        eigenvalues = np.linalg.eigvalsh(softmax.hessian(theta))
        assert np.max(np.abs(1 - eta * eigenvalues)) <= q + 1e-12
        u = theta - softmax.centre
        reached = np.linalg.norm(u - eta * softmax.gradient(theta))
        assert reached <= q * np.linalg.norm(u) + eta * bias + 1e-12
        norm, trace = softmax.noise(theta)
        norms.append(norm / 8)
        traces.append(trace / 8)
    assert max(norms) <= found["noise_operator_norm"]
    assert max(traces) <= found["noise_trace"]
    # The growth with the radius is needed: the noise at the centre is exceeded.
    norm, trace = softmax.noise(softmax.centre)
    assert max(norms) > norm / 8
    assert max(traces) > trace / 8


def test_the_growth_of_the_noise_is_sharp():
    # One sample x = 1 among 99 with x = 0, at level logits: the change of its gradient is
    # radius / 2, and nearly nothing of it is lost in the mean.
    inputs = np.zeros((100, 1))
    inputs[0] = 1.0

    def root_of_noise(theta):
        error = special.softmax(inputs @ theta[None], axis=1) - np.array([1.0, 0.0])
        return np.sqrt(np.var(error * inputs, axis=0).sum())

    radius, centre = 1e-3, root_of_noise(np.zeros(2))
    growth = root_of_noise(-radius / np.sqrt(2) * np.array([1.0, -1.0])) - centre
    found = values(
        ridge_softmax_constants(
            inputs,
            (centre**2, centre**2),
            ridge=0.1,
            learning_rate=0.1,
            batch_size=1,
            radius=radius,
        )
    )
    for name in ("noise_trace", "noise_operator_norm"):
        assert 0.99 < growth / (np.sqrt(found[name]) - centre) <= 1


def test_the_smoothness_is_reached_at_level_logits():
    inputs = np.random.default_rng(8).standard_normal((20, 3))
    logit_hessian = np.array([[0.25, -0.25], [-0.25, 0.25]])
    hessian = 0.1 * np.eye(6) + np.kron(logit_hessian, inputs.T @ inputs / 20)
    eta = 1.9 / np.linalg.norm(hessian, 2)
    constants = ridge_softmax_constants(
        inputs, (1.0, 1.0), ridge=0.1, learning_rate=float(eta), batch_size=1, radius=1.0
    )
    assert constants["contraction"].value == pytest.approx(
        np.linalg.norm(np.eye(6) - eta * hessian, 2), rel=1e-12
    )
    assert constants["contraction"].value == pytest.approx(0.9, rel=1e-12)


def test_ridge_softmax_certificate_says_something(softmax):
    statement = StayStatement(softmax_constants(softmax, 0.5, batch_size=30, learning_rate=0.05))
    assert statement.kind == "certificate"
    assert statement.violation is None
    assert statement.log_exit_bound(np.array([1000]))[0] < np.log(0.05)


def test_refusals():
    arguments = {"ridge": 0.1, "learning_rate": 0.1, "batch_size": 1, "radius": 1.0}
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        ridge_softmax_constants(np.ones((2, 1)), (1.0, 1.0), **(arguments | {"batch_size": 0}))
    with pytest.raises(ValueError, match="noise at the centre must not be negative"):
        ridge_softmax_constants(np.ones((2, 1)), (-1.0, 1.0), **arguments)
