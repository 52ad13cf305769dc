"""Edges of stability (C1, C2, C14, C15): the library's own steps on quadratics against formulas."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim.dynamics import (
    AbstractStepper,
    Iterate,
    adam,
    gradient_descent,
    heavy_ball,
    nesterov,
    preconditioner,
    rmsprop,
    sam,
)
from sgdsim.problems import Problem, Quadratic
from sgdsim.selftest._line import Line, close
from sgdsim.selftest._steps import after, crossing, derivative
from sgdsim.stability import (
    adam_threshold,
    gradient_descent_threshold,
    heavy_ball_threshold,
    nesterov_threshold,
    rmsprop_threshold,
    sam_threshold,
    unnormalised_sam_threshold,
)

_COHEN = "Cohen et al. 2021"
_ADAPTIVE = "Cohen et al. 2022"
_SAM = "Long and Bartlett 2024"
# A share of the edge, and steps enough to see growth or decay at that share away from it.
_CLOSE, _MANY = 1e-6, 100_000


def linear_edges() -> list[Line]:
    """Edges of methods with a linear step on a quadratic: where its spectral radius is one."""
    methods = [
        ("gradient descent", gradient_descent(0.3), gradient_descent_threshold(0.3), _COHEN),
        ("heavy ball, b = 0.9", heavy_ball(0.05, 0.9), heavy_ball_threshold(0.05, 0.9), _COHEN),
        ("Nesterov, b = 0.9", nesterov(0.05, 0.9), nesterov_threshold(0.05, 0.9), _COHEN),
        (
            "SAM, not normalised, rho = 0.1",
            sam(0.2, 0.1, normalised=False),
            unnormalised_sam_threshold(0.2, 0.1),
            _SAM,
        ),
    ]
    lines = [
        close(f"edge of {name}", source, float(expected), _edge(stepper), 1e-9)
        for name, stepper, expected, source in methods
    ]
    for side, sign in ((-1, "-"), (1, "+")):
        # Each step multiplies by -(1 +- 2e-6).
        lines.append(
            close(
                f"gradient descent, {_MANY:,} steps, edge times 1 {sign} 1e-6: growth",
                _COHEN,
                math.exp(side * 2 * _CLOSE * _MANY),
                _growth(gradient_descent_threshold(0.3) * (1 + side * _CLOSE)),
                1e-5,
            )
        )
    return lines


def adaptive_edges() -> list[Line]:
    """Edges of Adam and RMSProp, with the preconditioner held and running freely; of SAM."""
    eta = 1e-3
    methods = [
        ("Adam, b1 = 0.9", adam(eta, 0.9, 0.99), adam_threshold(eta, 0.9)),
        ("RMSProp", rmsprop(eta, 0.99), rmsprop_threshold(eta)),
    ]
    held = [
        close(f"preconditioned edge of {name}", _ADAPTIVE, expected, _held_edge(stepper), 1e-9)
        for name, stepper, expected in methods
    ]
    free = [
        close(
            f"{name} on a quadratic, preconditioned sharpness, late mean",
            _ADAPTIVE,
            expected,
            _free_curvature(stepper),
            0.1,
        )
        for name, stepper, expected in methods
    ]
    return [*held, *free, _normalised_sam()]


def _edge(stepper: AbstractStepper) -> float:
    """Curvature of a one-dimensional quadratic at which a step stops to contract."""
    iterate = stepper.start(_bowl(jnp.asarray(1.0)), jnp.zeros(1))
    matrix = jax.jit(lambda curvature: derivative(stepper, _bowl(curvature), iterate))
    eta = float(stepper.learning_rate)
    return crossing(matrix, 0.1 / eta, 100 / eta)


def _growth(curvature: float) -> float:
    stepper = gradient_descent(0.3)
    end = jax.jit(lambda a: after(stepper, _bowl(a), jnp.ones(1), _MANY))(jnp.asarray(curvature))
    return abs(float(end[0]))


def _held_edge(stepper: AbstractStepper) -> float:
    """Curvature over preconditioner at the edge, linearised where the gradient is zero.

    The averaged square there only decays. It starts so that a step takes it to the wanted value.
    """
    problem, eta = _bowl(jnp.asarray(1.0)), float(stepper.learning_rate)
    iterate = stepper.start(problem, jnp.zeros(1))
    memory = iterate.memory._replace(nu=jnp.full(1, 0.25 / 0.99))
    if "count" in memory._fields:  # so late that no bias is left to be corrected
        memory = memory._replace(count=jnp.asarray(10**6, jnp.int32))
    iterate = Iterate(iterate.theta, memory)
    scale = preconditioner(stepper, stepper.step(problem, iterate, ())[0])
    matrix = jax.jit(lambda curvature: derivative(stepper, _bowl(curvature), iterate))
    return crossing(matrix, 0.1 / eta, 100 / eta) / float(scale[0])  # type: ignore[index]


def _free_curvature(stepper: AbstractStepper) -> float:
    """Mean of curvature over preconditioner when the gradients themselves set the latter."""
    problem = _bowl(jnp.asarray(1.0))

    def move(iterate: Iterate, _: None) -> tuple[Iterate, jax.Array]:
        moved = stepper.step(problem, iterate, ())[0]
        return moved, 1 / preconditioner(stepper, moved)[0]  # type: ignore[index]

    start = stepper.start(problem, jnp.ones(1))
    curvatures = jax.jit(lambda: jax.lax.scan(move, start, None, length=40_000)[1])()
    return float(np.mean(curvatures[20_000:]))


def _normalised_sam() -> Line:
    """SAM settles on an oscillation whose gradient norm puts the edge at the curvature."""
    eta, radius, curvature = 0.2, 0.1, 3.0
    problem = _bowl(jnp.asarray(curvature))
    end = jax.jit(lambda: after(sam(eta, radius), problem, jnp.ones(1), 2000))()
    norm = curvature * abs(float(end[0]))
    return close(
        "SAM, normalised, rho = 0.1: curvature on which it oscillates",
        _SAM,
        float(sam_threshold(eta, radius, norm)),
        curvature,
        1e-9,
    )


def _bowl(curvature: jax.Array) -> Problem:
    return Quadratic(jnp.reshape(curvature, (1,))).problem()
