"""A store with random values of exactly the contract's dtypes."""

import numpy as np
import pytest

from sgdsim.store import RunStore, variables_in

LENGTHS = {
    "trajectory": 3,
    "step": 7,
    "probe": 4,
    "eigen": 2,
    "theory": 3,
    "shell": 2,
    "condition": 5,
    "direction": 4,
    "bound": 2,
    "layer": 2,
    "evidence": 2,
    "constant": 5,
    "term": 5,
    "claim": 2,
    "process": 2,
    "member": 1,
    "rank": 3,
    "coordinate": 0,
}
CLAIMS = {
    "claim": range(2),
    "quantity": ["exit_bound", "certificate_slack"],
    "text": ["Exits are rare: S2 ≤ 1 %.", "No certificate lies."],
    "source": ["theorem S2", "Öztürk 2020, eq. 3"],
}
DYNAMICS = {
    "process": ["SGD", "its SDE"],
    "trajectory": range(3),
    "step": np.arange(0, 70, 10),
    "probe": [0, 20, 40, 60],
    "member": [0],
    "rank": range(3),
    "coordinate": [],
    **CLAIMS,
}


@pytest.fixture
def coordinates():
    return {
        "trajectory": range(3),
        "step": np.arange(0, 70, 10),
        "probe": [0, 20, 40, 60],
        "shell": range(2),
        "bound": ["first", "second"],
        "kind": ["certificate", "measure"],
        "layer": range(2),
        **CLAIMS,
    }


@pytest.fixture
def make_store(tmp_path, coordinates):
    """Create a store, by default where a run puts its unfinished one; 7 steps in chunks of 3."""

    def make(path=tmp_path / "run" / "run.zarr.partial", **options):
        settings = {
            "coords": DYNAMICS if options.get("study") == "dynamics" else coordinates,
            "attrs": {"seed": 3},
            "precision": "float32",
            "chunk_sizes": {"step": 3, "probe": 1},
        }
        return RunStore.create(path, **(settings | options))

    return make


@pytest.fixture
def random_values():
    """Random arrays for every variable but ``details``: {group: {name: array}}."""

    def make(precision="float32", seed=0, study="stagnation"):
        random = np.random.default_rng(seed)
        groups = {}
        for spec in variables_in(study):
            if spec.dtype == "str":
                continue
            shape = [LENGTHS[dim] for dim in spec.dims]
            dtype = np.dtype(precision if spec.dtype == "real" else spec.dtype)
            if dtype.kind == "f":
                value = random.standard_normal(shape)
            else:
                value = random.integers(0, 2 if dtype.itemsize == 1 else 1000, shape)
            groups.setdefault(spec.group, {})[spec.name] = np.asarray(value, dtype)
        return groups

    return make
