"""The SDE of SGD, integrated by diffrax."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from sgdsim._typing import Number
from sgdsim.dynamics._checks import check_positive
from sgdsim.dynamics._noise import AbstractGradientNoise, Clock
from sgdsim.dynamics._steppers import AbstractStepper, Iterate
from sgdsim.dynamics._term import FusedTerm, StepNoise


class SDE(AbstractStepper):
    r"""The SDE of SGD (Ito), integrated by diffrax with ``substeps`` Euler steps per SGD step.

    .. math:: d\theta = -\nabla L_n(\theta)\,dt + \sqrt{\eta\,\Sigma(\theta)}\,dW, \qquad t=\eta k

    With ``substeps = 1``, that is ``h = eta``, this *is* Gaussian SGD,
    :math:`\theta' = \theta - \eta(\nabla L_n + \xi)`, :math:`\xi\sim N(0,\Sigma)`; only
    ``substeps -> infinity`` is the SDE, and the two differ where
    :math:`\eta\lambda_{\max}` is not small.

    Parameters
    ----------
    learning_rate
        ``eta``, which sets the noise and the unit of time.
    noise
        Model of the gradient noise.
    substeps
        ``m``; the step size is ``h = eta / m``. Each substep costs one backward pass.

    Notes
    -----
    Source: Mori et al. 2022, equation 4.

    Examples
    --------
    >>> from sgdsim import SDE, IsotropicNoise
    >>> SDE(0.5, IsotropicNoise(0.01), substeps=4).substeps
    4
    """

    learning_rate: Number
    noise: AbstractGradientNoise
    substeps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        check_positive("learning_rate", self.learning_rate)
        check_positive("substeps", self.substeps)

    def draw(self, key, step, problem, theta):
        """Draw the normals of every substep, each with a counter of its own."""
        if self.substeps == 1:
            return self.noise.draw(key, step, problem, theta)
        counters = step * self.substeps + jnp.arange(self.substeps, dtype=jnp.int32)
        return jax.vmap(lambda counter: self.noise.draw(key, counter, problem, theta))(counters)

    def step(self, problem, iterate, randomness):
        """Take one step of ``eta`` units of time."""
        theta = iterate.theta
        dtype = jax.tree.leaves(theta)[0].dtype
        eta = jnp.asarray(self.learning_rate, dtype)
        solver = diffrax.Euler()

        def substep(theta: PyTree, normals: PyTree) -> tuple[PyTree, Any]:
            clock = Clock(eta / self.substeps, eta)
            term = FusedTerm(problem, self.noise, StepNoise(normals), clock)
            state = (theta, jnp.zeros((), dtype))
            (theta, risk), *_ = solver.step(term, 0.0, 1.0, state, None, None, False)
            return theta, risk

        if self.substeps == 1:
            theta, risk = substep(theta, randomness)
            return Iterate(theta), risk
        theta, risks = jax.lax.scan(substep, theta, randomness)
        return Iterate(theta), risks[0]


def gaussian_sgd(learning_rate: Number, noise: AbstractGradientNoise) -> SDE:
    r"""Gaussian SGD, :math:`\theta' = \theta - \eta(\nabla L_n(\theta) + \xi)`.

    It is the Euler step of the SDE with step size ``h = eta``; as a discrete process it keeps
    the edge of stability at :math:`2/\eta`, which the SDE does not.

    Examples
    --------
    >>> from sgdsim import MinibatchNoise, gaussian_sgd
    >>> gaussian_sgd(0.5, MinibatchNoise(16)).substeps
    1
    """
    return SDE(learning_rate, noise, 1)
