"""Where a discrete algorithm gets the gradient of a step from: all rows, a batch, a noise model."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim.dynamics._checks import check_positive
from sgdsim.dynamics._noise import AbstractGradientNoise, Clock
from sgdsim.problems import Problem


class AbstractGradientSource(eqx.Module):
    """An estimate of the gradient of the empirical risk; concrete classes are final."""

    def draw(
        self, key: Key[Array, ""], step: Int[Array, ""], problem: Problem, theta: PyTree
    ) -> PyTree:
        """Randomness of step ``step``, from key and step alone."""
        raise NotImplementedError

    def gradient(
        self, problem: Problem, theta: PyTree, randomness: PyTree
    ) -> tuple[PyTree, Float[Array, ""] | None]:
        """Estimate the gradient.

        Returns
        -------
        gradient
            Shaped like ``theta``.
        risk
            Empirical risk on all rows where it is a by-product, else ``None``.
        """
        raise NotImplementedError


class FullGradient(AbstractGradientSource):
    r"""The gradient itself, :math:`\nabla L_n(\theta)`."""

    def draw(self, key, step, problem, theta):
        """Draw nothing."""
        return ()

    def gradient(self, problem, theta, randomness):
        """One backward pass over all rows."""
        risk, gradient = jax.value_and_grad(problem.empirical_risk)(theta)
        return gradient, risk


class MinibatchGradient(AbstractGradientSource):
    r"""Gradient on a batch, :math:`\frac1B\sum_{i\in b}\nabla\ell_i(\theta)`.

    Parameters
    ----------
    batch_size
        Rows per batch.
    replacement
        Draw rows independently (covariance ``C/B``) or without replacement within the batch
        (covariance ``C/B * (n-B)/(n-1)``).
    """

    batch_size: int = eqx.field(static=True)
    replacement: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_positive("batch_size", self.batch_size)

    def draw(self, key, step, problem, theta):
        """Rows of the batch."""
        key = jax.random.fold_in(key, step)
        if self.replacement:
            return jax.random.randint(key, (self.batch_size,), 0, problem.n)
        if self.batch_size > problem.n:
            raise ValueError(
                f"batch_size = {self.batch_size} rows cannot be drawn without replacement from "
                f"{problem.n} rows; take at most {problem.n}, or replacement=True."
            )
        return jax.random.choice(key, problem.n, (self.batch_size,), replace=False)

    def gradient(self, problem, theta, randomness):
        """One backward pass over the batch."""
        return jax.grad(problem.take(randomness).empirical_risk)(theta), None


class GaussianGradient(AbstractGradientSource):
    r"""Full gradient plus a model of the noise, :math:`\nabla L_n(\theta) + \xi`, in one pass.

    Parameters
    ----------
    noise
        Model of the gradient noise.
    """

    noise: AbstractGradientNoise

    def draw(self, key, step, problem, theta):
        """Draw the normals of the noise."""
        return self.noise.draw(key, step, problem, theta)

    def gradient(self, problem, theta, randomness):
        """Fused where the noise model fuses."""
        one = jnp.ones((), jax.tree.leaves(theta)[0].dtype)
        increment, risk = self.noise.increment(problem, theta, randomness, Clock(one, one))
        return jax.tree.map(jnp.negative, increment), risk


class NoisyGradient(AbstractGradientSource):
    r"""Another source plus a model of the noise on top, as in SGLD with minibatches.

    Parameters
    ----------
    source
        Where the gradient comes from.
    noise
        What is added.
    """

    source: AbstractGradientSource
    noise: AbstractGradientNoise

    def draw(self, key, step, problem, theta):
        """Draw for both; the noise shares its stream with other steppers of the same key."""
        return (
            self.source.draw(key, step, problem, theta),
            self.noise.draw(key, step, problem, theta),
        )

    def gradient(self, problem, theta, randomness):
        """Add the two."""
        of_source, normals = randomness
        gradient, risk = self.source.gradient(problem, theta, of_source)
        noise = self.noise.root(problem, theta, normals)
        return jax.tree.map(jnp.add, gradient, noise), risk
