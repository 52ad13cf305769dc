"""What may be recorded beside the sharpness: other operators, densities, third derivatives."""

import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim.curvature import (
    Eigenpairs,
    MatVec,
    alignment,
    block_product,
    critical_sharpness,
    eigenpairs,
    fisher_product,
    gauss_newton_product,
    gaussian_fisher,
    hessian_product,
    noise_covariance_product,
    random_direction,
    self_stabilisation,
    softmax_fisher,
    spectral_density,
)
from sgdsim.dynamics import MinibatchNoise
from sgdsim.problems import OutputLoss, Problem, cross_entropies, squared_errors

#: Information of a label given the outputs, by the loss that is its negative log-likelihood.
_INFORMATION: dict[Any, Callable[[Array, Array], Array]] = {
    cross_entropies: softmax_fisher,
    squared_errors: gaussian_fisher,
}


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
    density_probes, density_depth
        Start vectors of the density, and products of each.
    """

    problem: Problem
    theta: PyTree
    gradient: PyTree
    vectors: Float[Array, "k p"]
    learning_rate: Any
    key: Key[Array, ""]
    tolerance: Any
    most_products: int
    density_probes: int
    density_depth: int


class Seen(NamedTuple):
    """What was measured.

    Attributes
    ----------
    values
        By the name of the variable.
    products
        Matrix-vector products that it took.
    """

    values: dict[str, Array]
    products: Int[Array, ""] | int = 0


def sum_of_products(seen: Iterable[Seen]) -> Int[Array, ""]:
    """Products of several measurements together."""
    return sum((jnp.asarray(one.products, jnp.int32) for one in seen), jnp.zeros((), jnp.int32))


def _largest(look: Look, product: MatVec, start: PyTree) -> Eigenpairs:
    return eigenpairs(product, start, tolerance=look.tolerance, most_products=look.most_products)


def _smallest(look: Look) -> Seen:
    found = eigenpairs(
        hessian_product(look.problem.empirical_risk, look.theta),
        random_direction(look.key, look.theta),
        tolerance=look.tolerance,
        most_products=look.most_products,
        end="smallest",
    )
    values = {"smallest_eigenvalue": found.values[0], "smallest_residual": found.residuals[0]}
    return Seen(values, found.products)


def _gauss_newton(look: Look) -> Seen:
    product = gauss_newton_product(look.problem, look.theta)
    found = _largest(look, product, random_direction(look.key, look.theta))
    values = {
        "gauss_newton_sharpness": found.values[0],
        "gauss_newton_residual": found.residuals[0],
    }
    return Seen(values, found.products)


def _fisher(look: Look) -> Seen:
    losses = look.problem.losses
    information = _INFORMATION.get(losses) if isinstance(losses, OutputLoss) else None
    if information is None:
        raise ValueError(
            "The Fisher matrix is known for the losses cross_entropies and squared_errors of "
            f"sgdsim.problems, got {losses!r}: leave 'fisher' out of also, or use "
            "sgdsim.curvature.fisher_product."
        )
    product = fisher_product(look.problem, look.theta, information)
    found = _largest(look, product, random_direction(_own_key(look, "fisher"), look.theta))
    values = {"fisher_sharpness": found.values[0], "fisher_residual": found.residuals[0]}
    return Seen(values, found.products)


def _noise(look: Look) -> Seen:
    product = noise_covariance_product(look.problem, look.theta)
    found = _largest(look, product, random_direction(_own_key(look, "noise"), look.theta))
    # Batches of one row, drawn with replacement, have the covariance of the rows.
    trace = MinibatchNoise(1).trace(look.problem, look.theta)
    trace = jnp.where(jnp.isfinite(trace), trace, jnp.nan)
    values = {
        "noise_eigenvalue": found.values[0],
        "noise_residual": found.residuals[0],
        "noise_trace": trace,
    }
    return Seen(values, found.products)


def _blocks(look: Look) -> Seen:
    product = hessian_product(look.problem.empirical_risk, look.theta)
    leaves, structure = jax.tree.flatten(look.theta)
    start = random_direction(_own_key(look, "blocks"), look.theta)

    # One program for all blocks, not one search each: those would have to be compiled one by one.
    def of_block(number: Int[Array, ""]) -> tuple[Array, Array, Array]:
        select = jax.tree.unflatten(structure, [number == i for i in range(len(leaves))])
        # Outside of the block the operator is zero, which would count as an eigenvalue.
        inside = jax.tree.map(lambda chosen, a: jnp.where(chosen, a, 0), select, start)
        found = _largest(look, block_product(product, look.theta, select), inside)
        return found.values[0], found.residuals[0], found.products

    values, residuals, products = jax.lax.map(of_block, jnp.arange(len(leaves)))
    return Seen({"block_sharpness": values, "block_residual": residuals}, jnp.sum(products))


def _density(look: Look) -> Seen:
    found = spectral_density(
        hessian_product(look.problem.empirical_risk, look.theta),
        look.theta,
        _own_key(look, "density"),
        probes=look.density_probes,
        depth=look.density_depth,
    )
    probes, depth = found.nodes.shape
    # Without a product that is finite there is no node either.
    nodes = jnp.where(jnp.isfinite(found.weights), found.nodes, jnp.nan)
    missing = ((0, 0), (0, look.density_depth - depth))
    values = {
        "density_node": jnp.pad(nodes, missing, constant_values=jnp.nan),
        "density_weight": jnp.pad(found.weights, missing),
    }
    return Seen(values, probes * depth)


def _critical(look: Look) -> Seen:
    risk = look.problem.empirical_risk
    found = critical_sharpness(risk, look.theta, look.gradient, look.learning_rate)
    return Seen(
        {
            "critical_sharpness": found.value,
            "critical_sharpness_low": found.low,
            "critical_sharpness_high": found.high,
        }
    )


def _self_stabilisation(look: Look) -> Seen:
    direction = ravel_pytree(look.theta)[1](look.vectors[0])
    found = self_stabilisation(look.problem.empirical_risk, look.theta, direction)
    return Seen({"sharpening": found.alpha, "sharpening_slope": found.beta})


def _alignment(look: Look) -> Seen:
    found = alignment(
        hessian_product(look.problem.empirical_risk, look.theta),
        noise_covariance_product(look.problem, look.theta),
        look.gradient,
        look.vectors,
        look.key,
    )
    values = {
        "gradient_alignment": jnp.sum(found.gradient),
        "noise_alignment": jnp.sum(found.noise.value),
        "noise_cosine": found.cosine.value,
        "noise_cosine_stderr": found.cosine.stderr,
    }
    return Seen(values, 2 * found.products)  # of two matrices each


#: What a name in ``curvature.also`` of a scenario adds to the records.
FURTHER: dict[str, Callable[[Look], Seen]] = {
    "smallest": _smallest,
    "gauss_newton": _gauss_newton,
    "fisher": _fisher,
    "noise": _noise,
    "blocks": _blocks,
    "density": _density,
    "critical": _critical,
    "self_stabilisation": _self_stabilisation,
    "alignment": _alignment,
}


def _own_key(look: Look, name: str) -> Key[Array, ""]:
    """Key of one measurement, the same whatever else is measured."""
    return jax.random.fold_in(look.key, zlib.crc32(name.encode()))
