"""Probes: what is measured on the whole ensemble at the end of every time chunk, in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim.curvature import (
    batch_sharpness,
    hessian_product,
    hessian_trace,
    lanczos,
    random_direction,
)
from sgdsim.dynamics import (
    AbstractGradientNoise,
    build_noise,
    noise_alignment,
    probe_noise,
)
from sgdsim.ensemble import EnsembleState, Layout, map_ensemble
from sgdsim.problems import (
    ClassificationTask,
    Network,
    Problem,
    Rows,
    cast,
    inner,
    margins,
    squared_norm,
    stream,
)
from sgdsim.scenario import StagnationScenario

#: What a probe measures for the ``/curvature`` group.
CURVATURE_VARIABLES = (
    "hessian_eigenvalue",
    "hessian_residual",
    "hessian_trace",
    "hessian_trace_stderr",
    "batch_sharpness",
    "batch_sharpness_stderr",
    "noise_operator_norm",
    "noise_operator_norm_residual",
    "noise_trace",
    "noise_alignment",
    "noise_effective_rank",
)

_HESSIAN_DEPTH = 24
_TRACE_PROBES = 8
_SHARPNESS_BATCHES = 16


class Prober(eqx.Module):
    """Everything that a probe needs; data and numbers are traced.

    Parameters
    ----------
    problem, held_out
        Training problem and held-out rows, float64.
    noise
        Covariance model of the gradient noise of one step; ``None`` without noise.
    centre
        Minimum on the training rows, centre of the stagnation set.
    learning_rate
        ``eta``, for the contraction of one gradient step.
    batch_size
        Rows per batch for the batch sharpness; ``None`` if the process has no batches.
    """

    problem: Problem
    held_out: Rows
    noise: AbstractGradientNoise | None
    centre: Network
    learning_rate: Float[Array, ""]
    batch_size: int | None = eqx.field(static=True)

    def __call__(self, theta: Network, key: Key[Array, ""]) -> dict[str, Array]:
        """Measure one iterate; ``key`` makes the start vectors, signs and batches."""
        theta = cast(theta, jnp.float64)
        return self._curvature(theta, key) | self._geometry(theta) | self._margins(theta)

    def _curvature(self, theta: Network, key: Key[Array, ""]) -> dict[str, Array]:
        problem = self.problem
        product = hessian_product(problem.empirical_risk, theta)
        ritz = lanczos(product, random_direction(key, theta), _HESSIAN_DEPTH)
        (high, high_residual), (low, low_residual) = ritz.largest, ritz.smallest
        trace = hessian_trace(problem, theta, jax.random.fold_in(key, 1), _TRACE_PROBES)
        measured = {
            "hessian_eigenvalue": jnp.stack([high, low]),
            "hessian_residual": jnp.stack([high_residual, low_residual]),
            "hessian_trace": trace.value,
            "hessian_trace_stderr": trace.stderr,
        }
        if self.batch_size is not None:
            key_of_batches = jax.random.fold_in(key, 2)
            sharpness = batch_sharpness(
                problem, theta, key_of_batches, self.batch_size, _SHARPNESS_BATCHES
            )
            measured |= {
                "batch_sharpness": sharpness.value,
                "batch_sharpness_stderr": sharpness.stderr,
            }
        if self.noise is None:
            return measured
        noise = probe_noise(self.noise, problem, theta, jax.random.fold_in(key, 3))
        top = ravel_pytree(theta)[1](ritz.vectors[-1])
        return measured | {
            "noise_operator_norm": noise.operator_norm,
            "noise_operator_norm_residual": noise.operator_norm_residual,
            "noise_trace": noise.trace,
            "noise_alignment": noise_alignment(self.noise, problem, theta, top, noise.trace),
            "noise_effective_rank": noise.trace / noise.operator_norm,
        }

    def _geometry(self, theta: Network) -> dict[str, Array]:
        """How one gradient step moves towards the minimum, from where the trajectory is."""
        gradient = jax.grad(self.problem.empirical_risk)(theta)
        offset = jax.tree.map(lambda a, b: a - b, theta, self.centre)
        distance = jnp.sqrt(squared_norm(offset))
        after = jax.tree.map(lambda u, g: u - self.learning_rate * g, offset, gradient)
        # At the minimum itself the ratios are 0/0: NaN, which the suprema leave out.
        return {
            "distance": distance,
            "contraction": jnp.sqrt(squared_norm(after)) / distance,
            "rsi": inner(offset, gradient) / distance**2,
            "growth": jnp.sqrt(squared_norm(gradient)) / distance,
        }

    def _margins(self, theta: Network) -> dict[str, Array]:
        """Margins of all rows, from which the bounded losses are made."""
        return {
            "training_margins": margins(theta, self.problem.data),
            "held_out_margins": margins(theta, self.held_out),
        }


def build_prober(scenario: StagnationScenario, task: ClassificationTask, centre: Network) -> Prober:
    """Assemble the prober of a scenario around the minimum ``centre``."""
    return Prober(
        problem=task.problem(task.training).astype(jnp.float64),
        held_out=cast(task.held_out, jnp.float64),
        noise=build_noise(scenario.dynamics, centre),
        centre=centre,
        learning_rate=jnp.asarray(scenario.dynamics.learning_rate, jnp.float64),
        batch_size=getattr(scenario.dynamics, "batch_size", None),
    )


@eqx.filter_jit
def probe_ensemble(
    layout: Layout, prober: Prober, state: EnsembleState, step: Int[Array, ""]
) -> dict[str, Array]:
    """Probe every trajectory at ``step``; what a diverged one would measure is NaN.

    Signs and batches differ from trajectory to trajectory and from probe to probe, so that their
    errors average out.
    """
    arrays, static = eqx.partition(prober, eqx.is_array)

    root = jax.random.fold_in(stream(0, "probe"), step)

    def one(state: EnsembleState, member: Array, arrays: PyTree) -> dict[str, Array]:
        key = jax.random.fold_in(root, member)
        measured: dict[str, Array] = eqx.combine(arrays, static)(state.theta, key)
        diverged = state.track.diverged
        return {name: jnp.where(diverged, jnp.nan, value) for name, value in measured.items()}

    members = jnp.arange(state.track.exit_step.shape[0])
    return map_ensemble(layout, one, (state, members), arrays)
