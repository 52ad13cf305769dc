"""What may be written where, decided before anything is computed."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import zarr
from upath import UPath

import sgdsim
from sgdsim._errors import StoreError
from sgdsim.runs import RunPaths, check_output, find_run
from sgdsim.runs._output import clear_output, is_run
from sgdsim.testing import synthetic_run

pytestmark = pytest.mark.slow


def upload(folder: Path, url: str) -> RunPaths:
    """Copy a run folder to a URL."""
    target = UPath(url)
    target.fs.pipe(
        {
            (target / file.relative_to(folder).as_posix()).path: file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }
    )
    return RunPaths(target)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Folder of a finished run."""
    return synthetic_run(tmp_path_factory.mktemp("finished") / "run")


def test_a_fresh_folder_is_fine_and_not_created(tmp_path):
    check_output(tmp_path / "a" / "b", overwrite=False)
    assert not (tmp_path / "a" / "b").exists()


@pytest.mark.parametrize(
    ("name", "message"), [("run.zarr", "--overwrite"), ("run.zarr.partial", "sgdsim resume")]
)
def test_an_earlier_run_is_kept(tmp_path, name, message):
    (tmp_path / name).mkdir()
    with pytest.raises(StoreError, match=message):
        check_output(tmp_path, overwrite=False)
    check_output(tmp_path, overwrite=True)
    assert (tmp_path / name).exists()


def test_files_of_others_are_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match=r"thesis\.tex"):
            check_output(tmp_path, overwrite)


def test_remains_of_a_killed_run_are_ours(tmp_path):
    (tmp_path / ".run.zarr.partial.creating-1a2b").mkdir()
    (tmp_path / ".sgdsim-writable").touch()
    check_output(tmp_path, overwrite=False)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match="it is a file"):
        check_output(tmp_path / "out", overwrite=True)


def test_a_read_only_folder_is_refused(tmp_path, monkeypatch):
    def refuse(self, *arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StoreError, match="Read-only file system"):
        check_output(tmp_path, overwrite=False)


def test_a_run_is_found_by_any_of_its_paths(tmp_path):
    (tmp_path / "run.zarr.partial").mkdir()
    for path in (tmp_path, tmp_path / "run.zarr.partial", tmp_path / "run.zarr"):
        assert find_run(path).folder == tmp_path
    with pytest.raises(StoreError, match="holds no run"):
        find_run(tmp_path / "elsewhere")


def test_a_killed_deletion_leaves_nothing_that_counts_as_a_run(tmp_path, finished, monkeypatch):
    """Neither half of the dataset under its name, nor files that stay for ever."""
    folder = shutil.copytree(finished, tmp_path / "run")
    paths = RunPaths(folder)
    assert paths.finished
    (folder / "state" / "000000").mkdir(parents=True)

    def killed(path: Path, *arguments: object, **options: object) -> None:
        next(path.glob("*/zarr.json"), path / "none").unlink(missing_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        clear_output(folder)
    monkeypatch.undo()
    left = os.listdir(folder)
    assert left
    assert all(name.startswith(".run.zarr.") for name in left)
    assert not paths.finished
    assert not paths.unfinished
    with pytest.raises(StoreError, match="holds no run"):
        sgdsim.open_run(folder)
    check_output(folder, overwrite=False)
    clear_output(folder, overwrite=False)
    assert os.listdir(folder) == ["state"]
    assert os.listdir(folder / "state") == []


def test_a_dataset_that_is_a_link_is_replaced_and_its_target_kept(tmp_path, finished):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.zarr").symlink_to(finished / "run.zarr")
    clear_output(tmp_path / "run")
    assert os.listdir(tmp_path / "run") == ["state"]
    assert RunPaths(finished).finished


def test_a_remote_dataset_loses_its_root_first(remote, finished, monkeypatch):
    paths = upload(finished, remote)
    assert paths.finished
    store = UPath(paths.store)
    files = store.fs

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "rm", killed)
    with pytest.raises(KeyboardInterrupt):
        clear_output(remote)
    monkeypatch.undo()
    assert len(files.find(store.path)) > 50
    assert not paths.finished
    assert not paths.unfinished
    check_output(remote, overwrite=False)
    clear_output(remote, overwrite=False)
    files.invalidate_cache()
    assert files.find(store.path) == []


def test_a_remote_folder_without_a_root_holds_no_run(remote, finished):
    """Its creation or deletion was killed: it can be run in, and there is nothing to resume."""
    paths = upload(finished, remote)
    root = UPath(paths.store) / "zarr.json"
    root.fs.rm_file(root.path)
    assert not paths.finished
    assert not paths.unfinished
    assert not is_run(remote)
    check_output(remote, overwrite=False)
    for place in (remote, f"{remote}/run.zarr"):
        with pytest.raises(
            StoreError, match=r"nothing to read or resume; run .*--overwrite"
        ) as caught:
            sgdsim.resume(place, quiet=True)
        assert ". " not in str(caught.value)


def test_an_unfinished_remote_run_is_one(remote, finished):
    paths = upload(finished, remote)
    zarr.open_group(str(paths.store), mode="r+").update_attributes({"finished": False})
    assert paths.unfinished
    assert not paths.finished
    with pytest.raises(StoreError, match="sgdsim resume"):
        check_output(remote, overwrite=False)
    assert find_run(remote) == paths


def test_a_local_dataset_without_a_root_is_not_thrown_away(tmp_path, finished):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "run.zarr" / "zarr.json").unlink()
    for refuse in (check_output, clear_output):
        with pytest.raises(StoreError, match=r"damaged run .*--overwrite"):
            refuse(folder, overwrite=False)
    with pytest.raises(StoreError, match="nothing to read or resume"):
        find_run(folder)
    clear_output(folder)
    assert not (folder / "run.zarr").exists()


def test_a_run_that_appeared_meanwhile_is_kept(tmp_path, finished):
    """The folder was free when it was checked, and another run ended there before the lock."""
    folder = tmp_path / "run"
    check_output(folder, overwrite=False)
    for name, message in (("run.zarr", "a finished run"), ("run.zarr.partial", "an unfinished")):
        shutil.copytree(finished / "run.zarr", folder / name)
        with pytest.raises(StoreError, match=message):
            clear_output(folder, overwrite=False)
        assert (folder / name / "zarr.json").exists()
        clear_output(folder)
        assert os.listdir(folder) == ["state"]


def test_errors_of_clients_are_one_sentence(monkeypatch):
    exceptions = pytest.importorskip("botocore.exceptions")
    url = UPath("memory://nowhere/run")
    for error in (
        exceptions.NoCredentialsError(),
        exceptions.EndpointConnectionError(endpoint_url="http://x"),
    ):

        def refuse(*arguments: object, error: Exception = error, **options: object) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(type(url.fs), "info", refuse)
            patch.setattr(type(url.fs), "find", refuse)
            patch.setattr(type(url.fs), "pipe_file", refuse)
            patch.setattr(type(url), "write_bytes", refuse)
            for action, call in (
                ("(read|write to)", lambda: check_output(url, overwrite=False)),
                ("write to", lambda: check_output(url, overwrite=True)),
                ("write to", lambda: clear_output(url)),
                ("read", lambda: find_run(url)),
            ):
                with pytest.raises(StoreError, match=f"^cannot {action} memory://") as caught:
                    call()
                assert str(caught.value).endswith("the network, then start again.")
                assert ". " not in str(caught.value)
