"""The commands about bounds: what is explained, what is printed of runs and of other networks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sgdsim._cli import app

runner = CliRunner()
#: One hidden layer with biases, two classes, inputs in the unit ball.
RANDOM = np.random.default_rng(4)
SHAPES = {"0.weight": (4, 3), "0.bias": (4,), "2.weight": (2, 4), "2.bias": (2,)}
WEIGHTS = {name: RANDOM.normal(size=shape) for name, shape in SHAPES.items()}
INITIAL = {name: a + 0.1 * RANDOM.normal(size=a.shape) for name, a in WEIGHTS.items()}
INPUTS = RANDOM.uniform(-0.5, 0.5, (60, 3))
LABELS = RANDOM.integers(0, 2, 60)
DATA = {
    "inputs": INPUTS[:40],
    "labels": LABELS[:40],
    "test_inputs": INPUTS[40:],
    "test_labels": LABELS[40:],
}
FIXED = ["--margin", "0.5", "--input-bound", "1"]


def call(*arguments: object, status: int = 0) -> str:
    """Run the command line in this process; returns the output, or the errors if it fails."""
    result = runner.invoke(app, [str(part) for part in arguments], prog_name="sgdsim")
    assert result.exit_code == status, result.output
    return result.stderr if status else result.stdout


def refused(*arguments: object) -> str:
    """The one sentence with which a command ends."""
    said = call(*arguments, status=1)
    assert said.startswith("error: ")
    assert "unexpected" not in said
    assert "Traceback" not in said
    assert said.count("\n") == 1
    return said.removeprefix("error: ").rstrip("\n")


def cells(text: str) -> dict[str, list[str]]:
    """Cells of a printed table by the name in its first column."""
    rows = [line for line in text.splitlines() if line.startswith("│")]
    split = [[cell.strip() for cell in row.split("│")[1:-1]] for row in rows]
    return {name: rest for name, *rest in split}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays into an .npz file of the current folder."""

    def write(name: str, arrays: dict[str, np.ndarray], **changed: np.ndarray) -> Path:
        path = tmp_path / name
        np.savez(path, **(arrays | changed))  # type: ignore[arg-type]
        return path

    return write


class TestExplain:
    def test_all_are_listed_with_their_formula(self) -> None:
        from sgdsim.bounds import CERTIFICATES, EXPECTATION_BOUNDS, MEASURES

        text = call("explain")
        lines = text.splitlines()
        assert [line for line in lines if not line.startswith(" ")] == [
            "Certificates:",
            "Bounds on the mean gap:",
            "Measures (no bounds):",
        ]
        for registry in (CERTIFICATES, EXPECTATION_BOUNDS, MEASURES):
            for name, entry in registry.items():
                assert any(line.split()[:1] == [name] and entry.formula in line for line in lines)

    @pytest.mark.parametrize("name", ["BFT", "gradient_norm", "path.norm"])
    def test_one_is_explained(self, name: str) -> None:
        from sgdsim.bounds import explain, lookup

        text = call("explain", name)
        assert text == explain(name) + "\n"
        assert lookup(name).formula in text
        assert "arXiv" in text or "this project" in text

    def test_an_unknown_one_gets_the_nearest(self) -> None:
        assert refused("explain", "BTF") == (
            "There is no bound or measure 'BTF'. Did you mean 'BFT'?"
        )
        assert refused("explain", "path.nrm").endswith("Did you mean 'path.norm'?")
        assert refused("explain", "???") == "There is no bound or measure '???'."

    def test_names_complete(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("_SGDSIM_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "sgdsim explain BFT")
        monkeypatch.setenv("COMP_CWORD", "2")
        found = runner.invoke(app, [], prog_name="sgdsim").stdout.split()
        assert found == ["BFT", "BFT-cut", "BFT-init", "BFT-fixed"]


class TestRuns:
    def test_one_run(self, tmp_path: Path) -> None:
        from sgdsim.store import open_run
        from sgdsim.testing import synthetic_training_run

        run = synthetic_training_run(tmp_path / "run")
        text = call("bounds", run)
        assert "Made-up training" in text
        found = cells(text)
        last = open_run(run)["bounds"].to_dataset().isel(probe=-1).load()
        of_means = found.pop("gradient_norm")  # in a table of its own
        assert float(of_means[0]) == pytest.approx(float(last["expected_gap_bound"][0]), rel=1e-2)
        assert list(found) == last["bound"].values.tolist()
        for name, (kind, value, gap, ratio, factor) in found.items():
            one = last.sel(bound=name)
            assert kind == str(one["kind"].values)
            if name == "linear":
                assert [value, gap, ratio, factor] == ["not applicable", "", "", ""]
                continue
            mean, of_gap = float(one["value"].mean()), float(one["generalization_gap"].mean())
            certified = kind == "certificate"
            assert value == f"{mean:.3g}" + ("  vacuous" if mean > 1 and certified else "")
            assert gap == f"{of_gap:.3g}"
            assert ratio == (f"{mean / of_gap:.3g}" if certified else "")
        assert found["BFT"][-1].startswith(("constant e^3.0", "spectral product e^3.0"))

    def test_a_sweep_is_ranked(self, tmp_path: Path) -> None:
        from sgdsim.scenario import load_scenario
        from sgdsim.store import RunStore, SweepAxis
        from sgdsim.testing import synthetic_sweep

        scenario = load_scenario(
            "random-labels-bounds", ["sweep={}", "sweep.random_labels=[0.0, 0.5, 1.0]"]
        )
        axis = SweepAxis("random_labels", {"random_labels": [0.0, 0.5, 1.0]})
        run = synthetic_sweep(tmp_path / "run", "bounds", [axis])
        attrs = {"scenario": scenario.canonical_json(), "title": "A sweep"}
        RunStore.open(run / "run.zarr").set_attrs(attrs)
        text = call("bounds", run)
        assert "medians over" in text
        found = cells(text)
        bounds = {"BFT", "VC", "PB-kl", "linear", "path.norm", "l2"}
        assert set(found) == {*bounds, "gradient_norm"}
        assert "Certificates" in text
        assert "Measures" in text
        assert found["BFT"][2] == "100 %", "it is vacuous everywhere"
        assert found["PB-kl"][2] == "0 %"
        assert len(found["path.norm"]) == len(found["BFT"]) - 1, "a measure is not vacuous"
        tau = float(found["path.norm"][2])
        assert tau > 0.8, "value and gap grow together; trajectories of a point are ties"

    def test_the_stagnation_study_has_bounds_too(self, tmp_path: Path) -> None:
        from sgdsim.testing import synthetic_run

        text = call("bounds", synthetic_run(tmp_path / "run"))
        found = cells(text)
        assert set(found) == {"centre_lipschitz", "spectral_entropy", "pac_bayes", "path_norm"}
        assert found["pac_bayes"][1] == "not applicable"

    def test_a_sweep_of_the_stagnation_study_is_refused(self, tmp_path: Path) -> None:
        from sgdsim.store import SweepAxis
        from sgdsim.testing import synthetic_sweep

        axis = SweepAxis("batch_size", {"batch_size": [8, 16]})
        run = synthetic_sweep(tmp_path / "run", "stagnation", [axis])
        assert "is a sweep of the study 'stagnation'; open one point" in refused("bounds", run)

    @pytest.mark.parametrize("study", ["dynamics", "exits"])
    def test_other_studies_have_none(self, tmp_path: Path, study: str) -> None:
        from sgdsim.testing import synthetic_dynamics_run, synthetic_exits_run

        make = {"dynamics": synthetic_dynamics_run, "exits": synthetic_exits_run}[study]
        assert refused("bounds", make(tmp_path / "run")) == (
            f"{tmp_path / 'run'} is a run of the study {study!r}, which evaluates no bounds; the "
            "studies that do are bounds and stagnation."
        )

    def test_no_run(self, tmp_path: Path) -> None:
        assert "nowhere" in refused("bounds", tmp_path / "nowhere")


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimised")
class TestWeights:
    def test_a_fully_connected_network_with_biases(self, write: Callable[..., Path]) -> None:
        """The printed numbers are those of the library."""
        from sgdsim.networks import (
            FixedInAdvance,
            LabelledRows,
            build_architecture,
            examine,
            layers_of,
        )

        text = call(
            *("bounds", write("net.npz", WEIGHTS), "--data", write("rows.npz", DATA)),
            *("--initial", write("start.npz", INITIAL), "--delta", "0.1", *FIXED),
        )
        assert "net.npz: 40 training rows, margin 0.5" in text
        assert "certificates hold together with probability 0.9" in text
        network, start = (
            build_architecture(arrays, layers_of(arrays, "relu")) for arrays in (WEIGHTS, INITIAL)
        )
        rows, held_out = (
            LabelledRows(INPUTS[part], np.eye(2)[LABELS[part]])
            for part in (slice(40), slice(40, None))
        )
        fixed = FixedInAdvance(margin=0.5, input_bound=1.0, failure_probability=0.1)
        expected = examine(network, rows, fixed, held_out, start)
        found = cells(text)
        assert list(found) == expected["bound"].values.tolist()
        assert {"BFT", "BFT-init", "path", "VC", "PB-kl", "l2"} <= set(found)
        for name, (kind, value, gap, *_) in found.items():
            one = expected.sel(bound=name)
            assert kind == str(one["kind"].values)
            if np.isnan(one["value"]):
                assert value.startswith("not applicable")
                continue
            assert value.split()[0] == f"{float(one['value']):.3g}"
            assert gap == f"{float(one['generalization_gap']):.3g}"
            assert ("vacuous" in value) == (kind == "certificate" and float(one["value"]) > 1)

    def test_frobenius_norms_by_hand(self, write: Callable[..., Path]) -> None:
        """Biases are weights of a constant input, which the layers above keep."""
        text = call("bounds", write("net.npz", WEIGHTS), "--data", write("rows.npz", DATA), *FIXED)
        squared = sum(float(np.sum(array**2)) for array in WEIGHTS.values())
        # One weight more: the unit that hands the constant on.
        assert cells(text)["l2"][1] == f"{np.sqrt(np.sqrt(squared + 1.0) / 40):.3g}"

    def test_without_held_out_rows_there_is_no_gap(self, write: Callable[..., Path]) -> None:
        rows = {name: DATA[name] for name in ("inputs", "labels")}
        text = call("bounds", write("net.npz", WEIGHTS), "--data", write("rows.npz", rows), *FIXED)
        for kind, value, gap, ratio, _ in cells(text).values():
            assert kind in ("certificate", "measure")
            assert value
            assert (gap, ratio) == ("", "")

    def test_a_convolutional_network(self, write: Callable[..., Path], tmp_path: Path) -> None:
        """Convolution, relu, average pool, flatten, linear, as the library says."""
        from sgdsim.networks import (
            FixedInAdvance,
            LabelledRows,
            build_architecture,
            examine,
            read_layers,
        )

        random = np.random.default_rng(7)
        weights = {
            "conv.weight": random.normal(size=(3, 1, 3, 3)),
            "last.weight": random.normal(size=(2, 12)),
        }
        layers = tmp_path / "net.toml"
        layers.write_text(
            'input = [1, 4, 4]\n[[layer]]\nkind = "convolution"\nweight = "conv.weight"\n'
            'padding = 1\n[[layer]]\nkind = "relu"\n[[layer]]\nkind = "average_pool"\nsize = 2\n'
            '[[layer]]\nkind = "flatten"\n[[layer]]\nkind = "linear"\nweight = "last.weight"\n'
        )
        images = random.uniform(-0.2, 0.2, (30, 1, 4, 4))
        labels = random.integers(0, 2, 30)
        rows = {"inputs": images, "labels": labels, "test_inputs": images, "test_labels": labels}
        text = call(
            *("bounds", write("net.npz", weights), "--layers", layers),
            *("--data", write("rows.npz", rows), *FIXED),
        )
        network = build_architecture(weights, read_layers(layers))
        both = LabelledRows(images, np.eye(2)[labels])
        fixed = FixedInAdvance(margin=0.5, input_bound=1.0)
        expected = examine(network, both, fixed, both)
        found = cells(text)
        assert list(found) == expected["bound"].values.tolist()
        known = [name for name in found if np.isfinite(expected["value"].sel(bound=name))]
        assert {"BFT", "l2"} <= set(known)
        for name in known:
            assert found[name][1].split()[0] == f"{float(expected['value'].sel(bound=name)):.3g}"
        assert found["linear"][1].startswith("not applicable: ")


#: What is changed, and how the one sentence begins or what it must say.
BROKEN_DATA = {
    "empty rows": (
        {"inputs": np.zeros((0, 3)), "labels": np.zeros(0, int)},
        "rows.npz has 0 rows; a bound needs at least 2.",
    ),
    "labels out of range": (
        {"labels": LABELS[:40] + 5},
        "labels in rows.npz must be integers from 0 to 1, one per row; got ",
    ),
    "negative labels": (
        {"labels": LABELS[:40] - 1},
        "labels in rows.npz must be integers from 0 to 1, one per row; got ",
    ),
    "labels that are no integers": (
        {"labels": LABELS[:40] / 2},
        "labels in rows.npz must be integers from 0 to 1, one per row; got float64 of shape (40,).",
    ),
    "fewer labels than rows": (
        {"labels": LABELS[:30]},
        "rows.npz has 40 inputs and 30 labels; there must be as many.",
    ),
    "a long input": (
        {"inputs": 10 * INPUTS[:40]},
        "more than input_bound = 1; give a bound that holds for every possible input.",
    ),
    "a long held-out input": (
        {"test_inputs": 10 * INPUTS[40:]},
        "more than input_bound = 1; give a bound that holds for every possible input.",
    ),
    "inputs that are not finite": (
        {"inputs": np.where(INPUTS[:40] > 0.4, np.nan, INPUTS[:40])},
        "The inputs hold numbers that are not finite; remove those rows.",
    ),
    "inputs of another shape": (
        {"inputs": INPUTS[:40, :2]},
        "The network takes inputs of shape (3,); the rows have inputs of shape (2,).",
    ),
}
BROKEN_WEIGHTS = {
    "shapes that do not chain": (
        {"2.weight": np.ones((2, 5))},
        "2.weight of shape (2, 5) cannot follow 0.weight of shape (4, 3); give the weights in the "
        "order of the layers, as (out, in).",
    ),
    "not finite": (
        {"0.weight": np.full((4, 3), np.inf)},
        "The weights '0.weight' are not all finite; a run that diverged has no norms.",
    ),
    "integers": (
        {"0.weight": np.ones((4, 3), int)},
        "The weights '0.weight' must be real numbers in floating point; got int64.",
    ),
    "a bias of another length": ({"0.bias": np.ones(5)}, "bias"),
}
OPTIONS = {
    "negative margin": (
        ["--margin", "-1", "--input-bound", "1"],
        "margin must be positive and finite; got -1.0.",
    ),
    "margin of zero": (
        ["--margin", "0", "--input-bound", "1"],
        "margin must be positive and finite; got 0.0.",
    ),
    "no margin": (["--input-bound", "1"], "--margin is missing: it must be chosen without the "),
    "no input bound": (["--margin", "1"], "--input-bound is missing: it must be chosen without "),
    "delta of one": (
        [*FIXED, "--delta", "1"],
        "failure_probability must be in (0, 1); got 1.0.",
    ),
    "delta of zero": (
        [*FIXED, "--delta", "0"],
        "failure_probability must be in (0, 1); got 0.0.",
    ),
    "unknown activation": (
        [*FIXED, "--activation", "gelu"],
        "--activation must be relu or tanh; got 'gelu'.",
    ),
}


@pytest.mark.parametrize("what", BROKEN_DATA)
def test_rows_that_do_not_fit(what: str, write: Callable[..., Path]) -> None:
    changed, told = BROKEN_DATA[what]
    data = write("rows.npz", DATA, **changed)
    assert told in refused("bounds", write("net.npz", WEIGHTS), "--data", data, *FIXED)


@pytest.mark.parametrize("what", BROKEN_WEIGHTS)
def test_weights_that_do_not_fit(what: str, write: Callable[..., Path]) -> None:
    changed, told = BROKEN_WEIGHTS[what]
    weights = write("net.npz", WEIGHTS, **changed)
    assert told in refused("bounds", weights, "--data", write("rows.npz", DATA), *FIXED)


@pytest.mark.parametrize("what", OPTIONS)
def test_options_out_of_range(what: str, write: Callable[..., Path]) -> None:
    options, told = OPTIONS[what]
    files = write("net.npz", WEIGHTS), "--data", write("rows.npz", DATA)
    assert refused("bounds", *files, *options).startswith(told)


def test_files_that_are_missing_or_of_another_kind(write: Callable[..., Path]) -> None:
    weights, data = write("net.npz", WEIGHTS), write("rows.npz", DATA)
    given = ["--data", data, *FIXED]
    assert refused("bounds", weights, *FIXED).startswith("--data is missing: bounds are about ")
    Path("net.pt").write_bytes(b"pickled")
    said = refused("bounds", "net.pt", *given)
    assert said.startswith("Weights are read from .npz and .safetensors files, not from net.pt, ")
    assert "other formats can run code" in said
    assert refused("bounds", "gone.npz", *given) == "There is no file gone.npz."
    missing = refused("bounds", weights, "--data", "gone.npz", *FIXED)
    assert missing == "There is no file gone.npz."
    assert "gone.npz" in refused("bounds", weights, *given, "--initial", "gone.npz")
    assert "gone.toml" in refused("bounds", weights, *given, "--layers", "gone.toml")
    Path("bad.npz").write_bytes(b"no archive")
    assert "bad.npz is damaged or is no .npz archive" in refused("bounds", "bad.npz", *given)
    few = write("few.npz", {"inputs": INPUTS})
    assert refused("bounds", weights, "--data", few, *FIXED) == (
        "few.npz has no array labels; it has inputs."
    )
    half = write("half.npz", {name: DATA[name] for name in ("inputs", "labels", "test_inputs")})
    assert refused("bounds", weights, "--data", half, *FIXED) == (
        "half.npz has test_inputs and no test_labels; give both or neither."
    )


def test_an_initialisation_of_another_shape(write: Callable[..., Path]) -> None:
    other = {name: array[..., :2] for name, array in WEIGHTS.items()} | {
        "0.weight": np.ones((4, 3)),
        "0.bias": np.ones(4),
        "2.weight": np.ones((3, 4)),
        "2.bias": np.ones(3),
    }
    weights, data = write("net.npz", WEIGHTS), write("rows.npz", DATA)
    refused("bounds", weights, "--data", data, *FIXED, "--initial", write("start.npz", other))


#: Layer lists, and what the sentence says.
LISTS = {
    'input = [3]\n[[layer]]\nkind = "dense"\nweight = "0.weight"\n': "unknown kind 'dense'",
    'input = [3]\n[[layer]]\nkind = "linear"\nweight = "1.weight"\n': "There are no weights named "
    "'1.weight'; the nearest known one is '",
    'input = [3]\n[[layer]]\nkind = "linear"\nweight = "0.weight"\n': "does not use the weights ",
    'input = [3]\n[[layer]]\nkind = "linear"\n': "lacks the key 'weight'",
    "input = [3\n": "net.toml cannot be read: ",
}


@pytest.mark.parametrize("text", LISTS)
def test_layer_lists_that_do_not_fit(text: str, write: Callable[..., Path]) -> None:
    Path("net.toml").write_text(text)
    weights, data = write("net.npz", WEIGHTS), write("rows.npz", DATA)
    said = refused("bounds", weights, "--layers", "net.toml", "--data", data, *FIXED)
    assert LISTS[text] in said
