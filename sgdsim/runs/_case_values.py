"""The whole evaluation of a case: survival, theory, gap, basins, dimension."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int, Key

from sgdsim.ensemble import NEVER
from sgdsim.runs._case_basins import basin_values
from sgdsim.runs._case_exact import exact_values
from sgdsim.runs._case_gap import gap_bounds, gap_values
from sgdsim.runs._case_result import CaseResult
from sgdsim.runs._case_statements import exit_bounds
from sgdsim.runs._case_survival import rare_exit_values, survival_values
from sgdsim.runs._evidence import EvidenceBounds
from sgdsim.scenario import ExitsScenario
from sgdsim.stagnation import participation_ratio

#: Variables by name, and what is said about them by topic.
Told = tuple[dict[str, Any], dict[str, str]]

#: Trajectories whose final iterates measure the dimension.
_SNAPSHOTS = 512


def evaluate_case(
    scenario: ExitsScenario,
    result: CaseResult,
    looks: Int[np.ndarray, " look"],
    key: Key[Array, ""],
) -> tuple[dict[str, Any], str]:
    """Evaluate a case whose trajectories have run.

    Parameters
    ----------
    scenario, result
        What ran.
    looks
        Steps at which survival is tabulated.
    key
        Of the random numbers of this case, not shared with other cases or points.

    Returns
    -------
    values
        Variables of ``/exits`` by name, without the dimension ``case``.
    sentences
        What is said about the case in words, as JSON.
    """
    evaluation = scenario.evaluation
    values, sentences = survival_values(result, looks, evaluation.confidence)
    bounds = EvidenceBounds({}, {}, {})

    def evaluate(topic: str, function: Callable[..., Told], *arguments: Any) -> None:
        # The trajectories have run: what one part of the theory refuses must not lose the rest.
        try:
            found, told = function(result, *arguments)
        except ValueError as error:
            found, told = {}, {f"no {topic}": str(error)}
        values.update(found)
        sentences.update(told)

    def bound(result: CaseResult) -> Told:
        nonlocal bounds
        bounds = exit_bounds(result, looks, evaluation)
        return bounds.values, bounds.sentences

    if result.case.splitting is not None and not result.starts_outside:
        splitting = result.case.splitting
        evaluate("splitting", rare_exit_values, splitting, key, evaluation.confidence)
    evaluate("bound", bound)
    evaluate("exact law", lambda result: (exact_values(result, looks), {}))
    evaluate("gap", lambda result: (gap_values(result), {}))
    share = evaluation.failure_probability
    evaluate("gap bound", lambda result: gap_bounds(result, bounds.statements, share))
    evaluate("dimension", lambda result: (_dimension(result, evaluation.confidence), {}))
    evaluate("quench", basin_values, evaluation.quenches)
    values |= {
        "look_step": looks,
        "steps": result.steps,
        "radius": float(getattr(result.case.region, "radius", np.nan)),
        "width": max(getattr(result.case.problem, "hidden", ()), default=-1),
    }
    return values, json.dumps(sentences)


def _dimension(result: CaseResult, confidence: float) -> dict[str, float]:
    """Participation ratio of the final iterates of trajectories that are still inside."""
    theta = jax.vmap(lambda one: ravel_pytree(one)[0])(result.theta)
    inside = (result.exits == NEVER) & (np.asarray(result.track.diverged_step) == NEVER)
    snapshots = np.asarray(theta, np.float64)[inside][:_SNAPSHOTS]
    if len(snapshots) < 4 or snapshots.shape[1] < 2:
        return {}
    ratio = participation_ratio(snapshots, confidence)
    return {
        "participation_ratio": ratio.corrected,
        "participation_ratio_low": ratio.low,
        "participation_ratio_high": ratio.high,
    }
