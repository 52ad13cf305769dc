"""Stationary variances (C3 to C5): SGD, heavy ball and the SDE of SGD, simulated."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from sgdsim.dynamics import (
    SDE,
    AbstractStepper,
    IsotropicNoise,
    Iterate,
    MinibatchGradient,
    gaussian_sgd,
    heavy_ball,
    minibatch_sgd,
)
from sgdsim.problems import Problem
from sgdsim.selftest._line import Line, close
from sgdsim.stability import heavy_ball_variance, stationary_variance

_TRAJECTORIES = 4096


def stationary_variances() -> list[Line]:
    """Variances with curvature one and noise of variance one, at large learning rates.

    The SDE knows no edge: at ``eta = 1.8`` its variance is a tenth of that of SGD.

    Notes
    -----
    Standard errors are about a quarter of the tolerance. What the solver adds to the variance
    of the SDE is of the second order in its step, a tenth of a percent.
    """
    noise = IsotropicNoise(1.0)
    sgd, sde = "Liu, Ziyin and Ueda 2021", "Ornstein-Uhlenbeck law"
    large = stationary_variance(1.8, 1.0, 1.0)
    cases = [
        ("SGD, eta = 1.5", minibatch_sgd(1.5, 1), stationary_variance(1.5, 1.0, 1.0), sgd),
        ("SGD, eta = 1.8", minibatch_sgd(1.8, 1), large, sgd),
        ("Gaussian SGD, eta = 1.8", gaussian_sgd(1.8, noise), large, sgd),
        (
            "its SDE, eta = 1.8",
            SDE(1.8, noise, 32, solver="heun"),
            stationary_variance(1.8, 1.0, 1.0, substeps=np.inf),
            sde,
        ),
        (
            "heavy ball, eta = 2, b = 0.9",
            heavy_ball(2.0, 0.9, MinibatchGradient(1)),
            heavy_ball_variance(2.0, 0.9, 1.0, 1.0),
            sgd,
        ),
    ]
    # The SDE forgets its start within a few steps, each of them many times as dear.
    steps = [(50, 400), (50, 400), (50, 400), (10, 100), (200, 1000)]
    return [
        close(f"stationary variance of {name}", source, expected, variance(stepper, *of)[0], 0.01)
        for (name, stepper, expected, source), of in zip(cases, steps, strict=True)
    ]


def variance(stepper: AbstractStepper, burn_in: int, steps: int) -> tuple[float, float]:
    """Stationary variance of a process of one parameter, and its standard error.

    Parameters
    ----------
    stepper
        The process; the curvature is one, and a batch of one row has noise of variance one.
    burn_in, steps
        Steps that are left out and steps that count.

    Examples
    --------
    >>> from sgdsim.dynamics import minibatch_sgd
    >>> from sgdsim.selftest import variance
    >>> found, error = variance(minibatch_sgd(1.5, 1), 20, 100)
    >>> abs(found - 3) < 4 * error < 0.1
    True
    """
    problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([1.0, -1.0]))
    start = stepper.start(problem, jnp.zeros(()))

    def mean_square(key: Key[Array, ""]) -> Array:
        def move(iterate: Iterate, step: Array) -> tuple[Iterate, Array]:
            randomness = stepper.draw(key, step, problem, iterate.theta)
            iterate, _ = stepper.step(problem, iterate, randomness)
            return iterate, jnp.square(iterate.theta)

        _, squares = jax.lax.scan(move, start, jnp.arange(burn_in + steps))
        return jnp.mean(squares[burn_in:])

    keys = jax.random.split(jax.random.key(0), _TRAJECTORIES)
    found = np.asarray(jax.jit(jax.vmap(mean_square))(keys))
    return float(found.mean()), float(found.std(ddof=1) / _TRAJECTORIES**0.5)
