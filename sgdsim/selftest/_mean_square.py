"""Mean-square stability (C8 to C10): formulas against the second-moment maps of the processes."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import root_scalar

from sgdsim.dynamics import (
    HessianAlignedNoise,
    Iterate,
    MinibatchGradient,
    heavy_ball,
    minibatch_sgd,
)
from sgdsim.problems import LeastSquares, Problem
from sgdsim.selftest._line import Line, close
from sgdsim.selftest._steps import crossing, derivative, spectral_radius
from sgdsim.stability import (
    critical_curvature_variance,
    homogenised_threshold,
    mean_square_threshold,
    momentum_plateaus,
)

#: Eigenvalues 1/i of the covariance of 64 features.
_SPECTRUM = 1.0 / np.arange(1, 65)
_BATCHES = (1, 4, 16, 64)


def mean_square_edges() -> list[Line]:
    """Learning rates from which second moments grow: SGD on Gaussian features, homogenised SDE.

    Of the larger problem the second moments are iterated; of the small one all batches of SGD
    are, on rows that have the moments of a normal law up to the fifth.
    """
    lines = [
        close(
            f"largest stable eta of SGD, 64 Gaussian features, B = {batch}",
            "second-moment map",
            mean_square_threshold(_SPECTRUM, batch),
            # The map is not contractive where one direction alone is not.
            crossing(lambda eta, b=batch: _moment_map(float(eta), b), 1e-3, 2.0),
            1e-6,
        )
        for batch in _BATCHES
    ]
    lines.append(
        close(
            "the same of minibatch_sgd, all batches of B = 2 of 2 features",
            "second-moment map",
            mean_square_threshold([1.0, 0.5], 2),
            _enumerated_edge(np.array([1.0, 0.5])),
            1e-6,
        )
    )
    lines += [
        close(
            f"largest stable eta of its homogenised SDE, B = {batch}",
            "second-moment equation",
            homogenised_threshold(float(_SPECTRUM.sum()), batch),
            _sde_edge(batch),
            1e-6,
        )
        for batch in _BATCHES
    ]
    return lines


def momentum_edges() -> list[Line]:
    """Heavy ball with one of two curvatures in each step: where its second moments grow."""
    eta, radii = 0.5, []
    for momentum, share in itertools.product((0.0, 0.5, 0.9), (0.1, 0.5, 0.9)):
        mean = share * 2 * (1 + momentum) / eta
        variance = critical_curvature_variance(eta, momentum, mean)
        radii.append(spectral_radius(_heavy_ball_map(eta, momentum, mean)(jnp.asarray(variance))))
    lines = [
        close(
            "radius of heavy ball at its critical curvature variance, farthest from 1 of 9",
            "second-moment map",
            1.0,
            max(radii, key=lambda radius: abs(radius - 1)),
            1e-9,
        )
    ]
    momentum = 0.9
    small, large = momentum_plateaus(eta, momentum)
    for name, expected, share in (("small", small, 1e-7), ("large", large, 1 - 1e-7)):
        mean = share * 2 * (1 + momentum) / eta
        got = mean + _critical_variance(eta, momentum, mean) / mean
        lines.append(
            close(
                f"batch sharpness at the edge of heavy ball, b = 0.9, {name} batches",
                "arXiv 2604.14108",
                expected,
                got,
                1e-5,
            )
        )
    return lines


def _moment_map(learning_rate: float, batch_size: int) -> Float[np.ndarray, "d d"]:
    """How one step of SGD moves the second moments along the eigenvectors (Isserlis)."""
    h, eta = _SPECTRUM, learning_rate
    own = (1 - eta * h) ** 2 + (eta * h) ** 2 / batch_size
    return np.diag(own) + eta**2 / batch_size * np.outer(h, h)


def _enumerated_edge(spectrum: Float[np.ndarray, " 2"]) -> float:
    """Edge of the mean of the squared step of SGD over all of its batches of two rows."""
    # Three-point Gauss-Hermite quadrature, its weights 1/6, 4/6, 1/6 as repeated rows.
    grid = np.array(list(itertools.product([-(3**0.5), 0, 0, 0, 0, 3**0.5], repeat=2)))
    problem = LeastSquares(jnp.asarray(grid * spectrum**0.5), jnp.zeros(len(grid))).problem()
    pairs = jnp.asarray(list(itertools.product(range(len(grid)), repeat=2)))

    @jax.jit
    def squared(eta: Array) -> Array:
        def of_batch(rows: Array) -> Array:
            step = derivative(minibatch_sgd(eta, 2), problem, Iterate(jnp.zeros(2)), rows)
            return jnp.kron(step, step)

        return jnp.mean(jax.vmap(of_batch)(pairs), axis=0)

    return crossing(squared, 1e-3, 10.0)


def _sde_edge(batch_size: int) -> float:
    """Edge of the second-moment equation with the covariance that the library's noise has."""
    d = _SPECTRUM.size
    problem = LeastSquares(jnp.diag(jnp.sqrt(d * _SPECTRUM)), jnp.zeros(d)).problem()
    noise = HessianAlignedNoise(batch_size, "mse")
    variances = jax.jit(jax.vmap(lambda unit: noise.diagonal(problem, unit)))(jnp.eye(d))

    def growth(eta: float) -> float:
        generator = -2 * np.diag(_SPECTRUM) + eta * np.asarray(variances).T
        return float(np.max(np.linalg.eigvals(generator).real))

    found = root_scalar(growth, bracket=(1e-3, 1e3), method="brentq", xtol=1e-12)
    return float(found.root)


def _critical_variance(learning_rate: float, momentum: float, mean: float) -> float:
    """Variance of the curvature from which second moments grow."""
    highest = 10 * (mean + 2 / learning_rate) ** 2
    return crossing(_heavy_ball_map(learning_rate, momentum, mean), 0.0, highest)


def _heavy_ball_map(learning_rate: float, momentum: float, mean: float) -> Callable[[Array], Array]:
    """Mean of the squared step over two curvatures, from their variance."""

    def squared(variance: Array) -> Array:
        curvatures = mean + jnp.sqrt(variance) * jnp.array([1.0, -1.0])
        problem = Problem(lambda theta, a: 0.5 * a * theta**2, curvatures)
        stepper = heavy_ball(learning_rate, momentum, MinibatchGradient(1))
        start = stepper.start(problem, jnp.zeros(()))
        rows = jnp.array([[0], [1]])
        steps = jax.vmap(lambda row: derivative(stepper, problem, start, row))(rows)
        return jnp.mean(jax.vmap(jnp.kron)(steps, steps), axis=0)

    return jax.jit(squared)
