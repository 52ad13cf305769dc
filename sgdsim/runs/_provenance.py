"""What every dataset says of its origin, and the steps at which it records."""

import datetime as dt
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from sgdsim.ensemble import Layout
from sgdsim.scenario import Claim, Scenario

_LIBRARIES = (
    "sgdsim",
    "jax",
    "jaxlib",
    "diffrax",
    "equinox",
    "lineax",
    "matfree",
    "numpy",
    "optimistix",
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
        "threads": _threads(),
        "compiler": _compiler(),
        "mapping": layout.mapping,
    }


def _threads() -> int:
    """Size of XLA's pool of threads on CPU: last bits of large matrix products depend on it."""
    if jax.default_backend() != "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(int(os.environ.get("NPROC") or cores or 1), jax.local_device_count())


def _compiler() -> str:
    """Options of XLA that may change what it compiles."""
    chosen = [os.environ.get("XLA_FLAGS", "")]
    if jax.config.read("jax_disable_most_optimizations"):
        chosen.append("jax_disable_most_optimizations")
    return " ".join(filter(None, chosen))


def common_attributes(scenario: Scenario, layout: Layout) -> dict[str, Any]:
    """Attributes of every dataset: what ran, when, with what."""
    return {
        "scenario": scenario.canonical_json(),
        "scenario_digest": scenario.digest(),
        "title": scenario.title,
        "seed": scenario.ensemble.seed,
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "creation_library": "sgdsim",
        **provenance(layout),
    }


def claim_coordinates(claims: Sequence[Claim]) -> dict[str, Any]:
    """Coordinates of the claims of a scenario."""
    return {
        "claim": np.arange(len(claims)),
        "quantity": [claim.quantity for claim in claims],
        "text": [claim.text for claim in claims],
        "source": [claim.source for claim in claims],
    }


def recorded_steps(scenario: Scenario) -> np.ndarray:
    """List the steps at which observables are recorded."""
    ensemble = scenario.ensemble
    return np.arange(0, ensemble.steps + 1, ensemble.record_every, dtype=np.int32)
