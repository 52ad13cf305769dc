"""The exits study as a user runs it: every kind of case in one small run, and its claims."""

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr

import sgdsim
from sgdsim.problems import build_known
from sgdsim.runs import QUANTITIES
from sgdsim.scenario import KNOWN_QUANTITIES, ExitsClaim, ExitsScenario, load_scenario
from sgdsim.stagnation import (
    StayConstants,
    exact_exit_probability,
    linear_regression_constants,
    log_exit_bounds,
    quadratic_constants,
)

pytestmark = pytest.mark.slow

WELL = "{ kind = 'landscape', landscape = { kind = 'double_well' } }"
NETWORK = (
    "{ kind = 'teacher_student', dimension = 3, hidden = [2], activation = 'tanh', "
    "samples = 200, label_noise = 0.1, clip = 0.5, fresh = 400 }"
)
REGRESSION = "{ kind = 'linear_regression', dimension = 2, samples = 200, label_noise = 0.3 }"
MINIMA = (
    "{ kind = 'many_minima', wells = 4, amplitude = 1.0, period = 1.0, plateau = 0.3, "
    "samples = 400, spread = 1.0, start = 'best', replicas = 200 }"
)
LITTLE = "noise = { kind = 'isotropic', variance = 0.04 }"
MUCH = "noise = { kind = 'isotropic', variance = 4.0 }"


def bowl(*eigenvalues: float) -> str:
    """Table of a quadratic."""
    return (
        "{ kind = 'landscape', landscape = { kind = 'quadratic', "
        f"eigenvalues = {list(eigenvalues)} }} }}"
    )


def case(name: str, problem: str, region: str, noise: str = LITTLE, **more: Any) -> str:
    """One entry of a scenario file."""
    rate = more.pop("rate", 0.05)
    rest = "\n".join(f"{key} = {value}" for key, value in more.items())
    return f"""[[case]]
name = "{name}"
problem = {problem}
region = {region}
{rest}
[case.dynamics]
kind = "gaussian_sgd"
learning_rate = {rate}
{noise}
"""


SCENARIO = """study = "exits"
name = "every-case"
title = "Every kind of case [in brackets]"
[ensemble]
trajectories = 200
steps = 40
chunks = 2
seed = 3
[evaluation]
directions = 4
radii = 3
quenches = 4
""" + "".join(
    [
        case("round", bowl(1, 1), "{ kind = 'ball', radius = 0.07 }"),
        case(
            "valley",
            bowl(1, 1, 0),
            "{ kind = 'tube', radius = 0.09 }",
            splitting="{ particles = 50, replicas = 4 }",
        ),
        case("across", bowl(1, 0), "{ kind = 'ball', radius = 0.1 }"),
        case("ellipsoid", bowl(4, 1), "{ kind = 'ellipsoid', radius = 2.0 }"),
        case("sublevel", WELL, "{ kind = 'sublevel', height = 0.002 }", start="[-1.0]"),
        case(
            "wells",
            WELL,
            "{ kind = 'wells', radius = 0.9, same_basin = true }",
            MUCH,
            start="[-1.0]",
            steps=400,
        ),
        case(
            "level",
            WELL,
            "{ kind = 'half_space', level = 0.5 }",
            MUCH,
            start="[-1.0]",
            steps=400,
        ),
        case("regression", REGRESSION, "{ kind = 'ball', radius = 0.15 }"),
        case("minima", MINIMA, "{ kind = 'tube', radius = 0.25 }", MUCH, rate=0.01),
        case("teacher", NETWORK, "{ kind = 'ball', radius = 0.02 }", "batch_size = 32"),
        case("outputs", NETWORK, "{ kind = 'function', radius = 0.01 }", "batch_size = 32"),
        case("outside", bowl(1), "{ kind = 'ball', radius = 0.1 }", start="[1.0]"),
        case("diverging", bowl(1), "{ kind = 'ball', radius = 0.1 }", rate=3.0, steps=280),
    ]
)
CLAIMS = """[[claim]]
quantity = "exit_probability_z"
cases = ["round"]
at_least = -5
at_most = 5
text = "A claim [/with] brackets."
source = "s"
[[claim]]
quantity = "gap_bound"
cases = ["round"]
at_most = 1e9
text = "What is not known does not hold."
source = "s"
"""
NAMES = [
    "round",
    "valley",
    "across",
    "ellipsoid",
    "sublevel",
    "wells",
    "level",
    "regression",
    "minima",
    "teacher",
    "outputs",
    "outside",
    "diverging",
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory, command, finish) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("exits")
    file = folder / "mine.toml"
    file.write_text(SCENARIO + CLAIMS)
    return folder / "run", finish(command("run", str(file), "--out", str(folder / "run")))


@pytest.fixture(scope="module")
def tree(ran: tuple[Path, subprocess.CompletedProcess]) -> xr.DataTree:
    out, process = ran
    assert process.returncode == 0, process.stderr
    return sgdsim.open_run(out).load()


@pytest.fixture(scope="module")
def exits(tree: xr.DataTree) -> xr.Dataset:
    return tree["exits"].to_dataset()


def said(tree: xr.DataTree, name: str) -> dict[str, str]:
    return json.loads(tree.attrs[f"statement_{NAMES.index(name)}"])


def test_what_the_command_line_prints(ran):
    out, process = ran
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    flat = process.stderr.replace("\n", " ")
    assert "Every kind of case [in brackets]" in flat
    assert "A claim [/with] brackets." in flat
    rows = [line for line in process.stderr.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows[: len(NAMES)]] == NAMES
    cells = {row.split("│")[1].strip(): [c.strip() for c in row.split("│")[2:-1]] for row in rows}
    assert cells["outside"] == ["-"] * 5
    assert all(cell != "-" for cell in cells["valley"])
    assert "not measured" in cells["What is not known does not hold."]
    assert "valley: exit probability" in flat  # by importance splitting
    assert "outside: 200 trajectories start outside the set" in flat
    assert str(out / "run.zarr") in flat
    assert not (out / "run.zarr.partial").exists()
    assert list((out / "figures").iterdir())


COUNTED = {*NAMES} - {"outside"}
SAMPLED = {"round", "valley", "wells", "regression", "minima", "teacher", "outside", "diverging"}
#: Where a number is known; everywhere else it is NaN.
KNOWN = {
    "stay_probability": COUNTED,
    "exit_rate": COUNTED,
    "mean_exit_time_low": COUNTED,
    "exact_stay_probability": {"round", "valley", "diverging"},
    "exact_exit_probability": {"round", "valley", "diverging"},
    "exact_exit_time": {"round", "valley", "level"},
    "kramers_time": {"level"},
    "quasi_potential": {"round", "valley", "level"},
    "rare_exit_probability": {"valley"},
    "second_moment_stay_bound": {"round", "valley", "wells", "regression", "minima"},
    "mean_exit_time_bound": {"round", "valley", "wells", "regression", "minima"},
    "delta_star": SAMPLED,
    "effective_rank": SAMPLED,
    "shell_radius": SAMPLED,
    "expected_gap": {"minima"},
    "mean_gap": {*NAMES} - {"diverging"},
    "log_gap_bound": {"teacher"},
    "unseen_basins": {"sublevel", "wells", "level", "minima", "teacher", "outputs"},
}


@pytest.mark.parametrize(("name", "where"), KNOWN.items(), ids=KNOWN.keys())
def test_numbers_are_known_exactly_where_they_should_be(exits, name, where):
    values = exits[name]
    rest = [dim for dim in values.dims if dim != "case"]
    assert set(exits.case.values[values.notnull().all(rest).values]) == where
    assert set(exits.case.values[values.notnull().any(rest).values]) == where


def test_bounds_on_exits_are_known_exactly_where_they_should_be(exits):
    last = exits["log_exit_bound"].isel(look=-1).notnull()
    assert bool((last.all("theory") == last.any("theory")).all())
    by_kind = {
        k: set(exits.case.values[last.all("theory").sel(evidence=k)]) for k in last.evidence.values
    }
    certain = {"round", "valley", "regression"}
    assert by_kind == {"certificate": certain, "plug-in": certain | {"wells", "minima"}}
    violated = exits["assumption_violated"].sel(evidence="plug-in")
    for name in NAMES:
        expected = 0 if name in by_kind["plug-in"] else 1 if name in SAMPLED else -1
        assert int(violated.sel(case=name)) == expected, name


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_staying_recounted(exits, name):
    one = exits.sel(case=name)
    steps, tracks = int(one.steps), []
    for exit_step, switch in zip(one.exit_step.values, one.switch_step.values, strict=True):
        left = {int(exit_step)} | ({int(switch)} if name == "wells" else set())
        tracks.append(min(left - {-1}, default=math.inf))
    looks = one.look_step.values
    assert looks[0] == 0
    assert looks[-1] == steps
    stayed = [np.mean([left > look for left in tracks]) for look in looks]
    np.testing.assert_allclose(one.stay_probability, stayed, atol=1e-12)
    assert bool((one.stay_probability_low <= one.stay_probability + 1e-12).all())
    assert bool((one.stay_probability_high >= one.stay_probability - 1e-12).all())
    count = sum(left <= steps for left in tracks)
    exposure = sum(min(left, steps) for left in tracks)
    assert int(one.exit_count) == count
    assert float(one.exit_rate) == pytest.approx(count / exposure)
    if count:
        expected = float(one.learning_rate) * exposure / count
        assert float(one.mean_exit_time) == pytest.approx(expected)


def test_the_small_run_tells_cases_apart(exits):
    """Else the recount above would compare ones with ones."""
    left = 1 - exits["stay_probability"].isel(look=-1)
    for name in ("round", "valley", "across", "ellipsoid", "sublevel", "wells", "level"):
        assert 0.02 < float(left.sel(case=name)) <= 1, name
    switched = exits.sel(case="wells")
    assert bool((switched.switch_step > 0).any())


def test_the_certificate_of_a_quadratic(exits):
    """Computed again from the numbers in the file; flat directions have no part in it."""
    for name, dimension, radius in (("round", 2, 0.07), ("valley", 2, 0.09)):
        one = exits.sel(case=name, evidence="certificate")
        constants = quadratic_constants(np.ones(dimension), 0.05, 0.04)
        for key in ("contraction", "noise_operator_norm", "noise_trace"):
            assert float(one.constant_value.sel(constant=key)) == pytest.approx(
                constants[key].value, rel=1e-6
            )
        values = {key: source.value for key, source in constants.items()}
        steps = one.look_step.values.astype(np.int64)
        expected = log_exit_bounds(StayConstants(**values, radius=radius), steps)
        for theory in ("S0", "S1", "S2"):
            found = one.log_exit_bound.sel(theory=theory).values
            np.testing.assert_allclose(found, expected[theory], rtol=1e-5)
        values["noise_trace"] *= 1.5  # as if the flat direction counted
        wrong = log_exit_bounds(StayConstants(**values, radius=radius), steps)["S2"]
        assert abs(found[-1] - wrong[-1]) > 0.1


def kernel(dimension: int, radius: float) -> np.ndarray:
    """Exit probabilities for 0, ..., 40 steps."""
    exits = exact_exit_probability(0.95, 0.05 * 0.2, dimension, radius, 0.0, 40)
    return np.concatenate([[0.0], exits])


def test_the_exact_law(exits):
    for name, radius in (("round", 0.07), ("valley", 0.09)):
        one = exits.sel(case=name)
        expected = 1 - kernel(2, radius)[one.look_step.values]
        np.testing.assert_allclose(one.exact_stay_probability, expected, atol=1e-6)
        assert float(one.exact_exit_probability) == pytest.approx(1 - expected[-1], rel=1e-5)


@pytest.mark.statistical
def test_what_is_counted_agrees_with_the_exact_law(exits):
    """Counted and split; a law of one dimension more or less is told apart."""
    one = exits.sel(case="round")
    left = 1 - float(one.stay_probability[-1])

    def z(truth: float) -> float:
        return (left - truth) / math.sqrt(truth * (1 - truth) / 200)

    assert abs(z(kernel(2, 0.07)[-1])) < 5
    assert abs(z(kernel(1, 0.07)[-1])) > 5
    assert abs(z(kernel(3, 0.07)[-1])) > 5
    valley = exits.sel(case="valley")
    truth = float(valley.exact_exit_probability)
    low, high = (float(valley[f"rare_exit_probability_{end}"]) for end in ("low", "high"))
    assert low < float(valley.rare_exit_probability) < high
    # An interval of 95% holds too seldom for a test; one that is four times as wide does not.
    middle, half = math.log(low * high) / 2, math.log(high / low) / 2
    assert abs(math.log(truth) - middle) < 4 * half


def test_the_certificate_of_linear_regression(exits, scenario):
    """From the rows, with formulas of this test and with those of the library."""
    with jax.enable_x64(True):
        known: Any = build_known(scenario.case[NAMES.index("regression")].problem)
        inputs, targets = (
            np.asarray(a, np.float64) for a in (known.rows.inputs, known.rows.targets)
        )
        truth = np.asarray(known.truth, np.float64)
    residuals = targets - inputs @ truth
    bias = np.linalg.norm(inputs.T @ residuals / 200)
    spread = np.abs(np.linalg.eigvalsh(inputs.T @ inputs / 200 - np.eye(2))).max()
    one = exits.sel(case="regression", evidence="certificate")
    assert float(one.gradient_deviation) == pytest.approx(bias, rel=1e-5)
    assert float(one.hessian_deviation) == pytest.approx(spread, rel=1e-5)
    expected = {
        "contraction": 0.95 + 0.05 * spread,
        "noise_operator_norm": 0.04,
        "noise_trace": 0.08,
        "start_distance": 0.0,
        "gradient_bias": bias,
    }
    for name, value in expected.items():
        found = float(one.constant_value.sel(constant=name))
        # Starts are rounded to the precision of the simulation.
        assert found == pytest.approx(value, rel=1e-5, abs=1e-7), name
    constants = linear_regression_constants(inputs, residuals, 0.05, 0.04)
    values = {key: source.value for key, source in constants.items()}
    logs = log_exit_bounds(
        StayConstants(**values, radius=0.15), one.look_step.values.astype(np.int64)
    )["S2"]
    np.testing.assert_allclose(one.log_exit_bound.sel(theory="S2"), logs, rtol=1e-4)
    assert bool((one.constant_sample_size == 0).all())


@pytest.fixture(scope="module")
def scenario(tmp_path_factory) -> ExitsScenario:
    file = tmp_path_factory.mktemp("scenario") / "mine.toml"
    file.write_text(SCENARIO)
    loaded = load_scenario(file)
    assert isinstance(loaded, ExitsScenario)
    return loaded


@pytest.mark.statistical
def test_the_price_of_the_best_of_four_wells(exits):
    one = exits.sel(case="minima")
    # The largest of four standard normals is 1.02938 on average, spread/sqrt(n) is 1/20.
    assert float(one.expected_gap) == pytest.approx(1.02938 / 20, rel=1e-4)
    assert float(one.mean_gap) == pytest.approx(one.gap.values.mean())
    stderr = one.gap.values.std(ddof=1) / math.sqrt(200)
    assert float(one.mean_gap_stderr) == pytest.approx(stderr)
    assert abs(float(one.mean_gap) - 1.02938 / 20) < 5 * stderr
    assert abs(float(one.mean_gap) - 0.56419 / 20) > 5 * stderr  # of the best of two
    assert abs(float(one.mean_gap)) > 5 * stderr


def test_the_bounds_on_the_gap_are_their_terms(exits, tree):
    one = exits.sel(case="teacher")
    for bound in ("G1", "G2", "G3"):
        terms = one.log_gap_term.sel(bound=bound).values
        total = np.logaddexp.reduce(terms[np.isfinite(terms)])
        assert np.isfinite(terms).sum() >= 2
        assert float(one.log_gap_bound.sel(bound=bound)) == pytest.approx(total)
        assert float(one.holds_with_probability.sel(bound=bound)) == pytest.approx(1 - 0.05 / 3)
    gap = one.gap.where(one.exit_step < 0)
    assert float(np.exp(one.log_gap_bound).min()) > float(gap.max())
    # The exit bound says nothing here, and so the statement about both says nothing.
    assert said(tree, "teacher")["gap"].startswith("Nothing is claimed: no bound on the exit")
    assert said(tree, "outputs")["no gap bound"] == "they are about balls in parameter space"


def test_a_start_outside_is_a_reason_and_no_number(exits, tree):
    one = exits.sel(case="outside")
    assert "200 trajectories start outside the set" in said(tree, "outside")["outside"]
    for kind in ("certificate", "plug-in"):
        assert int(one.assumption_violated.sel(evidence=kind)) == 1
        assert "the trajectory starts outside the ball" in said(tree, "outside")[kind]
    assert int(one.exit_count) == -1
    assert bool(one.log_exit_bound.isnull().all())
    assert bool((one.entry_step != 0).all())
    assert float(one.constant_value.sel(evidence="certificate", constant="start_distance")) == 1


def test_a_learning_rate_too_large_is_a_reason_and_no_number(exits, tree):
    one = exits.sel(case="diverging")
    assert one.status.values.tolist() == [2] * 200
    assert bool((one.diverged_step > 0).all())
    assert float(one.stay_probability[-1]) == 0
    assert one.assumption_violated.values.tolist() == [1, 1]
    assert bool(one.log_exit_bound.isnull().all())
    assert bool(one.gap.isnull().all())
    for kind in ("certificate", "plug-in"):
        assert (
            "contraction must be below 1, got 2: the gradient step does not contract"
            in said(tree, "diverging")[kind]
        )


@pytest.mark.parametrize(
    ("name", "reason"),
    [(name, "Euclidean distance") for name in ("ellipsoid", "sublevel", "level", "outputs")]
    + [("across", "the ball is also left along the minima")],
)
def test_a_set_that_the_bounds_do_not_know_is_a_reason_and_no_number(exits, tree, name, reason):
    one = exits.sel(case=name)
    for kind in ("certificate", "plug-in"):
        assert said(tree, name)[kind].startswith(f"no {kind}: ")
        assert reason in said(tree, name)[kind]
    assert one.assumption_violated.values.tolist() == [-1, -1]
    assert bool(one.log_exit_bound.isnull().all())
    assert bool(one.constant_value.isnull().all())
    assert bool((one.constant_sample_size == -1).all())


def test_no_bound_on_staying_exceeds_what_was_seen(exits):
    for name in ("round", "valley", "regression"):
        one = exits.sel(case=name)
        stay = 1 - np.exp(np.minimum(one.log_exit_bound, 0))
        assert bool((stay <= one.stay_probability_high).where(stay.notnull(), True).all()), name
        proved, sampled = one.log_exit_bound.isel(look=-1).sel(theory="S2").values
        # What is sampled counts every direction of the noise, flat ones too.
        assert proved < 0
        assert sampled >= proved - 1e-6


def test_basins(exits, tree):
    level = exits.sel(case="level")
    assert (level.basin.values >= 0).sum() == 4
    ends = level.quenched_position.values[level.basin.values >= 0, 0]
    np.testing.assert_allclose(np.abs(ends), 1, atol=1e-5)
    assert int(level.basins) == len(np.unique(np.sign(ends)))
    before = level.final_position.values[level.basin.values >= 0, 0]
    np.testing.assert_array_equal(np.sign(before), np.sign(ends))
    assert "4 quenches ended in" in said(tree, "level")["basins"]
    assert int(exits.sel(case="minima").basins) == len(
        np.unique(np.round(exits.sel(case="minima").quenched_position.values[:4, 0]))
    )


def test_the_formula_of_kramers(exits):
    """Barrier 1/4, curvatures 2 and -1, D = eta s/2 = 0.1; V = 2 (1/4)/s."""
    one = exits.sel(case="level")
    kramers = 2 * math.pi / math.sqrt(2) * math.exp(0.25 / 0.1)
    assert float(one.kramers_time) == pytest.approx(kramers, rel=1e-5)
    assert float(one.quasi_potential) == pytest.approx(0.5 / 4, rel=1e-5)
    low, high = (float(one[f"mean_exit_time_{end}"]) for end in ("low", "high"))
    assert low < float(one.exact_exit_time) * 1.5
    assert high > float(one.exact_exit_time) / 1.5


def test_claims_are_evaluated_on_the_dataset(tree, exits):
    claims = tree["claims"].to_dataset()
    one = exits.sel(case="round")
    exact = float(one.exact_exit_probability)
    expected = (1 - float(one.stay_probability[-1]) - exact) / math.sqrt(exact * (1 - exact) / 200)
    assert float(claims.measured[0]) == pytest.approx(expected)
    assert np.isnan(claims.measured[1])
    assert claims.holds.values.tolist() == [1, 0]
    assert tree.attrs["study"] == "exits"


# From here on the run is made up, so that every claim is checked against plain numbers.
BOUNDS, TERMS = ["G1", "G2", "G3"], ["centre", "displacement", "cut", "entropy", "concentration"]


@pytest.fixture
def made_up() -> xr.DataTree:
    random = np.random.default_rng(5)
    cases = ["a", "b", "c", "d"]
    of_case = [
        "exact_exit_probability",
        "exit_rate",
        "exact_exit_rate",
        "mean_exit_time",
        "exact_exit_time",
        "kramers_time",
        "quasi_potential",
        "rare_exit_probability",
        "rare_exit_probability_low",
        "rare_exit_probability_high",
        "rare_exit_relative_error",
        "mean_gap",
        "mean_gap_stderr",
        "expected_gap",
        "effective_rank",
        "exponentiality_p_value",
    ]
    dataset = xr.Dataset(
        {name: ("case", random.uniform(0.1, 0.9, 4)) for name in of_case}
        | {
            "prefactor_power": ("case", np.full(4, 1.0)),
            "width": ("case", np.array([2, 4, 8, 16])),
            "steps": ("case", np.array([400, 500, 600, 700])),
            "exit_count": ("case", np.array([90, 40, 20, 10])),
            "stay_probability": (("case", "look"), random.uniform(0.5, 1, (4, 3))),
            "stay_probability_high": (("case", "look"), random.uniform(0.8, 1, (4, 3))),
            "log_exit_bound": (
                ("case", "evidence", "theory", "look"),
                np.log(random.uniform(0.01, 2, (4, 2, 3, 3))),
            ),
            "log_gap_bound": (("case", "bound"), random.normal(size=(4, 3))),
            "log_gap_term": (("case", "bound", "term"), random.normal(size=(4, 3, 5))),
            "gap": (("case", "trajectory"), random.normal(size=(4, 6))),
            "exit_step": (("case", "trajectory"), random.integers(-1, 1, (4, 6))),
        },
        {
            "case": cases,
            "learning_rate": ("case", 1 / np.array([10.0, 12.0, 14.0, 16.0])),
            "evidence": ["certificate", "plug-in"],
            "theory": ["S0", "S1", "S2"],
            "bound": BOUNDS,
            "term": TERMS,
        },
    )
    dataset["exit_step"][:, 0] = -1
    dataset["quasi_potential"][:] = 0.7
    return xr.DataTree.from_dict({"exits": dataset})


def measured(tree: xr.DataTree, quantity: Any, *cases: str) -> float:
    """Value of a claim."""
    claim = ExitsClaim(quantity=quantity, cases=cases, at_most=1.0, text="t", source="s")
    return QUANTITIES["exits"][quantity](tree, claim)


def test_quantities_of_one_case_against_plain_numbers(made_up):
    one = {k: v.values[()] for k, v in made_up["exits"].to_dataset().sel(case="b").items()}
    left, exact = 1 - one["stay_probability"][-1], one["exact_exit_probability"]
    excess = [
        1 - min(math.exp(bound), 1) - one["stay_probability_high"][look]
        for (_, _, look), bound in np.ndenumerate(one["log_exit_bound"])
    ]
    bound = min(math.exp(log) for log in one["log_gap_bound"])
    gaps = [gap for gap, step in zip(one["gap"], one["exit_step"], strict=True) if step == -1]
    assert 0 < len(gaps) < 6
    expected = {
        "exit_probability": left,
        "exit_probability_z": (left - exact) / math.sqrt(exact * (1 - exact) / 6),
        "exit_bound": math.exp(one["log_exit_bound"][0, 2, -1]),
        "stay_bound_excess": max(excess),
        "exit_time_over_exact": one["mean_exit_time"] / one["exact_exit_time"],
        "exit_time_over_kramers": one["mean_exit_time"] / one["kramers_time"],
        "exit_rate_over_exact": one["exit_rate"] / one["exact_exit_rate"],
        "rare_exit_over_exact": one["rare_exit_probability"] / exact,
        "log_rare_exit": math.log10(one["rare_exit_probability"]),
        "mean_gap": one["mean_gap"],
        "mean_gap_z": (one["mean_gap"] - one["expected_gap"]) / one["mean_gap_stderr"],
        "mean_gap_over_expected": one["mean_gap"] / one["expected_gap"],
        "gap_bound": bound,
        "certificate_slack": bound - max(gaps),
        "effective_rank": one["effective_rank"],
        "exponentiality": one["exponentiality_p_value"],
    }
    found = {name: measured(made_up, name, "b") for name in expected}
    assert found == pytest.approx(expected)
    others = {"exit_rate_ratio", "exit_rate_ratio_over_kramers", "arrhenius_over_quasi_potential"}
    others |= {f"{bound}_width_exponent" for bound in BOUNDS}
    assert {*expected, *others} == {*KNOWN_QUANTITIES["exits"]}


def test_quantities_of_two_cases_against_plain_numbers(made_up):
    exits = made_up["exits"].to_dataset()
    times, kramers = exits["mean_exit_time"].values, exits["kramers_time"].values
    assert measured(made_up, "exit_rate_ratio", "b", "d") == pytest.approx(times[1] / times[3])
    expected = times[1] / times[3] / (kramers[1] / kramers[3])
    found = measured(made_up, "exit_rate_ratio_over_kramers", "b", "d")
    assert found == pytest.approx(expected)
    exits["mean_exit_time"][3] = np.inf  # nobody left: nothing was measured
    tree = xr.DataTree.from_dict({"exits": exits})
    assert np.isnan(measured(tree, "exit_rate_ratio", "b", "d"))
    assert np.isnan(measured(tree, "exit_time_over_exact", "d"))


def test_the_plug_in_is_claimed_only_without_a_certificate(made_up):
    exits = made_up["exits"].to_dataset()
    exits["log_exit_bound"].loc[{"evidence": "certificate"}] = np.nan
    tree = xr.DataTree.from_dict({"exits": exits})
    plug_in = exits["log_exit_bound"].sel(case="a", evidence="plug-in", theory="S2")[-1]
    assert measured(tree, "exit_bound", "a") == pytest.approx(math.exp(plug_in))
    exits["log_exit_bound"][:] = np.nan
    tree = xr.DataTree.from_dict({"exits": exits})
    assert np.isnan(measured(tree, "exit_bound", "a"))
    assert np.isnan(measured(tree, "stay_bound_excess", "a"))


@pytest.mark.parametrize(("power", "right"), [(1.0, True), (0.0, False)])
@pytest.mark.parametrize("split", [False, True])
def test_the_slope_of_exit_times(made_up, split, power, right):
    """Rates with the law exp(-V/eta)/eta per unit of time give the slope V, 0.7."""
    exits = made_up["exits"].to_dataset()
    eta = exits["learning_rate"].values
    rates = np.exp(-0.7 / eta) / eta  # per t = eta k
    exits["prefactor_power"][:] = power
    if split:
        times = exits["steps"].values * eta
        exits["rare_exit_probability"][:] = -np.expm1(-rates * times)
        exits["rare_exit_relative_error"][:] = 0.05
    else:
        exits["rare_exit_probability"][0] = np.nan
        exits["exit_rate"][:] = rates * eta
        # So many trajectories that the counts are as good as their means.
        exits["exit_count"][:] = np.array([10**8, 10**7, 10**6, 10**5])
    tree = xr.DataTree.from_dict({"exits": exits})
    found = measured(tree, "arrhenius_over_quasi_potential", "a", "b", "c", "d")
    assert (abs(found - 1) < 1e-4) == right
    assert abs(found - 1) < 0.2


@pytest.mark.parametrize(
    ("bound", "term"), [("G1", "displacement"), ("G2", "entropy"), ("G3", "entropy")]
)
def test_exponents_of_the_width(made_up, bound, term):
    exits = made_up["exits"].to_dataset()
    exits["log_gap_term"].loc[{"bound": bound, "term": term}] = 0.5 * np.log([2, 4, 8, 16]) - 3
    tree = xr.DataTree.from_dict({"exits": exits})
    found = measured(tree, f"{bound}_width_exponent", "a", "b", "c", "d")
    assert found == pytest.approx(0.5)
