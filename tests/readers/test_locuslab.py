"""Folders of locuslab/edge-of-stability."""

from pathlib import Path

import numpy as np
import pytest

from sgdsim.readers import Optimizer, read_locuslab, read_runs

COUNT = 1000
LOSS = np.exp(-np.arange(COUNT) / 300).astype(np.float32)


@pytest.fixture
def make(tmp_path: Path, save_tensor):
    """Write a run as gd.py does, with eigenvalues every ``every`` steps."""

    def make(
        where: str = "cifar10-5k/fc-tanh/seed_0/mse/gd/lr_0.01",
        every: int = 100,
        count: int = COUNT,
        ending: str = "_final",
    ) -> Path:
        folder = tmp_path / where
        eigs = np.stack([np.arange(count // every) + 10.0, np.arange(count // every)], axis=1)
        tensors = {
            "train_loss": LOSS[:count],
            "test_loss": 2 * LOSS[:count],
            "train_acc": LOSS[:count],
            "test_acc": 1 - LOSS[:count],
            "eigs": eigs.astype(np.float32),
            "iterates": np.zeros((0, 0), np.float32),
        }
        for name, values in tensors.items():
            save_tensor(folder / f"{name}{ending}", values)
        return folder

    return make


def refused(folder: Path, **given) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        read_locuslab(folder, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_folder(make):
    (run,) = read_locuslab(make(), every=100)
    assert run.name == "gd lr_0.01"
    assert run.optimizer == Optimizer("gd")
    assert run.learning_rate.tolist() == [0.01] * COUNT
    assert run.step.tolist() == list(range(COUNT))
    np.testing.assert_array_equal(run.loss, LOSS)
    np.testing.assert_array_equal(np.asarray(run.test_loss), 2 * LOSS)
    np.testing.assert_allclose(np.asarray(run.test_error_rate), LOSS, atol=1e-7)
    sharpness = np.asarray(run.sharpness)
    measured = np.flatnonzero(np.isfinite(sharpness))
    assert measured.tolist() == list(range(0, COUNT, 100))
    assert sharpness[measured].tolist() == [10.0 + i for i in range(10)]
    assert np.asarray(run.eigenvalues)[200].tolist() == [12.0, 2.0]
    read = ["eigs_final", "test_acc_final", "test_loss_final", "train_loss_final"]
    assert sorted(run.sources) == read


@pytest.mark.parametrize(
    ("where", "kind", "momentum"),
    [
        ("polyak/lr_0.01_beta_0.9", "heavy_ball", 0.9),
        ("nesterov/lr_0.01_beta_0.5", "nesterov", 0.5),
        ("flow/tick_0.01", "gradient_flow", None),
    ],
)
def test_the_path_names_the_optimizer(make, where, kind, momentum):
    (run,) = read_locuslab(make(f"cifar10/vgg11/seed_1/ce/{where}"), every=100)
    assert run.optimizer == Optimizer(kind, momentum=momentum)
    assert run.learning_rate[0] == 0.01


def test_a_frequency_that_only_one_number_fits_is_found(make):
    """Many rows leave no choice; count // every rows are written."""
    for every in (1, 5, 20, 31):
        (run,) = read_locuslab(make(every=every))
        measured = np.flatnonzero(np.isfinite(np.asarray(run.sharpness)))
        assert measured.tolist() == [every * i for i in range(COUNT // every)]


def test_a_frequency_that_is_open_is_asked_for(make):
    said = refused(make(every=100))
    assert "10 rows of eigenvalues in 1000 steps may be 91 to 100 steps apart; give --every" in said
    said = refused(make(every=100), every=500)
    assert "10 rows of eigenvalues in 1000 steps are not 500 steps apart" in said


def test_several_folders_below_one(make, tmp_path):
    make("a/mlp/seed_0/mse/gd/lr_0.01", every=10)
    make("a/mlp/seed_0/mse/gd/lr_0.02", every=10)
    make("a/mlp/seed_0/mse/polyak/lr_0.01_beta_0.9", every=10)
    runs = read_runs(tmp_path / "a")
    assert [run.name for run in runs] == ["gd lr_0.01", "gd lr_0.02", "polyak lr_0.01_beta_0.9"]
    assert [run.learning_rate[0] for run in runs] == [0.01, 0.02, 0.01]


def test_a_run_that_was_interrupted(make):
    (run,) = read_locuslab(make(ending="", every=10))
    assert len(run.step) == COUNT


def test_what_the_path_does_not_say_is_asked_for(make):
    folder = make("results/mine", every=10)
    assert "give it by --lr" in refused(folder)
    momentum = Optimizer("polyak", momentum=0.9)
    (run,) = read_locuslab(folder, learning_rate=0.1, optimizer=momentum)
    assert (run.optimizer, run.learning_rate[0]) == (momentum, 0.1)


def test_what_contradicts_the_path_is_refused(make):
    folder = make(every=10)
    assert "is 0.01, but 0.1 was given" in refused(folder, learning_rate=0.1)
    nesterov = Optimizer("nesterov", momentum=0.9)
    assert "but nesterov was given" in refused(folder, optimizer=nesterov)
    folder = make("x/polyak/lr_0.01_beta_0.9", every=10)
    half = Optimizer("heavy_ball", momentum=0.5)
    assert "but heavy_ball was given" in refused(folder, optimizer=half)


def test_no_run(tmp_path):
    assert "there is no train_loss_final in it or below" in refused(tmp_path)


def test_no_eigenvalues(make):
    folder = make()
    (folder / "eigs_final").unlink()
    (run,) = read_locuslab(folder)
    assert run.sharpness is None


def test_a_tensor_of_another_shape(make, save_tensor):
    folder = make()
    save_tensor(folder / "eigs_final", np.ones(10, np.float32))
    assert "eigs_final has 1 axes, expected 2" in refused(folder)


def test_files_of_torch_itself(tmp_path):
    torch = pytest.importorskip("torch")
    folder = tmp_path / "gd" / "lr_0.05"
    folder.mkdir(parents=True)
    whole = torch.arange(500.0)
    eigs = torch.rand(50, 2)
    torch.save(whole[:300], folder / "train_loss_final")  # a view of all steps, as gd.py saves it
    torch.save(eigs[:30], folder / "eigs_final")
    (run,) = read_locuslab(folder, every=10)
    np.testing.assert_array_equal(run.loss, np.arange(300.0))
    expected = np.sort(eigs[:30].numpy(), axis=1)[:, 1]
    np.testing.assert_array_equal(np.asarray(run.sharpness)[::10], expected)
