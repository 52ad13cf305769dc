"""The examples in the docstrings run, and no JAX is imported."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import sgdsim.bounds

MODULES = [f"sgdsim.bounds.{info.name}" for info in pkgutil.iter_modules(sgdsim.bounds.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize(
    "name",
    [
        "GeometricGrid",
        "layer_norms",
        "layer_distances",
        "evaluate_all",
        "margins",
        "ramp",
        "generalization_gap",
        "tightness",
        "auto_margin",
        "LossBound",
        "stagnation_terms",
        "empirical_terms",
        "combined_statement",
        "generalization_curve",
        "ball_entropy",
        "ellipsoid_entropy",
        "ellipsoid_semi_axes",
        "log_cover_of_ellipsoid",
        "expected_maximum_of_normals",
        "log_count_bound",
        "kl_inverse",
        "gaussian_kl",
        "pac_bayes_bound",
        "best_scale",
        "ornstein_uhlenbeck_variances",
        "ornstein_uhlenbeck_kl",
    ],
)
def test_main_functions_have_an_example(name: str) -> None:
    assert ">>> from sgdsim.bounds import" in (getattr(sgdsim.bounds, name).__doc__ or "")


def test_bounds_import_no_jax() -> None:
    code = "import sys, sgdsim.bounds; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
