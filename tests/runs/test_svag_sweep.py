"""The sweep over l behind a verdict compares processes that differ in l alone."""

import numpy as np
import pytest
import xarray as xr

from sgdsim.runs._dynamics_finish import _svag_sweep
from sgdsim.scenario import DynamicsScenario, load_scenario

SGD = {"kind": "sgd", "learning_rate": 0.1, "batch_size": 8}
SVAG = {"kind": "svag", "learning_rate": 0.1, "batch_size": 8, "l": 4}


def sweep(memories, *tables: dict, late_loss=None):
    """Sweep for the first of some processes, with made-up losses."""

    def inline(value) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k} = {inline(v)}" for k, v in value.items()) + "}"
        return str(value).lower() if isinstance(value, bool) else repr(value)

    names = [f"p{number}" for number in range(len(tables))]
    entries = [
        inline({"name": name, "dynamics": table}) for name, table in zip(names, tables, strict=True)
    ]
    scenario = load_scenario(memories, ["claim = []", f"process = [{', '.join(entries)}]"])
    assert isinstance(scenario, DynamicsScenario)
    if late_loss is None:
        late_loss = np.arange(len(tables))[:, None] + np.array([0.9, 1.0, 1.1])
    dynamics = xr.Dataset(
        {"late_loss": (("process", "trajectory"), late_loss)}, coords={"process": names}
    )
    return _svag_sweep(scenario, dynamics, scenario.process[0].dynamics)


def test_means_and_errors_of_the_sweep(memories):
    found = sweep(memories, SGD, SVAG | {"l": 2}, SVAG)
    assert found is not None
    assert (found.smallest, found.largest) == (1, 4)
    # Means 1, 2 and 3 of three numbers with a standard deviation of 0.1.
    assert found.value == pytest.approx(1.0)
    assert found.difference == pytest.approx(2.0)
    assert found.stderr == pytest.approx(0.1 * (2 / 3) ** 0.5)


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "gaussian_sgd", "learning_rate": 0.1, "batch_size": 8},
        {"kind": "sde", "learning_rate": 0.1, "batch_size": 8, "substeps": 2},
    ],
)
def test_the_sweep_is_also_that_of_gaussian_processes(memories, table):
    assert sweep(memories, table, SGD, SVAG) is not None
    other = table | {"noise": {"kind": "minibatch", "replacement": False}}
    assert sweep(memories, other, SGD, SVAG) is None
    assert sweep(memories, other, *(t | {"replacement": False} for t in (SGD, SVAG))) is not None


@pytest.mark.parametrize(
    "difference",
    [
        {"learning_rate": 0.2},
        {"batch_size": 4},
        {"replacement": False},
        {"weight_decay": 0.1},
        {"schedule": {"kind": "warmup", "steps": 2}},
        {"projection": {"kind": "ball", "radius": 1.0}},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_no_other_difference_is_mixed_in(memories, difference):
    assert sweep(memories, SGD, SVAG | difference) is None
    assert sweep(memories, SGD | difference, SVAG) is None
    assert sweep(memories, SGD | difference, SVAG | difference) is not None


def test_without_errors_there_is_no_sweep(memories):
    late = np.array([[1.0, 1.1, 1.2], [1.0, np.nan, 1.2]])  # a trajectory has diverged
    assert sweep(memories, SGD, SVAG, late_loss=late) is None
    assert sweep(memories, SGD, SVAG, late_loss=np.array([[1.0], [1.1]])) is None
