"""What may be recorded beside the sharpness: other operators, third derivatives, alignments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from sgdsim.curvature import (
    alignment,
    critical_sharpness,
    eigenpairs,
    gauss_newton_product,
    hessian_product,
    noise_covariance_product,
    random_direction,
    self_stabilisation,
)
from sgdsim.problems import Problem


class Look(NamedTuple):
    """One iterate, and what is known of it.

    Attributes
    ----------
    problem, theta
        Where.
    gradient
        Of the empirical risk.
    vectors
        Top eigenvectors of the Hessian, flat rows.
    learning_rate
        Of the process.
    key
        Random key.
    tolerance, most_products
        As for the sharpness.
    """

    problem: Problem
    theta: PyTree
    gradient: PyTree
    vectors: Float[Array, "k p"]
    learning_rate: Any
    key: Key[Array, ""]
    tolerance: Any
    most_products: int


def _smallest(look: Look) -> dict[str, Array]:
    product = hessian_product(look.problem.empirical_risk, look.theta)
    found = eigenpairs(
        product,
        random_direction(look.key, look.theta),
        tolerance=look.tolerance,
        most_products=look.most_products,
        end="smallest",
    )
    return {"smallest_eigenvalue": found.values[0], "smallest_residual": found.residuals[0]}


def _gauss_newton(look: Look) -> dict[str, Array]:
    found = eigenpairs(
        gauss_newton_product(look.problem, look.theta),
        random_direction(look.key, look.theta),
        tolerance=look.tolerance,
        most_products=look.most_products,
    )
    return {"gauss_newton_sharpness": found.values[0]}


def _critical(look: Look) -> dict[str, Array]:
    risk = look.problem.empirical_risk
    found = critical_sharpness(risk, look.theta, look.gradient, look.learning_rate)
    return {
        "critical_sharpness": found.value,
        "critical_sharpness_low": found.low,
        "critical_sharpness_high": found.high,
    }


def _self_stabilisation(look: Look) -> dict[str, Array]:
    direction = ravel_pytree(look.theta)[1](look.vectors[0])
    found = self_stabilisation(look.problem.empirical_risk, look.theta, direction)
    return {"sharpening": found.alpha, "sharpening_slope": found.beta}


def _alignment(look: Look) -> dict[str, Array]:
    found = alignment(
        hessian_product(look.problem.empirical_risk, look.theta),
        noise_covariance_product(look.problem, look.theta),
        look.gradient,
        look.vectors,
        look.key,
    )
    return {
        "gradient_alignment": jnp.sum(found.gradient),
        "noise_alignment": jnp.sum(found.noise.value),
        "noise_cosine": found.cosine.value,
        "noise_cosine_stderr": found.cosine.stderr,
    }


#: What a name in ``curvature.also`` of a scenario adds to the records.
FURTHER: dict[str, Callable[[Look], dict[str, Array]]] = {
    "smallest": _smallest,
    "gauss_newton": _gauss_newton,
    "critical": _critical,
    "self_stabilisation": _self_stabilisation,
    "alignment": _alignment,
}
