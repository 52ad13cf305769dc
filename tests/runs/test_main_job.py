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
#: A strongly convex risk has one minimum: nothing is quenched.
NO_BASINS = {"unseen_basins", "nearest_minimum_distance", "symmetry_distance"}
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
            assert np.asarray(variable).size == 0 or name in NO_BASINS or _was_written(variable), (
                name
            )


def _was_written(variable) -> bool:
    values = np.asarray(variable)
    return values.dtype.kind != "f" or not np.all(np.isnan(values))


def test_provenance_reproduces_the_scenario(finished: Finished):
    out, _ = finished
    attrs = sgdsim.open_run(out).attrs
    scenario = Scenario.from_json(attrs["scenario"])
    assert scenario.digest() == attrs["scenario_digest"]
    assert scenario.ensemble.trajectories == 6
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


def test_certificate_and_plug_in_stand_side_by_side(finished: Finished):
    out, process = finished
    tree = sgdsim.open_run(out)
    stagnation = tree["stagnation"].to_dataset()
    certified, plugged = stagnation["certified_log_exit_bound"], stagnation["log_exit_bound"]
    assert np.all(certified[:, 1:] >= plugged[:, 1:])
    size = stagnation["constant_sample_size"]
    assert size.sel(evidence="certificate").values.tolist() == [0] * 5
    # The centre, 14 directions at two radii, and 6 trajectories at 4 probes after the start.
    noise = size.sel(evidence="plug-in", constant=["noise_operator_norm", "noise_trace"])
    assert noise.values.tolist() == [1 + 2 * 14 + 6 * 4] * 2
    seen = tree["curvature"]["noise_trace"].isel(probe=slice(1, None)).max()
    worst = stagnation["constant_value"].sel(constant="noise_trace")
    assert worst.sel(evidence="certificate") > worst.sel(evidence="plug-in") >= seen
    assert stagnation["certified_radius"] > stagnation["radius"]
    assert np.exp(certified.sel(theory="S2")[-1]) > 0.01  # else that radius would be smaller
    statement = process.stderr.replace("\n", " ")
    assert "every constant is proved on the whole set" in statement
    assert "plug-in, the number the theorem gives" in statement
    assert "With probability at least" in tree.attrs["combined_statement"]


def test_the_terms_add_up_to_the_certificates(finished: Finished):
    out, _ = finished
    bounds = sgdsim.open_run(out)["bounds"].to_dataset()
    for name in ("G1", "G2", "G3"):
        whole = np.exp(bounds["log_gap_term"].sel(bound=name)).sum()
        value = bounds["value"].sel(bound=name)
        np.testing.assert_allclose(value, np.full(value.shape, whole), rtol=1e-12)
    assert bounds["log_gap_term"].sel(bound=["BFT", "NBS"]).isnull().all()


def test_the_motion_is_measured_against_that_of_isotropic_displacements(finished: Finished):
    out, _ = finished
    curvature = sgdsim.open_run(out)["curvature"].to_dataset()
    share, null = curvature["top_space_energy"], float(curvature["top_space_energy_null"])
    assert np.isnan(share[0])  # nothing has moved
    assert null == 2 / 650
    assert np.all((share[1:] > 5 * null) & (share[1:] < 1))
    assert null < curvature["hessian_noise_overlap"] <= 1
    ratio = curvature["participation_ratio"][1:]
    assert np.all(curvature["participation_ratio_low"][1:] <= ratio)
    assert np.all(ratio <= curvature["participation_ratio_high"][1:])


def test_the_four_figures_are_there(finished: Finished):
    out, _ = finished
    for stem in ("survival", "distance", "bounds", "convexity"):
        for ending in ("png", "svg"):
            assert (out / "figures" / f"{stem}.{ending}").stat().st_size > 1000


def test_only_the_dataset_the_minima_and_the_figures_remain(finished: Finished):
    out, _ = finished
    assert sorted(p.name for p in out.iterdir()) == ["figures", "run.zarr", "state"]
    assert list((out / "state").rglob("*.*")) == [out / "state" / "000000" / "preparation.npz"]


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
