"""Linear regression on normal inputs: population risk, gap and deviations in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim._typing import Number
from sgdsim.problems._known import Curvature, Deviations, Estimate, KnownProblem
from sgdsim.problems._landscapes import LeastSquares, like
from sgdsim.problems._problem import Problem


class LinearRegression(KnownProblem):
    r"""Least squares with known truth.

    .. math:: x \sim N(0, I_d), \quad y = x^\top\theta^* + \sigma\varepsilon, \qquad
        L_n(\theta) = \frac1{2n}\sum_{i=1}^n (y_i - x_i^\top\theta)^2, \qquad
        L(\theta) = \tfrac12\|\theta - \theta^*\|^2 + \tfrac12\sigma^2

    The Hessian of L is the identity and that of :math:`L_n` is constant, so that the deviations
    at the centre hold on the whole space.

    Parameters
    ----------
    rows
        Training rows.
    truth
        :math:`\theta^*`, shape (d,).
    label_noise
        Standard deviation :math:`\sigma`.

    Notes
    -----
    The evaluation loss is the training loss; it is unbounded, so that no certificate applies.
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    section 6.9.

    Examples
    --------
    >>> from sgdsim.problems import linear_regression
    >>> known = linear_regression(dimension=5, samples=2000, label_noise=0.5, seed=0)
    >>> known.curvature
    Curvature(modulus=1.0, growth=1.0)
    >>> float(known.population.empirical_risk(known.centre))
    0.125
    """

    rows: LeastSquares
    truth: Float[Array, " d"]
    label_noise: Number

    @property
    def training(self) -> Problem:
        """Half the squared error on the training rows."""
        return self.rows.problem()

    @property
    def population(self) -> Problem:
        """Closed form, as a problem with one row."""
        row = {"truth": self.truth[None], "noise": like(self.label_noise, self.truth)[None]}
        return Problem(_population_losses, row)

    @property
    def centre(self) -> Float[Array, " d"]:
        r""":math:`\theta^*`, shape (d,)."""
        return self.truth

    @property
    def curvature(self) -> Curvature:
        """The Hessian of the population risk is the identity."""
        return Curvature(1.0, 1.0)

    def gap(self, theta: Float[Array, " d"]) -> Estimate:
        """Exact."""
        gap = self.population.empirical_risk(theta) - self.training.empirical_risk(theta)
        return Estimate(gap, jnp.zeros_like(gap))

    def deviations(self) -> Deviations:
        r""":math:`\|\frac1n\sum_i x_i\sigma\varepsilon_i\|` and :math:`\|X^\top X/n - I\|`, exact.

        .. math:: \varepsilon_n = \|\nabla L_n(\theta^*)\|, \qquad
            \omega_n = \max_j |s_j^2/n - 1|

        with the singular values :math:`s_j` of X, completed by zeros where n < d.
        """
        gradient = jax.grad(self.training.empirical_risk)(self.truth)
        inputs = np.asarray(self.rows.inputs)
        samples, dimension = inputs.shape
        eigenvalues = np.zeros(dimension)
        eigenvalues[: min(samples, dimension)] = np.linalg.svd(inputs, compute_uv=False) ** 2
        deviation = np.max(np.abs(eigenvalues / samples - 1))
        return Deviations(float(jnp.linalg.norm(gradient)), float(deviation))


def _population_losses(
    theta: Float[Array, " d"], rows: dict[str, Float[Array, "1 ..."]]
) -> Float[Array, " 1"]:
    truth, noise = (like(rows[name], theta) for name in ("truth", "noise"))
    return 0.5 * (jnp.sum(jnp.square(theta - truth[0])) + jnp.square(noise))


def linear_regression(
    dimension: int, samples: int, label_noise: float, seed: int
) -> LinearRegression:
    r"""Draw the rows of a regression on :math:`\theta^* = (1, \dots, 1)/\sqrt d`.

    Parameters
    ----------
    dimension, samples
        Numbers of parameters and of rows.
    label_noise
        Standard deviation of the labels.
    seed
        Rows of one seed begin alike at every number of rows and at every label noise.
    """
    inputs = np.random.default_rng([seed, 0]).normal(size=(samples, dimension))
    noise = np.random.default_rng([seed, 1]).normal(size=samples)
    truth = np.full(dimension, dimension**-0.5)
    rows = LeastSquares(inputs, inputs @ truth + label_noise * noise)
    return LinearRegression(rows, jnp.asarray(truth), label_noise)
