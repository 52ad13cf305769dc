import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sgdsim._errors import StoreError
from sgdsim.store import (
    GROUPS,
    THEORIES,
    RunStore,
    export_netcdf,
    is_finished,
    open_run,
    validate,
    variables_in,
    variables_of,
)
from sgdsim.testing import synthetic_run

pytestmark = pytest.mark.slow

STEP_CHUNKS = (slice(0, 3), slice(3, 6), slice(6, 7))


def variable(tree: xr.DataTree, group: str, name: str) -> xr.DataArray:
    return tree[group].to_dataset()[name]


def written_in(study):
    """Every variable but the text ``details``, which has its own way in and out."""
    return [spec for spec in variables_in(study) if spec.dtype != "str"]


def write_in_chunks(point, values):
    """Write along step chunk by chunk where a variable has steps, whole otherwise."""
    for group, arrays in values.items():
        for name, value in arrays.items():
            spec = variables_of(group)[name]
            if "step" not in spec.dims:
                point.write(group, {spec.name: value})
                continue
            for part in STEP_CHUNKS:
                chunk = np.take(value, np.arange(7)[part], axis=spec.dims.index("step"))
                point.write(group, {spec.name: chunk}, {"step": part})


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("study", ["stagnation", "dynamics"])
def test_every_variable_comes_back(make_store, random_values, tmp_path, precision, finished, study):
    store = make_store(precision=precision, study=study)
    values = random_values(precision, study=study)
    write_in_chunks(store.point(), values)
    if study == "stagnation":
        store.point().write_coords({"convexity_radius": np.array([0.1, 0.2])})
    store.point().set_attrs({})
    if finished:
        store.finish(tmp_path / "run" / "run.zarr")
    tree = open_run(tmp_path / "run")
    assert "details" not in tree
    for spec in written_in(study):
        stored = variable(tree, spec.group, spec.name)
        # A run by itself is read along the radius, which is only numbered on disk.
        relabelled = {"shell": "convexity_radius"} if spec.group == "stagnation" else {}
        assert stored.dims == tuple(relabelled.get(dim, dim) for dim in spec.dims)
        assert stored.dtype == values[spec.group][spec.name].dtype
        np.testing.assert_array_equal(stored.values, values[spec.group][spec.name])
        assert stored.attrs["long_name"] == spec.long_name
        assert stored.attrs["units"] == spec.units
        assert stored.attrs.get("formula", "") == spec.formula
        assert stored.attrs.get("source", "") == spec.source
    assert validate(tmp_path / "run") == []


def test_labels_are_real_text(make_store, random_values, coordinates):
    store = make_store()
    values = random_values()
    write_in_chunks(store.point(), values)
    time = 0.5 * np.arange(0, 70, 10)
    store.point().write_coords({"time": time, "convexity_radius": np.array([0.1, 0.2])})
    tree = open_run(store.path)
    ratios = tree["stagnation"].convexity_ratio_minimum.sel(convexity_radius=0.2, condition="PL")
    assert float(ratios) == values["stagnation"]["convexity_ratio_minimum"][3, 1]
    np.testing.assert_array_equal(
        tree["stagnation"].stay_lower_bound.sel(theory="S2").values,
        values["stagnation"]["stay_lower_bound"][THEORIES.index("S2")],
    )
    top = tree["curvature"].hessian_eigenvalue.sel(eigen="smallest", trajectory=2, probe=40)
    assert float(top) == values["curvature"]["hessian_eigenvalue"][2, 2, 1]
    bounds = tree["bounds"].to_dataset()
    certificates = bounds.value.where(bounds.kind == "certificate", drop=True)
    assert certificates.bound.values.tolist() == ["first"]
    assert tree["claims"].text.values.tolist() == coordinates["text"]
    assert tree["claims"].source.values.tolist() == coordinates["source"]
    assert tree["claims"].quantity.sel(claim=1).item() == "certificate_slack"
    np.testing.assert_array_equal(tree["stagnation"].time, time)
    assert tree["trajectory"].loss.sel(step=60).time.item() == 30.0


def test_plain_xarray_opens_the_store_and_each_group_alone(make_store, tmp_path):
    store = make_store()
    raw = xr.open_datatree(store.path, engine="zarr", consolidated=False)
    assert raw["stagnation"].stay_lower_bound.dims == ("theory", "step")
    assert raw["stagnation"].theory.values.tolist() == list(THEORIES)
    store.finish(tmp_path / "run.zarr")
    # A finished store opens without options and without xarray's warning about slow opening.
    assert set(xr.open_datatree(tmp_path / "run.zarr", engine="zarr").children) == set(
        GROUPS["stagnation"]
    )
    alone = xr.open_zarr(tmp_path / "run.zarr", group="stagnation", chunks=None)
    assert {"step", "time", "theory", "trajectory"} <= set(alone.coords)


def test_attributes_and_status(make_store, tmp_path):
    store = make_store(attrs={"seed": 3, "scenario": '{"name":"x"}', "device": "none"})
    point = store.point()
    assert point.status() == "pending"
    point.set_attrs({"wall_seconds": 0.5})
    point.set_attrs({"wall_seconds": 2.5, "verdict": "It stays: ≤ 1 %."})
    assert point.attrs == {"wall_seconds": 2.5, "verdict": "It stays: ≤ 1 %."}
    store.set_attrs({"device": "cpu"})
    point.set_status("failed")
    again = RunStore.open(store.path)
    assert again.point().status() == "failed"
    assert (again.shape, again.points, again.statuses().tolist()) == ((), 1, [2])
    point.set_status("done")
    store.finish(tmp_path / "run.zarr")
    tree = open_run(tmp_path / "run.zarr")
    assert tree.attrs == {
        "seed": 3,
        "scenario": '{"name":"x"}',
        "device": "cpu",
        "wall_seconds": 2.5,
        "verdict": "It stays: ≤ 1 %.",
        "conventions": "sgdsim-1",
        "study": "stagnation",
        "precision": "float32",
    }
    assert tree["status"].item() == 1
    with pytest.raises(ValueError, match="conventions"):
        store.set_attrs({"conventions": "sgdsim-2"})
    with pytest.raises(ValueError, match="status must be one of"):
        point.set_status("finished")
    with pytest.raises(ValueError, match="kept by the store"):
        point.set_attrs({"lengths": 3})
    assert store.attrs["seed"] == 3
    # The point follows its store to the new name, and the store stays finished.
    point.set_attrs({"verdict": "It stays."})
    store.set_attrs({"device": "gpu"})
    assert is_finished(tmp_path)
    tree = open_run(tmp_path)
    assert (tree.attrs["verdict"], tree.attrs["device"]) == ("It stays.", "gpu")
    assert not (tmp_path / "run" / "run.zarr.partial").exists()


def test_a_finished_store_is_opened_again(make_store, tmp_path):
    partial, final = tmp_path / "run" / "run.zarr.partial", tmp_path / "run" / "run.zarr"
    store = make_store()
    store.point().set_status("failed")
    store.finish(final)
    partial.mkdir()
    with pytest.raises(StoreError, match=r"partial exists; remove or rename it first"):
        store.reopen(partial)
    assert is_finished(final)
    partial.rmdir()
    store.reopen(partial)
    assert (store.path, final.exists(), is_finished(tmp_path / "run")) == (partial, False, False)
    store.point().set_status("done")
    store.finish(final)
    assert is_finished(final)
    assert open_run(final)["status"].item() == 1


def test_unwritten_values_are_nan_and_minus_one(make_store):
    tree = open_run(make_store().path)
    for spec in written_in("stagnation"):
        values = variable(tree, spec.group, spec.name).values
        if spec.name == "status":
            assert (values == 0).all()
        elif values.dtype.kind == "f":
            assert np.isnan(values).all()
        else:
            assert (values == -1).all()


def test_resume_keeps_what_was_written(make_store, random_values):
    store = make_store()
    values = random_values()["trajectory"]["loss"]
    store.point().write("trajectory", {"loss": values[:, :3]}, {"step": slice(0, 3)})
    again = RunStore.open(store.path).point()
    again.write("trajectory", {"loss": values[:, 3:6]}, {"step": slice(3, 6)})
    # Writing a chunk again replaces it: a resumed run repeats its last chunk.
    again.write("trajectory", {"loss": values[:, 3:6]}, {"step": slice(3, 6)})
    loss = open_run(store.path)["trajectory"].loss.values
    np.testing.assert_array_equal(loss[:, :6], values[:, :6])
    assert np.isnan(loss[:, 6]).all()


def test_a_run_without_claims_or_layers(make_store, coordinates, tmp_path):
    empty = {name: [] for name in ("claim", "quantity", "text", "source", "layer")}
    store = make_store(coords=coordinates | empty)
    store.point().write("claims", {"measured": np.zeros(0), "holds": np.zeros(0, np.int8)})
    store.finish(tmp_path / "run.zarr")
    assert open_run(tmp_path / "run.zarr")["claims"].measured.shape == (0,)
    assert validate(tmp_path / "run.zarr") == []


def test_finished_store_is_consolidated_and_clean(make_store, tmp_path):
    store = make_store()
    leftover = store.path / "trajectory" / "loss" / "c" / "0" / "0.abc.partial"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half a chunk")
    store.finish(tmp_path / "run.zarr")
    metadata = json.loads((tmp_path / "run.zarr" / "zarr.json").read_text())
    assert "trajectory/loss" in metadata["consolidated_metadata"]["metadata"]
    assert metadata["attributes"]["finished"] is True
    assert not list((tmp_path / "run.zarr").rglob("*.partial"))
    assert store.path == tmp_path / "run.zarr"
    assert not (tmp_path / "run" / "run.zarr.partial").exists()


def test_export_to_netcdf(tmp_path):
    pytest.importorskip("h5netcdf")
    run = synthetic_run(tmp_path / "run")
    out = export_netcdf(run, tmp_path / "run.nc")
    with xr.open_datatree(out, engine="h5netcdf") as exported:
        stored = open_run(run)
        assert exported.attrs["conventions"] == "sgdsim-1"
        for spec in written_in("stagnation"):
            here = variable(stored, spec.group, spec.name)
            there = variable(exported, spec.group, spec.name)
            np.testing.assert_array_equal(here.values, there.values)
            assert here.attrs["long_name"] == there.attrs["long_name"]
        assert exported["stagnation"].theory.values.tolist() == list(THEORIES)
        assert exported["claims"].text.values.tolist() == stored["claims"].text.values.tolist()


def test_the_store_imports_no_jax():
    code = (
        "import sys, sgdsim.store\n"
        "heavy = {'jax', 'equinox', 'diffrax', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_moved_run_still_opens(tmp_path):
    synthetic_run(tmp_path / "run")
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    assert open_run(str(tmp_path / "elsewhere"))["stagnation"].radius.item() > 0
