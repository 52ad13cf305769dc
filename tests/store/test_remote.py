"""Datasets on URLs: in memory, and on a server that speaks S3."""

import errno
import json
import os
import uuid

import fsspec
import numpy as np
import pytest
import xarray as xr
from upath import UPath

from sgdsim._errors import StoreError
from sgdsim.plotting import save_figures
from sgdsim.store import (
    RunStore,
    SweepAxis,
    as_location,
    count_statuses,
    export_netcdf,
    find_store,
    is_finished,
    is_remote,
    open_point,
    open_run,
    validate,
)
from sgdsim.store._files import disk_errors
from sgdsim.testing import synthetic_run

pytestmark = pytest.mark.slow

AXES = (SweepAxis("learning_rate", {"learning_rate": [0.1, 0.4]}),)


def test_places_are_paths_or_urls(tmp_path):
    assert as_location("runs/x") == as_location(os.fspath("runs/x"))
    for local in (tmp_path, str(tmp_path), f"file://{tmp_path}", UPath(f"file://{tmp_path}")):
        place = as_location(local)
        assert place == tmp_path
        assert type(place) is type(tmp_path)
        assert not is_remote(place)
    url = as_location("memory://a/b")
    assert isinstance(url, UPath)
    assert is_remote(url)
    assert str(url) == "memory://a/b"
    assert as_location(url) is url


def test_protocols_that_cannot_be_used_are_named(monkeypatch):
    with pytest.raises(StoreError, match=r"protocol s4:// is unknown; did you mean s3://\?"):
        as_location("s4://bucket/run")
    with pytest.raises(StoreError, match=r"protocol qqqqqq:// is unknown; give a local folder"):
        open_run("qqqqqq://bucket/run")

    def missing(name):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("sgdsim.store._location.get_filesystem_class", missing)
    with pytest.raises(
        StoreError, match=r"cannot use s3://b/run: .* \(Install s3fs to access S3\)"
    ):
        as_location("s3://b/run")


def test_a_sweep_comes_back(remote, make_store, random_values, tmp_path):
    path = f"{remote}/run.zarr"
    store = make_store(path, sweep=AXES)
    values = random_values(seed=1)
    local = make_store(tmp_path / "local" / "run.zarr.partial", sweep=AXES)
    for one in (store, local):
        point = RunStore.open(one.path).point(1, {"step": 5})
        for group, arrays in values.items():
            for name, value in arrays.items():
                if group in ("bounds", "curvature", "claims"):
                    point.write(group, {name: value})
        point.write("trajectory", {"loss": values["trajectory"]["loss"][:, :5]})
        point.write_coords({"time": np.arange(5.0), "convexity_radius": np.array([0.1, 0.2])})
        point.set_attrs({"verdict": "It stays: ≤ 1 %."})
        point.set_status("done")
    assert not is_finished(remote)
    assert store.statuses().tolist() == [0, 1]
    xr.testing.assert_identical(store.point(1).tree(), local.point(1).tree())
    store.set_attrs({"device": "cpu"})
    local.set_attrs({"device": "cpu"})
    store.finish(path)
    assert is_finished(remote)
    assert str(find_store(remote)) == path
    local.finish(tmp_path / "local" / "run.zarr")
    assert validate(remote) == []
    for place in (remote, path, as_location(path)):
        assert count_statuses(place) == {"pending": 1, "done": 1, "failed": 0}
    xr.testing.assert_identical(open_run(remote), open_run(tmp_path / "local"))
    xr.testing.assert_identical(open_point(remote, 1), open_point(tmp_path / "local", 1))
    # A point may be computed again; the dataset stays finished.
    store.point(0).set_status("failed")
    store.set_attrs({"device": "gpu"})
    assert is_finished(remote)
    assert open_run(remote).attrs["device"] == "gpu"
    with pytest.raises(ValueError, match="is finished where it is"):
        store.finish(f"{remote}/other.zarr")
    with pytest.raises(ValueError, match="is reopened where it is"):
        store.reopen(f"{remote}/other.zarr")
    store.reopen(path)
    assert not is_finished(remote)
    assert RunStore.open(path).attrs["device"] == "gpu"
    store.finish(path)
    assert is_finished(remote)
    pytest.importorskip("h5netcdf")
    out = export_netcdf(remote, tmp_path / "run.nc")
    with xr.open_datatree(out, engine="h5netcdf") as exported:
        assert exported["trajectory"].loss.sel(learning_rate=0.4).notnull().sum() == 15


def test_figures(remote, tmp_path):
    tree = open_run(synthetic_run(tmp_path))
    paths = save_figures(tree, as_location(remote) / "figures")
    local = save_figures(tree, tmp_path / "figures")
    assert [path.name for path in paths] == [path.name for path in local]
    assert paths[0].parent == as_location(remote) / "figures"
    for there, file in zip(paths, local, strict=True):
        content = there.read_bytes()
        if there.suffix == ".png":
            assert content == file.read_bytes()
        else:
            assert content.rstrip().endswith(b"</svg>")


def test_a_damaged_chunk_is_found(remote, make_store):
    store = make_store(f"{remote}/run.zarr", sweep=AXES)
    store.point(1).write("trajectory", {"loss": np.ones((3, 7), np.float32)})
    chunk = store.path / "trajectory" / "loss" / "c" / "1" / "0" / "1"
    data = bytearray(chunk.fs.cat_file(chunk.path))
    data[len(data) // 2] ^= 1
    chunk.fs.pipe_file(chunk.path, bytes(data))
    (problem,) = validate(remote)
    assert problem.startswith("trajectory/loss: values of point 1 unreadable (")


def test_an_existing_dataset_is_not_replaced(remote, make_store):
    store = make_store(f"{remote}/run.zarr")
    with pytest.raises(StoreError, match=r"cannot create .*/run\.zarr: it exists"):
        make_store(store.path)
    # What a creation left that was killed has no root, and is completed.
    root = store.path / "zarr.json"
    store.path.fs.rm_file(root.path)
    store.path.fs.rm_file((store.path / "bounds" / "value" / "zarr.json").path)
    with pytest.raises(StoreError, match=r"damaged: zarr\.json is missing"):
        RunStore.open(store.path)
    store = make_store(store.path)
    store.point().set_status("done")
    assert validate(remote) == []
    # Values are no part of a template: whatever this is, it is not thrown away.
    store.path.fs.rm_file(root.path)
    with pytest.raises(StoreError, match="it exists"):
        make_store(store.path)


def test_the_root_is_written_last(make_store, monkeypatch):
    fs = fsspec.filesystem("memory")
    path = f"memory://{uuid.uuid4().hex}/run.zarr"
    original = type(fs).pipe_file

    def killed(self, name, value, **kwargs):
        if name.endswith("run.zarr/zarr.json"):
            raise KeyboardInterrupt
        return original(self, name, value, **kwargs)

    monkeypatch.setattr(type(fs), "pipe_file", killed)
    with pytest.raises(KeyboardInterrupt):
        make_store(path)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="there is no run at memory://"):
        open_run(path)
    assert len(fs.find(path)) > 100
    make_store(path).point().set_status("done")
    assert validate(path) == []


def test_finishing_is_one_write(make_store, monkeypatch):
    store = make_store(f"memory://{uuid.uuid4().hex}/run.zarr")
    fs = store.path.fs
    before = {name: fs.cat_file(name) for name in fs.find(store.path.path)}
    store.finish(store.path)
    after = {name: fs.cat_file(name) for name in fs.find(store.path.path)}
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {(store.path / "zarr.json").path}
    metadata = json.loads(after[store.path.path + "/zarr.json"])
    assert "trajectory/loss" in metadata["consolidated_metadata"]["metadata"]
    assert metadata["attributes"].pop("finished") is True
    assert metadata == json.loads(before[store.path.path + "/zarr.json"])


def test_a_run_that_is_not_there(remote, s3):
    with pytest.raises(StoreError, match=r"there is no run at .*/first; give the URL"):
        open_run(remote)
    assert validate(remote)[0].startswith("there is no run at")
    with pytest.raises(StoreError, match="there is no run at"):
        open_run("s3://no-such-bucket-here/run")


def test_a_server_that_refuses_is_one_sentence(s3, make_store, monkeypatch):
    with pytest.raises(StoreError) as caught:
        make_store("s3://no-such-bucket-here/run/run.zarr")
    message = str(caught.value)
    assert message.startswith("cannot create s3://no-such-bucket-here/run/run.zarr: ")
    assert "bucket does not exist" in message
    assert message.endswith("check the address, the credentials and the network, then start again.")
    # Nobody listens at port 9.
    away = UPath(
        f"{s3}/run",
        client_kwargs={"endpoint_url": "http://127.0.0.1:9"},
        config_kwargs={"retries": {"max_attempts": 0}},
    )
    monkeypatch.setattr(type(away.fs), "retries", 1)
    match = r"cannot read s3://.*: .*127\.0\.0\.1:9.*; check the address"
    with pytest.raises(StoreError, match=match):
        open_run(away)
    with pytest.raises(StoreError, match=match):
        RunStore.open(away)


def test_errors_of_clients_are_translated_and_others_are_not():
    exceptions = pytest.importorskip("botocore.exceptions")
    url = as_location("memory://bucket/run.zarr")
    for error, cause in (
        (exceptions.NoCredentialsError(), "Unable to locate credentials"),
        (exceptions.EndpointConnectionError(endpoint_url="http://x"), "Could not connect"),
        (OSError(errno.EIO, "We encountered an internal error. Please try again."), "internal"),
        (PermissionError("Access Denied"), "Access Denied"),
        (TimeoutError(), "TimeoutError"),
    ):
        with pytest.raises(StoreError) as caught, disk_errors("write", url):
            raise error
        message = str(caught.value)
        assert message.startswith("cannot write memory://bucket/run.zarr: ")
        assert cause in message
        assert message.count(". ") == 0
        assert message.endswith("then start again.")
    with pytest.raises(KeyError), disk_errors("write", url):
        raise KeyError("a mistake of ours")
