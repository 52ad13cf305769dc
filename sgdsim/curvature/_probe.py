"""Trace of the Hessian of a problem from a number of products fixed in advance."""

from jaxtyping import Array, Key, PyTree

from sgdsim.curvature._estimates import Estimate
from sgdsim.curvature._products import hessian_product
from sgdsim.curvature._trace import trace
from sgdsim.problems import Problem


def hessian_trace(problem: Problem, theta: PyTree, key: Key[Array, ""], probes: int) -> Estimate:
    r"""Hutchinson estimate of the trace of the Hessian, with its standard error.

    .. math:: \mathrm{tr}\,\nabla^2 L_n(\theta) = E[s^\top\nabla^2L_n(\theta)\,s],
        \qquad s_i = \pm 1

    Parameters
    ----------
    problem, theta
        Where.
    key
        Random key of the sign vectors.
    probes
        Number of Hessian products, at least 2; with as many as parameters the trace is exact.

    Returns
    -------
    Estimate
        Trace and standard error, which is zero where the trace is exact.

    Raises
    ------
    ValueError
        If there are fewer than two probes.

    Notes
    -----
    A thin caller of :func:`trace`, which takes fewer products for the same error.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.curvature import hessian_trace
    >>> problem = Problem(lambda theta, z: 0.5 * z * jnp.sum(theta**2), jnp.ones(2))
    >>> float(hessian_trace(problem, jnp.zeros(9), jax.random.key(0), 4).value)
    9.0
    """
    product = hessian_product(problem.empirical_risk, theta)
    found = trace(product, theta, key, relative_error=0.0, deflation=0, most=probes)
    return Estimate(found.value, found.stderr)
