"""Where a discrete algorithm gets the gradient of a step from: all rows, a batch, a noise model."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim._checks import check_count, check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._noise import AbstractGradientNoise
from sgdsim.dynamics._random import step_normal
from sgdsim.problems import OutputLoss, Problem

# Batches have a stream of their own below the key of the step. JAX draws them from the first two
# children of a key, and those are the keys of the normals of the first two leaves of theta.
_BATCHES = 0x62617463
# The noise of labels, below the key of the trajectory: models of gradient noise use that itself.
_LABELS = 0x6C61626C
# Noise on top of a source that may be noisy itself has one below the key of the trajectory.
_ADDED = 0x61646465


class AbstractGradientSource(eqx.Module):
    """An estimate of the gradient of the empirical risk; concrete classes are final."""

    def check(self, problem: Problem, theta: PyTree) -> None:
        """Refuse, before anything is traced, a problem or parameters that do not fit."""

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
        Rows per batch, at most those of the problem.
    replacement
        Draw rows independently (covariance ``C/B``) or without replacement within the batch
        (covariance ``C/B * (n-B)/(n-1)``).
    """

    batch_size: int = eqx.field(static=True)
    replacement: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_count("batch_size", self.batch_size)

    def check(self, problem, theta):
        """Refuse a batch of more rows than there are."""
        if self.batch_size > problem.n:
            raise ValueError(
                f"a batch of {self.batch_size} rows cannot be drawn "
                f"{'' if self.replacement else 'without replacement '}from {problem.n} rows: it "
                f"would cost more than the full gradient; take at most {problem.n}, or all rows "
                "by gradient descent."
            )

    def draw(self, key, step, problem, theta):
        """Rows of the batch."""
        key = jax.random.fold_in(jax.random.fold_in(key, step), _BATCHES)
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

    def check(self, problem, theta):
        """Check the noise."""
        self.noise.check(problem, theta)

    def draw(self, key, step, problem, theta):
        """Draw the normals of the noise."""
        return self.noise.draw(key, step, problem, theta)

    def gradient(self, problem, theta, randomness):
        """Fused where the noise model fuses."""
        return self.noise.gradient(problem, theta, randomness)


class NoisyGradient(AbstractGradientSource):
    r"""Another source plus a model of the noise on top, :math:`g + \xi`.

    Parameters
    ----------
    source
        Where the gradient comes from.
    noise
        What is added.
    """

    source: AbstractGradientSource
    noise: AbstractGradientNoise

    def check(self, problem, theta):
        """Check both."""
        self.source.check(problem, theta)
        self.noise.check(problem, theta)

    def draw(self, key, step, problem, theta):
        """Draw for both; the source shares its stream with other steppers of the same key."""
        of_noise = jax.random.fold_in(key, _ADDED)
        return (
            self.source.draw(key, step, problem, theta),
            self.noise.draw(of_noise, step, problem, theta),
        )

    def gradient(self, problem, theta, randomness):
        """Add the two."""
        of_source, normals = randomness
        gradient, risk = self.source.gradient(problem, theta, of_source)
        noise = self.noise.root(problem, theta, normals)
        return jax.tree.map(jnp.add, gradient, noise), risk


class LabelNoiseGradient(AbstractGradientSource):
    r"""Gradient on a batch whose labels carry fresh Gaussian noise.

    .. math:: \nabla_\theta\,\frac1B\sum_{i\in b}\big(\ell_i(\theta)
        - s\,\zeta_i\cdot f(\theta,z_i)\big), \qquad \zeta_i\sim N(0,I_k)

    That is the gradient with labels :math:`y_i + s\zeta_i` for losses which the label enters as
    :math:`-y\cdot f`: half the squared error, and cross-entropy with one-hot targets.

    Parameters
    ----------
    batch_size
        Rows per batch.
    std
        ``s``, standard deviation of the noise of each component of a label.
    replacement
        As in :class:`MinibatchGradient`, whose batches it draws.

    Notes
    -----
    The problem's ``losses`` must be an ``OutputLoss``. For a squared error *without* the factor
    one half, labels with noise ``s`` need ``std = 2 s``. One backward pass.
    Source: Blanc et al. 2020, section 2 (label noise SGD).

    Examples
    --------
    >>> from sgdsim.dynamics import LabelNoiseGradient
    >>> LabelNoiseGradient(8, 0.1).std
    0.1
    """

    batch_size: int = eqx.field(static=True)
    std: Number
    replacement: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_count("batch_size", self.batch_size)
        check_positive("std", self.std)

    def check(self, problem, theta):
        """Refuse a problem without outputs, and a batch of more rows than there are."""
        _output_loss(problem)
        MinibatchGradient(self.batch_size, self.replacement).check(problem, theta)

    def draw(self, key, step, problem, theta):
        """Rows of the batch and standard normals, one per row and output."""
        outputs = jax.eval_shape(_output_loss(problem).outputs, theta, problem.data)
        rows = MinibatchGradient(self.batch_size, self.replacement).draw(key, step, problem, theta)
        shape = (self.batch_size, *outputs.shape[1:])
        key = jax.random.fold_in(key, _LABELS)
        return rows, step_normal(key, step, shape, outputs.dtype)

    def gradient(self, problem, theta, randomness):
        """One backward pass over the batch, whose loss carries the noise."""
        rows, normals = randomness
        losses, batch = _output_loss(problem), problem.take(rows)
        noise = jnp.asarray(self.std, normals.dtype) * normals

        def noisy(outputs, data):
            penalties = jnp.sum((noise * outputs).reshape(len(noise), -1), axis=1)
            return losses.loss(outputs, data) - penalties

        batch = Problem(OutputLoss(losses.outputs, noisy), batch.data, batch.ridge)
        return jax.grad(batch.empirical_risk)(theta), None


def _output_loss(problem: Problem) -> OutputLoss:
    if not isinstance(problem.losses, OutputLoss):
        raise ValueError(
            "label noise needs a problem whose losses is an OutputLoss(outputs, loss), got "
            f"{problem.losses!r}: the noise enters through the outputs of the model."
        )
    return problem.losses
