"""Central flow (C16): it stays at the edge and predicts the averages of gradient descent."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.dynamics import (
    CentralFlow,
    Iterate,
    gradient_descent,
    predicted_loss,
    predicted_squared_gradient,
)
from sgdsim.problems import Problem, squared_norm
from sgdsim.selftest._line import Line, close

_ETA, _STEPS = 0.1, 1000


def central_flow() -> list[Line]:
    r"""Two directions that gradient flow would sharpen beyond the edge.

    .. math:: L(x, y) = \sum_i y_ix_i^2 + \tfrac{k}{2}(y_i-Y_i)^2

    Its curvatures ``2 y`` are driven towards ``2 Y``, above :math:`2/\eta`. Averages are taken
    over the second half of the run.
    """
    source = "Cohen et al. 2025"
    curvatures, loss, squared = _flow()
    edge = 2 / _ETA
    mean_loss, mean_squared = _averages()
    return [
        close("central flow, largest eigenvalue", source, edge, curvatures[0], 0.01),
        close("central flow, second eigenvalue", source, edge, curvatures[1], 0.01),
        close("mean loss of GD, as the flow predicts", source, loss, mean_loss, 0.01),
        close("mean squared gradient, as the flow predicts", source, squared, mean_squared, 0.02),
    ]


def _losses(theta: Float[Array, "2 2"], rows: Float[Array, " n"]) -> Float[Array, " n"]:
    x, y = theta
    return jnp.sum(y * x**2 + 0.05 * (y - jnp.array([10.5, 11.0])) ** 2) + 0 * rows


def _start() -> tuple[Problem, Float[Array, "2 2"]]:
    return Problem(_losses, jnp.zeros(1)), jnp.array([[0.01, 0.01], [9.5, 9.7]])


def _flow() -> tuple[np.ndarray, float, float]:
    """Last eigenvalues, and the mean of what is predicted."""
    problem, theta = _start()
    flow = CentralFlow(_ETA, max_critical=2)

    def move(iterate: Iterate, _: None) -> tuple[Iterate, tuple[Array, Array]]:
        iterate, _ = flow.step(problem, iterate, ())
        both = predicted_loss(problem, iterate), predicted_squared_gradient(problem, iterate)
        return iterate, both

    end, (loss, squared) = jax.jit(
        lambda: jax.lax.scan(move, flow.start(problem, theta), None, length=_STEPS)
    )()
    late = slice(_STEPS // 2, None)
    return np.asarray(end.memory.values), float(loss[late].mean()), float(squared[late].mean())


def _averages() -> tuple[float, float]:
    """Mean loss and squared gradient of gradient descent."""
    problem, theta = _start()
    stepper = gradient_descent(_ETA)

    def move(theta: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        loss, gradient = jax.value_and_grad(problem.empirical_risk)(theta)
        theta = stepper.step(problem, Iterate(theta), ())[0].theta
        return theta, (loss, squared_norm(gradient))

    _, (loss, squared) = jax.jit(lambda: jax.lax.scan(move, theta, None, length=_STEPS))()
    late = slice(_STEPS // 2, None)
    return float(loss[late].mean()), float(squared[late].mean())
