"""A run from elsewhere refuses what does not fit together, in one sentence."""

import hashlib
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from sgdsim.readers import KINDS, ForeignRun, Optimizer
from sgdsim.readers._foreign import NEEDS, digest
from sgdsim.scenario import Dynamics

STEP = np.array([0, 10, 20])
LOSS = np.array([1.0, 0.5, 0.25])
RATE = np.array(0.1)


def make(**changed: object) -> ForeignRun:
    given = {"name": "mine", "step": STEP, "loss": LOSS, "learning_rate": RATE} | changed
    return ForeignRun(**given)  # type: ignore[arg-type]


def refused(**changed: object) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        make(**changed)
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


def test_one_learning_rate_is_that_of_every_step():
    run = make()
    np.testing.assert_array_equal(run.learning_rate, [0.1, 0.1, 0.1])
    rates = np.array([0.1, 0.2, 0.4])
    np.testing.assert_array_equal(make(learning_rate=rates).learning_rate, rates)


def test_eigenvalues_are_put_in_falling_order_with_missing_ones_last():
    found = make(eigenvalues=np.array([[1.0, 3.0], [np.nan, 2.0], [np.nan, np.nan]]))
    expected = [[3.0, 1.0], [2.0, np.nan], [np.nan, np.nan]]
    np.testing.assert_array_equal(np.asarray(found.eigenvalues), expected)
    np.testing.assert_array_equal(np.asarray(found.sharpness), [3.0, 2.0, np.nan])


def test_a_sharpness_that_was_measured_itself_is_kept():
    own = np.array([7.0, 8.0, 9.0])
    run = make(sharpness=own, eigenvalues=np.ones((3, 1)))
    np.testing.assert_array_equal(np.asarray(run.sharpness), own)


def test_series_are_converted_to_double_precision():
    run = make(loss=LOSS.astype(np.float32), gradient_norm=np.array([1, 2, 3]))
    assert run.loss.dtype == np.asarray(run.gradient_norm).dtype == np.float64
    assert make(step=STEP.astype(np.int16)).step.dtype == np.int64


def test_what_was_not_measured_is_absent_or_nan():
    run = make(sharpness=np.array([np.nan, 3.0, np.nan]))
    assert run.midpoint_sharpness is None
    assert np.isnan(np.asarray(run.sharpness)).sum() == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"step": np.array([0, 20, 10])}, "must rise, but 10 comes after 20"),
        ({"step": np.array([0, 10, 10])}, "must rise, but 10 comes after 10"),
        ({"step": np.array([-1, 0, 1])}, "begins at -1"),
        ({"step": np.array([0.0, 1.5, 2.0])}, "whole numbers"),
        ({"step": np.array([], np.int64)}, "whole numbers"),
        ({"loss": LOSS[:2]}, r"loss of 'mine' has shape (2,), but there are 3 steps"),
        ({"loss": np.full(3, np.nan)}, "no finite loss"),
        ({"sharpness": np.ones((3, 1))}, "sharpness of 'mine' has shape (3, 1)"),
        ({"gradient_norm": np.array([1, -2, 3])}, "not negative, got -2 at step 10"),
        ({"test_error_rate": np.array([0.1, 0.2, 1.5])}, "in [0, 1], got 1.5 at step 20"),
        ({"learning_rate": np.array([0.1, 0.0, 0.1])}, "one positive number"),
        ({"learning_rate": np.array(np.nan)}, "one positive number"),
        ({"learning_rate": np.array([0.1, 0.2])}, "got 2 numbers"),
        ({"learning_rate": np.ones((3, 1))}, "got shape (3, 1)"),
        ({"eigenvalues": np.ones(3)}, "one row for each of the 3 steps, got shape (3,)"),
        ({"eigenvalues": np.ones((3, 0))}, "got shape (3, 0)"),
    ],
)
def test_what_does_not_fit_is_refused(changed, said):
    assert said in refused(**changed)


def test_names_that_others_use():
    assert Optimizer("Polyak", momentum=0.9).kind == "heavy_ball"
    assert Optimizer("gradient-descent").kind == "gd"
    assert Optimizer("adamw", b1=0.9, weight_decay=0.1).parameters() == {
        "kind": "adam",
        "b1": 0.9,
        "weight_decay": 0.1,
    }


def test_what_a_scenario_calls_it():
    """Every kind, with the numbers that it needs, is a process of a scenario."""
    numbers = {"momentum": 0.9, "b1": 0.9, "rho": 0.1, "batch_size": 8, "substeps": 2}
    table: TypeAdapter[Any] = TypeAdapter(Dynamics)
    for kind in KINDS:
        own = Optimizer(kind, **{name: numbers[name] for name in NEEDS.get(kind, ())})
        made = table.validate_python({**own.parameters(), "learning_rate": 0.5})
        assert (made.kind, made.learning_rate) == (kind, 0.5)
    sam = Optimizer("sam", rho=0.1, normalised=False).parameters()
    assert table.validate_python({**sam, "learning_rate": 0.5}).normalised is False


def test_one_line_says_what_was_read():
    run = make(sharpness=LOSS, test_loss=LOSS, step=np.array([0, 10, 2000]))
    assert run.summary() == (
        "mine: 3 records of the steps 0 to 2,000, gd at eta = 0.1, with loss, sharpness, test_loss"
    )
    assert "at eta = 0.1 to 0.4," in make(learning_rate=np.array([0.1, 0.4, 0.2])).summary()


def test_a_momentum_of_zero_is_a_momentum():
    assert Optimizer("nesterov", momentum=0).parameters() == {"kind": "nesterov", "momentum": 0}


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"kind": "lion"}, "'lion' is not known; give one of gd, sgd"),
        ({"kind": "heavy_ball"}, "needs momentum; give it by --momentum"),
        ({"kind": "sgd"}, "needs batch_size; give it by --batch-size"),
        ({"kind": "adam"}, "needs b1"),
        ({"kind": "sde", "batch_size": 8}, "needs substeps; give it by --substeps"),
        ({"kind": "sam"}, "needs rho"),
        ({"kind": "heavy_ball", "momentum": 1.0}, "momentum must be in [0, 1), got 1.0"),
        ({"kind": "adam", "b1": -0.1}, "b1 must be in [0, 1)"),
        ({"kind": "adam", "b1": float("nan")}, "b1 must be in [0, 1)"),
        ({"kind": "sam", "rho": 0.0}, "rho must be a positive finite number"),
        ({"kind": "sgd", "batch_size": 0}, "batch_size must be a positive integer"),
        ({"weight_decay": -1.0}, "weight_decay must be a finite number, not negative"),
    ],
)
def test_optimizers_that_cannot_be(numbers, said):
    with pytest.raises(ValueError, match=r".") as caught:
        Optimizer(**numbers)
    assert said in str(caught.value)


def test_what_a_kind_needs_is_known():
    assert set(NEEDS) <= set(KINDS)


def test_digest_is_that_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert digest(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
