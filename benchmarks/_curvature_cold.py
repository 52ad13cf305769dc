"""Gradient descent at the edge of stability, watched, in a new process: chebyshev-5-20.

Prints the CPU seconds after every stage, then the mean sharpness of the last quarter in units of
two over the learning rate, then the products per probe.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sgdsim.curvature import flat_product, follow, hessian_product
from sgdsim.problems import Network, Problem, Rows

STEPS, PROBES, ETA = 20_000, 400, 0.1


def half_squares(theta, rows):
    """Half the squared error of a 1-100-1 network, whose last hidden unit is the constant one."""
    network, bias = theta
    return 0.5 * jnp.square(network(rows.inputs)[:, 0] + bias - rows.targets)


def start() -> tuple[Problem, tuple]:
    """The task and the usual uniform initialisation of a 1-100-1 network with biases."""
    inputs = np.linspace(-1, 1, 20)
    rows = Rows(
        jnp.asarray(np.stack([inputs, np.ones(20)], axis=1), jnp.float32),
        jnp.asarray(np.polynomial.chebyshev.Chebyshev.basis(5)(inputs), jnp.float32),
    )
    random = np.random.default_rng(0)
    weights = random.uniform(-1, 1, (100, 2)), random.uniform(-0.1, 0.1, (1, 100))
    network = Network(tuple(jnp.asarray(weight, jnp.float32) for weight in weights))
    return Problem(half_squares, rows), (network, jnp.zeros(()))


@jax.jit
def run(problem, theta, key):
    """All steps, with a probe at the start of every block of them."""
    flat, unravel = ravel_pytree(theta)

    def block(state, number):
        point, vectors = state
        product = hessian_product(problem.empirical_risk, unravel(point))
        found = follow(
            flat_product(product, theta),
            vectors,
            jax.random.fold_in(key, number),
            most_products=8,
        )

        def step(_, point):
            gradient = jax.grad(problem.empirical_risk)(unravel(point))
            return point - ETA * ravel_pytree(gradient)[0]

        point = jax.lax.fori_loop(0, STEPS // PROBES, step, point)
        return (point, found.vectors), (found.values[0], found.products)

    begin = (flat, jnp.zeros((1, flat.size)))
    return jax.lax.scan(block, begin, jnp.arange(PROBES))[1]


def main() -> None:
    """Run it once."""
    imported = time.process_time()
    compiled = run.lower(*start(), jax.random.key(0)).compile()
    ready = time.process_time()
    sharpness, products = jax.block_until_ready(compiled(*start(), jax.random.key(0)))
    done = time.process_time()
    at_the_edge = float(jnp.mean(sharpness[-PROBES // 4 :])) * ETA / 2
    print(imported, ready, done, at_the_edge, float(jnp.mean(products)))


if __name__ == "__main__":
    main()
