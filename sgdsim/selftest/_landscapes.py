"""Landscapes on which gradient descent meets the edge (C11, C12): catapult, product of four."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sgdsim.dynamics import Iterate, gradient_descent
from sgdsim.problems import ScalarDeepLinear
from sgdsim.selftest._line import Line, between, near

_SEEDS, _STEPS, _WIDTH = 20, 300, 1024
_RATIOS = np.round(np.arange(1.5, 4.55, 0.1), 1)


def catapult() -> list[Line]:
    """Two linear layers, one row: settles up to ``eta lambda_0 = 4``, from 2 on after a peak.

    A run has settled when its loss is finite and ``eta lambda`` below 2, from where it falls. A
    catapult may have left so little curvature that this takes thousands of steps.
    """
    source = "Lewkowycz et al. 2020"
    peaks, ends, curvatures = _catapults()
    settled = np.isfinite(ends) & (curvatures < 2)
    below, above = _RATIOS < 3.85, _RATIOS > 4.15
    rises = np.mean(peaks > 1.01, axis=1) >= 0.5
    survives = np.mean(settled, axis=1) >= 0.5
    # An edge lies half way between the two ratios beside it.
    lazy, catapulted = _RATIOS[rises].min() - 0.05, _RATIOS[survives].max() + 0.05
    return [
        near(f"catapult, {name}: runs that settle", source, expected, int(settled[rows].sum()), 0)
        for name, rows, expected in (
            ("eta lambda_0 from 1.5 to 3.8", below, settled[below].size),
            ("eta lambda_0 from 4.2 to 4.5", above, 0),
        )
    ] + [
        near("catapult, eta lambda_0 from which the loss rises", source, 2, lazy, 0.1),
        near("catapult, eta lambda_0 from which it diverges", source, 4, catapulted, 0.1),
    ]


def product_of_four() -> list[Line]:
    """Gradient descent on ``(1 - xyzw)^2 / 2`` from 1.15 times the edge ends just below it."""
    return [
        between(
            f"(1 - xyzw)^2/2, eta = {eta:g}: sharpness at the end over 2/eta",
            "Zhu et al. 2023",
            0.999,
            1.0,
            _end_of_product(eta),
        )
        for eta in (0.01, 0.02, 0.05)
    ]


def _catapults() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Highest and last loss over the first one, last ``eta lambda``; shape (ratio, seed)."""
    landscape = ScalarDeepLinear(0.0, hidden=(_WIDTH,))
    problem = landscape.problem()

    def one(ratio: Array, theta: Array) -> tuple[Array, Array, Array]:
        first, eta = landscape.risk(theta), ratio / landscape.sharpness(theta)
        stepper = gradient_descent(eta)

        def move(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            theta, highest = carry
            theta = stepper.step(problem, Iterate(theta), ())[0].theta
            return theta, jnp.fmax(highest, landscape.risk(theta))

        theta, highest = jax.lax.fori_loop(0, _STEPS, move, (theta, first))
        return highest / first, landscape.risk(theta) / first, eta * landscape.sharpness(theta)

    starts = jax.vmap(landscape.random_point)(jax.random.split(jax.random.key(0), _SEEDS))
    of_seeds = jax.vmap(one, in_axes=(None, 0))
    found = jax.jit(jax.vmap(of_seeds, in_axes=(0, None)))(jnp.asarray(_RATIOS), starts)
    highest, last, curvature = (np.asarray(part) for part in found)
    return highest, last, curvature


def _end_of_product(learning_rate: float) -> float:
    landscape, stepper = ScalarDeepLinear(1.0, hidden=(1, 1, 1)), gradient_descent(learning_rate)
    problem = landscape.problem()
    # The minimum (c, c, 1/c, 1/c) has the sharpness 2 c^2 + 2/c^2.
    start = 1.15 * 2 / learning_rate
    c = (start / 4 + (start**2 / 16 - 1) ** 0.5) ** 0.5

    def unfinished(carry: tuple[Array, Array]) -> Array:
        theta, steps = carry
        return (landscape.risk(theta) > 1e-20) & (steps < 10_000_000)

    def move(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        theta, steps = carry
        return stepper.step(problem, Iterate(theta), ())[0].theta, steps + 1

    begin = jnp.array([1.001 * c, c, 1 / c, 1 / c]), jnp.zeros((), jnp.int32)
    theta, _ = jax.jit(lambda: jax.lax.while_loop(unfinished, move, begin))()
    return float(landscape.sharpness(theta)) * learning_rate / 2
