"""Edge flow: a cheap model of gradient descent at the edge of stability by three equations."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.curvature import flat_product, follow, hessian_product
from sgdsim.dynamics._central_flow import check_substeps
from sgdsim.dynamics._steppers import AbstractStepper, Iterate
from sgdsim.problems import Problem, squared_norm

# Products of the search for the first direction.
_FIRST_PRODUCTS = 32


class EdgeFlowState(NamedTuple):
    r"""What the edge flow knows beside its parameters.

    Attributes
    ----------
    direction
        Unit vector ``u`` of the oscillation, flat, shape ``(p,)``.
    amplitude
        Its amplitude ``r``.
    curvature
        :math:`u^\top\nabla^2L\,u` at the start of the last substep.
    """

    direction: Float[Array, " p"]
    amplitude: Float[Array, ""]
    curvature: Float[Array, ""]

    def predicted_loss(self, problem: Problem, theta: PyTree) -> Float[Array, ""]:
        """Mean risk of the two ends of the oscillation."""
        plus, minus = _ends(theta, self)
        return (problem.empirical_risk(plus) + problem.empirical_risk(minus)) / 2

    def predicted_squared_gradient(self, problem: Problem, theta: PyTree) -> Float[Array, ""]:
        """Mean squared norm of the gradients at the two ends of the oscillation."""
        gradient = jax.grad(problem.empirical_risk)
        plus, minus = _ends(theta, self)
        return (squared_norm(gradient(plus)) + squared_norm(gradient(minus))) / 2


class EdgeFlow(AbstractStepper):
    r"""Centre, direction and amplitude of gradient descent at the edge of stability.

    .. math::
        \dot\theta &= -\tfrac12\big(\nabla L(\theta+ru)+\nabla L(\theta-ru)\big) \\
        \dot u &= Hu-(u^\top Hu)\,u \\
        \dot r &= \big(u^\top Hu-\tfrac2\eta\big)\,r

    in the time :math:`t=\eta k`, with the Hessian ``H`` at the centre ``theta``. Gradient descent
    at the edge jumps from one side of the centre to the other, :math:`\theta\pm ru`. Above the
    edge the amplitude grows; a large amplitude pushes the centre to where the Hessian is smaller;
    so the sharpness swings around :math:`2/\eta`, as that of gradient descent does, where
    :class:`CentralFlow` goes straight.

    Parameters
    ----------
    learning_rate
        ``eta``, the time of one step.
    substeps
        Euler steps per step, at least 2: one would be gradient descent, at the edge of its own
        stability.
    amplitude
        First and smallest ``r``, in the units of ``theta``. The smaller it is, the longer the
        sharpness stays above the edge before the oscillation is felt.

    Notes
    -----
    A substep costs two gradients and one Hessian product, whatever happens at the edge. There is
    one direction: it models an oscillation along one eigenvector at a time.

    The decomposition, and what each equation is for, is that of Marion 2026, "Edge flow: a
    tractable and predictive continuous-time model for gradient descent at the edge of stability"
    (arXiv 2606.18080), as its abstract describes them; the equations are derived here and need
    not agree with that work in every term. The half difference of two neighbouring iterates,
    :math:`\delta=ru` up to its sign, has :math:`\delta_{k+1}=(\eta H-1)\delta_k` to first order;
    in continuous time :math:`\dot\delta=(H-2/\eta)\delta`, whose direction and length are the
    second and third equation, and the half sum moves by the mean of the two gradients. The second
    order of the first equation is that of :class:`CentralFlow` with
    :math:`\Sigma=r^2uu^\top`. Damian, Nichani and Lee 2023, "Self-stabilization", derive the
    feedback.

    Examples
    --------
    The sharpness of this loss is ``2 y``, which gradient flow raises without end; the edge is at
    2, and on the average over time the amplitude holds it there, :math:`r^2=0.1`:

    >>> import jax, jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import EdgeFlow, Iterate
    >>> def losses(theta, rows):
    ...     x, y = theta
    ...     return y * x**2 - 0.1 * y + 0 * rows
    >>> problem, flow = Problem(losses, jnp.zeros(1)), EdgeFlow(1.0, amplitude=0.2)
    >>> def step(iterate, _):
    ...     iterate, _ = flow.step(problem, iterate, ())
    ...     return iterate, (iterate.memory.curvature, iterate.memory.amplitude)
    >>> start = flow.start(problem, jnp.array([0.0, 1.0]))
    >>> _, (curvature, amplitude) = jax.lax.scan(step, start, None, length=400)
    >>> round(float(jnp.mean(curvature)), 1), round(float(jnp.mean(amplitude**2)), 2)
    (2.0, 0.1)
    """

    learning_rate: Number
    substeps: int = eqx.field(static=True, default=4)
    amplitude: Number = 1e-3

    def __check_init__(self):
        check_positive("learning_rate", self.learning_rate)
        check_positive("amplitude", self.amplitude)
        check_substeps(self.substeps)

    def start(self, problem, theta):
        """Find the eigenvector of the largest eigenvalue; the oscillation is as small as can be."""
        flat, _ = ravel_pytree(theta)
        product = flat_product(hessian_product(problem.empirical_risk, theta), theta)
        found = follow(
            product,
            jnp.zeros((1, flat.size), flat.dtype),
            jax.random.key(0),
            tolerance=1e-5,
            most_products=_FIRST_PRODUCTS,
        )
        amplitude = jnp.asarray(self.amplitude, flat.dtype)
        return Iterate(theta, EdgeFlowState(found.vectors[0], amplitude, found.values[0]))

    def draw(self, key, step, problem, theta):
        """Draw nothing."""
        return ()

    def step(self, problem, iterate, randomness):
        """Follow the three equations for ``eta`` units of time."""
        unravel = ravel_pytree(iterate.theta)[1]
        eta = jnp.asarray(self.learning_rate, iterate.memory.direction.dtype)
        least = jnp.asarray(self.amplitude, eta.dtype)
        h = eta / self.substeps
        gradient = jax.grad(problem.empirical_risk)

        def substep(iterate: Iterate, _: None) -> tuple[Iterate, None]:
            theta, state = iterate
            product = hessian_product(problem.empirical_risk, theta)(unravel(state.direction))
            plus, minus = _ends(theta, state)
            mean = jax.tree.map(lambda a, b: (a + b) / 2, gradient(plus), gradient(minus))
            curved = ravel_pytree(product)[0]
            curvature = state.direction @ curved
            direction = state.direction + h * (curved - curvature * state.direction)
            amplitude = state.amplitude * jnp.exp(h * (curvature - 2 / eta))
            state = EdgeFlowState(
                direction / jnp.linalg.norm(direction),
                jnp.maximum(amplitude, least),
                curvature,
            )
            return Iterate(jax.tree.map(lambda a, g: a - h * g, theta, mean), state), None

        return jax.lax.scan(substep, iterate, None, length=self.substeps)[0], None


def _ends(theta: PyTree, state: EdgeFlowState) -> tuple[PyTree, PyTree]:
    """Both ends of the oscillation."""
    flat, unravel = ravel_pytree(theta)
    reach = state.amplitude * state.direction
    return unravel(flat + reach), unravel(flat - reach)
