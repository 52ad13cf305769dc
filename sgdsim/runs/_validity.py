"""Probes of the dynamics study: what the verdict on the SDE needs of an iterate, in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from sgdsim.curvature import hessian_product, hessian_trace, lanczos, random_direction
from sgdsim.dynamics import MinibatchNoise
from sgdsim.problems import Problem, cast, stream
from sgdsim.scenario import Dynamics
from sgdsim.stability import noise_shape

_DEPTH = 24
_TRACE_PROBES = 16
#: Directions along which the noise is compared with a Gaussian.
_KURTOSIS_DIRECTIONS = 3


class ValidityProber(eqx.Module):
    """What a probe needs.

    Parameters
    ----------
    problem
        In float64.
    batch_size
        ``B`` of batches with the same noise that are drawn with replacement; ``None`` without
        noise of batches.
    eigenvalues
        How many of the largest eigenvalues are kept.
    """

    problem: Problem
    batch_size: Float[Array, ""] | None
    eigenvalues: int = eqx.field(static=True)

    def __call__(self, theta: PyTree, key: Array) -> dict[str, Array]:
        """Measure one iterate."""
        theta = cast(theta, jnp.float64)
        size = ravel_pytree(theta)[0].size
        product = hessian_product(self.problem.empirical_risk, theta)
        ritz = lanczos(product, random_direction(key, theta), max(_DEPTH, 2 * self.eigenvalues))
        trace = hessian_trace(self.problem, theta, jax.random.fold_in(key, 1), _TRACE_PROBES)
        kept = min(self.eigenvalues, size)
        missing = jnp.full(self.eigenvalues - kept, jnp.nan)
        measured = {
            "hessian_eigenvalue": jnp.append(ritz.values[::-1][:kept], missing),
            "hessian_residual": jnp.append(ritz.residuals[::-1][:kept], missing),
            "hessian_trace": trace.value,
            "hessian_trace_stderr": trace.stderr,
        }
        if self.batch_size is not None and self.problem.n > 1:
            top = ritz.vectors[::-1][: min(_KURTOSIS_DIRECTIONS, kept)]
            kurtosis = noise_shape(self.problem, theta, top, self.batch_size).excess_kurtosis
            known = jnp.where(jnp.isnan(kurtosis), 0.0, kurtosis)
            measured["noise_kurtosis"] = kurtosis[jnp.argmax(jnp.abs(known))]
        return measured


def effective_batch_size(dynamics: Dynamics, rows: int) -> float | None:
    """Size of a batch with replacement whose noise is that of a process; ``None`` without one."""
    size: int | None = getattr(dynamics, "batch_size", None)
    if size is None or not dynamics.draws_rows:
        return None
    noise = MinibatchNoise(size, dynamics.repeats_rows)
    equivalent = float(noise.equivalent_batch_size(rows))
    return equivalent if np.isfinite(equivalent) else None


def build_validity_prober(problem: Problem, eigenvalues: int, dynamics: Dynamics) -> ValidityProber:
    """Assemble the prober of one process."""
    size = effective_batch_size(dynamics, problem.n)
    size = None if size is None else jnp.asarray(size)
    return ValidityProber(problem.astype(jnp.float64), size, eigenvalues)


@eqx.filter_jit
def probe_validity(
    prober: ValidityProber,
    thetas: PyTree,
    diverged: Bool[Array, " member"],
    seed: Int[Array, ""],
    step: Int[Array, ""],
) -> dict[str, Array]:
    """Probe the members one by one; what a diverged one would measure is NaN."""
    root = jax.random.fold_in(stream(seed, "probe"), step)

    def one(member: tuple[Array, PyTree, Array]) -> dict[str, Array]:
        number, theta, lost = member
        measured = prober(theta, jax.random.fold_in(root, number))
        return {name: jnp.where(lost, jnp.nan, value) for name, value in measured.items()}

    return jax.lax.map(one, (jnp.arange(diverged.shape[0]), thetas, diverged))
