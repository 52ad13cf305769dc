"""What the main job records at every recorded step."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from sgdsim.curvature import hessian_product, lanczos, random_direction
from sgdsim.problems import Problem, Rows, cross_entropies, error_rate, squared_norm


class ClassificationObserver(eqx.Module):
    """Held-out risk, error rates on both sets of rows, and the norm of the full gradient.

    Parameters
    ----------
    held_out
        Rows that SGD never sees.
    """

    held_out: Rows

    def __call__(self, problem: Problem, theta: PyTree) -> dict[str, Array]:
        """Observables of one iterate."""
        gradient = jax.grad(problem.empirical_risk)(theta)
        return {
            "test_risk": jnp.mean(cross_entropies(theta, self.held_out)),
            "error_rate": error_rate(theta, problem.data),
            "test_error_rate": error_rate(theta, self.held_out),
            "gradient_norm": jnp.sqrt(squared_norm(gradient)),
        }


class SharpnessObserver(eqx.Module):
    r"""Largest Hessian eigenvalue at recorded steps, by Lanczos.

    Parameters
    ----------
    depth
        Hessian products per recorded step.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.ensemble import SharpnessObserver
    >>> problem = Problem(lambda theta, z: z * jnp.sum(theta**2), jnp.ones(2))
    >>> round(float(SharpnessObserver()(problem, jnp.ones(3))["sharpness"]), 3)
    2.0
    """

    depth: int = eqx.field(static=True, default=24)

    def __call__(self, problem: Problem, theta: PyTree) -> dict[str, Array]:
        """Sharpness of one iterate."""
        # The start vector is the same everywhere: the recorded curve carries no sampling noise.
        start = random_direction(jax.random.key(0), theta)
        ritz = lanczos(hessian_product(problem.empirical_risk, theta), start, self.depth)
        return {"sharpness": ritz.largest[0]}


def no_observables(problem: Problem, theta: PyTree) -> dict[str, Array]:
    """Record nothing beyond loss, distance and membership.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem, no_observables
    >>> no_observables(Problem(lambda theta, z: theta - z, jnp.zeros(2)), jnp.zeros(()))
    {}
    """
    return {}
