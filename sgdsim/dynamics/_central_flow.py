"""Central flow: the time-averaged path of gradient descent at the edge of stability."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from sgdsim._checks import check_count, check_positive
from sgdsim._typing import Number
from sgdsim.curvature import flat_product, follow, hessian_product
from sgdsim.dynamics._complementarity import solve_complementarity, symmetric_basis
from sgdsim.dynamics._steppers import AbstractStepper, Iterate
from sgdsim.problems import Problem, squared_norm

# Below this share of 2/eta no eigenvalue reaches the edge within a substep.
_FAR = 0.9
# A certificate above this says that there is no solution: what is found otherwise is far better.
_UNSOLVED = 0.1


class CentralState(NamedTuple):
    r"""What the central flow knows beside its parameters.

    Attributes
    ----------
    values, vectors
        Largest eigenvalues of the Hessian, shape ``(k,)``, and their eigenvectors as flat rows,
        shape ``(k, p)``, at the present parameters.
    covariance
        ``X``, shape ``(k, k)``: :math:`\Sigma=U^\top XU` with the rows ``U`` of ``vectors`` is
        the covariance of gradient descent around the flow.
    certificate
        Larger one of violation and gap of the complementarity problem of the last substep.
    products
        Hessian products so far.
    substeps
        Substeps so far.
    """

    values: Float[Array, " k"]
    vectors: Float[Array, "k p"]
    covariance: Float[Array, "k k"]
    certificate: Float[Array, ""]
    products: Int[Array, ""]
    substeps: Int[Array, ""]

    def predicted_loss(self, problem: Problem, theta: PyTree) -> Float[Array, ""]:
        """Risk plus what the oscillation adds."""
        return problem.empirical_risk(theta) + self.values @ jnp.diag(self.covariance) / 2

    def predicted_squared_gradient(self, problem: Problem, theta: PyTree) -> Float[Array, ""]:
        """Squared norm of the gradient plus what the oscillation adds."""
        squared = squared_norm(jax.grad(problem.empirical_risk)(theta))
        return squared + self.values**2 @ jnp.diag(self.covariance)


class CentralFlow(AbstractStepper):
    r"""Central flow of gradient descent, which stays at the edge of stability.

    .. math:: \dot\theta = -\nabla L(\theta)
        - \tfrac12\nabla_\theta\langle\nabla^2L(\theta),\Sigma\rangle,
        \qquad \Sigma = U^\top X U

    in the time :math:`t=\eta k`. At the edge of stability gradient descent oscillates along the
    eigenvectors ``U`` of the eigenvalues that have reached :math:`2/\eta`; the flow is the path of
    its local time averages, and :math:`\Sigma` the covariance of the oscillation. ``X`` is the
    one for which these eigenvalues rise no further: for the matrix :math:`U\nabla^2L\,U^\top`

    .. math:: X\succeq0,\qquad W=-\frac{d}{dt}U\nabla^2L\,U^\top\succeq0,\qquad
        \langle X,W\rangle=0,

    a semidefinite complementarity problem. Away from the edge it is gradient flow.

    Parameters
    ----------
    learning_rate
        ``eta``, the time of one step.
    substeps
        Euler steps per step, at least 2: one would be gradient descent, at the edge of its own
        stability.
    max_critical
        Eigenvalues that are followed and held. If all of them are at the edge the next one is
        not held; take more.
    tolerance, most_products
        Of the search for eigenpairs after each substep, see :func:`sgdsim.curvature.follow`. The
        eigenvectors, and with them the flow, are as good as the root of the tolerance.

    Notes
    -----
    So that the eigenvalues do not drift, a substep of length ``h`` asks for them where it ends:
    with the gradients :math:`T_{ij}` of :math:`u_i^\top\nabla^2L\,u_j` (``u`` fixed),

    .. math:: W = \frac{2/\eta-U\nabla^2L\,U^\top}{h} + \Big[T_{ij}\cdot\nabla L
        + \tfrac12\sum_{lm}T_{ij}\cdot T_{lm}X_{lm}\Big]_{ij}.

    Eigenvalues well below the edge have a large ``W`` and so take no part. A substep costs a
    gradient, ``k`` Hessian products or some more, and near the edge ``k(k+1)/2`` third
    derivatives, each of the cost of about two Hessian products; memory is that of
    ``most_products`` vectors of the length of ``theta``. The loss needs three derivatives (no
    ReLU). Where the sharpness cannot be held, because its gradient vanishes, the step ends in
    NaN: gradient descent diverges there. A start above the edge, from which gradient descent is
    thrown out, is outside of the theory: the flow leaves it within a substep or two.

    Source: Cohen, Damian, Talwalkar, Kolter, Lee 2025, "Understanding optimization in deep
    learning with central flows", section 3; signs and scales re-derived.

    Examples
    --------
    The sharpness of this loss is ``2 y`` at ``x = 0``, gradient flow raises it without end, and
    the edge is at 2:

    >>> import jax, jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import CentralFlow, predicted_loss
    >>> def losses(theta, rows):
    ...     x, y = theta
    ...     return y * x**2 - 0.1 * y + 0 * rows
    >>> problem, flow = Problem(losses, jnp.zeros(1)), CentralFlow(1.0, max_critical=1)
    >>> step = jax.jit(lambda iterate: flow.step(problem, iterate, ())[0])
    >>> iterate = flow.start(problem, jnp.array([0.0, 0.9]))
    >>> for _ in range(5):
    ...     iterate = step(iterate)
    >>> round(float(iterate.memory.values[0]), 3)
    2.0
    >>> round(float(iterate.memory.covariance[0, 0]), 3)
    0.1
    >>> round(float(predicted_loss(problem, iterate)), 3)
    0.0
    """

    learning_rate: Number
    substeps: int = eqx.field(static=True, default=2)
    max_critical: int = eqx.field(static=True, default=3)
    tolerance: Number = 1e-6
    most_products: int = eqx.field(static=True, default=32)

    def __check_init__(self):
        check_positive("learning_rate", self.learning_rate)
        check_positive("tolerance", self.tolerance)
        check_count("max_critical", self.max_critical)
        check_count("most_products", self.most_products)
        check_substeps(self.substeps)
        if self.max_critical > self.most_products:
            raise ValueError(
                f"most_products must be at least max_critical = {self.max_critical}, got "
                f"{self.most_products}: every eigenpair takes at least one product."
            )

    def start(self, problem, theta):
        """Find the largest eigenpairs; nothing oscillates."""
        flat, _ = ravel_pytree(theta)
        k = min(self.max_critical, flat.size)
        none = jnp.zeros((), jnp.int32)
        blank = CentralState(
            jnp.zeros(k, flat.dtype),
            jnp.zeros((k, flat.size), flat.dtype),
            jnp.zeros((k, k), flat.dtype),
            jnp.zeros((), flat.dtype),
            none,
            none,
        )
        return Iterate(theta, self._look(problem, theta, blank))

    def draw(self, key, step, problem, theta):
        """Draw nothing."""
        return ()

    def step(self, problem, iterate, randomness):
        """Follow the flow for ``eta`` units of time."""

        def substep(iterate: Iterate, _: None) -> tuple[Iterate, None]:
            return self._substep(problem, iterate), None

        return jax.lax.scan(substep, iterate, None, length=self.substeps)[0], None

    def _substep(self, problem: Problem, iterate: Iterate) -> Iterate:
        """Take one Euler step and look where it has led."""
        theta, state = iterate
        flat, unravel = ravel_pytree(theta)
        gradient = ravel_pytree(jax.grad(problem.empirical_risk)(theta))[0]
        eta = jnp.asarray(self.learning_rate, flat.dtype)
        h, slack = eta / self.substeps, 2 / eta - state.values

        def held() -> tuple[Array, Array, Array]:
            return _hold(problem, theta, state.vectors, gradient, slack / h)

        def free() -> tuple[Array, Array, Array]:
            return jnp.zeros_like(flat), jnp.zeros_like(state.covariance), jnp.zeros_like(h)

        near = slack[0] < (1 - _FAR) * 2 / eta
        force, covariance, certificate = jax.lax.cond(near, held, free)
        moved = flat - h * (gradient + force)
        # Written so that a NaN, too, ends the trajectory.
        moved = jax.lax.select(certificate < _UNSOLVED, moved, jnp.full_like(moved, jnp.nan))
        state = state._replace(
            covariance=covariance, certificate=certificate, substeps=state.substeps + 1
        )
        return Iterate(unravel(moved), self._look(problem, unravel(moved), state))

    def _look(self, problem: Problem, theta: PyTree, state: CentralState) -> CentralState:
        """Find the eigenpairs at ``theta`` from those nearby, and write ``X`` in their terms."""
        product = flat_product(hessian_product(problem.empirical_risk, theta), theta)
        found = follow(
            product,
            state.vectors,
            # The same for all trajectories: there is nothing random in the flow.
            jax.random.fold_in(jax.random.key(0), state.substeps),
            tolerance=self.tolerance,
            most_products=self.most_products,
            noise=self.tolerance**0.5 / 10,  # its error is that squared
        )
        turn = found.vectors @ state.vectors.T
        return state._replace(
            values=found.values,
            vectors=found.vectors,
            covariance=turn @ state.covariance @ turn.T,
            products=state.products + found.products.astype(jnp.int32),
        )


def check_substeps(substeps: int) -> None:
    """Refuse substeps with which the flow would be as unstable as gradient descent."""
    check_count("substeps", substeps)
    if substeps < 2:
        raise ValueError(
            f"substeps must be at least 2, got {substeps}: with one the Euler steps of the flow "
            "are those of gradient descent, which is unstable at the edge."
        )


def predicted_loss(problem: Problem, iterate: Iterate) -> Float[Array, ""]:
    r"""Time-averaged loss of gradient descent that a flow at the edge predicts.

    .. math:: E\,L(\theta_k) \approx L(\theta)+\tfrac12\langle\nabla^2L(\theta),\Sigma\rangle
        = L(\theta)+\tfrac12\sum_i\lambda_iX_{ii}

    Parameters
    ----------
    problem
        What is minimised.
    iterate
        Of :class:`CentralFlow` or :class:`EdgeFlow`.

    Returns
    -------
    Array
        With all oscillating eigenvalues at the edge it is :math:`L+\mathrm{tr}(X)/\eta`. Edge flow
        predicts the mean of the losses at the two ends of its oscillation, whose expansion this
        is.

    Raises
    ------
    ValueError
        If the iterate is that of another process.

    Notes
    -----
    Up to terms of the fourth power of the oscillation. Source as for :class:`CentralFlow`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import CentralFlow, predicted_loss
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.zeros(2))
    >>> iterate = CentralFlow(0.1).start(problem, jnp.array(1.0))
    >>> float(predicted_loss(problem, iterate))
    0.5
    """
    return _predicting(iterate).predicted_loss(problem, iterate.theta)


def predicted_squared_gradient(problem: Problem, iterate: Iterate) -> Float[Array, ""]:
    r"""Time-averaged squared norm of the gradients of gradient descent that a flow predicts.

    .. math:: E\,\|\nabla L(\theta_k)\|^2 \approx \|\nabla L(\theta)\|^2
        +\mathrm{tr}\big((\nabla^2L)^2\Sigma\big)
        = \|\nabla L(\theta)\|^2+\sum_i\lambda_i^2X_{ii}

    Parameters
    ----------
    problem
        What is minimised.
    iterate
        Of :class:`CentralFlow` or :class:`EdgeFlow`.

    Returns
    -------
    Array
        Edge flow predicts the mean over the two ends of its oscillation.

    Raises
    ------
    ValueError
        If the iterate is that of another process.

    Notes
    -----
    The second order has one more term, :math:`\nabla L\cdot\nabla\langle\nabla^2L,\Sigma\rangle`,
    which is left out as in the source: it is smaller by a factor of the order of
    :math:`\eta\|\nabla L\|\,\|\nabla\lambda\|/\lambda`. Source as for :class:`CentralFlow`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import CentralFlow, predicted_squared_gradient
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.zeros(2))
    >>> iterate = CentralFlow(0.1).start(problem, jnp.array(2.0))
    >>> float(predicted_squared_gradient(problem, iterate))
    4.0
    """
    return _predicting(iterate).predicted_squared_gradient(problem, iterate.theta)


def _predicting(iterate: Iterate) -> Any:
    if not hasattr(iterate.memory, "predicted_loss"):
        raise ValueError(
            "the iterate must be one of CentralFlow or EdgeFlow, which predict averages of "
            f"gradient descent; its memory is of the type {type(iterate.memory).__name__}."
        )
    return iterate.memory


def _hold(
    problem: Problem,
    theta: PyTree,
    vectors: Float[Array, "k p"],
    gradient: Float[Array, " p"],
    room: Float[Array, " k"],
) -> tuple[Float[Array, " p"], Float[Array, "k k"], Float[Array, ""]]:
    """Force that keeps eigenvalues from rising faster than ``room``; ``X`` and its certificate."""
    k = vectors.shape[0]
    flat, unravel = ravel_pytree(theta)
    rows, columns = np.triu_indices(k)
    scale = jnp.asarray(np.where(rows == columns, 1.0, 2**0.5), flat.dtype)

    def risk(point: Array) -> Array:
        return problem.empirical_risk(unravel(point))

    def curvature(point: Array, u: Array, v: Array) -> Array:
        return jax.jvp(lambda point: jax.jvp(risk, (point,), (u,))[1], (point,), (v,))[1]

    # One after another: memory does not grow with their number.
    third = jax.lax.map(
        lambda pair: jax.grad(curvature)(flat, *pair), (vectors[rows], vectors[columns])
    )
    third = third * scale[:, None]  # coordinates in an orthonormal basis
    basis = jnp.asarray(symmetric_basis(k), flat.dtype)
    offset = jnp.diag(room) + jnp.einsum("a,akl->kl", third @ gradient, basis)
    found = solve_complementarity(third @ third.T / 2, offset)
    coordinates = jnp.einsum("akl,kl->a", basis, found.solution)
    return coordinates @ third / 2, found.solution, jnp.maximum(found.violation, found.gap)
