"""Runs in NumPy archives."""

from typing import Any

import numpy as np
import pytest

from sgdsim.readers import Optimizer, read_npz

STEP, LOSS = np.array([0, 50, 100]), np.array([1.0, 0.9, 0.8])


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "run.npz", **arrays)
        return tmp_path / "run.npz"

    return save


def refused(path, **given):
    options: dict[str, Any] = {"learning_rate": 0.1, **given}
    with pytest.raises(ValueError, match=r".") as caught:
        read_npz(path, **options)
    said = str(caught.value)
    assert said.startswith("run.npz")
    assert "\n" not in said
    return said


def test_arrays_and_what_the_optimizer_was(save):
    eigs = np.array([[5.0, 1.0], [30.0, 1.5], [39.0, 2.0]], np.float32)
    path = save(step=STEP, loss=LOSS, eigs=eigs, opt="nesterov", beta=0.9, eta=0.05, other=3)
    run = read_npz(path)
    assert run.optimizer == Optimizer("nesterov", momentum=0.9)
    np.testing.assert_array_equal(np.asarray(run.eigenvalues), eigs)
    assert np.asarray(run.sharpness).tolist() == [5.0, 30.0, 39.0]
    assert run.learning_rate.tolist() == [0.05] * 3
    assert run.ignored == ("other",)
    assert list(run.sources) == ["run.npz"]


def test_unnormalised_sam(save):
    path = save(step=STEP, loss=LOSS, optimizer="sam", rho=0.1, normalised=False, lr=0.1)
    assert read_npz(path).optimizer == Optimizer("sam", rho=0.1, normalised=False)


def test_a_schedule_and_steps_of_another_type(save):
    rates = np.array([0.1, 0.2, 0.3])
    run = read_npz(save(iteration=STEP.astype(np.float32), train_loss=LOSS, lr=rates))
    assert run.step.tolist() == STEP.tolist()
    assert run.learning_rate.tolist() == rates.tolist()


def test_steps_from_their_distance(save):
    run = read_npz(save(loss=LOSS), learning_rate=0.1, every=50)
    assert run.step.tolist() == STEP.tolist()
    assert "leave out --every" in refused(save(loss=LOSS, step=STEP), every=50)


def test_single_eigenvalues(save):
    run = read_npz(save(step=STEP, loss=LOSS, eig0=LOSS + 1, eig1=LOSS), learning_rate=0.1)
    np.testing.assert_array_equal(np.asarray(run.eigenvalues), np.stack([LOSS + 1, LOSS], 1))


def test_numbers_of_an_optimizer_without_its_name_are_not_used(save):
    run = read_npz(save(step=STEP, loss=LOSS, momentum=0.9), learning_rate=0.1)
    assert run.optimizer == Optimizer("gd")
    assert run.ignored == ("momentum",)


def test_the_caller_may_name_the_optimizer_but_not_another_one(save):
    sgd = Optimizer("sgd", batch_size=8)
    assert read_npz(save(step=STEP, loss=LOSS), learning_rate=0.1, optimizer=sgd).optimizer is sgd
    path = save(step=STEP, loss=LOSS, optimizer="sgd", batch_size=16)
    assert "says that the optimizer is sgd, but sgd was given" in refused(path, optimizer=sgd)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"loss": LOSS}, "no column 'step'"),
        ({"step": STEP}, "no column 'loss'"),
        ({"step": STEP, "loss": np.array(["a", "b", "c"])}, "loss holds <U1, not numbers"),
        ({"step": STEP + 0.5, "loss": LOSS}, "step holds 0.5, which is no whole number"),
        ({"step": STEP, "loss": LOSS, "eig0": LOSS, "eig1": LOSS[:2]}, "differ in shape"),
        ({"step": STEP, "loss": LOSS, "train_loss": LOSS}, "are the same"),
        ({"step": STEP, "loss": np.array([1, 2, {}], object)}, "holds Python objects"),
    ],
)
def test_what_cannot_be_read_is_refused(save, arrays, said):
    assert said in refused(save(**arrays))


def test_what_the_run_itself_refuses(save):
    with pytest.raises(ValueError, match="must rise, but 50 comes after 100"):
        read_npz(save(step=STEP[::-1], loss=LOSS), learning_rate=0.1)
    with pytest.raises(ValueError, match=r"loss of 'run' has shape \(2,\)"):
        read_npz(save(step=STEP, loss=LOSS[:2]), learning_rate=0.1)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 broken"])
def test_a_damaged_file(tmp_path, content):
    (tmp_path / "run.npz").write_bytes(content)
    assert "is damaged or is no .npz archive" in refused(tmp_path / "run.npz")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_npz(tmp_path / "run.npz", learning_rate=0.1)
