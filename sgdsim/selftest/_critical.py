"""Critical sharpness (C17): from losses alone, against the eigenvalues of a quadratic."""

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim.curvature import critical_sharpness
from sgdsim.problems import Quadratic
from sgdsim.selftest._line import Line, close

_EIGENVALUES = np.array([0.5, 3.0, 7.0])


def critical_sharpnesses() -> list[Line]:
    """Critical sharpness along the gradient, at an eigenvector and at a point between them."""
    angle = 0.7
    rotation = np.eye(3)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    bowl = Quadratic(_EIGENVALUES, jnp.asarray(rotation))
    mixed = np.array([2.0, -1.0, 0.5])
    gradient = _EIGENVALUES * mixed
    quotient = gradient @ (_EIGENVALUES * gradient) / (gradient @ gradient)
    points = {"an eigenvector": ([0.0, 1.0, 0.0], 3.0), "a point between": (mixed, quotient)}
    return [
        close(
            f"critical sharpness along the gradient, quadratic, {name}",
            "Kalra et al. 2026",
            expected,
            _critical(bowl, jnp.asarray(rotation @ coordinates)),
            1e-9,
        )
        for name, (coordinates, expected) in points.items()
    ]


def _critical(bowl: Quadratic, theta: jax.Array) -> float:
    """Search from a learning rate that is far too small."""
    find = jax.jit(
        lambda point: critical_sharpness(
            bowl.risk, point, jax.grad(bowl.risk)(point), 0.01, most=20
        )
    )
    return float(find(theta).value)
