import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgdsim.scenario import load_scenario

#: A small scenario of the dynamics study; tests count its lines.
SIDE_BY_SIDE = """study = "dynamics"
name = "side-by-side"
title = "SGD and its SDE"
[problem]
kind = "classification"
ridge = 0.01
[problem.data]
kind = "digits"
training = 100
reference = 40
split_seed = 0
[problem.model]
kind = "softmax"
[start]
kind = "random"
[ensemble]
trajectories = 4
steps = 20
record_every = 5
chunk_steps = 10
seed = 0
[[process]]
name = "sgd"
[process.dynamics]
kind = "sgd"
learning_rate = 0.1
batch_size = 8
[[process]]
name = "the SDE"
[process.dynamics]
kind = "sde"
learning_rate = 0.1
batch_size = 8
substeps = 2
[[claim]]
quantity = "loss_agreement"
processes = ["sgd", "the SDE"]
at_least = 0.95
text = "They agree."
source = "s"
"""
#: What turns it into a scenario on a landscape.
ON_LANDSCAPE = {
    "problem": {
        "kind": "landscape",
        "landscape": {"kind": "double_well", "height": 1.0, "transverse": 2.0},
    },
    "start": {"kind": "point", "theta": [-1.0, 0.0]},
    "process": [
        {
            "name": "gaussian",
            "dynamics": {
                "kind": "gaussian_sgd",
                "learning_rate": 0.1,
                "noise": {"kind": "langevin", "inverse_temperature": 4.0},
            },
        }
    ],
    "escape": {"coordinate": 0, "level": 1.0},
    "claim": [
        {
            "quantity": "escape_time_over_exact",
            "processes": ["gaussian"],
            "at_most": 2.0,
            "text": "t",
            "source": "s",
        }
    ],
}


@pytest.fixture
def tables() -> dict[str, Any]:
    """Plain values of a complete and correct scenario, for a test to change."""
    return load_scenario("stagnation").model_dump(mode="json")


@pytest.fixture
def side_by_side() -> str:
    """Text of a complete and correct scenario of the dynamics study, on data."""
    return SIDE_BY_SIDE


@pytest.fixture
def processes() -> dict[str, Any]:
    """Plain values of a scenario of the dynamics study, on data."""
    return tomllib.loads(SIDE_BY_SIDE)


@pytest.fixture
def landscape(processes: dict[str, Any]) -> dict[str, Any]:
    """Plain values of a scenario of the dynamics study, on a landscape."""
    return processes | copy.deepcopy(ON_LANDSCAPE)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Write a file into the current folder; returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
        return name

    return write
