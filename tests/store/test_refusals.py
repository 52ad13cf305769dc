"""What the writer refuses, and what damaged or missing stores are answered with."""

import contextlib
import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from sgdsim._errors import StoreError
from sgdsim.store import RunStore, export_netcdf, open_run, validate
from sgdsim.testing import synthetic_run

pytestmark = pytest.mark.slow

LOSS = np.zeros((3, 3), np.float32)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 2), (1, 4), (3, 5), (2, 6), (6, 6), (-3, 3), (6, 8)]
)
def test_regions_that_cut_chunks_are_refused(make_store, start, stop):
    store = make_store()
    point = store.point()
    part = np.zeros((3, max(stop - start, 0)), np.float32)
    with pytest.raises(ValueError, match=r"trajectory/loss: the region .* along 'step'"):
        point.write("trajectory", {"loss": part}, {"step": slice(start, stop)})
    assert np.isnan(open_run(store.path)["trajectory"].loss).all()


def test_regions_of_other_kinds_are_refused(make_store):
    store = make_store()
    point = store.point()
    with pytest.raises(ValueError, match=r"has no dimension \['step'\]"):
        point.write("stagnation", {"max_distance": np.zeros(3)}, {"step": slice(0, 3)})
    with pytest.raises(ValueError, match="must have step 1"):
        point.write("trajectory", {"loss": LOSS}, {"step": slice(0, 6, 2)})
    with pytest.raises(ValueError, match="cuts a chunk of 3"):
        point.write("trajectory", {"loss": LOSS[:1]}, {"step": slice(0, 3), "trajectory": slice(1)})
    with pytest.raises(ValueError, match="point 1 is outside"):
        store.point(1)
    with pytest.raises(ValueError, match="point -1 is outside"):
        store.point(-1)


def test_writing_whole_chunks_reads_nothing(make_store, monkeypatch):
    point = make_store().point()
    read = []
    original = LocalStore.get

    async def watched(self, key, *args, **kwargs):
        read.append(key)
        return await original(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", watched)
    point.write("trajectory", {"loss": LOSS}, {"step": slice(3, 6)})
    point.write("trajectory", {"loss": LOSS[:, :1]}, {"step": slice(6, 7)})
    assert read == []


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("trajectory", "loss", np.zeros((3, 7), np.float64)),
        ("trajectory", "loss", np.zeros((3, 7), np.int32)),
        ("trajectory", "loss", np.zeros((3, 7), np.complex64)),
        ("stagnation", "exit_step", np.zeros(3, np.float64)),
        ("stagnation", "exit_step", np.zeros(3, np.int64)),
        ("stagnation", "exited", np.full(3, 300, np.int32)),
        ("stagnation", "radius", np.asarray(1)),
    ],
)
def test_dtypes_that_lose_are_refused(make_store, group, name, value):
    with pytest.raises(ValueError, match=rf"{group}/{name}: {value.dtype} does not fit into"):
        make_store().point().write(group, {name: value})


def test_dtypes_that_lose_nothing_are_accepted(make_store):
    store = make_store()
    store.point().write(
        "stagnation",
        {
            "exited": np.array([True, False, True]),
            "exit_step": np.array([4, -1, 9], np.int16),
            "occupancy": np.array([0.1, 0.2, 0.3], np.float32),
            "radius": 0.25,
        },
    )
    stagnation = open_run(store.path)["stagnation"]
    assert stagnation.exited.values.tolist() == [1, 0, 1]
    assert stagnation.exit_step.values.tolist() == [4, -1, 9]
    assert stagnation.occupancy.values.tolist() == [np.float32(value) for value in (0.1, 0.2, 0.3)]
    assert stagnation.radius.item() == 0.25


def test_wrong_names_and_shapes_are_refused_before_anything_is_written(make_store):
    store = make_store()
    point = store.point()
    with pytest.raises(ValueError, match="Did you mean 'gradient_norm'"):
        point.write("trajectory", {"loss": np.zeros((3, 7), np.float32), "gradient_nrom": LOSS})
    with pytest.raises(ValueError, match=r"expected shape \(3, 7\) .* got \(7, 3\)"):
        point.write("trajectory", {"loss": np.zeros((7, 3), np.float32)})
    with pytest.raises(ValueError, match="unknown group 'trajectories'"):
        point.write("trajectories", {"loss": LOSS})
    with pytest.raises(ValueError, match="a stagnation run has no group 'exits'"):
        point.write("exits", {"radius": np.zeros(1)})
    assert np.isnan(open_run(store.path)["trajectory"].loss).all()


def test_wrong_coordinates_and_settings_are_refused(make_store, coordinates, tmp_path):
    def refused(match, **options):
        with pytest.raises(ValueError, match=match):
            make_store(tmp_path / "other", **options)
        assert not (tmp_path / "other").exists()

    without = {name: value for name, value in coordinates.items() if name != "bound"}
    refused("unknown coordinates", coords=coordinates | {"quantile": [1]})
    refused(r"missing coordinates \['bound'\]", coords=without)
    refused(
        "'kind' has length 1, its dimension 'bound'", coords=coordinates | {"kind": ["measure"]}
    )
    refused("must differ", coords=coordinates | {"bound": ["same", "same"]})
    refused("holds integers", coords=coordinates | {"step": np.linspace(0, 1, 7)})
    refused("holds text", coords=coordinates | {"kind": [1, 2]})
    refused("one-dimensional", coords=coordinates | {"layer": np.zeros((2, 1), int)})
    refused("precision", precision="float16")
    refused("chunk_sizes", chunk_sizes={"step": 3})
    refused("chunk_sizes", chunk_sizes={"step": 0, "probe": 1})
    refused("differ by point", coords=coordinates | {"time": np.zeros(7)})


def test_an_existing_path_is_not_replaced(make_store, tmp_path):
    store = make_store()
    with pytest.raises(StoreError, match="it exists"):
        make_store()
    (tmp_path / "run" / "run.zarr").mkdir()
    with pytest.raises(StoreError, match=r"run\.zarr exists; remove or rename it"):
        store.finish(tmp_path / "run" / "run.zarr")
    assert RunStore.open(store.path).point().status() == "pending"


def test_a_kill_during_creation_leaves_nothing_that_looks_like_a_store(tmp_path):
    target = tmp_path / "run.zarr.partial"
    # Killed by SIGKILL after 40 arrays, in the middle of the template.
    code = (
        "import os, signal, sys, zarr\n"
        "from pathlib import Path\n"
        "from sgdsim.testing import synthetic_run\n"
        "original, count = zarr.Group.create_array, [0]\n"
        "def create_array(*args, **kwargs):\n"
        "    count[0] += 1\n"
        "    if count[0] > 40: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return original(*args, **kwargs)\n"
        "zarr.Group.create_array = create_array\n"
        "synthetic_run(Path(sys.argv[1]))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    (left,) = tmp_path.glob(".run.zarr.partial.creating-*")
    # A young one may belong to a living process; an old one is swept away by the next creation.
    long_ago = time.time() - 7200
    os.utime(left, (long_ago, long_ago))
    synthetic_run(tmp_path)
    assert not left.exists()
    assert validate(tmp_path) == []


def test_a_store_appears_in_one_rename(make_store, monkeypatch, tmp_path):
    renamed = []
    original = Path.rename

    def watched(self, target):
        renamed.append((len(list(self.rglob("zarr.json"))), Path(target)))
        assert not Path(target).exists()
        return original(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    store = make_store()
    # Complete before it gets its name, and nothing is left beside it.
    assert renamed == [(len(list(store.path.rglob("zarr.json"))), store.path)]
    assert list(store.path.parent.iterdir()) == [store.path]
    store.finish(tmp_path / "run" / "run.zarr")
    assert renamed[1][1] == tmp_path / "run" / "run.zarr"
    assert list(store.path.parent.iterdir()) == [tmp_path / "run" / "run.zarr"]


def test_an_exception_during_creation_leaves_nothing(make_store, monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(zarr.Group, "create_array", refuse)
    with pytest.raises(KeyboardInterrupt):
        make_store()
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "cause", "advice"),
    [
        (errno.ENOSPC, "No space left on device", "free some space"),
        (errno.EROFS, "Read-only file system", "choose another folder"),
        (errno.EACCES, "Permission denied", "may write to"),
    ],
)
def test_a_disk_that_refuses_is_one_sentence(
    make_store, monkeypatch, tmp_path, number, cause, advice
):
    store = make_store()
    point = store.point()
    before = store.path

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number), "some/inner/chunk")

    # The lowest level that zarr writes through: opening the temporary file of a chunk.
    monkeypatch.setattr("zarr.storage._local._atomic_write", refuse)
    for action in (
        lambda: point.write("trajectory", {"loss": LOSS}, {"step": slice(0, 3)}),
        lambda: point.set_status("done"),
        lambda: point.set_attrs({"verdict": "x"}),
        lambda: point.write_coords({"time": np.zeros(7)}),
        lambda: store.set_attrs({"device": "x"}),
        lambda: store.finish(tmp_path / "run.zarr"),
        lambda: make_store(tmp_path / "second" / "run.zarr.partial"),
    ):
        with pytest.raises(StoreError) as caught:
            action()
        message = str(caught.value)
        assert cause in message
        assert advice in message
        assert str(tmp_path) in message
        assert "inner" not in message
        assert message.count(". ") == 0
        assert message.endswith(".")
    assert list((tmp_path / "second").iterdir()) == []
    monkeypatch.undo()
    assert store.path == before
    store.finish(tmp_path / "run.zarr")


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 1 MiB, where mounting is permitted."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("no mount command")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path):
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass


def test_a_full_disk(make_store, tiny_disk):
    store = make_store(tiny_disk / "run.zarr.partial")
    point = store.point()
    point.write("trajectory", {"loss": LOSS + 1}, {"step": slice(0, 3)})
    fill(tiny_disk / "ballast")
    with pytest.raises(StoreError, match=r"cannot write .*: No space left on device; free some"):
        point.write("trajectory", {"loss": LOSS + 2}, {"step": slice(3, 6)})
    with pytest.raises(StoreError, match=r"cannot create .*: No space left on device"):
        make_store(tiny_disk / "second.partial")
    # What was there before is intact, and the run goes on when there is space again.
    assert (open_run(store.path)["trajectory"].loss[:, :3] == 1).all()
    (tiny_disk / "ballast").unlink()
    point.write("trajectory", {"loss": LOSS + 2}, {"step": slice(3, 6)})
    assert (open_run(store.path)["trajectory"].loss[:, 3:6] == 2).all()


def test_a_disk_that_turns_read_only(make_store, tiny_disk):
    store = make_store(tiny_disk / "run.zarr.partial")
    point = store.point()
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(StoreError, match=r"cannot write .*: Read-only file system"):
        point.write("trajectory", {"loss": LOSS}, {"step": slice(0, 3)})
    with pytest.raises(StoreError, match=r"cannot finish .*: Read-only file system"):
        store.finish(tiny_disk / "run.zarr")
    assert open_run(store.path)["trajectory"].sizes["step"] == 7


def edit_root(run, change):
    file = run / "run.zarr" / "zarr.json"
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata))


def openers(run):
    return (lambda: open_run(run), lambda: RunStore.open(run / "run.zarr"))


def assert_refused(run, match):
    for opener in openers(run):
        with pytest.raises(StoreError, match=match) as caught:
            opener()
        assert str(run) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert len(validate(run)) > 0


def test_another_version_of_the_conventions(tmp_path):
    run = synthetic_run(tmp_path / "run")
    edit_root(run, lambda m: m["attributes"].update(conventions="sgdsim-2"))
    assert_refused(run, "conventions 'sgdsim-2', this version of sgdsim reads 'sgdsim-1'")
    edit_root(run, lambda m: m["attributes"].pop("conventions"))
    assert_refused(run, "not one of sgdsim")


def test_damaged_metadata(tmp_path):
    run = synthetic_run(tmp_path / "run")
    root = run / "run.zarr" / "zarr.json"
    whole = root.read_bytes()
    root.write_bytes(whole[: len(whole) // 2])
    assert_refused(run, r"damaged: zarr\.json is not valid JSON")
    root.write_bytes(b"\xff\xfe")
    assert_refused(run, r"damaged: zarr\.json is not valid JSON")
    root.write_bytes(b"[]")
    assert_refused(run, r"damaged: zarr\.json is not a Zarr description")
    root.unlink()
    assert_refused(run, r"damaged: zarr\.json is missing")
    root.write_bytes(whole)
    shutil.rmtree(run / "run.zarr" / "stagnation")
    assert_refused(run, r"damaged: stagnation/zarr\.json is missing")


def test_damaged_root_structure(tmp_path):
    run = synthetic_run(tmp_path / "run")
    edit_root(run, lambda m: m.update(zarr_format=7, consolidated_metadata={"metadata": 3}))
    assert_refused(run, "damaged: it cannot be opened")


def test_a_missing_array_stops_the_writer_and_is_named(tmp_path):
    run = synthetic_run(tmp_path / "run", finished=False)
    store = run / "run.zarr.partial"
    shutil.rmtree(store / "bounds" / "value")
    with pytest.raises(StoreError, match="damaged"):
        RunStore.open(store)
    assert validate(run) == ["bounds/value: missing"]


def test_validate_finds_damage_inside(tmp_path):
    store = synthetic_run(tmp_path / "run") / "run.zarr"
    chunk = store / "trajectory" / "loss" / "c" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    flipped = store / "stagnation" / "occupancy" / "c" / "0"
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(bytes(data))
    for name, key in (("stagnation/radius", "units"), ("stagnation/rsi", "long_name")):
        file = store / name / "zarr.json"
        metadata = json.loads(file.read_text())
        del metadata["attributes"][key]
        file.write_text(json.dumps(metadata))
    file = store / "bounds" / "value" / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["dimension_names"][1] = "path"
    file.write_text(json.dumps(metadata))
    (store / "claims" / "measured" / "zarr.json").write_text("{")
    problems = validate(store)
    assert len(problems) == 6
    for start in (
        "trajectory/loss: values unreadable",
        "stagnation/occupancy: values unreadable",
        "stagnation/radius: attribute units is missing",
        "stagnation/rsi: attribute long_name is missing",
        "bounds/value: dims are ('trajectory', 'path', 'bound')",
        "claims/measured: description unreadable",
    ):
        assert any(problem.startswith(start) for problem in problems), (start, problems)


def test_a_missing_run_names_its_neighbours(tmp_path):
    synthetic_run(tmp_path / "stagnation-mlp")
    synthetic_run(tmp_path / "stagnation", finished=False)
    (tmp_path / "notes").mkdir()
    with pytest.raises(StoreError, match=r"Did you mean .*/stagnation-mlp\?") as caught:
        open_run(tmp_path / "stagnation-mpl")
    assert "stagnation, stagnation-mlp." in str(caught.value)
    assert "notes" not in str(caught.value)
    with pytest.raises(StoreError, match=r"holds no run \(no run.zarr in it\).*stagnation-mlp"):
        open_run(tmp_path / "notes")
    with pytest.raises(StoreError, match=r"Runs in .*: stagnation, stagnation-mlp"):
        open_run(tmp_path)
    with pytest.raises(StoreError, match=r"there is no run at .* Give a run folder"):
        open_run(tmp_path / "far" / "away")
    (tmp_path / "run.csv").write_text("1")
    with pytest.raises(StoreError, match="is a file, not a folder"):
        open_run(tmp_path / "run.csv")
    assert validate(tmp_path / "far")[0].startswith("there is no run at")


def test_a_foreign_zarr_store(tmp_path):
    zarr.create_group(tmp_path / "foreign.zarr", zarr_format=3)
    with pytest.raises(StoreError, match="not one of sgdsim"):
        open_run(tmp_path / "foreign.zarr")
    (tmp_path / "run.zarr").mkdir()
    with pytest.raises(StoreError, match="not a dataset of sgdsim"):
        open_run(tmp_path / "run.zarr")


def test_export_refusals(tmp_path, monkeypatch):
    pytest.importorskip("h5netcdf")
    run = synthetic_run(tmp_path / "run")
    (tmp_path / "run.nc").write_text("mine")
    with pytest.raises(StoreError, match="it exists"):
        export_netcdf(run, tmp_path / "run.nc")
    with pytest.raises(StoreError, match="No such file"):
        export_netcdf(run, tmp_path / "absent" / "run.nc")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StoreError, match=r"pip install sgdsim\[netcdf\]"):
        export_netcdf(run, tmp_path / "second.nc")
