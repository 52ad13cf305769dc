"""The examples in the docstrings run."""

import doctest
import importlib

import pytest

MODULES = ["sgdsim.plotting._survival", "sgdsim.plotting._save"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0
