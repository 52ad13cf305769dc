"""The dataset of a run: its coordinates, its provenance, what is known before the first step."""

import datetime as dt
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sgdsim.bounds import CERTIFICATES
from sgdsim.ensemble import Layout
from sgdsim.runs._prepare import Setting, Values, convexity_radii, recorded_steps
from sgdsim.scenario import Scenario
from sgdsim.stability import gradient_descent_threshold
from sgdsim.store import RunStore

_LIBRARIES = (
    "sgdsim",
    "jax",
    "jaxlib",
    "diffrax",
    "equinox",
    "matfree",
    "numpy",
    "scipy",
    "xarray",
    "zarr",
)


def provenance(layout: Layout) -> dict[str, Any]:
    """Describe what decides the last bits of the numbers, as attributes of the dataset."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    versions["python"] = platform.python_version()
    return {
        "versions": json.dumps(versions, sort_keys=True),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "device_count": layout.devices,
        "mapping": layout.mapping,
    }


def create_store(
    scenario: Scenario, path: Path, setting: Setting, values: Values, layout: Layout
) -> RunStore:
    """Preallocate the dataset and write what the preparation found."""
    schedule = scenario.ensemble
    steps = recorded_steps(scenario)
    claims = scenario.claim
    store = RunStore.create(
        path,
        coords={
            "trajectory": np.arange(schedule.trajectories),
            "step": steps,
            "time": steps * scenario.dynamics.learning_rate,
            "probe": np.arange(0, schedule.steps + 1, schedule.chunk_steps),
            "convexity_radius": convexity_radii(float(setting.radius), scenario.convexity.radii),
            "bound": list(CERTIFICATES),
            "kind": ["certificate"] * len(CERTIFICATES),
            "layer": np.arange(len(setting.centre.weights)),
            "claim": np.arange(len(claims)),
            "quantity": [claim.quantity for claim in claims],
            "text": [claim.text for claim in claims],
            "source": [claim.source for claim in claims],
        },
        attrs={
            "scenario": scenario.canonical_json(),
            "scenario_digest": scenario.digest(),
            "title": scenario.title,
            "seed": schedule.seed,
            "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "creation_library": "sgdsim",
            **provenance(layout),
        },
        precision=scenario.compute.precision,
        chunk_sizes={"step": schedule.chunk_steps // schedule.record_every, "probe": 1},
    )
    for group, found in values.items():
        store.write(group, found)
    threshold = gradient_descent_threshold(scenario.dynamics.learning_rate)
    store.write("curvature", {"threshold": threshold})
    return store
