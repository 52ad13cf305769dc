"""The fused diffrax term: drift and diffusion of the SDE of SGD in one backward pass."""

import diffrax
import jax.numpy as jnp
from jaxtyping import PyTree

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

    def vf(self, t, y, args):
        """Where the increment starts; all work is done in the product."""
        theta, _ = y
        return theta

    def contr(self, t0, t1, **kwargs):
        """Give the normals of the step."""
        return self.path.evaluate(t0, t1)

    def prod(self, vf, control):
        """Forward and backward pass with drift and noise in one cotangent."""
        return self.noise.increment(self.problem, vf, control, self.clock)

    def is_vf_expensive(self, t0, t1, y, args):
        """Tell Runge-Kutta solvers to use the product only."""
        return True
