"""What the main job records at every recorded step."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

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
