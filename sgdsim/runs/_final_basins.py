"""Where final iterates descend to: the basins of the training risk that a run ended in."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from sgdsim.problems import ClassificationTask, Network, cast
from sgdsim.scenario import StagnationScenario
from sgdsim.stagnation import cluster_basins, nearest_minimum, symmetry_distance

#: Root mean square of the difference of outputs that tells two minima apart.
_TOLERANCE = 1e-3


def final_basins(
    scenario: StagnationScenario,
    task: ClassificationTask,
    centre: Network,
    theta: Network,
    diverged: Bool[np.ndarray, " trajectory"],
) -> tuple[dict[str, Any], str]:
    """Quench some final iterates on the training risk and count the minima that they reach.

    Parameters
    ----------
    scenario, task
        What ran.
    centre
        Minimum on the training rows.
    theta
        Final iterates with a leading trajectory axis.
    diverged
        Which of them are lost.

    Returns
    -------
    values
        Variables of ``/stagnation``; empty where nothing was quenched.
    sentence
        What was found, or why nothing was quenched.
    """
    known = task.known_curvature(centre)
    if known and known[0] > 0:
        return {}, "No quench: the training risk is strongly convex, it has one minimum."
    chosen = np.flatnonzero(~diverged)[: scenario.minimum.quenches]
    if not chosen.size:
        asked = "none was asked for (minimum.quenches = 0)"
        why = asked if not scenario.minimum.quenches else "every trajectory diverged"
        return {}, f"No quench: {why}."
    starts = cast(jax.tree.map(lambda a: jnp.asarray(a)[chosen], theta), jnp.float64)
    problem = task.problem(task.training).astype(jnp.float64)
    found = nearest_minimum(problem, starts, scenario.minimum.tolerance)
    good = np.asarray(found.is_nearest)
    if not good.any():
        return {}, f"No quench ended in a minimum: {found.reason[0]}"
    count = len(diverged)
    ends = jax.tree.map(lambda a: jnp.asarray(a)[good], found.theta)
    inputs = jnp.asarray(task.training.inputs, jnp.float64)
    risks, outputs = jax.lax.map(lambda one: (problem.empirical_risk(one), one(inputs)), ends)
    census = cluster_basins(np.asarray(risks), _TOLERANCE, outputs=np.asarray(outputs))
    basin = np.full(count, -1, np.int32)
    basin[chosen[good]] = census.labels
    nearest, apart = np.full(count, np.nan), np.full(count, np.nan)
    nearest[chosen[good]] = np.asarray(found.distance)[good]
    for number, row in enumerate(chosen):
        one = jax.tree.map(lambda a, at=number: a[at], starts)
        apart[row] = symmetry_distance(one, centre)
    values = {
        "basin": basin,
        "basins": np.int32(census.number),
        "unseen_basins": census.unseen_mass,
        "nearest_minimum_distance": nearest,
        "symmetry_distance": apart,
    }
    lost = "" if good.all() else f" {int((~good).sum())} quenches ended in no minimum."
    rows = chosen[good]
    return values, (
        f"{census.sentence}{lost} Mean distance of the final iterates from the nearest minimum "
        f"{nearest[rows].mean():.4g}, from the centre of the set {apart[rows].mean():.4g} "
        "(symmetries of the network removed)."
    )
