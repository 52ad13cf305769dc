"""What the edge study records: sharpness by its kinds, with warm starts from record to record."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from sgdsim._typing import Number
from sgdsim.curvature import (
    Eigenpairs,
    MatVec,
    batch_curvature,
    flat_product,
    follow,
    hessian_product,
    hessian_trace,
    preconditioned_product,
)
from sgdsim.dynamics import (
    CentralState,
    EdgeFlowState,
    Iterate,
    Past,
    midpoint,
    preconditioner,
    predicted_loss,
)
from sgdsim.ensemble._curvature_further import FURTHER, Look, sum_of_products
from sgdsim.ensemble._loop import CarryingObserver
from sgdsim.ensemble._sketch import count_sketch
from sgdsim.problems import Problem, Rows, squared_norm, stream, wrong_share


class CurvatureObserver(CarryingObserver):
    r"""Sharpness of the iterates, each search starting where the last one ended.

    Records ``gradient_norm``, ``test_error_rate``, ``sharpness``, ``hessian_eigenvalue`` and
    ``hessian_residual`` (the largest ones), ``midpoint_sharpness``, ``preconditioned_sharpness``
    of adaptive optimizers, ``batch_sharpness`` and ``gradient_noise_interaction``,
    ``hessian_trace``, ``products`` and ``sketch``, as far as they are asked for, and the
    ``predicted_loss`` of a flow at the edge. What ``also`` names adds its own, and the
    ``further_products`` that it took.

    Parameters
    ----------
    held_out
        Rows of known classes that SGD never sees; ``None`` where there are none.
    tolerance
        Relative error of eigenvalues, estimated as for `sgdsim.curvature.follow`, at which no
        further product is made.
    batch_error
        Wanted relative half width of the 95 % interval of the batch sharpness.
    seed
        Seed of start vectors, batches and signs.
    eigenvalues
        Number of the largest eigenvalues.
    most_products
        Most Hessian products for the eigenvalues of one operator.
    midpoint
        Whether the sharpness is also measured between two oscillations; the process is then one
        under ``WithPast``.
    batch_size, replacement
        Rows of a minibatch and how they are drawn; ``None``: no batch sharpness.
    most_batches
        Most batches for the batch sharpness.
    trace_products
        Hessian products for the trace; 0: no trace.
    sketch
        Length of the random projection of the parameters; 0: none.
    also
        What else is recorded: names of ``smallest`` (eigenvalue), ``gauss_newton`` (its largest
        eigenvalue), ``fisher`` (largest eigenvalue of the Fisher matrix, of `cross_entropies` and
        `squared_errors`), ``noise`` (largest eigenvalue and trace of the covariance of the
        gradients of single rows), ``blocks`` (largest Hessian eigenvalue of every array of
        ``theta`` alone, in flatten order), ``density`` (nodes and weights of a
        `sgdsim.curvature.SpectralDensity` of the Hessian), ``critical`` (sharpness, from forward
        passes along the gradient), ``self_stabilisation`` (third derivatives) and ``alignment``
        (of gradient and noise with the eigenvectors).
    density_probes, density_depth
        Random start vectors of the density, and Hessian products of each of them, which is the
        number of nodes. Where there are fewer parameters, the nodes that are left over are NaN
        and have the weight zero.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import sgdsim
    >>> from sgdsim.ensemble import CurvatureObserver
    >>> problem = sgdsim.Problem(lambda t, z: z * jnp.sum(t**2), jnp.ones(2))
    >>> ensemble = sgdsim.Ensemble(
    ...     problem=problem,
    ...     stepper=sgdsim.gradient_descent(0.1),
    ...     region=sgdsim.Ball(centre=jnp.zeros(3), radius=9.0),
    ...     observer=CurvatureObserver(midpoint=False),
    ...     schedule=sgdsim.Schedule(steps=10, record_every=5, chunk_steps=10),
    ...     layout=sgdsim.choose_layout(),
    ... )
    >>> state = ensemble.start(jnp.ones(3), trajectories=1)
    >>> (chunk,) = ensemble.run(ensemble.keys(seed=0, trajectories=1), state)
    >>> [round(float(sharpness), 3) for sharpness in chunk.records["sharpness"][0]]
    [2.0, 2.0]
    """

    held_out: Rows | None = None
    tolerance: Number = 1e-3
    batch_error: Number = 0.1
    seed: Int[Array, ""] | int = 0
    eigenvalues: int = eqx.field(static=True, default=1)
    most_products: int = eqx.field(static=True, default=32)
    midpoint: bool = eqx.field(static=True, default=True)
    batch_size: int | None = eqx.field(static=True, default=None)
    replacement: bool = eqx.field(static=True, default=True)
    most_batches: int = eqx.field(static=True, default=64)
    trace_products: int = eqx.field(static=True, default=0)
    sketch: int = eqx.field(static=True, default=0)
    also: tuple[str, ...] = eqx.field(static=True, default=())
    density_probes: int = eqx.field(static=True, default=2)
    density_depth: int = eqx.field(static=True, default=16)

    def start(self, problem, stepper, iterate, member):
        """Know no eigenvector yet."""
        flat, _ = ravel_pytree(iterate.theta)
        vectors = jnp.zeros((min(self.eigenvalues, flat.size), flat.size), flat.dtype)
        adaptive = preconditioner(stepper, iterate) is not None
        return Carried(member, jnp.zeros((), jnp.int32), vectors, vectors[: int(adaptive)])

    def observe(self, problem, stepper, iterate, carried):
        """Measure one iterate."""
        theta = iterate.theta
        root = jax.random.fold_in(stream(self.seed, "probe"), carried.member)
        keys = jax.random.split(jax.random.fold_in(root, carried.records), 6)
        pairs = self._follow(problem, theta, carried.vectors, keys[0])
        gradient = jax.grad(problem.empirical_risk)(theta)
        missing = self.eigenvalues - pairs.values.size
        found = {
            "gradient_norm": jnp.sqrt(squared_norm(gradient)),
            "sharpness": pairs.values[0],
            "sharpness_residual": pairs.residuals[0],
            "sharpness_error": pairs.errors[0],
            "hessian_eigenvalue": jnp.pad(pairs.values, (0, missing), constant_values=jnp.nan),
            "hessian_residual": jnp.pad(pairs.residuals, (0, missing), constant_values=jnp.nan),
        }
        if self.held_out is not None:
            found["test_error_rate"] = wrong_share(theta, self.held_out)
        memory = iterate.memory.inside if isinstance(iterate.memory, Past) else iterate.memory
        if isinstance(memory, CentralState | EdgeFlowState):
            found["predicted_loss"] = predicted_loss(problem, Iterate(theta, memory))
        products = pairs.products
        if self.midpoint:
            between = self._follow(problem, midpoint(iterate), pairs.vectors[:1], keys[1])
            found["midpoint_sharpness"] = between.values[0]
            products += between.products
        known = carried.preconditioned
        scale = preconditioner(stepper, iterate)
        if scale is not None:
            scaled = self._follow(problem, theta, known, keys[2], scale)
            found["preconditioned_sharpness"] = scaled.values[0]
            known, products = scaled.vectors, products + scaled.products
        if self.batch_size is not None:
            found |= self._batches(problem, theta, self.batch_size, keys[3])
        if self.trace_products:
            trace = hessian_trace(problem, theta, keys[4], self.trace_products)
            found |= {"hessian_trace": trace.value, "hessian_trace_stderr": trace.stderr}
        look = Look(
            problem,
            theta,
            gradient,
            pairs.vectors,
            stepper.learning_rate,
            keys[5],
            self.tolerance,
            self.most_products,
            self.density_probes,
            self.density_depth,
        )
        if self.also:
            further = [FURTHER[name](look) for name in self.also]
            found["further_products"] = sum_of_products(further)
            for one in further:
                found |= one.values
        if self.sketch:
            # One key for all records: what is compared must be projected alike.
            found["sketch"] = count_sketch(theta, self.sketch, stream(self.seed, "sketch"))
        found["products"] = products
        return found, Carried(carried.member, carried.records + 1, pairs.vectors, known)

    def _follow(
        self,
        problem: Problem,
        theta: PyTree,
        vectors: Float[Array, "k p"],
        key: Array,
        scale: PyTree | None = None,
    ) -> Eigenpairs:
        """Largest eigenpairs of the Hessian, preconditioned if there is a scale."""
        product: MatVec = hessian_product(problem.empirical_risk, theta)
        if scale is not None:
            product = preconditioned_product(product, scale)
        return follow(
            flat_product(product, theta),
            vectors,
            key,
            tolerance=self.tolerance,
            most_products=self.most_products,
        )

    def _batches(
        self, problem: Problem, theta: PyTree, batch_size: int, key: Array
    ) -> dict[str, Array]:
        """Curvature along the gradients of batches."""
        seen = batch_curvature(
            problem,
            theta,
            key,
            batch_size,
            replacement=self.replacement,
            relative_error=self.batch_error,
            least=min(16, self.most_batches),
            most=self.most_batches,
        )
        return {
            name: getattr(seen, name)
            for name in (
                "batch_sharpness",
                "batch_sharpness_stderr",
                "gradient_noise_interaction",
                "gradient_noise_interaction_stderr",
                "batches",
            )
        }


class Carried(NamedTuple):
    """What a :class:`CurvatureObserver` knows from the last record.

    Attributes
    ----------
    member
        Number of the trajectory.
    records
        Number of records so far.
    vectors, preconditioned
        Eigenvectors of the Hessian and of the preconditioned one; zeros: unknown.
    """

    member: Int[Array, ""]
    records: Int[Array, ""]
    vectors: Float[Array, "k p"]
    preconditioned: Float[Array, "one p"]
