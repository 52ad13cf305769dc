"""The diffrax terms of the SDE: drift and diffusion fused in one backward pass, or apart."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sgdsim.dynamics._brownian import LevyPath
from sgdsim.dynamics._noise import AbstractGradientNoise, Clock
from sgdsim.problems import Problem


class StepNoise(diffrax.AbstractPath):
    """The normals of one step as a diffrax path; the clock counts steps, so it is exact.

    diffrax forms real times in the precision of the state; keys or step sizes that depend on
    them would make results depend on the length of the run. Here neither does.
    """

    normals: PyTree

    @property
    def t0(self):
        """Start of the path."""
        return -jnp.inf

    @property
    def t1(self):
        """End of the path."""
        return jnp.inf

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        """Give the normals of the step, whatever the interval."""
        return self.normals


class Drift(eqx.Module):
    r"""What the drift of the SDE has beside :math:`-\nabla L_n`.

    .. math:: -\tfrac\eta2\nabla^2L_n\nabla L_n \;\text{(order 2)}, \qquad
        -\tfrac12\sum_k(D\sigma_k)\sigma_k \;\text{(for Stratonovich solvers)}

    Parameters
    ----------
    order
        Weak order, 1 or 2, at which the SDE approximates SGD.
    ito_correction
        Whether the solver is for Stratonovich equations and the noise state-dependent.
    """

    order: int = eqx.field(static=True, default=1)
    ito_correction: bool = eqx.field(static=True, default=False)

    @property
    def plain(self) -> bool:
        """Whether there is nothing beside the gradient."""
        return self.order == 1 and not self.ito_correction

    def add(
        self, drift: PyTree, scale: Float[Array, ""], noise: AbstractGradientNoise, at: "Place"
    ) -> PyTree:
        """Add ``scale`` times the extra drift to ``drift``."""
        problem, theta, eta = at
        if self.order == 2:
            product = gradient_along_itself(problem, theta)
            drift = jax.tree.map(lambda d, p: d - scale * eta / 2 * p, drift, product)
        if self.ito_correction:
            correction = noise.ito_correction(problem, theta, eta)
            drift = jax.tree.map(lambda d, c: d - scale * c, drift, correction)
        return drift


#: Where a drift is evaluated: problem, parameters, learning rate.
Place = tuple[Problem, PyTree, Float[Array, ""]]


class FusedTerm(diffrax.AbstractTerm):
    r"""The Ito SDE :math:`d\theta = -\nabla L_n\,dt + \sqrt{\eta\Sigma(\theta)}\,dW` as one term.

    The state is ``(theta, risk)``; starting a step with ``risk = 0`` ends it with the empirical
    risk at the *start* of the step, a by-product of the same pass. Euler with ``h = eta`` is
    Gaussian SGD itself.

    The clock counts steps: one solver step from ``t`` to ``t + 1`` is a step of length
    ``clock.step_size``, whatever real time says. The term is therefore for fixed steps of one
    clock unit (``StepTo``, or a loop over ``solver.step``), never for adaptive ones.
    """

    problem: Problem
    noise: AbstractGradientNoise
    path: StepNoise
    clock: Clock
    drift: Drift = Drift()

    def vf(self, t, y, args):
        """Where the increment starts; all work is done in the product."""
        theta, _ = y
        return theta

    def contr(self, t0, t1, **kwargs):
        """Give the normals of the step."""
        return self.path.evaluate(t0, t1)

    def prod(self, vf, control):
        """Forward and backward pass with drift and noise in one cotangent."""
        increment, risk = self.noise.increment(self.problem, vf, control, self.clock)
        if not self.drift.plain:
            place = (self.problem, vf, self.clock.learning_rate)
            increment = self.drift.add(increment, self.clock.step_size, self.noise, place)
        return increment, risk

    def is_vf_expensive(self, t0, t1, y, args):
        """Tell Runge-Kutta solvers to use the product only."""
        return True


class DiffusionTerm(diffrax.AbstractTerm):
    r"""The diffusion :math:`\sqrt{\eta\Sigma(\theta)}\,dW` alone, with Levy areas; state ``theta``.

    The clock counts steps, as in :class:`FusedTerm`, so that the path is one of unit length.

    Parameters
    ----------
    problem, noise, clock
        As in :class:`FusedTerm`.
    path
        Normals of the step.
    origin
        Parameters at the start of the step, where additive noise is evaluated: solvers for
        additive noise demand a diffusion that does not depend on the state.
    """

    problem: Problem
    noise: AbstractGradientNoise
    path: LevyPath
    clock: Clock
    origin: PyTree

    def vf(self, t, y, args):
        """Where the diffusion is evaluated; the number one if it is the same everywhere."""
        return jnp.ones((), self.clock.step_size.dtype) if self.noise.additive else y

    def contr(self, t0, t1, **kwargs):
        """Give the path over the step."""
        return self.path.evaluate(t0, t1, **kwargs)

    def prod(self, vf, control):
        """One backward pass, no matrix."""
        theta, scale = (self.origin, vf) if self.noise.additive else (vf, 1.0)
        noise = self.noise.diffusion(self.problem, theta, control, self.clock)
        return jax.tree.map(lambda a: scale * a, noise)


def two_terms(
    problem: Problem,
    noise: AbstractGradientNoise,
    path: LevyPath,
    clock: Clock,
    drift: Drift,
    origin: PyTree,
) -> diffrax.MultiTerm:
    """Drift and diffusion apart, as the stochastic Runge-Kutta solvers want them."""

    def vector_field(t: Any, theta: PyTree, args: PyTree) -> PyTree:
        gradient = jax.grad(problem.empirical_risk)(theta)
        descent = jax.tree.map(lambda g: -clock.step_size * g, gradient)
        return drift.add(descent, clock.step_size, noise, (problem, theta, clock.learning_rate))

    diffusion = DiffusionTerm(problem, noise, path, clock, origin)
    return diffrax.MultiTerm(diffrax.ODETerm(vector_field), diffusion)


def gradient_along_itself(problem: Problem, theta: PyTree) -> PyTree:
    r""":math:`\nabla^2L_n\nabla L_n = \tfrac12\nabla\|\nabla L_n\|^2`, by one Hessian product."""
    gradient = jax.grad(problem.empirical_risk)
    return jax.jvp(gradient, (theta,), (gradient(theta),))[1]
