"""Local refinement of an almost stationary point: Levenberg-Marquardt, Newton with CG."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, PyTree

from sgdsim._typing import Number
from sgdsim.problems import OutputLoss, Problem

Objective = Problem | Callable[[PyTree], Array]


def risk_function(objective: Objective, unravel: Callable) -> Callable[[Array], Array]:
    """Risk as a function of the flat parameters."""
    of_theta = objective.empirical_risk if isinstance(objective, Problem) else objective
    return lambda flat: of_theta(unravel(flat))


def half_square_curvature(objective: Objective, theta: PyTree) -> float | None:
    r"""Give c where the loss is :math:`\frac c2\|f - m\|^2` of the outputs f, else ``None``.

    The outputs' gradient of such a loss grows by c times the displacement, in every row and
    direction; this is tried with two displacements.
    """
    if not isinstance(objective, Problem) or not isinstance(objective.losses, OutputLoss):
        return None
    data, loss = objective.data, objective.losses.loss
    outputs = objective.losses.outputs(theta, data)
    gradient = jax.grad(lambda f: jnp.sum(loss(f, data)))
    base, curvature = np.asarray(gradient(outputs)), None
    for seed, scale in ((0, 1.0), (1, 10.0)):
        shift = scale * np.random.default_rng(seed).normal(size=outputs.shape)
        change = np.asarray(gradient(outputs + shift)) - base
        curvature = float(np.mean(change / shift)) if curvature is None else curvature
        sizes = np.abs(base) + np.abs(curvature * shift) + np.abs(np.asarray(outputs))
        if not (curvature > 0 and np.all(np.abs(change - curvature * shift) <= 1e-9 * sizes)):
            return None
    return curvature


def refine(
    objective: Objective,
    unravel: Callable,
    start: Float[Array, " p"],
    tolerance: Number,
    curvature: Number | None,
) -> Float[Array, " p"]:
    """Go to a nearby stationary point, or stay if the gradient norm would not fall.

    Matrix-free: conjugate gradients solve the normal equations of Levenberg-Marquardt and the
    Newton steps, with the shortest solution where the Hessian is singular. Newton comes last also
    after Levenberg-Marquardt, which converges slowly where the residuals do not vanish.
    """
    risk = risk_function(objective, unravel)
    gradient = jax.grad(risk)
    point = start
    if curvature is not None:
        assert isinstance(objective, Problem)
        normal_equations = lx.Normal(lx.CG(rtol=1e-10, atol=1e-14, max_steps=500))
        solver = optx.LevenbergMarquardt(rtol=1e-10, atol=1e-12, linear_solver=normal_equations)
        found = optx.least_squares(
            lambda flat, args: _residuals(objective, unravel(flat), args),
            solver,
            point,
            args=curvature,
            max_steps=50,
            throw=False,
        ).value
        point = _better(gradient, point, found)
    newton = optx.Newton(
        rtol=1e-13,
        atol=1e-3 * tolerance,  # pyright: ignore[reportArgumentType]
        norm=optx.two_norm,
        linear_solver=lx.CG(rtol=1e-8, atol=1e-15, max_steps=1000),
    )
    found = optx.root_find(
        lambda flat, args: gradient(flat),
        newton,
        point,
        max_steps=50,
        throw=False,
        tags=frozenset({lx.positive_semidefinite_tag}),
    ).value
    return _better(gradient, point, found)


def _better(gradient: Callable, old: Array, new: Array) -> Array:
    # Written so that a NaN keeps the old point.
    falls = jnp.linalg.norm(gradient(new)) < jnp.linalg.norm(gradient(old))
    return jnp.where(falls, new, old)


def _residuals(problem: Problem, theta: PyTree, curvature: Number) -> tuple[Array, Array]:
    r"""Residuals whose half squared norm is the penalised risk minus a constant."""
    losses, data = problem.losses, problem.data
    assert isinstance(losses, OutputLoss)
    outputs = losses.outputs(theta, data)
    slopes = jax.grad(lambda f: jnp.sum(losses.loss(f, data)))(outputs)
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(theta)]
    penalty = jnp.sqrt(jnp.asarray(problem.ridge, slopes.dtype)) * jnp.concatenate(leaves)
    return slopes / jnp.sqrt(curvature * problem.n), penalty
