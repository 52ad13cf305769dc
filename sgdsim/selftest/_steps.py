"""What the checks ask of a stepper: many steps, the derivative of one, moments over its noise."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree
from scipy.optimize import root_scalar

from sgdsim.dynamics import AbstractStepper, Iterate
from sgdsim.problems import Problem


def derivative(
    stepper: AbstractStepper, problem: Problem, iterate: Iterate, randomness: PyTree = ()
) -> Float[Array, "state state"]:
    """Matrix of a step, linearised at an iterate with all that the process remembers.

    Parameters
    ----------
    stepper, problem
        The process.
    iterate
        Where; counters are held fixed.
    randomness
        Of that step, as ``stepper.draw`` gives it.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.dynamics import Iterate, gradient_descent
    >>> from sgdsim.problems import Quadratic
    >>> from sgdsim.selftest import derivative
    >>> bowl = Quadratic([2.0]).problem()
    >>> derivative(gradient_descent(0.25), bowl, Iterate(jnp.zeros(1))).tolist()
    [[0.5]]
    """
    moving, fixed = eqx.partition(iterate, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(moving)

    def move(state: Array) -> Array:
        start = eqx.combine(unravel(state), fixed)
        end, _ = stepper.step(problem, start, randomness)
        return ravel_pytree(eqx.filter(end, eqx.is_inexact_array))[0]

    return jax.jacfwd(move)(flat)


def spectral_radius(matrix: Any) -> float:
    """Find the largest modulus of the eigenvalues of a square matrix.

    Examples
    --------
    >>> from sgdsim.selftest import spectral_radius
    >>> round(spectral_radius([[0.0, 2.0], [-2.0, 0.0]]), 6)
    2.0
    """
    return float(np.max(np.abs(np.linalg.eigvals(np.asarray(matrix)))))


def crossing(
    matrix: Callable[[Array], Array | np.ndarray], low: float | int, high: float | int
) -> float:
    """Find the number at which the spectral radius of a matrix passes one.

    Parameters
    ----------
    matrix
        From the number to the matrix.
    low, high
        A number where the radius is below one and a number where it is above.

    Raises
    ------
    ValueError
        If both are on the same side.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.selftest import crossing
    >>> round(crossing(lambda x: np.array([[1.0 - 0.5 * x]]), 1.0, 9.0), 3)
    4.0
    """

    def above(number: float) -> float:
        return spectral_radius(matrix(jnp.asarray(number))) - 1.0

    found = root_scalar(above, bracket=(low, high), method="brentq", xtol=1e-300, rtol=1e-14)
    return float(found.root)


def after(
    stepper: AbstractStepper, problem: Problem, theta: PyTree, steps: int | Int[Array, ""]
) -> PyTree:
    """Parameters after many steps of a process without noise.

    Parameters
    ----------
    stepper, problem
        The process.
    theta
        Start.
    steps
        How many; may be traced.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.dynamics import gradient_descent
    >>> from sgdsim.problems import Quadratic
    >>> from sgdsim.selftest import after
    >>> after(gradient_descent(0.25), Quadratic([2.0]).problem(), jnp.ones(1), 3).tolist()
    [0.125]
    """

    def move(_: Array, iterate: Iterate) -> Iterate:
        return stepper.step(problem, iterate, ())[0]

    return jax.lax.fori_loop(0, steps, move, stepper.start(problem, theta)).theta
