"""Random numbers of importance splitting: every case of every point has its own."""

from pathlib import Path

import jax
import numpy as np
import pytest

import sgdsim
from sgdsim.ensemble import root_key
from sgdsim.runs import _case_survival
from sgdsim.runs._exits import ExitsRun
from sgdsim.runs._session import session
from sgdsim.scenario import ExitsScenario, Scenario, load_scenario
from sgdsim.stagnation import Splitting

pytestmark = pytest.mark.slow

CASE = """[[case]]
name = "{name}"
problem = {{ kind = "landscape", landscape = {{ kind = "quadratic", eigenvalues = [1] }} }}
region = {{ kind = "ball", radius = 0.2 }}
splitting = {{ particles = 100, replicas = 4 }}
[case.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.05
noise = {{ kind = "isotropic", variance = 0.04 }}
"""
SCENARIO = """study = "exits"
name = "alike"
title = "Two cases alike"
[ensemble]
trajectories = 4
seed = 1
steps = 40
chunks = 2
[evaluation]
directions = 2
radii = 2
quenches = 1
"""


def scenario(tmp_path: Path, sweep: str = "") -> Scenario:
    """Two cases that differ by their name alone."""
    path = tmp_path / "alike.toml"
    path.write_text(SCENARIO + sweep + CASE.format(name="one") + CASE.format(name="two"))
    return load_scenario(str(path))


def test_alike_cases_and_points_are_independent(tmp_path):
    """Twice the same estimate would pass for two that agree."""
    swept = scenario(tmp_path, "[sweep]\n'evaluation.quenches' = [1, 2]\n")
    sgdsim.run(swept, tmp_path / "run", quiet=True)
    found = sgdsim.open_run(tmp_path / "run")["exits"].rare_exit_probability.values
    assert found.shape == (2, 2)
    assert np.all((found > 0) & (found < 1))
    assert np.unique(found).size == 4


def test_trajectories_and_splitting_share_no_key(tmp_path, monkeypatch):
    used = []

    def note(*arguments: object, **settings: object) -> Splitting:
        used.append(settings["seed"])
        raise ValueError("noted")

    monkeypatch.setattr(_case_survival, "Splitting", note)
    alike = scenario(tmp_path)
    sgdsim.run(alike, tmp_path / "run", quiet=True)
    assert isinstance(alike, ExitsScenario)
    with session(alike):
        runs = [ExitsRun.prepare(alike, point, lambda text: None) for point in (0, 1)]
        legs = [
            run._leg(number, run._ensemble(number), run._start(number))
            for run in runs
            for number in range(2)
        ]
    roots = [root_key(alike.ensemble.seed, number) for number in range(4)]
    keys = [*used, *roots, *(key for leg in legs for key in leg.keys)]
    assert len(used) == 2
    numbers = {tuple(jax.random.key_data(key).tolist()) for key in keys}
    assert len(numbers) == len(keys) == 2 + 4 + 4 * legs[0].keys.size
