"""The SDEs of SGD with momentum: underdamped Langevin equations."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sgdsim._checks import check_momentum, check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._brownian import LevyPath, check_resolution, draw_substeps
from sgdsim.dynamics._noise import AbstractGradientNoise, Clock, IsotropicNoise
from sgdsim.dynamics._solvers import SOLVERS, lower_case, make_solver, solver_facts
from sgdsim.dynamics._steppers import AbstractStepper, Iterate
from sgdsim.dynamics._term import StepNoise
from sgdsim.problems import Problem


class UnderdampedSDE(AbstractStepper):
    r"""The SDE (Ito) of SGD with momentum, in the time :math:`t=\sqrt\eta\,k`.

    .. math:: d\theta = V\,dt, \qquad
        dV = -\gamma V\,dt - \nabla L_n(\theta)\,dt + (\sqrt\eta\,\Sigma(\theta))^{1/2}dW,
        \qquad \gamma = \frac{1-b}{\sqrt\eta}

    is that of heavy ball, :math:`v' = bv - \eta g`, :math:`\theta' = \theta + v'`, with
    :math:`V = v/\sqrt\eta`. Nesterov's method takes its gradients at the look-ahead
    :math:`y = x + bv`, which obeys

    .. math:: dy = V\,dt + b\sqrt\eta\,dV, \qquad
        dV = -\gamma V\,dt - \nabla L_n(y)\,dt + (\sqrt\eta\,\Sigma(y))^{1/2}dW

    The term in :math:`b\sqrt\eta`, damping by the Hessian, is all that tells it from heavy ball.

    Parameters
    ----------
    learning_rate
        ``eta``; one step of the loop is one step of the algorithm, :math:`\sqrt\eta` units of
        time.
    momentum
        ``b`` in ``[0, 1)``.
    noise
        Model of the gradient noise.
    substeps
        ``m``; the step size is :math:`h=\sqrt\eta/m`.
    nesterov
        Whether the algorithm is Nesterov's; ``theta`` is then the look-ahead ``y``, the point
        that optax moves.
    solver
        ``"euler"``, semi-implicit (the velocity moves first), one backward pass per substep; or,
        for heavy ball with isotropic noise, diffrax's ``"align"``, ``"should"``, ``"quicsort"``.
    resolution
        As in :class:`SDE`.

    Raises
    ------
    ValueError
        On negative damping, and on a solver that is not right for the noise.

    Notes
    -----
    The memory is the sum of gradients :math:`m = -V/\sqrt\eta` of ``optax.trace``, so that with a
    schedule, too, Euler with one substep *is* the algorithm with Gaussian noise,
    ``optax.trace(b, nesterov=nesterov)``. On a quadratic with curvature ``lam`` and noise variance
    ``s`` the stationary variance of heavy ball's equation is :math:`\eta s/(2(1-b)\lambda)`.
    Source: Li, Tai and E 2019 (momentum SGD).

    Examples
    --------
    >>> from sgdsim.dynamics import IsotropicNoise, UnderdampedSDE
    >>> UnderdampedSDE(0.01, 0.9, IsotropicNoise(0.1), substeps=4, solver="quicsort").substeps
    4
    """

    learning_rate: Number
    momentum: Number
    noise: AbstractGradientNoise
    substeps: int = eqx.field(static=True, default=1)
    nesterov: bool = eqx.field(static=True, default=False)
    solver: str = eqx.field(static=True, default="euler", converter=lower_case)
    resolution: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        check_positive("learning_rate", self.learning_rate)
        check_resolution(self.substeps, self.resolution)
        check_momentum(self.momentum)
        self._check_solver()

    def _check_solver(self) -> None:
        kind, model = solver_facts(self.solver).limit, type(self.noise).__name__
        isotropic = isinstance(self.noise, IsotropicNoise) and not self.nesterov
        langevin = ", ".join(repr(name) for name in SOLVERS if SOLVERS[name][1].limit == "langevin")
        reason, alternatives = "", f"'euler' or {langevin}" if isotropic else "'euler'"
        if kind == "langevin" and self.nesterov:
            reason = "it solves the Langevin equation without the Hessian damping of Nesterov"
        elif kind == "langevin" and not isotropic:
            reason = f"it is for isotropic noise, and {model} is not"
        elif kind != "langevin" and self.solver != "euler":
            reason = "it is not offered for the equations of SGD with momentum"
        elif not self.noise.brownian and (self.resolution or self.substeps) > 1:
            reason = (
                f"{model} is not Gaussian, so that it has no limit driven by Brownian motion and "
                "only whole steps make sense"
            )
            alternatives = "substeps=1 without resolution"
        if reason:
            raise ValueError(f"solver {self.solver!r} is refused: {reason}; take {alternatives}.")

    def check(self, problem, theta):
        """Check the noise."""
        self.noise.check(problem, theta)

    def start(self, problem, theta):
        """Start at rest."""
        return Iterate(theta, jax.tree.map(jnp.zeros_like, theta))

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
        r"""Take one step of :math:`\sqrt\eta` units of time."""
        dtype = jax.tree.leaves(iterate.theta)[0].dtype
        normals = randomness
        if self.substeps == 1:
            normals = jax.tree.map(lambda a: a[None], randomness)
        eta = jnp.asarray(self.learning_rate, dtype)
        if self.solver == "euler":
            return self._euler(problem, iterate, normals, eta)
        moved = self._langevin(problem, iterate, normals, jnp.sqrt(jnp.where(eta > 0, eta, 1)))
        # No time passes at a learning rate of zero.
        return jax.tree.map(lambda new, old: jnp.where(eta > 0, new, old), moved, iterate), None

    def _euler(
        self, problem: Problem, iterate: Iterate, normals: PyTree, eta: Float[Array, ""]
    ) -> tuple[Iterate, Float[Array, ""]]:
        b = jnp.asarray(self.momentum, eta.dtype)
        clock = Clock(jnp.ones_like(eta) / self.substeps, jnp.ones_like(eta), eta)

        def substep(state: PyTree, normals: PyTree) -> tuple[PyTree, Any]:
            path = StepNoise(normals)
            term = MomentumTerm(problem, self.noise, path, clock, b, self.nesterov)
            state = (*state, jnp.zeros((), eta.dtype))
            (theta, momentum, risk), *_ = diffrax.Euler().step(
                term, 0.0, 1.0, state, None, None, False
            )
            return (theta, momentum), risk

        state, risks = jax.lax.scan(substep, tuple(iterate), normals)
        return Iterate(*state), risks[0]

    def _langevin(
        self, problem: Problem, iterate: Iterate, normals: PyTree, root: Float[Array, ""]
    ) -> Iterate:
        assert isinstance(self.noise, IsotropicNoise)  # checked when the stepper was made
        h = root / self.substeps
        gamma = (1 - jnp.asarray(self.momentum, root.dtype)) / root
        # diffrax: dV = -gamma V dt - u grad f dt + sqrt(2 gamma u) dW.
        u = root * jnp.asarray(self.noise.variance, root.dtype) / (2 * gamma)

        def force(theta: PyTree, args: PyTree) -> PyTree:
            return jax.tree.map(lambda g: g / u, jax.grad(problem.empirical_risk)(theta))

        def terms(normals: PyTree) -> diffrax.MultiTerm:
            drift = diffrax.UnderdampedLangevinDriftTerm(gamma, u, force)
            path: Any = LevyPath(normals, h)  # diffrax asks it for nothing but increments
            return diffrax.MultiTerm(
                drift, diffrax.UnderdampedLangevinDiffusionTerm(gamma, u, path)
            )

        solver = make_solver(self.solver, root.dtype)

        # Every substep starts at time 0, so that h is exact, and the path ignores the time.
        def substep(carry: tuple, normals: PyTree) -> tuple[tuple, None]:
            state, memory = carry
            state, _, _, memory, _ = solver.step(terms(normals), 0.0, h, state, None, memory, False)
            return (state, memory), None

        first = jax.tree.map(lambda a: a[0], normals)
        state = (iterate.theta, jax.tree.map(lambda m: -root * m, iterate.memory))
        memory = solver.init(terms(first), 0.0, h, state, None)
        ((theta, velocity), _), _ = jax.lax.scan(substep, (state, memory), normals)
        return Iterate(theta, jax.tree.map(lambda v: -v / root, velocity))


class MomentumTerm(diffrax.AbstractTerm):
    r"""Heavy ball or Nesterov as one diffrax term, for Euler; state ``(theta, m, risk)``.

    In :math:`m = -V/\sqrt\eta` and the number ``k`` of steps the equation of heavy ball is
    :math:`d\theta = -\eta m\,dk`, :math:`dm = -(1-b)m\,dk + \nabla L_n\,dk + \Sigma^{1/2}dB`,
    in which nothing is divided by ``eta``. The increment of ``theta`` uses the new momentum, so
    that Euler is semi-implicit. diffrax's clock counts substeps, as in ``FusedTerm``.
    """

    problem: Problem
    noise: AbstractGradientNoise
    path: StepNoise
    clock: Clock
    momentum: Float[Array, ""]
    nesterov: bool = eqx.field(static=True)

    def vf(self, t, y, args):
        """Where the increment starts; all work is done in the product."""
        theta, momentum, _ = y
        return theta, momentum

    def contr(self, t0, t1, **kwargs):
        """Give the normals of the step."""
        return self.path.evaluate(t0, t1)

    def prod(self, vf, control):
        """Forward and backward pass with drift and noise in one cotangent."""
        theta, momentum = vf
        h, _, eta = self.clock
        force, risk = self.noise.increment(self.problem, theta, control, self.clock)
        friction = (1 - self.momentum) * h
        change = jax.tree.map(lambda f, m: -f - friction * m, force, momentum)
        move = jax.tree.map(lambda m, dm: -eta * h * (m + dm), momentum, change)
        if self.nesterov:
            ahead = eta * self.momentum
            move = jax.tree.map(lambda a, dm: a - ahead * dm, move, change)
        return move, change, risk

    def is_vf_expensive(self, t0, t1, y, args):
        """Tell solvers to use the product only."""
        return True
