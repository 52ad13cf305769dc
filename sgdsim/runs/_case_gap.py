"""What staying buys: the gap of the final iterates, and the bounds on it with their terms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim.bounds import (
    LossBound,
    Neighbourhoods,
    TrainingSample,
    combined_statement,
    expected_maximum_of_normals,
    layer_norms,
    stagnation_terms,
)
from sgdsim.ensemble import NEVER
from sgdsim.problems import ManyMinima, cast
from sgdsim.runs._bounds import tabulate_terms
from sgdsim.runs._case_result import CaseResult
from sgdsim.stagnation import StayStatement
from sgdsim.store import GAP_BOUNDS

#: Trajectories whose gaps are measured together, which bounds the memory.
_AT_ONCE = 16


def gap_values(result: CaseResult) -> dict[str, Any]:
    """Generalization gap of every final iterate, and its mean over the ensemble."""
    known = result.bench.known
    theta = cast(jax.tree.map(jnp.asarray, result.theta), jnp.float64)
    gaps = jax.lax.map(lambda one: tuple(known.gap(one)), theta, batch_size=_AT_ONCE)
    gap, stderr = (np.asarray(x) for x in gaps)
    lost = np.asarray(result.track.diverged_step) != NEVER
    gap, stderr = np.where(lost, np.nan, gap), np.where(lost, np.nan, stderr)
    count = int(np.isfinite(gap).sum())
    values: dict[str, Any] = {"gap": gap, "gap_stderr": stderr}
    if count > 1:
        values["mean_gap"] = np.nanmean(gap)
        # Trajectories share their training rows, so this is the scatter of the algorithm alone.
        values["mean_gap_stderr"] = np.nanstd(gap, ddof=1) / np.sqrt(count)
    if isinstance(known, ManyMinima):
        best = expected_maximum_of_normals(known.shifts.shape[1])
        values["expected_gap"] = float(known.spread) * best if known.best else 0.0
    return values


def gap_bounds(
    result: CaseResult, statements: dict[str, StayStatement], failure_probability: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Bounds G1, G2, G3 on the ball of the case, and the combined statement in words."""
    bench = result.bench
    facts, weights = bench.known.loss, bench.known.weights(bench.centre)
    if facts is None or weights is None:
        return {}, {"no gap bound": "they are about networks with a bounded loss"}
    if result.case.region.kind not in ("ball", "tube"):
        return {}, {"no gap bound": "they are about balls in parameter space"}
    share = failure_probability / len(GAP_BOUNDS)
    radius = float(bench.region.radius)
    terms = stagnation_terms(
        Neighbourhoods(norms=layer_norms([np.asarray(w, np.float64) for w in weights])),
        radius,
        LossBound(facts.value_range, facts.lipschitz),
        TrainingSample(
            size=facts.samples,
            input_bound=facts.input_bound,
            frobenius=facts.input_bound * facts.samples**0.5,
        ),
        share,
    )
    values = {
        "log_gap_bound": np.array([float(terms[name].log_total) for name in GAP_BOUNDS]),
        "log_gap_term": tabulate_terms(terms, GAP_BOUNDS),
        "holds_with_probability": np.full(len(GAP_BOUNDS), 1 - share),
    }
    statement = statements.get("certificate") or statements.get("plug-in")
    if statement is None:
        return values, {"gap": "no combined statement: there is no bound on the exit"}
    steps = np.array([result.steps * result.substeps])
    combined = combined_statement(
        terms,
        float(statement.log_exit_bound(steps)[0]),
        exit_reason=statement.violation or "",
        measured=() if statement.kind == "certificate" else ("constants of the exit bound",),
    )
    return values, {"gap": combined.sentence()}
