"""A small made-up run of the exits study, for tests of whatever reads runs."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from sgdsim.store import CONDITIONS, EVIDENCE, GAP_BOUNDS, TERMS, THEORIES, RunStore

_TRAJECTORIES, _LOOKS, _SHELLS, _CONFIDENCE = 60, 9, 6, 0.95
_RADIUS, _BARRIER = 0.2, 0.3


class _Case(NamedTuple):
    series: str
    learning_rate: float
    rate: float
    dimension: int
    width: int = -1
    splits: bool = False
    outside: bool = False


_CASES = {
    **{
        f"eta {eta:g}": _Case("rate", eta, 0.1 * np.exp(-_BARRIER / eta) * eta, 1, splits=True)
        for eta in (0.1, 0.05, 0.04)
    },
    "plane": _Case("", 0.1, 0.002, 2),
    "outside": _Case("", 0.1, 0.002, 2, outside=True),
    **{f"width {w}": _Case("width", 0.1, 1e-4, 0, width=w) for w in (16, 64, 256)},
}


def synthetic_exits_run(
    folder: Path, *, evaluated: bool = True, finished: bool = True, seed: int = 0
) -> Path:
    r"""Fabricate a run of eight cases: a series in the learning rate, a plane, three networks.

    Exits come at geometric times with the rate :math:`0.1\,\eta\,e^{-0.3/\eta}` in the series
    "rate", so that most of its cases have none to count; splitting and the exact law give what is
    true up to an invented error. Theory S2 is informative, S1 at first, S0 never. The case
    "outside" starts outside its set. Networks have bounds on the gap whose entropy grows with the
    width. No number here comes from a simulator.

    Parameters
    ----------
    folder
        Run folder to create.
    evaluated
        Whether the cases have run; if not the store has only begun.
    finished
        Whether the store gets its final name.
    seed
        Seed of the made-up numbers.

    Returns
    -------
    pathlib.Path
        ``folder``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_exits_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print(dict(open_run(synthetic_exits_run(Path(folder)))["exits"].stay_probability.sizes))
    {'case': 8, 'look': 9}
    """
    random = np.random.default_rng(seed)
    store = RunStore.create(
        folder / "run.zarr.partial",
        coords=_coordinates(),
        attrs=_attributes(seed),
        study="exits",
        precision="float64",
        chunk_sizes={},
    )
    point = store.point()
    point.write_coords(
        {"learning_rate": np.array([case.learning_rate for case in _CASES.values()])}
    )
    for number, case in enumerate(_CASES.values() if evaluated else ()):
        values, sentences = _of_case(random, case)
        here = {"case": slice(number, number + 1)}
        point.write("exits", {k: np.asarray(v)[None] for k, v in values.items()}, here)
        point.set_attrs({f"statement_{number}": json.dumps(sentences)})
    point.set_attrs({"wall_seconds": 0.0})
    point.set_status("done")
    if finished:
        store.finish(folder / "run.zarr")
    return folder


def _coordinates() -> dict:
    return {
        "case": list(_CASES),
        "series": [case.series for case in _CASES.values()],
        "trajectory": np.arange(_TRAJECTORIES),
        "coordinate": np.arange(2),
        "look": np.arange(_LOOKS),
        "shell": np.arange(_SHELLS),
        "bound": list(GAP_BOUNDS),
        "kind": ["certificate"] * len(GAP_BOUNDS),
        "claim": [],
        "quantity": [],
        "text": [],
        "source": [],
    }


def _attributes(seed: int) -> dict[str, str | int | float]:
    scenario = {
        "study": "exits",
        "name": "synthetic",
        "title": "Made-up exits",
        "evaluation": {"confidence": _CONFIDENCE},
    }
    return {
        "scenario": json.dumps(scenario, sort_keys=True, separators=(",", ":")),
        "scenario_digest": "0" * 64,
        "title": "Made-up exits",
        "versions": "{}",
        "backend": "cpu",
        "device": "none",
        "device_count": 1,
        "mapping": "map",
        "seed": seed,
        "created_at": "2025-01-01T00:00:00+00:00",
    }


def _of_case(random: np.random.Generator, case: _Case) -> tuple[dict, dict[str, str]]:
    steps = 400
    looks = np.linspace(0, steps, _LOOKS).astype(np.int32)
    values = {
        "status": np.full(_TRAJECTORIES, 1, np.int8),
        "entry_step": np.full(_TRAJECTORIES, 3 if case.outside else 0, np.int32),
        "steps": np.int32(steps),
        "width": np.int32(case.width),
        "look_step": looks,
        "radius": _RADIUS,
    }
    if case.outside:
        sentence = f"{_TRAJECTORIES} trajectories start outside the set: nothing is said about it"
        return values, {"outside": sentence}
    values |= _survival(random, case, looks)
    values |= _convexity()
    if case.width > 0:
        values |= _gap(random, case.width)
    values |= _basins(random, case)
    sentences = {"basins": f"64 quenches ended in {values['basins']} basins."}
    return values, sentences


def _survival(random: np.random.Generator, case: _Case, looks: np.ndarray) -> dict:
    exits = random.geometric(case.rate, _TRAJECTORIES)
    exits = np.where(exits <= looks[-1], exits, -1).astype(np.int32)
    stayed = np.array([np.sum((exits < 0) | (exits > k)) for k in looks])
    left = _TRAJECTORIES - stayed
    tail = (1 - _CONFIDENCE) / 2
    count = int(left[-1])
    exposure = float(np.where(exits > 0, exits, looks[-1]).sum())
    ends = stats.chi2.ppf([tail, 1 - tail], [max(2 * count, 1e-9), 2 * count + 2]) / 2
    rates = np.array([count, ends[0] if count else 0.0, ends[1]]) / exposure
    with np.errstate(divide="ignore"):
        times = case.learning_rate / rates
    truth = -np.expm1(looks[-1] * np.log1p(-case.rate))
    log_exit = np.stack(
        [np.log1p(30.0 * looks), np.log(2e-3 + 4e-3 * looks), np.log(case.rate * (5.0 * looks + 1))]
    )
    values = {
        "exit_step": exits,
        "stay_probability": stayed / _TRAJECTORIES,
        "stay_probability_low": np.nan_to_num(stats.beta.ppf(tail, stayed, left + 1), nan=0.0),
        "stay_probability_high": np.nan_to_num(stats.beta.ppf(1 - tail, stayed + 1, left), nan=1.0),
        # The plug-in allows a little more than the certificate.
        "log_exit_bound": np.stack([log_exit, log_exit + 0.5])[: len(EVIDENCE), : len(THEORIES)],
        "assumption_violated": np.zeros(len(EVIDENCE), np.int8),
        "exit_count": np.int32(count),
        "exit_rate": rates[0],
        "exit_rate_low": rates[1],
        "exit_rate_high": rates[2],
        "mean_exit_time": times[0],
        "mean_exit_time_low": times[2],
        "mean_exit_time_high": times[1],
        "stationary_radius": 0.05,
        "delta_star": 0.11,
        "stagnation_number": 2.2,
        "effective_rank": 1.5,
        "participation_ratio": 1.4,
        "participation_ratio_low": 1.3,
        "participation_ratio_high": 1.5,
        "mean_gap": 0.0,
        "mean_gap_stderr": 0.0,
    }
    if case.dimension:
        values |= {
            "exact_stay_probability": (1 - case.rate) ** looks,
            "exact_exit_probability": truth,
            "exact_exit_time": case.learning_rate / case.rate,
        }
    if case.series == "rate":
        values |= {"quasi_potential": _BARRIER, "prefactor_power": 0.0}
    if case.splits:
        values |= {
            "rare_exit_probability": 1.02 * truth,
            "rare_exit_probability_low": 0.9 * truth,
            "rare_exit_probability_high": 1.15 * truth,
        }
    return values


def _convexity() -> dict:
    radii = np.geomspace(0.01, _RADIUS, _SHELLS)
    # RSI turns negative beyond 0.13, ESC earlier; the others stay positive.
    modulus = np.array([0.5, 0.9, 1.3, 0.7, 0.8])[: len(CONDITIONS), None]
    return {
        "shell_radius": radii,
        "convexity_ratio_minimum": modulus - np.array([10.0, 3.0, 10.0, 0.2, 0.1])[:, None] * radii,
        "convexity_violation_fraction_high": np.full((len(CONDITIONS), _SHELLS), 0.01),
    }


def _gap(random: np.random.Generator, width: int) -> dict:
    terms = {
        "G1": {"centre": 0.02, "displacement": 0.15},
        "G2": {"centre": 0.02, "entropy": 0.05 * width**0.5, "concentration": 0.01},
        "G3": {"centre": 0.02, "cut": 0.002, "entropy": 0.3 * width**0.5, "concentration": 0.01},
    }
    logs = np.full((len(GAP_BOUNDS), len(TERMS)), np.nan)
    for row, name in enumerate(GAP_BOUNDS):
        for term, value in terms[name].items():
            logs[row, TERMS.index(term)] = np.log(value)
    gap = 0.004 + 0.001 * random.standard_normal(_TRAJECTORIES)
    return {
        "gap": gap,
        "gap_stderr": np.full(_TRAJECTORIES, 1e-4),
        "mean_gap": gap.mean(),
        "mean_gap_stderr": gap.std(ddof=1) / len(gap) ** 0.5,
        "log_gap_term": logs,
        "log_gap_bound": np.log([sum(terms[name].values()) for name in GAP_BOUNDS]),
        "holds_with_probability": np.full(len(GAP_BOUNDS), 0.98),
    }


def _basins(random: np.random.Generator, case: _Case) -> dict:
    """Two wells on a landscape; for a network one basin more often met than the other."""
    basin = (random.random(_TRAJECTORIES) < 0.3).astype(np.int32)
    basin[40:] = -1
    values = {"basin": basin, "basins": np.int32(2), "unseen_basins": 0.05}
    if not case.dimension:
        return values
    side = np.where(basin >= 0, 2.0 * basin - 1.0, random.choice([-1.0, 1.0], _TRAJECTORIES))
    final, quenched = (np.full((_TRAJECTORIES, 2), np.nan) for _ in range(2))
    final[:, : case.dimension] = 0.1 * random.standard_normal((_TRAJECTORIES, case.dimension))
    final[:, 0] += side
    quenched[:40, : case.dimension] = 0.0
    quenched[:40, 0] = side[:40]
    return values | {"final_position": final, "quenched_position": quenched}
