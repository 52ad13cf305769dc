"""Gradient noise that enters through the outputs of a model: Hessian-aligned, label noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._noise import AbstractGradientNoise
from sgdsim.dynamics._per_sample import block_of_rows, sum_over_rows
from sgdsim.dynamics._random import step_normal
from sgdsim.problems import OutputLoss, Problem, squared_norm

_FORMS = ("mse", "cross_entropy")


class AbstractOutputNoise(AbstractGradientNoise):
    r"""Noise :math:`\sqrt{v}\sum_i J_i^\top A_i\xi_i` of the outputs, ``J_i`` their Jacobians.

    Its covariance is :math:`\Sigma = v\,G`, :math:`G = \sum_i J_i^\top A_iA_i^\top J_i`. A model
    says what the number ``v`` and the small matrices ``A_i`` are; every column of
    :math:`J_i^\top A_i` has to be the gradient of a function of the parameters, on which the Ito
    correction rests.
    """

    def _variance(
        self, losses: Float[Array, " n"], outputs: Float[Array, "n k"]
    ) -> Float[Array, ""]:
        """Give ``v``, from the unpenalised losses."""
        raise NotImplementedError

    def _shape(
        self, outputs: Float[Array, "*n k"], normals: Float[Array, "*n k"]
    ) -> Float[Array, "*n k"]:
        """Multiply the normals by ``A_i``, the identity unless a model says otherwise."""
        return normals

    def check(self, problem, theta):
        """Refuse a problem without outputs, or whose outputs are not rows."""
        jax.eval_shape(lambda point: self.trace(problem, point), theta)

    def draw(self, key, counter, problem, theta):
        """Draw one standard normal per output of every row."""
        outputs = jax.eval_shape(self._loss(problem).outputs, theta, problem.data)
        return step_normal(key, counter, outputs.shape, jax.tree.leaves(theta)[0].dtype)

    def root(self, problem, theta, normals):
        """One backward pass through the outputs."""
        losses, outputs, pullback = self._forward(problem, theta)
        return pullback(self._noise(losses, outputs, normals))[0]

    def increment(self, problem, theta, normals, clock):
        """Fuse drift and noise into one cotangent of the outputs; the penalty is added apart."""
        h = clock.step_size
        loss = self._loss(problem)
        _, outputs, pullback = self._forward(problem, theta)
        losses, slope = jax.vjp(lambda values: loss.loss(values, problem.data), outputs)
        drift = slope(jnp.full_like(losses, -1 / problem.n))[0]
        noise = self._noise(losses, outputs, normals)
        moved = pullback(h * drift + jnp.sqrt(clock.noise_rate * h) * noise)[0]
        ridge = jnp.asarray(problem.ridge, losses.dtype)
        increment = jax.tree.map(lambda a, b: a - h * ridge * b, moved, theta)
        return increment, jnp.mean(losses) + 0.5 * ridge * squared_norm(theta)

    def covariance(self, problem, theta):
        """One forward and one backward pass per product."""
        losses, outputs, _ = self._forward(problem, theta)
        variance = self._variance(losses, outputs)
        gram = self._gram(problem, theta)
        return lambda v: jax.tree.map(lambda a: variance * a, gram(v))

    def trace(self, problem, theta):
        """Sum the squared norms of the columns, a block of rows at a time."""
        losses, outputs, _ = self._forward(problem, theta)
        return self._variance(losses, outputs) * self._gram_trace(problem, theta)

    def diagonal(self, problem, theta):
        """Accumulate the squares of the columns, a block of rows at a time."""
        losses, outputs, _ = self._forward(problem, theta)
        variance = self._variance(losses, outputs)

        def squares(row: PyTree) -> PyTree:
            columns = self._columns_of_row(problem, theta, row)
            return jax.tree.map(lambda a: variance * jnp.sum(jnp.square(a), axis=0), columns)

        return sum_over_rows(squares, problem.data, block_of_rows(theta, outputs.shape[1]))

    def ito_correction(self, problem, theta, learning_rate):
        r"""Exact: :math:`\frac\eta4(v\,\nabla\mathrm{tr}\,G + G\,\nabla v)`.

        Where ``v`` is a number this is the gradient of a function, as for minibatch noise.
        """

        def variance_at(point: PyTree) -> Float[Array, ""]:
            losses, outputs, _ = self._forward(problem, point)
            return self._variance(losses, outputs)

        variance, slope = jax.value_and_grad(variance_at)(theta)
        trace_slope = jax.grad(lambda point: self._gram_trace(problem, point))(theta)
        aligned = self._gram(problem, theta)(slope)
        eta = jnp.asarray(learning_rate, variance.dtype)
        return jax.tree.map(lambda a, b: eta / 4 * (variance * a + b), trace_slope, aligned)

    def _loss(self, problem: Problem) -> OutputLoss:
        if not isinstance(problem.losses, OutputLoss):
            raise ValueError(
                f"{type(self).__name__} acts through the outputs of a model, but the losses of "
                f"this problem are {problem.losses!r}; make them an OutputLoss(outputs, loss), or "
                "take MinibatchNoise, which needs no outputs."
            )
        return problem.losses

    def _forward(self, problem: Problem, theta: PyTree):
        """Unpenalised losses, outputs, and the pullback from outputs to parameters."""
        loss = self._loss(problem)
        outputs, pullback = jax.vjp(lambda point: loss.outputs(point, problem.data), theta)
        if outputs.ndim != 2:
            raise ValueError(
                f"the outputs of the problem have shape {outputs.shape}; they must be one row of "
                "outputs per row of data, shape (n, k), also for k = 1."
            )
        return loss.loss(outputs, problem.data), outputs, pullback

    def _noise(self, losses: Array, outputs: Array, normals: Array) -> Array:
        """Noise of the outputs' cotangents."""
        return jnp.sqrt(self._variance(losses, outputs)) * self._shape(outputs, normals)

    def _gram(self, problem: Problem, theta: PyTree):
        r"""Matrix-free :math:`v \mapsto Gv`."""
        loss = self._loss(problem)
        outputs, push = jax.linearize(lambda point: loss.outputs(point, problem.data), theta)
        pull = jax.linear_transpose(push, theta)
        # A is symmetric or not; its transpose is taken from the code that applies it.
        transpose = jax.linear_transpose(lambda xi: self._shape(outputs, xi), outputs)
        return lambda v: pull(self._shape(outputs, transpose(push(v))[0]))[0]

    def _gram_trace(self, problem: Problem, theta: PyTree) -> Float[Array, ""]:
        k = jax.eval_shape(self._loss(problem).outputs, theta, problem.data).shape[1]

        def of_row(row: PyTree) -> Float[Array, ""]:
            return squared_norm(self._columns_of_row(problem, theta, row))

        return sum_over_rows(of_row, problem.data, block_of_rows(theta, k))

    def _columns_of_row(self, problem: Problem, theta: PyTree, row: PyTree) -> PyTree:
        """Columns of one row's ``J^T A``, stacked along a leading axis."""
        single = problem.single(row)
        loss = self._loss(problem)
        outputs, pullback = jax.vjp(lambda point: loss.outputs(point, single.data)[0], theta)
        units = jnp.eye(outputs.shape[0], dtype=outputs.dtype)
        return jax.vmap(lambda unit: pullback(self._shape(outputs, unit))[0])(units)


class HessianAlignedNoise(AbstractOutputNoise):
    r"""Gaussian noise with a covariance in proportion to the Gauss-Newton form of the Hessian.

    .. math:: \Sigma_{\mathrm{mse}} = \frac{2L_n}{kB}\,\frac1n\sum_i J_i^\top J_i, \qquad
        \Sigma_{\mathrm{ce}} = \frac1B\,\frac1n\sum_i J_i^\top(\mathrm{diag}\,p_i-p_ip_i^\top)J_i

    with :math:`J_i` the Jacobian of the ``k`` outputs of row ``i``, :math:`p_i` their softmax and
    :math:`L_n` the mean loss without penalty: the escape theory's noise, larger where the risk
    is larger and along sharp directions.

    Parameters
    ----------
    batch_size
        ``B``; it may be any positive number, since it only scales the covariance.
    form
        ``"mse"`` for the loss :math:`\tfrac12\|f-y\|^2`, ``"cross_entropy"`` for the
        cross-entropy of softmax outputs. The problem's loss must be of that kind.

    Raises
    ------
    ValueError
        For an unknown form, and in use for a problem whose losses are no ``OutputLoss``.

    Notes
    -----
    MSE: the residuals of all rows and outputs are taken to be uncorrelated with the Jacobians and
    with each other, with the mean square :math:`2L_n/k`. Cross-entropy: labels are taken to be
    drawn from the model, whose second moment is the Fisher matrix; it holds near a minimum.
    A noise normal per output and row, one backward pass per step.

    Source: Mori et al. 2022, equations 10 and 12 (``k = 1``; the ``1/k`` is ours); stagnation
    theory section 3, N4.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import OutputLoss, Problem
    >>> from sgdsim.dynamics import HessianAlignedNoise
    >>> losses = OutputLoss(
    ...     outputs=lambda theta, rows: (rows[0] * theta)[:, None],
    ...     loss=lambda outputs, rows: 0.5 * (outputs[:, 0] - rows[1]) ** 2,
    ... )
    >>> problem = Problem(losses, (jnp.array([1.0, 1.0]), jnp.array([1.0, 3.0])))
    >>> float(HessianAlignedNoise(1, "mse").trace(problem, jnp.array(0.0)))
    5.0
    """

    batch_size: Number
    form: str = eqx.field(static=True)

    def __check_init__(self):
        check_positive("batch_size", self.batch_size)
        if self.form not in _FORMS:
            raise ValueError(f"form must be one of {', '.join(_FORMS)}, got {self.form!r}.")

    def _variance(self, losses, outputs):
        n, k = outputs.shape
        scale = n * jnp.asarray(self.batch_size, outputs.dtype)
        if self.form == "mse":
            return 2 * jnp.mean(losses) / (k * scale)
        if k == 1:
            raise ValueError(
                "the cross-entropy form needs one output per class, but the problem has a single "
                "output; write a binary classifier with two logits."
            )
        return 1 / scale

    def _shape(self, outputs, normals):
        """Root of ``diag p - p p^T``; column c gives twice the gradient of ``sqrt(p_c)``."""
        if self.form == "mse":
            return normals
        root = jnp.exp(0.5 * jax.nn.log_softmax(outputs, axis=-1))
        along = jnp.sum(root * normals, axis=-1, keepdims=True)
        return root * (normals - root * along)


class LabelNoise(AbstractOutputNoise):
    r"""Noise of gradients whose labels are perturbed afresh in every step.

    .. math:: \Sigma(\theta) = \frac{\sigma^2}{B}\,\frac1n\sum_i J_i^\top J_i

    with :math:`J_i` the Jacobian of the outputs of row ``i``: the labels get independent
    :math:`N(0,\sigma^2)` in all coordinates. It does not vanish where the loss does. The noise of
    the choice of the rows is not part of it.

    Parameters
    ----------
    batch_size
        ``B``; it may be any positive number, since it only scales the covariance.
    std
        :math:`\sigma`, in the units of the labels.

    Raises
    ------
    ValueError
        In use for a problem whose losses are no ``OutputLoss``.

    Notes
    -----
    For losses in which the label enters as :math:`-y^\top f`: half squared error, cross-entropy.
    Source: Blanc et al. 2020, section 2; Damian, Ma & Lee 2021, equation 2.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import OutputLoss, Problem
    >>> from sgdsim.dynamics import LabelNoise
    >>> losses = OutputLoss(
    ...     outputs=lambda theta, rows: (rows[0] * theta)[:, None],
    ...     loss=lambda outputs, rows: 0.5 * (outputs[:, 0] - rows[1]) ** 2,
    ... )
    >>> problem = Problem(losses, (jnp.array([1.0, 3.0]), jnp.array([2.0, 6.0])))
    >>> float(LabelNoise(1, std=0.5).trace(problem, jnp.array(2.0)))
    1.25
    """

    batch_size: Number
    std: Number

    def __check_init__(self):
        check_positive("batch_size", self.batch_size)
        check_positive("std", self.std)

    def _variance(self, losses, outputs):
        std = jnp.asarray(self.std, outputs.dtype)
        return std**2 / (outputs.shape[0] * jnp.asarray(self.batch_size, outputs.dtype))
