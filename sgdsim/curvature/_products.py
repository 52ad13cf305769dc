"""Symmetric operators that are never formed: a product with a direction is all they offer.

Every function here returns ``v -> A v`` on pytrees shaped like the parameters, to be handed to
`sgdsim.curvature.lanczos`, `eigenpairs` or `follow`, inside or outside of a compiled program.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim._checks import check_count
from sgdsim.problems import Problem

#: A symmetric operator on pytrees of one structure.
MatVec = Callable[[PyTree], PyTree]


def hessian_product(risk: Callable[[PyTree], Array], theta: PyTree) -> MatVec:
    r"""Matrix-free :math:`v \mapsto \nabla^2 L(\theta)v`, a forward derivative of the gradient.

    Parameters
    ----------
    risk
        Function of ``theta`` alone.
    theta
        Where; any pytree.

    Returns
    -------
    Callable
        The operator on pytrees shaped like ``theta``.

    Notes
    -----
    Where the risk has kinks (ReLU) this is the Hessian of the smooth piece that holds ``theta``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import hessian_product
    >>> product = hessian_product(lambda theta: jnp.sum(theta**3), jnp.array([1.0, 2.0]))
    >>> product(jnp.array([1.0, 1.0])).tolist()
    [6.0, 12.0]
    """

    def matvec(v: PyTree) -> PyTree:
        return jax.jvp(jax.grad(risk), (theta,), (v,))[1]

    return matvec


def chunked_hessian_product(problem: Problem, theta: PyTree, chunk: int) -> MatVec:
    r"""Hessian of the empirical risk, one chunk of rows after the other.

    .. math:: \nabla^2 L_n(\theta)v = \sum_c \frac{n_c}{n}\,\nabla^2\hat L_c(\theta)v + rv

    Parameters
    ----------
    problem, theta
        Where.
    chunk
        Rows per chunk; memory grows with it and no longer with n. The last chunk holds what is
        left over.

    Returns
    -------
    Callable
        The operator on pytrees shaped like ``theta``.

    Raises
    ------
    ValueError
        If ``chunk`` is not a positive integer.

    Notes
    -----
    Equal to `hessian_product` of the empirical risk up to the order of summation.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.curvature import chunked_hessian_product
    >>> problem = Problem(lambda theta, z: 0.5 * z * theta**2, jnp.arange(5.0), ridge=1.0)
    >>> float(chunked_hessian_product(problem, jnp.asarray(1.0), chunk=2)(jnp.asarray(1.0)))
    3.0
    """
    check_count("chunk", chunk)
    whole = problem.n // chunk

    def total_of(rows: PyTree) -> MatVec:
        return hessian_product(lambda point: jnp.sum(problem.losses(point, rows)), theta)

    def matvec(v: PyTree) -> PyTree:
        def add(total: PyTree, rows: PyTree) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, total_of(rows)(v)), None

        def stack(a: Array) -> Array:
            return a[: whole * chunk].reshape(whole, chunk, *a.shape[1:])

        total = jax.tree.map(jnp.zeros_like, v)
        if whole:
            total, _ = jax.lax.scan(add, total, jax.tree.map(stack, problem.data))
        if problem.n % chunk:
            total, _ = add(total, jax.tree.map(lambda a: a[whole * chunk :], problem.data))
        return jax.tree.map(
            lambda a, b: a / problem.n + jnp.asarray(problem.ridge, b.dtype) * b, total, v
        )

    return matvec


def block_product(product: MatVec, theta: PyTree, select: PyTree) -> MatVec:
    r"""Diagonal block of an operator, :math:`v \mapsto SASv` for a selection S of parameters.

    Parameters
    ----------
    product
        The operator.
    theta
        A pytree of its shape.
    select
        Pytree of booleans with the structure of ``theta`` or of its upper part: whole leaves or
        subtrees (``True``, ``False``), or an array that selects entries of a leaf.

    Returns
    -------
    Callable
        An operator of the same shape, zero outside of the block: its non-zero eigenvalues are
        those of the block. A start vector should be restricted to the block as well, or the zeros
        outside count as eigenvalues.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import block_product, hessian_product
    >>> theta = {"a": jnp.asarray(1.0), "b": jnp.asarray(2.0)}
    >>> product = hessian_product(lambda t: t["a"] ** 2 * t["b"] ** 2, theta)
    >>> block = block_product(product, theta, {"a": True, "b": False})
    >>> [float(leaf) for leaf in block({"a": jnp.asarray(1.0), "b": jnp.asarray(1.0)}).values()]
    [8.0, 0.0]
    """
    mask = jax.tree.map(
        lambda chosen, part: jax.tree.map(lambda a: jnp.broadcast_to(chosen, a.shape), part),
        select,
        theta,
    )

    def restrict(v: PyTree) -> PyTree:
        return jax.tree.map(lambda inside, a: jnp.where(inside, a, 0), mask, v)

    return lambda v: restrict(product(restrict(v)))


def preconditioned_product(product: MatVec, preconditioner: PyTree) -> MatVec:
    r"""Symmetric form :math:`P^{-1/2}HP^{-1/2}` of a preconditioned operator.

    Parameters
    ----------
    product
        The operator H.
    preconditioner
        Positive diagonal P as a pytree shaped like the parameters, for example
        :math:`\sqrt{\hat v}+\epsilon` of Adam.

    Returns
    -------
    Callable
        An operator with the eigenvalues of :math:`P^{-1}H`, which are what an adaptive optimizer
        compares to its threshold. Its eigenvectors are :math:`P^{1/2}` times those of
        :math:`P^{-1}H`.

    Notes
    -----
    Cohen et al. 2022, "Adaptive gradient methods at the edge of stability", section 2. Entries of
    P that are not positive give NaN.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import preconditioned_product
    >>> product = preconditioned_product(lambda v: 8.0 * v, jnp.array([4.0, 16.0]))
    >>> product(jnp.ones(2)).tolist()
    [2.0, 0.5]
    """
    scale = jax.tree.map(lambda p: jnp.where(p > 0, 1 / jnp.sqrt(p), jnp.nan), preconditioner)

    def matvec(v: PyTree) -> PyTree:
        return jax.tree.map(jnp.multiply, scale, product(jax.tree.map(jnp.multiply, scale, v)))

    return matvec


def flat_product(product: MatVec, like: PyTree) -> Callable[[Float[Array, " p"]], Array]:
    """Give an operator on pytrees as one on flat vectors.

    Parameters
    ----------
    product
        The operator on pytrees.
    like
        A pytree of the shape it takes.

    Returns
    -------
    Callable
        The operator on vectors of shape (p,), in the order of ``jax.flatten_util.ravel_pytree``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import flat_product
    >>> double = flat_product(lambda v: {"a": 2 * v["a"]}, {"a": jnp.zeros((1, 2))})
    >>> double(jnp.array([1.0, 2.0])).tolist()
    [2.0, 4.0]
    """
    unravel = ravel_pytree(like)[1]
    return lambda v: ravel_pytree(product(unravel(v)))[0]
