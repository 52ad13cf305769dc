"""Operators made of first derivatives: Gauss-Newton, Fisher, and the noise of the gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sgdsim.curvature._products import MatVec
from sgdsim.problems import OutputLoss, Problem


def gauss_newton_product(problem: Problem, theta: PyTree) -> MatVec:
    r"""Generalised Gauss-Newton matrix, the Hessian without the curvature of the model.

    .. math:: Gv = \frac1n \sum_{i=1}^n J_i^\top\,(\partial_f^2\ell_i)\,J_i v + rv

    Parameters
    ----------
    problem
        Its ``losses`` must be an `OutputLoss`, which tells outputs from loss.
    theta
        Where.

    Returns
    -------
    Callable
        The operator on pytrees shaped like ``theta``.

    Raises
    ------
    ValueError
        If the losses do not show their outputs.

    Notes
    -----
    Positive semidefinite if the loss is convex in the outputs. The ridge r is part of it, as it
    is part of the Hessian: the difference of the two is the curvature of the model alone. For
    cross-entropy of logits and for half squared errors the second derivative of the loss does not
    depend on the label, and this matrix *is* the Fisher matrix of the model (plus the ridge), see
    `fisher_product`. Schraudolph 2002, "Fast curvature matrix-vector products".

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import OutputLoss, Problem
    >>> from sgdsim.curvature import gauss_newton_product
    >>> losses = OutputLoss(lambda theta, z: theta**2 * z[:, None], lambda f, z: 0.5 * f[:, 0] ** 2)
    >>> problem = Problem(losses, jnp.ones(2))
    >>> float(gauss_newton_product(problem, jnp.asarray(3.0))(jnp.asarray(1.0)))
    36.0
    """
    loss = _output_loss(problem, "The Gauss-Newton matrix")

    def outer(outputs: Array, direction: Array) -> Array:
        mean = lambda f: jnp.mean(loss.loss(f, problem.data))  # noqa: E731
        return jax.jvp(jax.grad(mean), (outputs,), (direction,))[1]

    return _through_outputs(loss, problem, theta, outer)


def fisher_product(
    problem: Problem, theta: PyTree, curvature: Callable[[Array, Array], Array]
) -> MatVec:
    r"""Fisher information of the model whose negative log-likelihood is the loss.

    .. math:: Fv = \frac1n \sum_{i=1}^n J_i^\top\,
        E_{y\sim p(\cdot|f_i)}[\partial_f\ell\,\partial_f\ell^\top]\,J_i v

    Parameters
    ----------
    problem
        Its ``losses`` must be an `OutputLoss`.
    theta
        Where.
    curvature
        ``curvature(outputs, direction) -> product``, row by row, with the expectation over labels
        drawn from the model: `softmax_fisher` for cross-entropy, `gaussian_fisher` for half
        squared errors.

    Returns
    -------
    Callable
        The operator on pytrees shaped like ``theta``, without the ridge.

    Raises
    ------
    ValueError
        If the losses do not show their outputs.

    Notes
    -----
    Labels come from the model, not from the data (that is `empirical_fisher_product`). For
    cross-entropy of logits and half squared errors it equals `gauss_newton_product` without the
    ridge, by another route: Martens 2020, "New insights and perspectives on the natural gradient
    method", section 9.2.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import OutputLoss, Problem
    >>> from sgdsim.curvature import fisher_product, gaussian_fisher
    >>> losses = OutputLoss(lambda theta, z: theta**2 * z[:, None], lambda f, z: 0.5 * f[:, 0] ** 2)
    >>> product = fisher_product(Problem(losses, jnp.ones(2)), jnp.asarray(3.0), gaussian_fisher)
    >>> float(product(jnp.asarray(1.0)))
    36.0
    """
    loss = _output_loss(problem, "The Fisher matrix")
    bare = Problem(problem.losses, problem.data)
    return _through_outputs(loss, bare, theta, lambda f, u: curvature(f, u) / f.shape[0])


def softmax_fisher(
    outputs: Float[Array, "n k"], direction: Float[Array, "n k"]
) -> Float[Array, "n k"]:
    r"""Fisher information of a class given its logits, :math:`(\mathrm{diag}(p)-pp^\top)u`.

    Parameters
    ----------
    outputs
        Logits, shape (n, k).
    direction
        What it is multiplied with, shape (n, k).

    Returns
    -------
    Array
        Products row by row, shape (n, k).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import softmax_fisher
    >>> softmax_fisher(jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]])).tolist()
    [[0.25, -0.25]]
    """
    p = jax.nn.softmax(outputs, axis=-1)
    return p * (direction - jnp.sum(p * direction, axis=-1, keepdims=True))


def gaussian_fisher(
    outputs: Float[Array, "n k"], direction: Float[Array, "n k"]
) -> Float[Array, "n k"]:
    """Fisher information of a normal label of unit variance given its mean: the identity.

    Parameters
    ----------
    outputs
        Means, shape (n, k); only their shape matters.
    direction
        What it is multiplied with, shape (n, k).

    Returns
    -------
    Array
        ``direction``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import gaussian_fisher
    >>> gaussian_fisher(jnp.zeros((1, 2)), jnp.array([[1.0, 5.0]])).tolist()
    [[1.0, 5.0]]
    """
    return direction


def empirical_fisher_product(problem: Problem, theta: PyTree) -> MatVec:
    r"""Second moment of the gradients of single rows, the "empirical Fisher" matrix.

    .. math:: v \mapsto \frac1n \sum_{i=1}^n g_i\,(g_i^\top v)

    Parameters
    ----------
    problem, theta
        Where; the gradient of every row holds the whole ridge.

    Returns
    -------
    Callable
        The operator on pytrees shaped like ``theta``.

    Notes
    -----
    Not the Fisher matrix: it takes the labels of the data, and vanishes with the losses (Kunstner,
    Hennig and Balles 2019). One forward and one reverse derivative per product; memory O(n + p).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.curvature import empirical_fisher_product
    >>> problem = Problem(lambda theta, z: z * theta, jnp.array([1.0, 3.0]))
    >>> float(empirical_fisher_product(problem, jnp.asarray(0.0))(jnp.asarray(1.0)))
    5.0
    """
    return _weighted_gradients(problem, theta, lambda slopes: slopes)


def noise_covariance_product(problem: Problem, theta: PyTree) -> MatVec:
    r"""Covariance of the gradient of a single row, the noise of SGD with batches of one.

    .. math:: Cv = \frac1n \sum_{i=1}^n g_i\,(g_i^\top v) - \bar g\,(\bar g^\top v)

    Parameters
    ----------
    problem, theta
        Where.

    Returns
    -------
    Callable
        The operator on pytrees shaped like ``theta``.

    Notes
    -----
    A batch of B rows drawn with replacement has the covariance C / B. The slopes
    :math:`g_i^\top v` are centred before they weigh the gradients, so that a large mean gradient
    costs no digits. The ridge cancels.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.curvature import noise_covariance_product
    >>> problem = Problem(lambda theta, z: z * theta, jnp.array([1.0, 3.0]))
    >>> float(noise_covariance_product(problem, jnp.asarray(0.0))(jnp.asarray(1.0)))
    1.0
    """
    bare = Problem(problem.losses, problem.data)
    return _weighted_gradients(bare, theta, lambda slopes: slopes - jnp.mean(slopes))


def _output_loss(problem: Problem, what: str) -> OutputLoss:
    if not isinstance(problem.losses, OutputLoss):
        raise ValueError(
            f"{what} needs the outputs of the model: make the losses of the problem an "
            "OutputLoss(outputs, loss)."
        )
    return problem.losses


def _through_outputs(
    loss: OutputLoss, problem: Problem, theta: PyTree, outer: Callable[[Array, Array], Array]
) -> MatVec:
    """``J^T outer(f, J v)`` plus the ridge, with one forward and one reverse derivative."""

    def matvec(v: PyTree) -> PyTree:
        model = lambda point: loss.outputs(point, problem.data)  # noqa: E731
        outputs, pullback = jax.vjp(model, theta)
        (product,) = pullback(outer(outputs, jax.jvp(model, (theta,), (v,))[1]))
        return jax.tree.map(lambda a, b: a + jnp.asarray(problem.ridge, b.dtype) * b, product, v)

    return matvec


def _weighted_gradients(problem: Problem, theta: PyTree, weigh: Callable[[Array], Array]) -> MatVec:
    """Mean over rows of ``weigh(slopes)_i g_i``, where the slopes are ``g_i^T v``."""

    def matvec(v: PyTree) -> PyTree:
        slopes = jax.jvp(problem.per_sample_losses, (theta,), (v,))[1]
        (product,) = jax.vjp(problem.per_sample_losses, theta)[1](weigh(slopes) / problem.n)
        return product

    return matvec
