"""Trace of a Hessian: how often the stated interval covers it, and what 5 per cent cost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from _common import Row
from jaxtyping import Array, PyTree

from sgdsim.curvature import TraceEstimate, hessian_product, trace, xtrace
from sgdsim.problems import Network, Problem, Rows, cross_entropies, random_network

#: Of the runs of one interval.
RUNS = 200
BUDGET = 24
_WIDTHS = (64, 256, 256, 10)


@dataclasses.dataclass(frozen=True)
class _Case:
    """A network on digits after some steps of gradient descent."""

    problem: Problem
    theta: Network


def trace_section(rounds: int = RUNS) -> list[Row]:
    """Coverage, error and cost of a trace to 5 per cent on the 64-256-256-10 network.

    Coverage is that of ``rounds`` runs on a quarter of the rows, which changes the Hessian a
    little and costs a quarter; what 5 per cent cost is measured there as well.
    """
    print(f"\ntrace: 64-256-256-10 network on digits, {rounds} runs")
    case = _trained(rows=450, steps=1000)
    exact, stderr = _reference(case)
    print(f"  reference {exact:.4f} +- {stderr:.4f} (384 products)")
    keys = jax.random.split(jax.random.key(2), rounds)
    to_five = _runs(case, keys, {})
    in_budget = _runs(case, keys, {"relative_error": 0.0, "most": BUDGET})
    peer = _runs(case, keys[: rounds // 4], {"xtrace": BUDGET})
    for name, found in [("to 5 %", to_five), ("trace", in_budget), ("XTrace", peer)]:
        _print(name, found, exact)

    covered, products = _coverage(to_five, exact), np.mean(to_five.products)
    error = _error(in_budget, exact)
    return [
        Row("trace: 95 % interval covers", "90 to 99 %", f"{covered:.1%}", 0.9 <= covered <= 0.99),
        Row(
            f"trace: error of {BUDGET} products (RMS)",
            "at most 5 %",
            f"{error:.1%}",
            error <= 0.05,
        ),
        Row(
            "trace: products for a half width of 5 %",
            f"at most {BUDGET}",
            f"{products:.1f} (mean)",
            bool(products <= BUDGET),
        ),
    ]


def _trained(rows: int, steps: int) -> _Case:
    """The digits of scikit-learn, every fourth of them, after gradient descent with step 0.1."""
    from sklearn.datasets import load_digits

    pixels, classes = (np.asarray(a) for a in load_digits(return_X_y=True))
    every = max(1, len(pixels) // rows)
    inputs = jnp.asarray(pixels[::every] / 16, jnp.float32)
    targets = jax.nn.one_hot(jnp.asarray(classes[::every]), _WIDTHS[-1])
    problem = Problem(cross_entropies, Rows(inputs, targets))

    @jax.jit
    def descend(problem: Problem, theta: PyTree) -> PyTree:
        def step(theta, _):
            gradient = jax.grad(problem.empirical_risk)(theta)
            return jax.tree.map(lambda a, g: a - 0.1 * g, theta, gradient), None

        return jax.lax.scan(step, theta, None, length=steps)[0]

    theta = random_network(jax.random.key(0), _WIDTHS, gain=1.0)
    return _Case(problem, descend(problem, theta))


def _reference(case: _Case) -> tuple[float, float]:
    """Trace from many products, with a standard error that is small beside those judged."""
    found = _measure(case, jax.random.key(1)[None], {"relative_error": 0.0, "most": 384})
    return float(found.value[0]), float(found.stderr[0])


def _runs(case: _Case, keys: Array, options: dict) -> TraceEstimate:
    return jax.tree.map(np.asarray, _measure(case, keys, options))


def _measure(case: _Case, keys: Array, options: dict) -> TraceEstimate:
    def measure(problem: Problem, theta: PyTree, keys: Array) -> TraceEstimate:
        product = hessian_product(problem.empirical_risk, theta)

        def one(key: Array) -> TraceEstimate:
            if "xtrace" in options:
                return xtrace(product, theta, key, options["xtrace"])
            return trace(product, theta, key, **options)

        return jax.lax.map(one, keys)

    return jax.jit(measure)(case.problem, case.theta, keys)


def _coverage(found: TraceEstimate, exact: float) -> float:
    return float(np.mean(np.abs(found.value - exact) <= found.half_width))


def _error(found: TraceEstimate, exact: float) -> float:
    return float(np.sqrt(np.mean((np.asarray(found.value) / exact - 1) ** 2)))


def _print(name: str, found: TraceEstimate, exact: float) -> None:
    print(
        f"  {name:8} products {np.mean(found.products):5.1f}, at most {BUDGET} in "
        f"{np.mean(np.asarray(found.products) <= BUDGET):4.0%}, error (RMS) "
        f"{_error(found, exact):5.1%}, half width {np.mean(found.half_width) / exact:5.1%}, "
        f"covers {_coverage(found, exact):5.1%}"
    )
