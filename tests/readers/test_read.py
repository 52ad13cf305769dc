"""Suffix or content decide which reader a path is for."""

import numpy as np
import pytest

from sgdsim.readers import Optimizer, read_runs


def test_tables_and_archives(tmp_path):
    for name in ("a.csv", "b.tsv", "c.txt", "D.CSV"):
        (tmp_path / name).write_text("step\tloss\tlr\n0\t1\t0.5\n")
        (run,) = read_runs(tmp_path / name, optimizer=Optimizer("sgd", batch_size=4))
        assert run.name == name[0]
        assert run.optimizer.batch_size == 4
    np.savez(tmp_path / "e.npz", loss=[1.0, 0.5])
    (run,) = read_runs(str(tmp_path / "e.npz"), learning_rate=0.1, every=10)
    assert run.step.tolist() == [0, 10]


def test_what_cannot_be_read(tmp_path):
    (tmp_path / "run.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"run.pkl is of no format that can be read; give .csv"):
        read_runs(tmp_path / "run.pkl")
    with pytest.raises(ValueError, match=r"is a folder without data\.hdf5"):
        read_runs(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is nothing at"):
        read_runs(tmp_path / "absent")


@pytest.mark.parametrize("name", ["run.csv", "run.hdf5"])
def test_a_frequency_where_steps_are_known(tmp_path, name):
    (tmp_path / name).write_text("step,loss\n0,1\n")
    with pytest.raises(ValueError, match="has steps of its own; leave out --every"):
        read_runs(tmp_path / name, learning_rate=0.1, every=5)
