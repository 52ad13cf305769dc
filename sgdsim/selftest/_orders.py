"""Orders in the learning rate (C7): gradient descent against its gradient flows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.dynamics import AbstractStepper, GradientFlow, gradient_descent
from sgdsim.problems import Problem
from sgdsim.selftest._line import Line, near
from sgdsim.selftest._steps import after

_STEPS = np.array([16, 32, 64, 128])
_ETAS = 1.0 / _STEPS


def flow_orders() -> list[Line]:
    """Slopes of the distance at time one, over the learning rate, on logarithmic axes."""
    discrete = _ends(gradient_descent)
    slopes = []
    for order in (1, 2):
        flow = _ends(lambda eta, order=order: GradientFlow(eta, order, rtol=1e-10, atol=1e-12))
        errors = np.linalg.norm(discrete - flow, axis=1)
        slopes.append(np.polyfit(np.log(_ETAS), np.log(errors), 1)[0])
    source = "Barrett and Dherin 2021"
    return [
        near("order in eta of GD against gradient flow", source, 1, slopes[0], 0.05),
        near("order of GD against the flow of L + eta/4 |grad L|^2", source, 2, slopes[1], 0.05),
    ]


def _ends(make: Callable[[Array], AbstractStepper]) -> Float[np.ndarray, "eta 2"]:
    """Parameters at time one, for every learning rate."""
    problem = Problem(
        lambda theta, z: (
            jnp.log(jnp.cosh(theta[0] + 2 * theta[1] - z))
            + 0.5 * theta[0] ** 2
            + 0.25 * (theta[1] - 1.0) ** 4
        ),
        jnp.zeros(1),
    )

    start = jnp.array([1.0, -0.5])
    compiled = jax.jit(lambda eta, steps: after(make(eta), problem, start, steps))
    return np.stack([np.asarray(compiled(eta, n)) for eta, n in zip(_ETAS, _STEPS, strict=True)])
