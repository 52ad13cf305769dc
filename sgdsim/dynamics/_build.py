"""From the dynamics table of a scenario to a stepper."""

import jax.numpy as jnp

from sgdsim.dynamics._noise import AbstractGradientNoise, IsotropicNoise, MinibatchNoise
from sgdsim.dynamics._sde import SDE
from sgdsim.dynamics._steppers import AbstractStepper, gradient_descent, minibatch_sgd
from sgdsim.scenario import Scenario


def build_noise(scenario: Scenario) -> AbstractGradientNoise | None:
    """Gradient noise of one step, as a covariance; ``None`` for plain gradient descent.

    For minibatch SGD it is the Gaussian noise with the same covariance (for batches without
    replacement up to the factor ``(n-B)/(n-1)``, which is put into the batch size).
    """
    dynamics = scenario.dynamics
    if dynamics.kind == "gd":
        return None
    if dynamics.kind == "sgd":
        n, batch = scenario.problem.data.training, dynamics.batch_size
        factor = 1.0 if dynamics.replacement else (n - batch) / (n - 1)
        return MinibatchNoise(_number(batch / factor)) if factor > 0 else None
    if dynamics.noise.kind == "isotropic":
        return IsotropicNoise(_number(dynamics.noise.variance))
    assert dynamics.batch_size is not None  # the scenario demands it for minibatch noise
    return MinibatchNoise(_number(dynamics.batch_size))


def build_stepper(scenario: Scenario) -> AbstractStepper:
    """Make the stepper that a scenario names; its numbers are arrays, hence traced."""
    dynamics = scenario.dynamics
    eta = _number(dynamics.learning_rate)
    if dynamics.kind == "gd":
        return gradient_descent(eta)
    if dynamics.kind == "sgd":
        return minibatch_sgd(eta, dynamics.batch_size, dynamics.replacement)
    noise = build_noise(scenario)
    assert noise is not None  # gaussian_sgd and sde always have a noise
    return SDE(eta, noise, dynamics.substeps if dynamics.kind == "sde" else 1)


def _number(value: float | int):
    return jnp.asarray(float(value))  # an array is traced; a Python number would be a constant
