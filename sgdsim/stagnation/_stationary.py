"""Exact second moment of the linearised dynamics: the discrete Lyapunov equation, matrix-free."""

from typing import NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim.curvature import hessian_product, lanczos
from sgdsim.problems import Problem


class SpectralMeasure(NamedTuple):
    r"""Spectral distribution of the gradient noise in the eigenbasis of the Hessian.

    :math:`\mathrm{tr}\,(f(H)C) = \sum_j w_j f(h_j)` for smooth ``f``, with ``C`` the covariance
    of the per-sample gradients.

    Attributes
    ----------
    nodes, weights
        Of shape ``(row * depth,)``.
    """

    nodes: Float[np.ndarray, " node"]
    weights: Float[np.ndarray, " node"]


def noise_spectral_measure(
    problem: Problem, theta: PyTree, depth: int = 8, block: int = 25
) -> SpectralMeasure:
    r"""Distribute the noise of the per-sample gradients over the spectrum of the Hessian.

    Every centred per-sample gradient is the start of a Lanczos run of ``depth`` Hessian
    products; the Gauss quadrature rules that result add up to
    :math:`\frac1n\sum_i (g_i-\bar g)^\top f(H)(g_i-\bar g)`. All rows are used, so there is no
    sampling error; the quadrature is exact for polynomials of degree ``2 depth - 1``.

    Parameters
    ----------
    problem, theta
        Where, in float64.
    depth
        Hessian products per row.
    block
        Rows handled together.
    """
    return SpectralMeasure(*(np.asarray(a) for a in _measure(problem, theta, depth, block)))


def linearised_mean_squared_distance(
    measure: SpectralMeasure,
    learning_rate: float,
    batch_size: float,
    steps: Float[np.ndarray, " step"] | np.ndarray,
) -> Float[np.ndarray, " step"]:
    r"""Mean squared distance from the minimum after ``k`` steps of the linearised dynamics.

    The process :math:`u' = (I-\eta H)u - \eta\xi`, :math:`\xi\sim N(0, C/B)`, from ``u = 0`` has
    a covariance that obeys :math:`S' = (I-\eta H)S(I-\eta H) + \eta^2 C/B`, so that

    .. math:: E\|u_k\|^2 = \frac{\eta^2}{B}\,\mathrm{tr}\Big(
        \frac{I-(I-\eta H)^{2k}}{I-(I-\eta H)^2}\,C\Big)

    which tends to the trace of the discrete Lyapunov solution.

    Parameters
    ----------
    measure
        Spectral measure of the noise at the minimum.
    learning_rate, batch_size
        ``eta`` and ``B``.
    steps
        Numbers of steps; ``inf`` gives the stationary value (infinite where unstable).

    Notes
    -----
    Source: stagnation theory section 9.1 (discrete Lyapunov equation).
    """
    decay = (1.0 - learning_rate * measure.nodes) ** 2
    steps = np.asarray(steps, dtype=np.float64)[:, None]
    gap = 1.0 - decay
    small = np.abs(gap) < 1e-12
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        powers = np.where(np.isinf(steps) & (decay < 1.0), 0.0, decay**steps)
        total = np.where(small, steps, (1.0 - powers) / np.where(small, 1.0, gap))
        # A direction without noise counts for nothing, even where it would grow without limit.
        terms = np.where(measure.weights > 0.0, measure.weights * total, 0.0)
    return learning_rate**2 / batch_size * np.sum(terms, axis=1)


def _measure_of(problem: Problem, theta: PyTree, depth: int, block: int) -> tuple[Array, Array]:
    product = hessian_product(problem.empirical_risk, theta)
    mean = jax.grad(problem.empirical_risk)(theta)

    def of_row(row: PyTree) -> tuple[Array, Array]:
        gradient = jax.grad(problem.single(row).empirical_risk)(theta)
        centred = jax.tree.map(lambda a, b: a - b, gradient, mean)
        ritz = lanczos(product, centred, depth)
        flat = ravel_pytree(centred)[0]
        # Gauss weights are the squared overlaps of the start vector with the Ritz vectors.
        return ritz.values, (ritz.vectors @ flat) ** 2

    nodes, weights = jax.lax.map(of_row, problem.data, batch_size=block)
    return nodes.ravel(), weights.ravel() / problem.n


_measure = jax.jit(_measure_of, static_argnums=(2, 3))
