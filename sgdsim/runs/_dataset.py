"""The dataset of a stagnation run: its coordinates and what is known before the first step."""

from pathlib import Path

import numpy as np

from sgdsim.bounds import CERTIFICATES
from sgdsim.dynamics import step_times
from sgdsim.ensemble import Ensemble
from sgdsim.runs._prepare import Setting, Values, convexity_radii
from sgdsim.runs._provenance import claim_coordinates, common_attributes, recorded_steps
from sgdsim.scenario import StagnationScenario
from sgdsim.stability import gradient_descent_threshold
from sgdsim.store import RunStore


def create_store(
    scenario: StagnationScenario, path: Path, setting: Setting, values: Values, ensemble: Ensemble
) -> RunStore:
    """Preallocate the dataset and write what the preparation found."""
    schedule = scenario.ensemble
    steps = recorded_steps(scenario)
    times = step_times(ensemble.stepper, schedule.steps)
    store = RunStore.create(
        path,
        coords={
            "trajectory": np.arange(schedule.trajectories),
            "step": steps,
            "time": times[steps],
            "probe": np.arange(0, schedule.steps + 1, schedule.chunk_steps),
            "convexity_radius": convexity_radii(float(setting.radius), scenario.convexity.radii),
            "bound": list(CERTIFICATES),
            "kind": ["certificate"] * len(CERTIFICATES),
            "layer": np.arange(len(setting.centre.weights)),
            **claim_coordinates(scenario.claim),
        },
        attrs=common_attributes(scenario, ensemble.layout),
        study=scenario.study,
        precision=scenario.compute.precision,
        chunk_sizes={"step": schedule.chunk_steps // schedule.record_every, "probe": 1},
    )
    for group, found in values.items():
        store.write(group, found)
    threshold = gradient_descent_threshold(scenario.dynamics.learning_rate)
    store.write("curvature", {"threshold": threshold})
    return store
