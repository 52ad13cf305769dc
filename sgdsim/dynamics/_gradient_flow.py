"""Gradient flow, the equation that gradient descent follows as the learning rate goes to zero."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._solvers import SOLVERS, lower_case, make_solver, solver_facts
from sgdsim.dynamics._steppers import AbstractStepper, Iterate
from sgdsim.dynamics._term import gradient_along_itself

# A step of this many parts is not going to succeed.
_MAX_PARTS = 2**14


class GradientFlow(AbstractStepper):
    r"""Gradient flow, an ordinary differential equation in the time :math:`t=\eta k`.

    .. math:: \dot\theta = -\nabla L_n(\theta) \quad\text{or, with order 2,}\quad
        \dot\theta = -\nabla\Big(L_n + \frac\eta4\|\nabla L_n\|^2\Big)(\theta)

    One step of the loop is ``eta`` units of time, in as many adaptive parts as the tolerances
    ask for. Gradient descent stays within ``O(eta)`` of the first and ``O(eta^2)`` of the second
    equation as long as :math:`\eta\lambda_{\max}` is small.

    Parameters
    ----------
    learning_rate
        ``eta``, the time between two iterates (and the modification of order 2).
    order
        1 or 2, the order in ``eta`` to which gradient descent follows the flow.
    solver
        ``"tsit5"``, ``"dopri5"`` or ``"dopri8"``, all explicit; the implicit solvers of diffrax
        factorise the Hessian.
    rtol, atol
        Relative and absolute tolerance of a part.

    Raises
    ------
    ValueError
        On a solver that is not for equations without noise.

    Notes
    -----
    A step that fails, because it blows up or needs more than 16 384 parts, ends in NaN: the
    trajectory counts as diverged. Source: Barrett and Dherin 2021 (order 2).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import GradientFlow
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.zeros(2))
    >>> flow = GradientFlow(0.5)
    >>> moved, _ = flow.step(problem, flow.start(problem, jnp.array(1.0)), ())
    >>> round(float(moved.theta), 4), round(float(jnp.exp(-0.5)), 4)
    (0.6065, 0.6065)
    """

    learning_rate: Number
    order: int = eqx.field(static=True, default=1)
    solver: str = eqx.field(static=True, default="tsit5", converter=lower_case)
    rtol: Number = 1e-5
    atol: Number = 1e-8

    def __check_init__(self):
        check_positive("learning_rate", self.learning_rate)
        check_positive("rtol", self.rtol)
        check_positive("atol", self.atol)
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {self.order!r}.")
        facts = solver_facts(self.solver)
        if facts.limit != "ode" or facts.refusal:
            usable = [
                repr(name)
                for name, (_, facts) in SOLVERS.items()
                if facts.limit == "ode" and not facts.refusal
            ]
            reason = facts.refusal or "it is for equations with noise, at fixed steps"
            raise ValueError(
                f"solver {self.solver!r} is refused for gradient flow: {reason}; take "
                f"{', '.join(usable)}."
            )

    def draw(self, key, step, problem, theta):
        """Draw nothing."""
        return ()

    def step(self, problem, iterate, randomness):
        """Follow the flow for ``eta`` units of time."""
        theta = iterate.theta
        dtype = jax.tree.leaves(theta)[0].dtype
        eta, rtol, atol = (
            jnp.asarray(number, dtype) for number in (self.learning_rate, self.rtol, self.atol)
        )

        def vector_field(t: Any, theta: PyTree, args: PyTree) -> PyTree:
            gradient = jax.grad(problem.empirical_risk)(theta)
            if self.order == 1:
                return jax.tree.map(jnp.negative, gradient)
            product = gradient_along_itself(problem, theta)
            return jax.tree.map(lambda g, p: -g - eta / 2 * p, gradient, product)

        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(theta)]))
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(vector_field),
            make_solver(self.solver),
            t0=jnp.zeros_like(eta),
            # A diverged trajectory would be refused part after part.
            t1=jnp.where(finite, eta, 0),
            dt0=None,
            y0=theta,
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            adjoint=diffrax.ForwardMode(),
            max_steps=_MAX_PARTS,
            throw=False,
        )
        solved = solution.result == diffrax.RESULTS.successful
        return Iterate(jax.tree.map(lambda a: jnp.where(solved, a[0], jnp.nan), solution.ys)), None
