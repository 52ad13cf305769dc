"""Certificates on the probed iterates: from weights and margins to the ``/bounds`` group."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sgdsim.bounds import (
    CERTIFICATES,
    BoundInputs,
    BoundTerms,
    GeometricGrid,
    LossBound,
    Neighbourhoods,
    TrainingSample,
    evaluate_all,
    generalization_gap,
    layer_distances,
    layer_norms,
    stagnation_terms,
    tightness,
)
from sgdsim.problems import ClassificationTask, Network
from sgdsim.runs._prepare import Setting
from sgdsim.scenario import StagnationScenario
from sgdsim.store import TERMS

#: Certificates about the iterates of a stagnation set; they share the failure probability.
ON_A_SET = ("G1", "G2", "G3", "BFT", "NBS")


class Certifier:
    """Evaluates all certificates of a run; everything fixed in advance is fixed here.

    Parameters
    ----------
    scenario, task, setting
        What runs. The centre of the certificates is the minimum on the *reference* rows, their
        radius the radius of the stagnation set plus the distance between the two minima, rounded
        up to a grid that a union bound pays for.
    """

    def __init__(self, scenario: StagnationScenario, task: ClassificationTask, setting: Setting):
        weights = [np.asarray(a, np.float64) for a in setting.reference.weights]
        centre = [np.asarray(a, np.float64) for a in setting.centre.weights]
        settings = scenario.bounds
        self._grid = GeometricGrid(settings.grid_low, settings.grid_high, settings.grid_ratio)
        # Divided, so that all certificates hold together with the probability of the scenario.
        self._failure_probability = scenario.bounds.failure_probability / len(ON_A_SET)
        self._weights = weights
        self._reference = layer_norms(weights)
        self._margin = float(setting.margin)
        self._radius = float(setting.radius) + float(layer_distances(centre, weights).radius)
        self._sample = TrainingSample.of(np.asarray(task.training.inputs), task.input_bound)

    @property
    def terms(self) -> dict[str, BoundTerms]:
        """G1, G2 and G3 term by term: they are about the set and not about an iterate."""
        return stagnation_terms(
            Neighbourhoods(norms=self._reference),
            np.asarray(self._radius),
            LossBound.ramp(self._margin),
            self._sample,
            self._failure_probability,
            grid=self._grid,
        )

    @property
    def fixed(self) -> dict[str, Any]:
        """Values of the dataset that do not change along the run."""
        probability = 1.0 - self._failure_probability
        return {
            "log_gap_term": tabulate_terms(self.terms, list(ON_A_SET)),
            "certificate_radius": self._radius,
            "margin": self._margin,
            "holds_with_probability": np.full(len(ON_A_SET), probability),
        }

    def __call__(
        self, theta: Network, margins: tuple[np.ndarray, np.ndarray], inside: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Evaluate on all trajectories of one probe.

        Parameters
        ----------
        theta
            Networks with a leading trajectory axis.
        margins
            On training and held-out rows, ``(trajectory, row)``; NaN for a diverged trajectory.
        inside
            Which trajectories are in the stagnation set, ``(trajectory,)``.

        Returns
        -------
        dict
            Variables of ``/bounds`` without the probe axis.
        """
        weights = [np.asarray(a, np.float64) for a in theta.weights]
        norms = layer_norms(weights)
        distances = layer_distances(weights, self._weights)
        evaluations = evaluate_all(
            BoundInputs(
                reference=self._reference,
                iterate=norms,
                radius=np.full(inside.shape, self._radius),
                sample=self._sample,
                margin=self._margin,
                failure_probability=self._failure_probability,
                grid=self._grid,
                inside=inside,
            ),
            ON_A_SET,
        )
        gaps = {
            name: generalization_gap(*margins, CERTIFICATES[name].pair, self._margin)
            for name in ON_A_SET
        }
        zero_one = generalization_gap(*margins, ("zero_one", "zero_one"), self._margin)
        value = _stack([e.value for e in evaluations.values()])
        gap = _stack([g.value for g in gaps.values()])
        violated = _stack([e.assumption_violated for e in evaluations.values()])
        vacuous = _stack([e.vacuous for e in evaluations.values()])
        return {
            "value": value,
            "log_value": _stack([e.log_value for e in evaluations.values()]),
            "assumption_violated": violated.astype(np.int8),
            "vacuous": np.where(violated, -1, vacuous).astype(np.int8),
            "generalization_gap": gap,
            "generalization_gap_stderr": _stack([g.stderr for g in gaps.values()]),
            "tightness": tightness(value, gap),
            "zero_one_gap": zero_one.value,
            "zero_one_gap_stderr": zero_one.stderr,
            "spectral_norm_low": norms.spectral_low,
            "spectral_norm_high": norms.spectral_high,
            "frobenius_norm": norms.frobenius,
            "distance_from_reference": distances.frobenius,
        }


def _stack(columns: list[Any]) -> Float[np.ndarray, "trajectory bound"] | np.ndarray:
    return np.stack([np.asarray(column) for column in columns], axis=-1)


def tabulate_terms(
    terms: Mapping[str, BoundTerms], names: Sequence[str]
) -> Float[np.ndarray, "bound term"]:
    """Logarithms of the terms of bounds in the order of the dataset; NaN where there is none."""
    logs = np.full((len(names), len(TERMS)), np.nan)
    for name, bound in terms.items():
        for term, value in bound.log_terms.items():
            logs[names.index(name), TERMS.index(term)] = float(value)
    return logs
