"""What may be written where, decided before anything is computed."""

import errno
from pathlib import Path

import pytest

from sgdsim._errors import StoreError
from sgdsim.runs import check_output, find_run


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
