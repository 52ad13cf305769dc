"""The main job from the command line: dataset, claims, figures."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import sgdsim
from sgdsim.scenario import Scenario
from sgdsim.store import validate

pytestmark = pytest.mark.slow
Finished = tuple[Path, subprocess.CompletedProcess]


def test_it_succeeds_and_prints_the_claims(finished: Finished):
    out, process = finished
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip().splitlines()[-1] == str(out)
    assert "Claims" in process.stderr
    assert "40/40 steps" in process.stderr
    assert "conditional on the training rows" in process.stderr.replace("\n", " ")
    assert "Traceback" not in process.stderr


def test_the_dataset_keeps_the_contract(finished: Finished):
    out, _ = finished
    assert validate(out) == []
    tree = sgdsim.open_run(out)
    assert {"trajectory", "stagnation", "curvature", "bounds", "claims"} == set(tree.children)
    for group in tree.children.values():
        for name, variable in group.data_vars.items():
            assert variable.attrs.get("long_name"), name
            assert "units" in variable.attrs, name
            # A flag or a count that was never written would still hold -1 everywhere.
            assert np.asarray(variable).size == 0 or not np.all(np.isnan(_number(variable))), name


def _number(variable) -> np.ndarray:
    values = np.asarray(variable)
    return values.astype(float) if values.dtype.kind in "fiu" else np.zeros(values.shape)


def test_provenance_reproduces_the_scenario(finished: Finished):
    out, _ = finished
    attrs = sgdsim.open_run(out).attrs
    scenario = Scenario.from_json(attrs["scenario"])
    assert scenario.digest() == attrs["scenario_digest"]
    assert scenario.ensemble.trajectories == 3
    assert attrs["conventions"] == "sgdsim-1"
    assert attrs["precision"] == "float32"
    assert attrs["seed"] == 0
    assert attrs["wall_seconds"] > 0
    assert {"jax", "diffrax", "sgdsim"} <= set(json.loads(attrs["versions"]))
    assert attrs["verdict"].startswith("SDE valid")


def test_the_records_are_consistent(finished: Finished):
    out, _ = finished
    tree = sgdsim.open_run(out)
    path, stagnation = tree["trajectory"].to_dataset(), tree["stagnation"].to_dataset()
    assert path["step"].values.tolist() == list(range(0, 41, 5))
    np.testing.assert_allclose(path["time"], 0.5 * path["step"])
    assert np.all(path["distance"].isel(step=0) == 0)
    assert np.all(path["distance"] <= stagnation["max_distance"] * (1 + 1e-6))
    inside = path["distance"] <= stagnation["radius"]
    np.testing.assert_array_equal(path["inside"] == 1, inside)
    assert np.all(path["status"] == 1)
    assert np.all(path["diverged_step"] == -1)
    assert np.all(stagnation["entry_step"] == 0)
    # Gaussian SGD starts at the minimum, so the loss can only rise on average.
    assert float(path["loss"].isel(step=-1).mean()) > float(path["loss"].isel(step=0).mean())
    np.testing.assert_allclose(
        tree["curvature"]["noise_trace"].isel(probe=0),
        float(stagnation["noise_trace_at_minimum"]),
        rtol=1e-5,
    )


def test_the_four_figures_are_there(finished: Finished):
    out, _ = finished
    for stem in ("survival", "distance", "bounds", "convexity"):
        for ending in ("png", "svg"):
            assert (out / "figures" / f"{stem}.{ending}").stat().st_size > 1000


def test_only_the_dataset_the_minima_and_the_figures_remain(finished: Finished):
    out, _ = finished
    assert sorted(p.name for p in out.iterdir()) == ["figures", "run.zarr", "state"]
    assert [p.name for p in (out / "state").iterdir()] == ["preparation.npz"]


def test_a_second_run_into_the_same_folder_is_refused(finished: Finished, finish, tiny):
    out, _ = finished
    again = finish(tiny("stagnation", out))
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    assert "--overwrite" in again.stderr
    assert sgdsim.open_run(out).attrs["precision"] == "float32"


def test_the_dataset_example_of_the_readme_runs(finished: Finished, tmp_path, monkeypatch):
    out, _ = finished
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (code,) = (b for b in readme.split("```python\n")[1:] if "open_run" in b)
    (tmp_path / "sgdsim-runs").mkdir()
    (tmp_path / "sgdsim-runs" / "stagnation").symlink_to(out)
    monkeypatch.chdir(tmp_path)
    exec(compile(code.split("```")[0], "README.md", "exec"), {})
