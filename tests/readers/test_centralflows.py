"""HDF5 files of centralflows, written as its DataSaver lays them out."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sgdsim.readers import Optimizer, read_centralflows, read_runs

h5py = pytest.importorskip("h5py")

RATE, ROWS, REACHED = 0.02, 12, 10
LOSS = np.linspace(1, 0.1, ROWS).astype(np.float32)


def padded(values: np.ndarray, reached: int = REACHED) -> np.ndarray:
    """What a run leaves that ends early: NaN from there on."""
    values = np.array(values, np.float32)
    values[reached:] = np.nan
    return values


def process(eigenvalues: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "train_loss": padded(LOSS),
        "test_loss": padded(2 * LOSS),
        "train_acc": padded(LOSS),
        "test_acc": padded(1 - LOSS / 2),
        "grad_norm_sq": padded(LOSS**2),
        "hessian_eigs": padded(eigenvalues),
        "effective_hessian_eigs": padded(RATE * eigenvalues),
        "opt.lr": padded(np.full(ROWS, RATE)),
        "opt.t": padded(np.arange(ROWS)),
    }


EIGENVALUES = np.stack([90 + np.arange(ROWS), np.full(ROWS, np.nan)], axis=1)
EIGENVALUES[6:, 1] = 80  # tracked from there on
MIDDLE = EIGENVALUES - 1


@pytest.fixture
def write(tmp_path: Path):
    def write(
        groups: dict[str, dict[str, np.ndarray]],
        config: dict | None = None,
        initial: int = 0,
    ) -> Path:
        with h5py.File(tmp_path / "data.hdf5", "w", libver="latest") as file:
            file["step"] = np.arange(ROWS) + initial
            for name, series in groups.items():
                for key, values in series.items():
                    file[f"{name}/{key}"] = values
            file["discrete/times/eig"] = np.ones(ROWS)
            file["distances/central-discrete"] = np.ones(ROWS)
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


def refused(path: Path, **given) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        read_centralflows(path, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_processes_of_gradient_descent(write):
    groups = {name: process(EIGENVALUES) for name in ("discrete", "central", "stable")}
    groups["midpoint"] = process(MIDDLE)
    groups["central"]["predicted_loss"] = padded(1.1 * LOSS)
    folder = write(groups, {"opt": {"class": "GradientDescent", "lr": RATE}}, initial=5)
    runs = {run.name: run for run in read_runs(folder)}
    assert {name: run.optimizer.kind for name, run in runs.items()} == {
        "discrete": "gd",
        "central": "central_flow",
        "stable": "gradient_flow",
    }
    run = runs["discrete"]
    assert run.step.tolist() == list(range(5, 5 + REACHED))
    np.testing.assert_array_equal(run.loss, LOSS[:REACHED])
    np.testing.assert_allclose(run.learning_rate, RATE, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(run.eigenvalues), EIGENVALUES[:REACHED])
    np.testing.assert_allclose(np.asarray(run.gradient_norm), LOSS[:REACHED], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(run.test_error_rate), LOSS[:REACHED] / 2, atol=1e-6)
    assert set(run.sources) == {"data.hdf5", "config.json"}
    assert "opt.t" in run.ignored
    predicted = np.asarray(runs["central"].predicted_loss)
    np.testing.assert_allclose(predicted, 1.1 * LOSS[:REACHED], rtol=1e-6)
    assert run.predicted_loss is None


def test_a_midpoint_belongs_to_its_last_step(write):
    """There row t is (w_{t-1} + 2 w_t + w_{t+1})/4, here row t is (w_{t-2} + 2 w_{t-1} + w_t)/4."""
    folder = write({"discrete": process(EIGENVALUES), "midpoint": process(MIDDLE)})
    (run,) = read_centralflows(folder)
    found = np.asarray(run.midpoint_sharpness)
    assert np.isnan(found[:2]).all()
    np.testing.assert_array_equal(found[2:], MIDDLE[1 : REACHED - 1, 0])
    np.testing.assert_array_equal(np.asarray(run.sharpness), EIGENVALUES[:REACHED, 0])


def test_the_effective_hessian_of_gradient_descent_is_divided_by_eta(write):
    series = process(EIGENVALUES)
    del series["hessian_eigs"]
    (run,) = read_centralflows(write({"discrete": series}))
    np.testing.assert_allclose(np.asarray(run.eigenvalues), EIGENVALUES[:REACHED], rtol=1e-6)


@pytest.mark.parametrize("kind", ["RMSProp", "ScalarRMSProp"])
def test_the_effective_hessian_of_rmsprop_is_preconditioned(write, kind):
    """Its edge is 2 there; without the learning rate in it, it is 2/eta."""
    series = process(EIGENVALUES)
    series["effective_hessian_eigs"] = padded(np.full((ROWS, 1), 1.96))
    folder = write({"discrete": series}, {"opt": {"class": kind, "lr": RATE, "beta2": 0.99}})
    (run,) = read_centralflows(folder)
    assert run.optimizer == Optimizer("rmsprop")
    np.testing.assert_allclose(np.asarray(run.preconditioned_sharpness), 1.96 / RATE, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(run.sharpness), EIGENVALUES[:REACHED, 0])


def test_a_schedule(write):
    series = process(EIGENVALUES)
    series["opt.lr"] = padded(np.linspace(0.01, 0.1, ROWS))
    (run,) = read_centralflows(write({"discrete": series}))
    np.testing.assert_allclose(run.learning_rate, np.linspace(0.01, 0.1, ROWS)[:REACHED], rtol=1e-6)


def test_a_diverged_run_keeps_its_last_rows(write):
    series = process(EIGENVALUES)
    series["train_loss"][6:] = np.nan
    (run,) = read_centralflows(write({"discrete": series}))
    assert len(run.step) == REACHED
    assert np.isnan(run.loss[6:]).all()


def test_the_learning_rate_from_the_configuration_or_the_caller(write):
    series = process(EIGENVALUES)
    del series["opt.lr"]
    folder = write({"discrete": series})
    assert "give it by --lr" in refused(folder)
    assert read_centralflows(folder, learning_rate=0.5)[0].learning_rate[0] == 0.5
    folder = write({"discrete": series}, {"opt": {"class": "GradientDescent", "lr": 0.25}})
    assert read_centralflows(folder)[0].learning_rate[0] == 0.25
    assert "is 0.25, but 0.5 was given" in refused(folder, learning_rate=0.5)


def test_what_contradicts_or_is_not_known(write):
    folder = write({"discrete": process(EIGENVALUES)}, {"opt": {"class": "RMSProp", "lr": RATE}})
    assert "says rmsprop, but gd was given" in refused(folder, optimizer=Optimizer("gd"))
    adam = Optimizer("adam", b1=0.9)
    assert "but adam was given" in refused(folder, optimizer=adam)
    (folder / "config.json").write_text("[1")
    assert "is no configuration of centralflows" in refused(folder)


def test_other_files(write, tmp_path):
    assert "it has discrete, distances" in refused(write({}))
    (tmp_path / "data.hdf5").write_bytes(b"not HDF5")
    assert "is damaged or is no HDF5 file" in refused(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_centralflows(tmp_path / "absent.hdf5")


def test_a_file_that_is_still_written(write, tmp_path):
    """As after a kill, or while the experiment goes on."""
    write({"discrete": process(EIGENVALUES)})
    with h5py.File(tmp_path / "data.hdf5", "a", libver="latest") as file:
        file.swmr_mode = True
        file.flush()
        (tmp_path / "copy").mkdir()
        content = (tmp_path / "data.hdf5").read_bytes()
    (tmp_path / "copy" / "data.hdf5").write_bytes(content)
    (run,) = read_centralflows(tmp_path / "copy")
    np.testing.assert_array_equal(run.loss, LOSS[:REACHED])


def test_without_h5py(write, monkeypatch):
    folder = write({"discrete": process(EIGENVALUES)})
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        ImportError, match=r'needs h5py; install it with pip install "sgdsim\[netcdf\]"'
    ):
        read_centralflows(folder)
