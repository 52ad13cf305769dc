"""Bounds and measures on the probed iterates of the bounds study."""

from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sgdsim.bounds import (
    CERTIFICATES,
    MEASURES,
    Assessment,
    BoundInputs,
    GeometricGrid,
    LayerDistances,
    LayerNorms,
    MarginSample,
    TrainingSample,
    assess,
    constant_predictor,
    double_width,
    layer_distances,
    layer_norms,
    rescale_nodes,
)
from sgdsim.networks import (
    MEASURABLE,
    Effort,
    call_network,
    gibbs_errors,
    measure_network,
)
from sgdsim.problems import ClassificationTask, Network, Rows, cast, margins, stream
from sgdsim.runs._reference import Reference
from sgdsim.scenario import BoundsScenario
from sgdsim.store import CHANGES

#: What the study can give of the optional fields of ``BoundInputs``.
_FIELDS = ("reference", "radius", "initial", "gibbs", "activation")


def ingredient_labels() -> list[str]:
    """Names of what is measured of every network; published quirks are left out."""
    published = ("_dziugaite2020", "_neyshabur2018")
    return [name for name in MEASURABLE if not name.endswith(published)]


def bound_labels() -> dict[str, str]:
    """Names of the bounds and measures that the study evaluates, with their kind."""
    known = {*_FIELDS, *ingredient_labels()}
    return {
        name: entry.kind
        for registry in (CERTIFICATES, MEASURES)
        for name, entry in registry.items()
        if known.issuperset(entry.needs)
    }


class Assessor:
    """Evaluates all bounds and measures of a point; what is fixed in advance is fixed here.

    Parameters
    ----------
    scenario, task
        What runs.
    reference
        Initialisation, reference network and margin.
    """

    def __init__(self, scenario: BoundsScenario, task: ClassificationTask, reference: Reference):
        self._scenario, self._task, self._reference = scenario, task, reference
        settings = scenario.bounds
        self._grid = GeometricGrid(settings.grid_low, settings.grid_high, settings.grid_ratio)
        self._labels = bound_labels()
        certificates = sum(kind == "certificate" for kind in self._labels.values())
        # Divided, so that all certificates hold together with the probability of the scenario.
        self._failure_probability = settings.failure_probability / certificates

    @property
    def fixed(self) -> dict[str, Any]:
        """Values of the dataset that do not change along the run."""
        probability = [
            1.0 - self._failure_probability if kind == "certificate" else np.nan
            for kind in self._labels.values()
        ]
        return {
            "margin": float(self._reference.margin),
            "holds_with_probability": np.array(probability),
        }

    def __call__(
        self, theta: Network, diverged: Bool[np.ndarray, " trajectory"], step: int
    ) -> dict[str, np.ndarray]:
        """Assess the iterates of all trajectories at one step.

        Parameters
        ----------
        theta
            Networks with a leading trajectory axis.
        diverged
            Trajectories of which nothing is claimed.
        step
            Which step; it numbers the noise.

        Returns
        -------
        dict
            Variables of ``/bounds`` without the probe axis.
        """
        networks = _Networks(self._reference, _unknown_where(diverged, cast(theta, jnp.float64)))
        found, inputs, sample = self._assess(networks, step)
        zero_one = sample.gap(("zero_one", "zero_one"), inputs.margin)
        measured = inputs.measured or {}
        return {
            "value": found.value,
            "log_value": found.log_value,
            "assumption_violated": found.assumption_violated,
            "vacuous": found.vacuous,
            "generalization_gap": found.gap,
            "generalization_gap_stderr": found.gap_stderr,
            "tightness": found.tightness,
            "log_factor": found.log_factor,
            "zero_one_gap": zero_one.value,
            "zero_one_gap_stderr": zero_one.stderr,
            "measured": np.stack([measured[name] for name in ingredient_labels()], axis=-1),
            "spectral_norm_low": inputs.iterate.spectral_low,
            "spectral_norm_high": inputs.iterate.spectral_high,
            "frobenius_norm": inputs.iterate.frobenius,
            "distance_from_reference": networks.from_reference.frobenius,
            "distance_from_start": networks.from_start.frobenius,
        }

    def changes(
        self,
        theta: Network,
        diverged: Bool[np.ndarray, " trajectory"],
        before: Float[np.ndarray, "trajectory bound"],
    ) -> dict[str, np.ndarray]:
        """Assess the final networks once more after changes of them.

        Parameters
        ----------
        theta, diverged
            As for a call.
        before
            Logarithms of the values without a change, at the last step.

        Returns
        -------
        dict
            ``log_ratio_after``, shape (trajectory, bound, change); NaN where the change does not
            keep the function of the network, or a value is not positive.
        """
        theta = _unknown_where(diverged, cast(theta, jnp.float64))
        steps = self._scenario.ensemble.steps
        columns = []
        for change in CHANGES:
            networks = _changed(change, self._reference, theta)
            if networks is None:
                columns.append(np.full_like(before, np.nan))
                continue
            after = self._assess(networks, steps)[0].log_value
            with np.errstate(invalid="ignore"):
                columns.append(after - before)
        return {"log_ratio_after": np.stack(columns, axis=-1)}

    def _assess(
        self, networks: "_Networks", step: int
    ) -> tuple[Assessment, BoundInputs, MarginSample]:
        settings = self._scenario.measuring
        keys = jax.random.split(jax.random.fold_in(stream(settings.seed, "probe"), step), 2)
        theta, start = networks.theta, networks.reference.start
        measured = measure_network(
            call_network,
            theta,
            start,
            self._rows,
            keys[0],
            ingredient_labels(),
            axes=1,
            effort=_EFFORT,
        )
        gibbs = gibbs_errors(
            call_network,
            theta,
            self._rows,
            self._held_out,
            settings.deviations,
            settings.draws,
            keys[1],
            axes=1,
        )
        inputs = BoundInputs(
            iterate=networks.norms,
            sample=self._sample,
            margin=float(self._reference.margin),
            failure_probability=self._failure_probability,
            grid=self._grid,
            activation="relu" if theta.activation == "relu" else "tanh",
            reference=networks.of_reference,
            radius=networks.from_reference.radius,
            initial=networks.from_start,
            gibbs=gibbs,
            measured=measured,
        )
        sample = MarginSample(
            np.asarray(_margins(theta, self._rows)),
            np.asarray(_margins(theta, self._held_out)),
            self._task.exact,
        )
        return assess(inputs, sample, list(self._labels)), inputs, sample

    @cached_property
    def _rows(self) -> Rows:
        return cast(self._task.training, jnp.float64)

    @cached_property
    def _held_out(self) -> Rows:
        return cast(self._task.held_out, jnp.float64)

    @cached_property
    def _sample(self) -> TrainingSample:
        return TrainingSample.of(np.asarray(self._task.training.inputs), self._task.input_bound)


#: Enough for two digits; a paper's number deserves more.
_EFFORT = Effort(draws=10, halvings=10, ascent_halvings=6, steps=10, starts=2)


class _Networks:
    """Networks along a trajectory axis, and their norms and distances."""

    def __init__(self, reference: Reference, theta: Network):
        self.reference, self.theta = reference, theta

    @cached_property
    def norms(self) -> LayerNorms:
        return layer_norms(_matrices(self.theta))

    @cached_property
    def of_reference(self) -> LayerNorms:
        return layer_norms(_matrices(self.reference.network))

    @cached_property
    def from_reference(self) -> LayerDistances:
        return layer_distances(_matrices(self.theta), _matrices(self.reference.network))

    @cached_property
    def from_start(self) -> LayerDistances:
        return layer_distances(_matrices(self.theta), _matrices(self.reference.start))


@jax.jit
def _margins(theta: Network, rows: Rows) -> Float[Array, "trajectory row"]:
    return jax.vmap(margins, in_axes=(0, None))(theta, rows)


def _matrices(network: Network) -> list[Float[np.ndarray, "... _ _"]]:
    return [np.asarray(matrix, np.float64) for matrix in network.weights]


def _unknown_where(diverged: Bool[np.ndarray, " trajectory"], theta: Network) -> Network:
    """Networks whose weights are NaN where nothing is claimed."""
    return jax.tree.map(
        lambda leaf: jnp.where(jnp.asarray(diverged)[:, None, None], jnp.nan, leaf), theta
    )


def _changed(change: str, reference: Reference, theta: Network) -> _Networks | None:
    """Networks after a change; ``None`` if it does not keep their function."""

    def of(network: Network, function) -> Network:
        matrices = tuple(jnp.asarray(m) for m in function(_matrices(network)))
        return eqx.tree_at(lambda n: n.weights, network, matrices)  # also with leading axes

    if change == "constant_predictor":
        return _Networks(reference, of(theta, constant_predictor))
    if change == "width_doubling":
        wide = Reference(
            of(reference.start, double_width),
            of(reference.network, double_width),
            reference.margin,
        )
        return _Networks(wide, of(theta, double_width))
    if theta.activation != "relu" or len(theta.weights) < 2:
        return None
    return _Networks(reference, of(theta, rescale_nodes))
