"""The dataset of a sweep: its axes, its points, what each may write, what is checked of it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from zarr.storage import LocalStore

from sgdsim._errors import StoreError
from sgdsim.store import (
    RunStore,
    SweepAxis,
    count_statuses,
    export_netcdf,
    open_point,
    open_run,
    validate,
    variables_in,
)
from sgdsim.testing import synthetic_run

pytestmark = pytest.mark.slow

#: Two axes; along the first one learning rate and rule change together.
AXES = (
    SweepAxis("zip", {"zip": range(2), "learning_rate": [0.1, 0.4], "rule": ["sgd", "adam"]}),
    SweepAxis("batch_size", {"batch_size": [8, 16, 32]}),
)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def sweep(make_store):
    return make_store(sweep=AXES)


def written(point, values):
    """Write everything but the status, which comes last."""
    for group, arrays in values.items():
        if group != "/":
            point.write(group, arrays)


def test_points_of_two_axes_come_back_by_label_and_alone(
    sweep, make_store, random_values, tmp_path
):
    assert (sweep.shape, sweep.points) == ((2, 3), 6)
    by_number = {number: random_values(seed=number) for number in (0, 4)}
    single = make_store(tmp_path / "single" / "run.zarr.partial")
    for number, point in ((0, sweep.point(0)), (4, sweep.point(4)), (4, single.point())):
        written(point, by_number[number])
        coords = {"time": (1.0 + number) * np.arange(7), "convexity_radius": [0.1, 1.0 + number]}
        point.write_coords({name: np.asarray(value) for name, value in coords.items()})
        point.set_attrs({"verdict": f"Point {number}.", "wall_seconds": 0.5})
        point.set_status("done")
    assert sweep.statuses().tolist() == [1, 0, 0, 0, 1, 0]
    assert sweep.path.name == "run.zarr.partial"
    sweep.finish(tmp_path / "run" / "run.zarr")
    assert validate(tmp_path / "run") == []
    assert count_statuses(tmp_path / "run") == {"pending": 4, "done": 2, "failed": 0}

    tree = open_run(tmp_path / "run")
    for spec in variables_in("stagnation"):
        stored = tree[spec.group].to_dataset()[spec.name]
        assert stored.dims == ("zip", "batch_size", *spec.dims)
        if spec.group != "/":
            here = stored.sel(zip=1, batch_size=16).values
            np.testing.assert_array_equal(here, by_number[4][spec.group][spec.name])
    loss = tree["trajectory"].loss.swap_dims(zip="learning_rate")
    np.testing.assert_array_equal(
        loss.sel(learning_rate=0.1, batch_size=8), by_number[0]["trajectory"]["loss"]
    )
    assert np.isnan(loss.sel(learning_rate=0.4, batch_size=8)).all()
    assert tree["trajectory"].rule.values.tolist() == ["sgd", "adam"]
    assert tree["trajectory"].time.dims == ("zip", "batch_size", "step")
    assert tree["stagnation"].convexity_radius.sel(zip=1, batch_size=16).values.tolist() == [0.1, 5]
    assert '"Point 4."' in tree["details"].sel(zip=1, batch_size=16).item()

    # A point by itself is what a run without sweep is.
    xr.testing.assert_identical(open_point(tmp_path / "run", 4), open_run(tmp_path / "single"))
    xr.testing.assert_identical(sweep.point(4).tree(), single.point().tree())
    assert open_point(tmp_path / "run", 0).attrs["verdict"] == "Point 0."
    with pytest.raises(StoreError, match=r"has no point 6: its points are 0 \.\.\. 5"):
        open_point(tmp_path / "run", 6)


def test_plain_xarray_opens_each_group_with_labels(sweep):
    for group in ("trajectory", "stagnation", "bounds", "claims"):
        alone = xr.open_zarr(sweep.path, group=group, chunks=None, consolidated=False)
        assert {"zip", "batch_size", "learning_rate", "rule"} <= set(alone.coords)
        assert all(value.dims[:2] == ("zip", "batch_size") for value in alone.values())


def test_nothing_is_read_until_it_is_used(sweep):
    chunk = sweep.path / "trajectory" / "loss" / "c" / "0" / "0" / "0" / "0"
    sweep.point(0).write("trajectory", {"loss": np.ones((3, 3), np.float32)}, {"step": slice(0, 3)})
    tree = open_run(sweep.path)
    point = sweep.point(0).tree()
    assert float(point["trajectory"].loss[0, 0]) == 1.0
    chunk.unlink()
    assert np.isnan(tree["trajectory"].loss[0, 0, 0, 0])
    # Also a second time: a point that is being written must not show what it was.
    assert np.isnan(sweep.point(0).tree()["trajectory"].loss[0, 0])


def test_a_single_run_that_is_being_written_shows_what_is_there_now(make_store):
    point = make_store().point()
    for value in (1.0, 2.0):
        point.write("stagnation", {"radius": value})
        assert point.tree()["stagnation"].radius.item() == value


def test_names_that_the_sweep_takes_give_way(make_store, tmp_path):
    axis = SweepAxis("learning_rate", {"learning_rate": [0.1, 0.2]})
    store = make_store(study="dynamics", sweep=[axis])
    store.point(1).write_coords({"learning_rate": np.array([0.2, 0.1])})
    data = open_run(store.path)["dynamics"].to_dataset()
    assert data.learning_rate.dims == ("learning_rate",)
    assert data.process_learning_rate.dims == ("learning_rate", "process")
    assert "process_learning_rate" in data.coords
    assert data.process_learning_rate.sel(learning_rate=0.2, process="its SDE").item() == 0.1
    alone = open_point(store.path, 1)["dynamics"].to_dataset()
    assert alone.learning_rate.dims == ("process",)
    assert alone.learning_rate.values.tolist() == [0.2, 0.1]
    assert validate(store.path) == []

    # A variable of that name is put behind its group.
    radius = SweepAxis("radius", {"radius": ["auto", 0.5]})
    store = make_store(tmp_path / "radius.zarr", sweep=[radius])
    store.point(1).write("stagnation", {"radius": 0.5})
    data = open_run(store.path)["stagnation"].to_dataset()
    assert data.radius.values.tolist() == ["auto", "0.5"]
    assert data.stagnation_radius.sel(radius="0.5").item() == 0.5
    assert open_point(store.path, 1)["stagnation"].radius.item() == 0.5
    assert validate(store.path) == []


@pytest.mark.parametrize(
    ("labels", "kind", "stored"),
    [
        ([1, 2], "i", [1, 2]),
        ([1, 2.5], "f", [1.0, 2.5]),
        ([True, False], "b", [True, False]),
        (["a", "ä"], "T", ["a", "ä"]),
        ([True, "no", 3], "T", ["true", "no", "3"]),
        ((np.float64(0.1), np.float64(0.2)), "f", [0.1, 0.2]),
    ],
)
def test_labels_of_every_kind_come_back(make_store, tmp_path, labels, kind, stored):
    pytest.importorskip("h5netcdf")
    store = make_store(sweep=[SweepAxis("axis", {"axis": labels})])
    data = open_run(store.path)["bounds"].to_dataset()
    assert data.axis.dtype.kind == kind
    assert data.axis.values.tolist() == stored
    assert data.value.sel(axis=stored[-1]).dims == ("trajectory", "probe", "bound")
    out = export_netcdf(store.path, tmp_path / "run.nc")
    with xr.open_datatree(out, engine="h5netcdf") as exported:
        assert exported["bounds"].axis.values.tolist() == stored


def test_a_sweep_is_exported(sweep, tmp_path):
    pytest.importorskip("h5netcdf")
    sweep.point(5).set_attrs({"verdict": "ja: ≤ nein"})
    sweep.point(5).write("stagnation", {"radius": 0.5})
    sweep.point(5).write_coords({"time": np.arange(7.0)})
    out = export_netcdf(sweep.path, tmp_path / "run.nc")
    with xr.open_datatree(out, engine="h5netcdf") as exported:
        last = exported["stagnation"].radius.sel(zip=1, batch_size=32)
        assert last.item() == 0.5
        assert exported["stagnation"].time.sel(zip=1, batch_size=32, step=60).item() == 6.0
        assert exported["details"].dims == ("zip", "batch_size")
        assert "ja: ≤ nein" in exported.to_dataset()["details"].sel(zip=1, batch_size=32).item()


def test_a_shorter_point_is_filled_up_and_cut_again(sweep, random_values):
    point = sweep.point(2, {"step": 5})
    loss = random_values()["trajectory"]["loss"]
    point.write("trajectory", {"loss": loss[:, :3]}, {"step": slice(0, 3)})
    point.write("trajectory", {"loss": loss[:, 3:5]}, {"step": slice(3, 5)})
    point.write_coords({"time": np.arange(5.0)})
    with pytest.raises(ValueError, match="the region 3:7 along 'step' is outside 0:5"):
        point.write("trajectory", {"loss": loss[:, 3:7]}, {"step": slice(3, 7)})
    with pytest.raises(ValueError, match=r"expected shape \(3, 2\)"):
        point.write("trajectory", {"loss": loss[:, 3:6]}, {"step": slice(3, 5)})
    # Before anything is said of it the point knows its lengths itself; then the store does.
    np.testing.assert_array_equal(point.tree()["trajectory"].loss, loss[:, :5])
    point.set_status("done")
    whole = open_run(sweep.path)["trajectory"].loss.sel(zip=0, batch_size=32)
    np.testing.assert_array_equal(whole[:, :5], loss[:, :5])
    assert np.isnan(whole[:, 5:]).all()
    for tree in (open_point(sweep.path, 2), RunStore.open(sweep.path).point(2).tree()):
        np.testing.assert_array_equal(tree["trajectory"].loss, loss[:, :5])
        assert tree["trajectory"].time.values.tolist() == list(range(5))
        assert "lengths" not in tree.attrs
    assert validate(sweep.path) == []


def test_a_shorter_point_writes_whole_chunks_of_every_kind(sweep, random_values, monkeypatch):
    read = []
    original = LocalStore.get

    async def watched(self, key, *args, **kwargs):
        read.append(key)
        return await original(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", watched)
    layers = random_values()["bounds"]["spectral_norm_low"][..., :1]
    point = sweep.point(1, {"layer": 1, "claim": 0, "step": 5})
    point.write("bounds", {"spectral_norm_low": layers})
    point.write("claims", {"holds": np.zeros(0, np.int8)})
    inside = np.ones((3, 2), np.int8)
    point.write("trajectory", {"inside": inside}, {"step": slice(3, 5)})
    assert read == []
    whole = open_run(sweep.path)
    stored = whole["bounds"].spectral_norm_low.sel(zip=0, batch_size=16)
    np.testing.assert_array_equal(stored[..., :1], layers)
    assert np.isnan(stored[..., 1]).all()
    flags = whole["trajectory"].inside.sel(zip=0, batch_size=16)
    assert flags[0].values.tolist() == [-1, -1, -1, 1, 1, -1, -1]


def test_lengths_that_do_not_fit_are_refused(sweep):
    with pytest.raises(ValueError, match="length 8 along 'step' does not fit: the dataset has 7"):
        sweep.point(0, {"step": 8})
    with pytest.raises(ValueError, match="no such dimension"):
        sweep.point(0, {"zip": 1})


@pytest.mark.parametrize(
    ("axes", "match"),
    [
        ([SweepAxis("eta", {"eta": []})], "'eta' is empty"),
        ([SweepAxis("eta", {"other": [1]})], "'eta' has no labels"),
        ([SweepAxis("eta", {"eta": [0.1, 0.1]})], "must differ"),
        ([SweepAxis("zip", {"zip": [0, 1], "eta": [0.1]})], "'eta' has length 1"),
        ([SweepAxis("eta", {"eta": [1]}), SweepAxis("eta", {"eta": [2]})], "'eta'.* twice"),
        ([SweepAxis("zip", {"zip": [0], "a": [1]}), SweepAxis("a", {"a": [2]})], "'a'.* twice"),
        ([SweepAxis("eta", {"eta": [[1, 2]]})], "numbers, truth values or text"),
        ([SweepAxis("step", {"step": [1]})], "cannot be called 'step'"),
        ([SweepAxis("status", {"status": [1]})], "cannot be called 'status'"),
        ([SweepAxis("bounds", {"bounds": [1]})], "cannot be called 'bounds'"),
        ([SweepAxis("zip", {"zip": [1], "theory": ["S2"]})], "cannot be called 'theory'"),
        ([SweepAxis("radius", {"radius": [1], "stagnation_radius": [1]})], "stagnation_radius"),
    ],
)
def test_axes_that_do_not_fit_are_refused(make_store, tmp_path, axes, match):
    with pytest.raises(ValueError, match=match):
        make_store(tmp_path / "other", sweep=axes)
    assert not (tmp_path / "other").exists()


def test_coordinates_of_a_point_are_checked(sweep):
    point = sweep.point(0)
    with pytest.raises(ValueError, match="'step' is no coordinate that differs"):
        point.write_coords({"time": np.arange(7.0), "step": np.arange(7)})
    with pytest.raises(ValueError, match=r"expected shape \(7,\)"):
        point.write_coords({"time": np.arange(6.0)})
    with pytest.raises(ValueError, match="does not fit into"):
        point.write_coords({"time": np.arange(7)})
    with pytest.raises(ValueError, match="does not fit into"):
        point.write("/", {"details": np.array("{}")})
    assert np.isnan(open_run(sweep.path)["stagnation"].time).all()


def test_two_processes_on_different_points_lose_nothing(make_store):
    """Values, coordinates, texts and states, written at the same time, all arrive."""
    store = make_store(sweep=[SweepAxis("eta", {"eta": range(24)})])
    writer = (
        "import sys\n"
        "import numpy as np\n"
        "from sgdsim.store import RunStore\n"
        "store = RunStore.open(sys.argv[1])\n"
        "for number in range(int(sys.argv[2]), 24, 2):\n"
        "    point = store.point(number)\n"
        "    for k in range(3):\n"
        "        point.set_attrs({f'key {k}': number})\n"
        "    point.write('trajectory', {'loss': np.full((3, 7), number, np.float32)})\n"
        "    point.write_coords({'time': np.full(7, float(number))})\n"
        "    point.set_status('failed' if number % 3 == 0 else 'done')\n"
    )
    before = (store.path / "zarr.json").read_bytes()
    processes = [
        subprocess.Popen([sys.executable, "-c", writer, str(store.path), str(k)], cwd=ROOT)
        for k in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    numbers = np.arange(24)
    tree = open_run(store.path)
    expected = numbers[:, None, None] * np.ones((1, 3, 7))
    np.testing.assert_array_equal(tree["trajectory"].loss.values, expected)
    np.testing.assert_array_equal(tree["stagnation"].time.values, expected[:, 0])
    assert store.statuses().tolist() == np.where(numbers % 3 == 0, 2, 1).tolist()
    for number in (0, 13, 23):
        assert store.point(number).attrs == {f"key {k}": number for k in range(3)}
    assert validate(store.path) == []
    # Workers leave what they share alone.
    assert (store.path / "zarr.json").read_bytes() == before


def test_damage_is_found_with_its_point(sweep, random_values):
    for number in range(6):
        point = sweep.point(number)
        written(point, random_values(seed=number))
        point.write_coords({"time": np.arange(7.0), "convexity_radius": np.ones(2)})
        point.set_attrs({"verdict": "It stays."})
        point.set_status("done")
    assert validate(sweep.path) == []

    def flip(name, where):
        chunk = sweep.path.joinpath(name, "c", *where.split("/"))
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 1
        chunk.write_bytes(bytes(data))

    flip("trajectory/loss", "1/0/0/1")
    flip("stagnation/time", "0/2/0")
    flip("stagnation/radius", "1/2")
    flip("details", "0/1")
    (sweep.path / "details" / "c" / "1" / "1").unlink()
    flip("status", "1/2")
    problems = validate(sweep.path)
    starts = (
        "trajectory/loss: values of point 3 unreadable (",
        "stagnation/time: values of point 2 unreadable (",
        "stagnation/radius: values of point 5 unreadable (",
        "details: values of point 1 unreadable (",
        "details: point 4 is done but has none",
        "status: values of point 5 unreadable (",
    )
    assert len(problems) == len(starts)
    for start in starts:
        assert any(problem.startswith(start) for problem in problems), (start, problems)
    with pytest.raises(StoreError, match="damaged: details of point 1 are unreadable"):
        open_point(sweep.path, 1)
    with pytest.raises(StoreError, match="damaged: details are unreadable"):
        _ = sweep.point(1).attrs
    assert open_point(sweep.path, 3).attrs["verdict"] == "It stays."
    # Computed again, the point is whole.
    sweep.point(1).set_status("pending")
    assert sweep.point(1).attrs == {}
    sweep.point(1).set_status("done")
    assert not any("point 1" in problem for problem in validate(sweep.path))


def test_details_of_another_kind_are_found(sweep):
    for number, text in enumerate(("[]", "{", '{"a": 1}')):
        sweep.point(number).set_attrs({})
        array = sweep._opened.root["details"]
        array[0, number] = text
    assert validate(sweep.path) == [
        "details: text of point 0 is no JSON object",
        "details: text of point 1 is no JSON object",
    ]


def test_a_missing_coordinate_of_the_sweep_is_found(sweep):
    (sweep.path / "bounds" / "rule" / "zarr.json").unlink()
    assert "bounds/rule: missing" in validate(sweep.path)


def test_a_run_without_sweep_is_one_point(tmp_path):
    run = synthetic_run(tmp_path / "run")
    xr.testing.assert_identical(open_run(run), open_point(run, 0))
    assert RunStore.open(run / "run.zarr").point().tree().attrs["verdict"] == "A made-up run."


def test_every_chunk_of_every_array_has_a_checksum(make_store):
    nodes = [
        json.loads(file.read_text()) for file in make_store(sweep=AXES).path.rglob("zarr.json")
    ]
    arrays = [node for node in nodes if node["node_type"] == "array"]
    assert len(arrays) > 40
    for array in arrays:
        assert array["codecs"][-1]["configuration"]["checksum"], array["attributes"]
