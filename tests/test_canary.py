"""JAX computes what NumPy computes (jax-ml/jax issue 39103)."""

import jax
import numpy as np
import pytest

from sgdsim._doctor import run_canary


def test_this_jax_computes_correctly() -> None:
    canaries = run_canary()
    cases = {(canary.dtype, canary.rows, canary.function) for canary in canaries}
    assert cases == {("float64", 32_769, "sum((H @ w)**2)"), ("float32", 40_000, "sum(H @ w)")}
    for canary in canaries:
        assert canary.wrong_rows == 0, canary
        assert canary.error <= canary.tolerance < 1e-4


@pytest.mark.parametrize("wrong", [0.5, np.nan])
def test_a_jax_that_computes_one_row_wrongly_is_found(
    monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    jit = jax.jit

    def broken_jit(function):
        return lambda *arguments: jit(function)(*arguments).at[-1].mul(wrong)

    monkeypatch.setattr(jax, "jit", broken_jit)
    assert all(canary.wrong_rows == 1 for canary in run_canary())


def test_the_canary_leaves_the_precision_of_the_session_alone() -> None:
    before = jax.config.read("jax_enable_x64")
    run_canary()
    assert jax.config.read("jax_enable_x64") == before
