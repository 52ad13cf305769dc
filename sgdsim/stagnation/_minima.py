"""Minima: descent by L-BFGS, refinement by Newton, a check that the point is a minimum."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree
from scipy.optimize import minimize

from sgdsim._errors import SgdsimError
from sgdsim.curvature import ExtremeEigenvalues, hessian_product, lanczos, random_direction
from sgdsim.problems import Problem

_NEWTON_STEPS = 30
_ESCAPES = 5


class Minimum(NamedTuple):
    r"""A point where the gradient vanishes and no negative Hessian eigenvalue was found.

    Attributes
    ----------
    theta
        Parameters, float64.
    risk
        Penalised empirical risk.
    gradient_norm
        Euclidean norm of the gradient.
    spectrum
        Ritz values of the Hessian with residuals. The smallest one is an upper bound on the
        smallest eigenvalue; its residual says how near to it some eigenvalue lies.
    """

    theta: PyTree
    risk: float
    gradient_norm: float
    spectrum: ExtremeEigenvalues


def find_minimum(
    problem: Problem,
    start: PyTree,
    tolerance: float = 1e-8,
    max_iterations: int = 20_000,
    depth: int = 200,
) -> Minimum:
    r"""Find a local minimum of the empirical risk near ``start``, in float64.

    L-BFGS (scipy) descends, Newton steps with conjugate gradients refine until
    :math:`\|\nabla L_n\| \le` ``tolerance``, Lanczos looks for negative curvature; from a saddle
    the descent goes on along the direction of negative curvature.

    Parameters
    ----------
    problem
        Problem with float64 data (``problem.astype(float)`` with x64 enabled).
    start
        Start point.
    tolerance
        Largest gradient norm of the result.
    max_iterations
        Of L-BFGS.
    depth
        Hessian products of the Lanczos run.

    Raises
    ------
    SgdsimError
        If the gradient norm stays above the tolerance or every point found is a saddle; the
        message gives the number that failed.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim import Problem, find_minimum
    >>> with jax.enable_x64(True):
    ...     rows = jnp.array([1.0, 2.0, 6.0])
    ...     found = find_minimum(Problem(lambda t, z: 0.5 * (t - z) ** 2, rows), jnp.zeros(()))
    >>> round(float(found.theta), 6)
    3.0
    """
    flat, unravel = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), start))
    risk = _Risk(problem, unravel)
    point, smallest = np.asarray(flat), float("nan")
    for _ in range(_ESCAPES):
        point = _descend(risk, point, max_iterations, tolerance)
        point, norm = _refine(risk, point, tolerance)
        if not norm <= tolerance:
            raise SgdsimError(
                f"no minimum found: the gradient norm stays at {norm:.2e}, above the tolerance "
                f"{tolerance:.0e}; raise minimum.max_iterations (now {max_iterations}) or the "
                "tolerance."
            )
        theta = unravel(jnp.asarray(point))
        spectrum = hessian_spectrum(problem, theta, depth)
        smallest = float(spectrum.smallest[0])
        if not is_negative(*spectrum.smallest):
            return Minimum(theta, float(risk.value(point)), norm, spectrum)
        point = _leave_saddle(risk, point, np.asarray(spectrum.vectors[0]))
    raise SgdsimError(
        f"no minimum found: after {_ESCAPES} descents the point is still a saddle "
        f"(smallest Hessian eigenvalue {smallest:.2e}); try another minimum.seed."
    )


def hessian_spectrum(problem: Problem, theta: PyTree, depth: int) -> ExtremeEigenvalues:
    """Ritz values of the Hessian of the empirical risk at ``theta``, compiled once per shape."""
    return _spectrum(problem, theta, depth)


def is_negative(smallest: Float[Array, "*n"], residual: Float[Array, "*n"]) -> Bool[Array, "*n"]:
    """Whether a smallest Ritz value is below zero by more than its residual and rounding."""
    return smallest < -jnp.maximum(residual, 1e-9)


class _Risk:
    """Compiled value, gradient and Newton direction on flat float64 vectors."""

    def __init__(self, problem: Problem, unravel: Callable):
        def value(flat: Array, data: Problem) -> Array:
            return data.empirical_risk(unravel(flat))

        self._problem = problem
        self._value_and_grad = jax.jit(jax.value_and_grad(value))

        @jax.jit
        def newton(flat: Array, damping: Array, data: Problem) -> Array:
            gradient = jax.grad(value)(flat, data)
            product = hessian_product(lambda v: value(v, data), flat)
            step, _ = jax.scipy.sparse.linalg.cg(
                lambda v: product(v) + damping * v, -gradient, tol=1e-10, maxiter=500
            )
            return step

        self._newton = newton

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self._value_and_grad(jnp.asarray(flat), self._problem)
        return float(value), np.asarray(gradient)

    def value(self, flat: np.ndarray) -> float:
        return self(flat)[0]

    def gradient_norm(self, flat: np.ndarray) -> float:
        return float(np.linalg.norm(self(flat)[1]))

    def newton_step(self, flat: np.ndarray, damping: float) -> np.ndarray:
        return np.asarray(self._newton(jnp.asarray(flat), jnp.asarray(damping), self._problem))


def _descend(risk: _Risk, point: np.ndarray, max_iterations: int, tolerance: float) -> np.ndarray:
    options = {
        "maxiter": max_iterations,
        "maxfun": 2 * max_iterations,
        "ftol": 0.0,
        "gtol": tolerance / 10,
        "maxcor": 50,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # line search at the limit of precision
        return minimize(risk, point, jac=True, method="L-BFGS-B", options=options).x


def _refine(risk: _Risk, point: np.ndarray, tolerance: float) -> tuple[np.ndarray, float]:
    """Damped Newton steps, accepted only if the gradient norm falls."""
    norm = risk.gradient_norm(point)
    damping = 0.0
    for _ in range(_NEWTON_STEPS):
        if norm <= tolerance / 10:
            break
        candidate = point + risk.newton_step(point, damping)
        after = risk.gradient_norm(candidate)
        if after < norm:
            point, norm, damping = candidate, after, damping / 10
        else:
            damping = max(10 * damping, 1e-8)
    return point, norm


def _leave_saddle(risk: _Risk, point: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Go along the direction of negative curvature to where the risk is lowest."""
    lengths = np.geomspace(1e-3, 1.0, 13)
    candidates = [point + sign * length * direction for sign in (1, -1) for length in lengths]
    return min(candidates, key=risk.value)


def _spectrum_of(problem: Problem, theta: PyTree, depth: int) -> ExtremeEigenvalues:
    start = random_direction(jax.random.key(0), theta)
    return lanczos(hessian_product(problem.empirical_risk, theta), start, depth)


_spectrum = jax.jit(_spectrum_of, static_argnums=2)
