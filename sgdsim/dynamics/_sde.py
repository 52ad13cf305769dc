"""The SDE of SGD, integrated by diffrax."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._brownian import LevyNormals, LevyPath, check_resolution, draw_substeps
from sgdsim.dynamics._noise import AbstractGradientNoise, Clock
from sgdsim.dynamics._solvers import check_solver, lower_case, make_solver, solver_facts
from sgdsim.dynamics._steppers import AbstractStepper, Iterate
from sgdsim.dynamics._term import Drift, FusedTerm, StepNoise, two_terms
from sgdsim.problems import Problem


class SDE(AbstractStepper):
    r"""The SDE of SGD (Ito), integrated by diffrax with ``substeps`` steps per SGD step.

    .. math:: d\theta = -\nabla L_n(\theta)\,dt + \sqrt{\eta\,\Sigma(\theta)}\,dW, \qquad t=\eta k

    With Euler and ``substeps = 1``, that is ``h = eta``, this *is* Gaussian SGD,
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
        ``m``; the step size is ``h = eta / m``. A substep of Euler costs one backward pass.
    order
        1, or 2 for the drift :math:`-\nabla(L_n+\frac\eta4\|\nabla L_n\|^2)`, whose law is that
        of SGD up to ``O(eta^2)`` in place of ``O(eta)``; it costs a Hessian product per stage.
        The law of Euler is off by ``O(h)``, which has to be below ``eta^2``: of the order of
        ``1/eta`` substeps, or a solver of higher order. With a single substep it is refused.
    solver
        Name of a class of diffrax, in any case. Solvers of Stratonovich equations are refused
        for state-dependent noise unless ``ito_correction`` is set.
    ito_correction
        Subtract the exact Ito correction of the noise from the drift (for minibatch noise
        :math:`\frac\eta4\nabla\mathrm{tr}\,\Sigma`), so that a Stratonovich solver converges to
        the Ito equation.
    resolution
        Points per SGD step of the grid on which the Brownian path is drawn, a multiple of
        ``substeps`` (which is the default). Runs of the same resolution and key follow one path,
        whatever their ``substeps``; with ``substeps = 1`` that is Gaussian SGD on the path. Runs
        of different resolutions are independent; :func:`on_one_path` gives them a common one.
    adaptive
        Adaptive steps are refused: Euler has no error estimate.

    Raises
    ------
    ValueError
        On a combination that would converge to another process, with the alternatives.

    Notes
    -----
    Source: Mori et al. 2022, equation 4; Li, Tai and E 2019, section 3 (order 2).

    Examples
    --------
    >>> from sgdsim import SDE, IsotropicNoise, MinibatchNoise
    >>> SDE(0.5, IsotropicNoise(0.01), substeps=4).substeps
    4
    >>> SDE(0.5, MinibatchNoise(16), solver="generalshark", ito_correction=True).order
    1
    """

    learning_rate: Number
    noise: AbstractGradientNoise
    substeps: int = eqx.field(static=True, default=1)
    order: int = eqx.field(static=True, default=1)
    solver: str = eqx.field(static=True, default="euler", converter=lower_case)
    ito_correction: bool = eqx.field(static=True, default=False)
    resolution: int | None = eqx.field(static=True, default=None)
    adaptive: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_positive("learning_rate", self.learning_rate)
        check_resolution(self.substeps, self.resolution)
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {self.order!r}.")
        if self.order == 2 and self.solver == "euler" and self.substeps == 1:
            raise ValueError(
                "order 2 is refused for 'euler' with one substep: its own error of the order of "
                "eta is as large as the correction of the drift and hides it; take substeps of the "
                "order of 1/eta, or 'heun' or 'generalshark', for state-dependent noise with "
                "ito_correction=True."
            )
        check_solver(
            self.solver,
            self.noise,
            ito_correction=self.ito_correction,
            adaptive=self.adaptive,
            substeps=self.substeps,
            resolution=self.resolution,
        )

    def check(self, problem, theta):
        """Check the noise."""
        self.noise.check(problem, theta)

    def draw(self, key, step, problem, theta):
        """Draw the normals of every substep, each with a counter of its own."""
        return draw_substeps(
            self.noise,
            key,
            step,
            problem,
            theta,
            substeps=self.substeps,
            resolution=self.resolution,
            levy=solver_facts(self.solver).levy,
        )

    def step(self, problem, iterate, randomness):
        """Take one step of ``eta`` units of time."""
        theta = iterate.theta
        eta = jnp.asarray(self.learning_rate, jax.tree.leaves(theta)[0].dtype)

        def substep(theta: PyTree, normals: PyTree) -> tuple[PyTree, Any]:
            return self._substep(problem, theta, normals, Clock(eta / self.substeps, eta, eta))

        if self.substeps == 1:
            theta, risk = substep(theta, randomness)
            return Iterate(theta), risk
        theta, risks = jax.lax.scan(substep, theta, randomness)
        return Iterate(theta), None if risks is None else risks[0]

    def _substep(
        self, problem: Problem, theta: PyTree, normals: PyTree, clock: Clock
    ) -> tuple[PyTree, Any]:
        """Move by one step of the solver; the risk at its start where it is a by-product."""
        drift = Drift(self.order, self.ito_correction and not self.noise.additive)
        solver = make_solver(self.solver)
        if solver_facts(self.solver).fused:
            term = FusedTerm(problem, self.noise, StepNoise(normals), clock, drift)
            state = (theta, jnp.zeros((), clock.step_size.dtype))
            (theta, risk), *_ = _advance(solver, term, state)
            # Other solvers average the risks of their stages.
            return theta, risk if self.solver == "euler" else None
        path = LevyPath(normals if isinstance(normals, LevyNormals) else LevyNormals(normals))
        terms = two_terms(problem, self.noise, path, clock, drift, theta)
        return _advance(solver, terms, theta)[0], None


def _advance(solver: diffrax.AbstractSolver, terms: Any, state: PyTree) -> tuple:
    """Take one step of the integer clock."""
    # Times of another precision than theta would promote it.
    start, stop = jnp.asarray([0.0, 1.0], jax.tree.leaves(state)[0].dtype)
    memory = solver.init(terms, start, stop, state, None)
    return solver.step(terms, start, stop, state, None, memory, False)


def gaussian_sgd(
    learning_rate: Number, noise: AbstractGradientNoise, resolution: int | None = None
) -> SDE:
    r"""Gaussian SGD, :math:`\theta' = \theta - \eta(\nabla L_n(\theta) + \xi)`.

    It is the Euler step of the SDE with step size ``h = eta``; as a discrete process it keeps
    the edge of stability at :math:`2/\eta`, which the SDE does not.

    Parameters
    ----------
    learning_rate
        ``eta``.
    noise
        Model of the gradient noise.
    resolution
        As in :class:`SDE`: that of an SDE whose path it is to follow.

    Examples
    --------
    >>> from sgdsim import MinibatchNoise, gaussian_sgd
    >>> gaussian_sgd(0.5, MinibatchNoise(16)).substeps
    1
    """
    return SDE(learning_rate, noise, 1, resolution=resolution)
