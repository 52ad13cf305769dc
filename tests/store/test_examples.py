"""The examples in the docstrings run."""

import doctest
import importlib

import pytest

MODULES = [
    "sgdsim.store._location",
    "sgdsim.store._open",
    "sgdsim.store._point",
    "sgdsim.store._validate",
    "sgdsim.store._writer",
    "sgdsim.testing._synthetic",
    "sgdsim.testing._synthetic_dynamics",
    "sgdsim.testing._synthetic_exits",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0
