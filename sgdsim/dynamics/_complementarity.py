"""Semidefinite linear complementarity problems of a few dimensions, each with its certificate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sgdsim._checks import check_count

# Share of the way to the boundary of the cone that a step may go.
_OF_THE_WAY = 0.95


class Complementarity(NamedTuple):
    r"""Solution of a complementarity problem and how well it solves it.

    Attributes
    ----------
    solution
        :math:`X\succeq0`, shape ``(k, k)``.
    slack
        :math:`W=A[X]+B`, shape ``(k, k)``.
    violation
        :math:`\max(0,-\lambda_{\min}(W))` as a share of :math:`\|B_-\|`, the norm of the negative
        part of ``B``.
    gap
        :math:`|\langle X,W\rangle|` as a share of :math:`\|B_-\|\,\|X\|`.
    iterations
        Newton steps that were taken.
    """

    solution: Float[Array, "k k"]
    slack: Float[Array, "k k"]
    violation: Float[Array, ""]
    gap: Float[Array, ""]
    iterations: Int[Array, ""]


def symmetric_basis(k: int) -> Float[np.ndarray, "m k k"]:
    r"""Orthonormal basis of the symmetric matrices, :math:`m=k(k+1)/2` of them.

    .. math:: E_{ii}=e_ie_i^\top,\qquad E_{ij}=(e_ie_j^\top+e_je_i^\top)/\sqrt2\quad(i<j)

    Parameters
    ----------
    k
        Rows of a matrix.

    Returns
    -------
    basis
        In the order (0, 0), (0, 1), ..., (0, k-1), (1, 1), ...

    Examples
    --------
    >>> from sgdsim.dynamics import symmetric_basis
    >>> symmetric_basis(2).round(3).tolist()
    [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.707], [0.707, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]
    """
    check_count("k", k)
    rows, columns = np.triu_indices(k)
    basis = np.zeros((rows.size, k, k))
    number = np.arange(rows.size)
    basis[number, rows, columns] += 1.0
    basis[number, columns, rows] += 1.0
    return basis / np.linalg.norm(basis, axis=(1, 2), keepdims=True)


def solve_complementarity(
    operator: Float[Array, "m m"], offset: Float[Array, "k k"], *, most_iterations: int = 60
) -> Complementarity:
    r"""Find the positive semidefinite matrix that is complementary to an affine map of itself.

    .. math:: X\succeq0,\qquad W=A[X]+B\succeq0,\qquad \langle X,W\rangle=0

    It is the condition of optimality of the convex problem
    :math:`\min_{X\succeq0}\tfrac12\langle X,A[X]\rangle+\langle B,X\rangle`.

    Parameters
    ----------
    operator
        ``A``, symmetric and positive semidefinite, in the coordinates of :func:`symmetric_basis`:
        :math:`A_{ab}=\langle E_a,A[E_b]\rangle`.
    offset
        ``B``, symmetric.
    most_iterations
        Newton steps after which the search ends, whatever it has found.

    Returns
    -------
    Complementarity
        Solution, slack and certificate. If no solution exists, the certificate is far from zero
        and so says it.

    Raises
    ------
    ValueError
        If the shapes do not belong together.

    Notes
    -----
    One dimension has the closed form ``X = max(0, -B)/A``; with a positive semidefinite ``B`` the
    solution is zero. Otherwise a primal-dual interior-point method with Nesterov-Todd scaling
    (Todd, Toh and Tutuncu 1998): with the matrix ``N`` for which ``N W N = X``, its Newton step
    towards ``X W = s I`` solves
    :math:`N^{-1}\,dX\,N^{-1}+A[dX]=sX^{-1}-A[X]-B`, a positive definite system of ``m`` numbers.
    About ten to twenty steps reach the precision of the numbers. It can be traced, mapped and run
    inside a loop; the work of a step is of the order of ``k^6``, for ``k`` of at most ten or so.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.dynamics import solve_complementarity
    >>> found = solve_complementarity(jnp.eye(3), jnp.array([[-2.0, 0.0], [0.0, 1.0]]))
    >>> bool(jnp.allclose(found.solution, jnp.array([[2.0, 0.0], [0.0, 0.0]]), atol=1e-3))
    True
    """
    k = offset.shape[0]
    m = k * (k + 1) // 2
    if offset.shape != (k, k) or operator.shape != (m, m):
        raise ValueError(
            f"operator must have the shape {(m, m)} for an offset of {k} rows, got "
            f"{operator.shape} with an offset of the shape {offset.shape}."
        )
    # Scaled so that both the offset and the operator are of the order of one.
    values = jnp.linalg.eigvalsh(offset)
    size = jnp.linalg.norm(jnp.minimum(values, 0))
    smallest = float(jnp.finfo(offset.dtype).tiny) ** 0.5
    size = jax.lax.select(size > smallest, size, jnp.ones_like(size))
    strength = jnp.maximum(jnp.trace(operator) / m, smallest)
    problem = _Scaled(operator / strength, offset / size, jnp.asarray(symmetric_basis(k)))
    problem = jax.tree.map(lambda a: a.astype(offset.dtype), problem)
    idle = values[0] >= 0
    if k == 1:
        found, iterations = _closed_form(problem), jnp.asarray(0)
    else:
        found, iterations = _interior_point(problem, idle, most_iterations)
    found = jnp.where(idle, 0.0, found)
    slack = problem.slack(found)
    gap = jnp.abs(jnp.sum(found * slack))
    return Complementarity(
        found * (size / strength),
        slack * size,
        jnp.maximum(0, -jnp.linalg.eigvalsh(slack)[0]),
        jnp.where(idle, 0.0, gap / jnp.maximum(jnp.linalg.norm(found), smallest)),
        iterations,
    )


class _Scaled(NamedTuple):
    """The problem in numbers of the order of one."""

    operator: Float[Array, "m m"]
    offset: Float[Array, "k k"]
    basis: Float[Array, "m k k"]

    def vector(self, matrix: Float[Array, "k k"]) -> Float[Array, " m"]:
        return jnp.einsum("akl,kl->a", self.basis, matrix)

    def matrix(self, vector: Float[Array, " m"]) -> Float[Array, "k k"]:
        return jnp.einsum("a,akl->kl", vector, self.basis)

    def slack(self, matrix: Float[Array, "k k"]) -> Float[Array, "k k"]:
        return self.matrix(self.operator @ self.vector(matrix)) + self.offset


class _State(NamedTuple):
    primal: Float[Array, "k k"]
    dual: Float[Array, "k k"]
    iterations: Int[Array, ""]
    ended: Bool[Array, ""]


def _closed_form(problem: _Scaled) -> Float[Array, "1 1"]:
    return jnp.maximum(0, -problem.offset) / problem.operator


def _interior_point(
    problem: _Scaled, idle: Bool[Array, ""], most_iterations: int
) -> tuple[Float[Array, "k k"], Int[Array, ""]]:
    """Follow the central path; ``idle`` says that there is nothing to do."""
    k = problem.offset.shape[0]
    identity = jnp.eye(k, dtype=problem.offset.dtype)
    tolerance = jnp.finfo(identity.dtype).eps ** 0.6
    slack = problem.slack(identity)
    lift = jnp.maximum(0, 1 - jnp.linalg.eigvalsh(slack)[0])

    def goes_on(state: _State) -> Array:
        return ~state.ended & (state.iterations < most_iterations)

    def step(state: _State) -> _State:
        primal, dual = _newton(problem, state.primal, state.dual)
        # Rounding has the last word: what is no longer inside the cone is not taken.
        good = jnp.all(jnp.isfinite(primal)) & jnp.all(jnp.isfinite(dual))
        primal = jnp.where(good, primal, state.primal)
        dual = jnp.where(good, dual, state.dual)
        least = tolerance * (1 + jnp.linalg.norm(primal))
        near = jnp.abs(jnp.sum(primal * dual)) < least
        near &= jnp.linalg.norm(problem.slack(primal) - dual) < least
        return _State(primal, dual, state.iterations + 1, ~good | near)

    start = _State(identity, slack + lift * identity, jnp.asarray(0), idle)
    end = jax.lax.while_loop(goes_on, step, start)
    return end.primal, end.iterations


def _newton(problem: _Scaled, primal: Array, dual: Array) -> tuple[Array, Array]:
    """Take one step with Nesterov-Todd scaling, its aim found by a first step without one."""
    k = primal.shape[0]
    identity = jnp.eye(k, dtype=primal.dtype)
    lower, dual_lower = jnp.linalg.cholesky(primal), jnp.linalg.cholesky(dual)
    _, values, right = jnp.linalg.svd(dual_lower.T @ lower)
    inverse = jax.scipy.linalg.solve_triangular(lower, identity, lower=True)
    dual_inverse = jax.scipy.linalg.solve_triangular(dual_lower, identity, lower=True)
    root = jnp.sqrt(values)[:, None] * (right @ inverse)  # root.T @ root is the inverse of N
    scaled = jnp.einsum("ij,ajl,ml->aim", root, problem.basis, root)
    system = jnp.einsum("aim,bim->ab", scaled, scaled) + problem.operator
    factor = jax.scipy.linalg.cho_factor(system, lower=True)
    force, slack = problem.vector(inverse.T @ inverse), problem.slack(primal)

    def direction(aim: Array) -> tuple[Array, Array]:
        right_side = aim * force - problem.vector(slack)
        move = jax.scipy.linalg.cho_solve(factor, right_side)
        return problem.matrix(move), problem.matrix(problem.operator @ move) + slack - dual

    def longest(move: Array, dual_move: Array) -> Array:
        """Part of the step that stays inside both cones, at most one."""
        lowest = jnp.minimum(
            jnp.linalg.eigvalsh(inverse @ move @ inverse.T)[0],
            jnp.linalg.eigvalsh(dual_inverse @ dual_move @ dual_inverse.T)[0],
        )
        return jnp.where(lowest < -_OF_THE_WAY, -_OF_THE_WAY / lowest, 1.0)

    mean = jnp.sum(primal * dual) / k
    move, dual_move = direction(jnp.zeros_like(mean))
    length = longest(move, dual_move)
    reached = jnp.sum((primal + length * move) * (dual + length * dual_move)) / k
    aim = mean * jnp.clip(reached / mean, 0, 1) ** 3
    move, dual_move = direction(aim)
    length = longest(move, dual_move)
    return primal + length * move, dual + length * dual_move
