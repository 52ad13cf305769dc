"""State files: whole or not there, whoever else writes beside them, and what errors say."""

import errno
import os
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from upath import UPath

from sgdsim._errors import StoreError
from sgdsim.runs import _checkpoint
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.store import as_location

TREE = {"theta": jnp.arange(3.0), "count": jnp.arange(2)}


def test_a_state_comes_back(remote, tmp_path):
    for folder in (tmp_path, as_location(remote)):
        path = folder / "state" / "ensemble.npz"
        save_tree(path, TREE, "digest", step=1)
        save_tree(path, TREE, "digest", step=7)
        tree, scalars = load_tree(path, TREE, "digest")
        np.testing.assert_array_equal(tree["theta"], TREE["theta"])
        assert scalars == {"step": 7}
        with pytest.raises(StoreError, match="belongs to another scenario"):
            load_tree(path, TREE, "another")


def test_processes_of_the_same_number_write_files_of_their_own(tmp_path, monkeypatch):
    """Containers that share a disk count their processes each from 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "ensemble.npz"
    seen = []
    replace = Path.replace

    def meanwhile(self: Path, target: Path) -> Path:
        seen.append(self)
        if len(seen) == 1:  # the other one writes from beginning to end
            save_tree(path, TREE, "digest", step=2)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    save_tree(path, TREE, "digest", step=1)
    assert seen[0] != seen[1]
    assert load_tree(path, TREE, "digest")[1] == {"step": 1}
    assert os.listdir(tmp_path) == ["ensemble.npz"]


def test_what_killed_writers_left_disturbs_nobody(tmp_path):
    path = tmp_path / "ensemble.npz"
    save_tree(path, TREE, "digest", step=1)
    young, old = tmp_path / "ensemble.0a.tmp", tmp_path / "ensemble.0b.tmp"
    for leftover in (young, old):
        leftover.write_bytes(b"half of a state")
    long_ago = time.time() - 2 * _checkpoint._STALE_SECONDS
    os.utime(old, (long_ago, long_ago))
    assert load_tree(path, TREE, "digest")[1] == {"step": 1}
    save_tree(path, TREE, "digest", step=2)
    assert load_tree(path, TREE, "digest")[1] == {"step": 2}
    # Somebody may still be writing the young one.
    assert sorted(os.listdir(tmp_path)) == ["ensemble.0a.tmp", "ensemble.npz"]


def test_a_full_disk_keeps_the_former_state_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "ensemble.npz"
    save_tree(path, TREE, "digest", step=1)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError) as caught:
        save_tree(path, TREE, "digest", step=2)
    message = str(caught.value)
    assert message.startswith(f"cannot write {path}: No space left on device; free some space")
    assert message.endswith("what was computed before is kept, and 'sgdsim resume' continues it.")
    assert os.listdir(tmp_path) == ["ensemble.npz"]
    assert load_tree(path, TREE, "digest")[1] == {"step": 1}


def test_errors_of_clients_are_one_sentence(monkeypatch):
    exceptions = pytest.importorskip("botocore.exceptions")
    path = UPath("memory://nowhere/state/ensemble.npz")

    def refuse(*arguments: object, **options: object) -> None:
        raise exceptions.NoCredentialsError

    monkeypatch.setattr(type(path), "write_bytes", refuse)
    with pytest.raises(
        StoreError, match=r"cannot write memory://.*: Unable to locate cred"
    ) as error:
        save_tree(path, TREE, "digest")
    assert ". " not in str(error.value)
    monkeypatch.setattr(type(path.fs), "cat_file", refuse)
    with pytest.raises(
        StoreError, match=r"cannot read memory://.*: Unable to locate cred"
    ) as error:
        load_tree(path, TREE, "digest")
    assert "--overwrite" not in str(error.value)  # the state is there, only the way to it is not


def test_a_state_that_is_gone_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"cannot be read .* start it again with --overwrite"):
        load_tree(tmp_path / "ensemble.npz", TREE, "digest")
