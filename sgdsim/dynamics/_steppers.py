"""Steppers: the ways in which theta moves by one SGD step, all behind one protocol."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim._typing import Number
from sgdsim.dynamics._checks import check_positive
from sgdsim.dynamics._noise import AbstractGradientNoise
from sgdsim.dynamics._term import FusedTerm, StepNoise
from sgdsim.problems import Problem


class AbstractStepper(eqx.Module):
    """One step of a process with learning rate ``eta``; time is ``t = eta k``.

    The randomness of a step is drawn by ``draw`` from the trajectory's key and the integer step
    alone; the loop draws it one step ahead and carries it.
    """

    learning_rate: eqx.AbstractVar[Number]

    def draw(
        self, key: Key[Array, ""], step: Int[Array, ""], problem: Problem, theta: PyTree
    ) -> PyTree:
        """Randomness of step ``step``."""
        raise NotImplementedError

    def step(
        self, problem: Problem, theta: PyTree, randomness: PyTree
    ) -> tuple[PyTree, Float[Array, ""] | None]:
        """Move ``theta`` by one step.

        Returns
        -------
        theta
            After the step.
        risk
            Empirical risk *before* the step where it is a by-product, else ``None``.
        """
        raise NotImplementedError


class GradientDescent(AbstractStepper):
    r"""Full-batch gradient descent :math:`\theta' = \theta - \eta\nabla L_n(\theta)`.

    Parameters
    ----------
    learning_rate
        ``eta``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import GradientDescent, Problem
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([1.0, 3.0]))
    >>> theta, risk = GradientDescent(0.5).step(problem, jnp.array(0.0), ())
    >>> float(theta), float(risk)
    (1.0, 2.5)
    """

    learning_rate: Number

    def __check_init__(self):
        check_positive("learning_rate", self.learning_rate)

    def draw(self, key, step, problem, theta):
        """Draw nothing."""
        return ()

    def step(self, problem, theta, randomness):
        """Take one step."""
        risk, gradient = jax.value_and_grad(problem.empirical_risk)(theta)
        return _descend(theta, gradient, self.learning_rate), risk


class MinibatchSGD(AbstractStepper):
    r"""SGD proper, :math:`\theta' = \theta - \eta\,\frac1B\sum_{i\in b}\nabla\ell_i(\theta)`.

    Parameters
    ----------
    learning_rate
        ``eta``.
    batch_size
        Rows per batch.
    replacement
        Draw rows independently (covariance ``C/B``) or without replacement within the batch
        (covariance ``C/B * (n-B)/(n-1)``).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim import MinibatchSGD, Problem
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([2.0, 2.0]))
    >>> stepper = MinibatchSGD(0.5, batch_size=1)
    >>> rows = stepper.draw(jax.random.key(0), jnp.array(0), problem, jnp.array(0.0))
    >>> float(stepper.step(problem, jnp.array(0.0), rows)[0])
    1.0
    """

    learning_rate: Number
    batch_size: int = eqx.field(static=True)
    replacement: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_positive("learning_rate", self.learning_rate)
        check_positive("batch_size", self.batch_size)

    def draw(self, key, step, problem, theta):
        """Rows of the batch."""
        key = jax.random.fold_in(key, step)
        if self.replacement:
            return jax.random.randint(key, (self.batch_size,), 0, problem.n)
        return jax.random.choice(key, problem.n, (self.batch_size,), replace=False)

    def step(self, problem, theta, randomness):
        """Take one step."""
        gradient = jax.grad(problem.take(randomness).empirical_risk)(theta)
        return _descend(theta, gradient, self.learning_rate), None


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

    def step(self, problem, theta, randomness):
        """Take one step of ``eta`` units of time."""
        dtype = jax.tree.leaves(theta)[0].dtype
        eta = jnp.asarray(self.learning_rate, dtype)
        solver = diffrax.Euler()

        def substep(theta: PyTree, normals: PyTree) -> tuple[PyTree, Any]:
            path = StepNoise(normals)
            term = FusedTerm(problem, self.noise, path, eta / self.substeps, eta)
            state = (theta, jnp.zeros((), dtype))
            (theta, risk), *_ = solver.step(term, 0.0, 1.0, state, None, None, False)
            return theta, risk

        if self.substeps == 1:
            return substep(theta, randomness)
        theta, risks = jax.lax.scan(substep, theta, randomness)
        return theta, risks[0]


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


def _descend(theta: PyTree, gradient: PyTree, learning_rate: Any) -> PyTree:
    return jax.tree.map(lambda a, g: a - jnp.asarray(learning_rate, a.dtype) * g, theta, gradient)
