"""Bounds along training: what is drawn equals what is stored, corner cases say what is missing."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.container import BarContainer, ErrorbarContainer

from sgdsim.plotting import (
    plot_bounds,
    plot_bounds_over_time,
    plot_factors,
    plot_ranking,
    plot_sweep,
    plot_tightness,
    save_figures,
)
from sgdsim.store import SweepAxis, open_run
from sgdsim.testing import synthetic_sweep, synthetic_training_run

pytestmark = pytest.mark.slow

OF_A_RUN = [plot_bounds, plot_bounds_over_time, plot_factors, plot_tightness]


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    return open_run(synthetic_training_run(tmp_path_factory.mktemp("run"))).load()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Four points, one of which failed."""
    axes = [
        SweepAxis("training", {"training": [20, 40]}),
        SweepAxis("random_labels", {"random_labels": [0.0, 1.0]}),
    ]
    folder = tmp_path_factory.mktemp("sweep")
    return open_run(synthetic_sweep(folder, "bounds", axes, failed=[3])).load()


def drawn(figure):
    """The figure, rendered; everything that is said must be inside."""
    assert figure is not None
    FigureCanvasAgg(figure).draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.05
    assert box.x1 < width + 0.05
    assert box.y1 < height + 0.05
    return figure


def line(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def legend(figure):
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_certificates_over_time_are_the_stored_means(training):
    figure = drawn(plot_bounds_over_time(training))
    (ax,) = figure.axes
    data = training["bounds"].to_dataset()
    for name in ("BFT", "VC", "PB-kl"):
        step, value = line(ax, name)
        np.testing.assert_array_equal(step, data.probe)
        np.testing.assert_allclose(value, data.value.sel(bound=name).mean("trajectory"))
    gap = line(ax, "gap of the error rate")[1]
    stored = data.zero_one_gap.mean("trajectory").values
    np.testing.assert_allclose(gap[1:], stored[1:])
    assert np.isnan(gap[0]), "a logarithmic axis cannot show a gap of zero"
    (band,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    spread = data.zero_one_gap.std("trajectory").values / np.sqrt(3)
    top = stored + 2 * np.hypot(spread, 0.01)
    corners = np.asarray(band.get_paths()[0].vertices)
    np.testing.assert_allclose(corners[:, 1].max(), top.max())
    assert ax.get_yscale() == "log"
    assert legend(figure)[0] == "BFT", "in the order in which the lines end"
    assert not {"linear", "path.norm", "l2"} & set(legend(figure))


def test_factors_add_up_to_the_bound(training):
    figure = drawn(plot_factors(training))
    (ax,) = figure.axes
    assert ax.get_title() == "BFT"
    logs = training["bounds"].log_value.sel(bound="BFT").mean("trajectory").values
    np.testing.assert_allclose(line(ax, "bound")[1], logs - logs[0])
    parts = [line(ax, name)[1] for name in ("spectral product", "distance")]
    np.testing.assert_allclose(np.sum(parts, axis=0), logs - logs[0])
    assert [str(ln.get_label()) for ln in ax.lines] == ["bound", "spectral product", "distance"]


def test_a_factor_has_one_colour_in_all_panels(training):
    two = training.copy()
    data = training["bounds"].to_dataset()
    other = data.sel(bound=["BFT"]).assign_coords(bound=["GRS"], kind=("bound", ["certificate"]))
    factors = other.log_factor.copy()
    factors.loc[{"factor": "spectral_product"}] = 0.0
    other = other.assign(log_factor=factors)
    names = ["log_factor", "value", "log_value"]
    two["bounds"] = xr.concat([data[names].sel(bound=["BFT"]), other[names]], "bound")
    first, second = drawn(plot_factors(two)).axes
    colours = [
        [ln.get_color() for ln in ax.lines if ln.get_label() == "distance"]
        for ax in (first, second)
    ]
    assert colours[0] == colours[1]
    assert len(colours[0]) == 1


def points(ax):
    """What is drawn of each certificate, row by row."""
    drawn = [np.asarray(ln.get_xdata(), float) for ln in ax.lines if ln.get_marker() == "o"]
    return [x for x in drawn if x.size]


def test_tightness_draws_every_run(training, sweep):
    figure = drawn(plot_tightness(training))
    (ax,) = figure.axes
    rows = [tick.get_text() for tick in ax.get_yticklabels()]
    assert rows == ["PB-kl", "VC", "BFT"], "the smallest on top; linear has no value"
    last = training["bounds"].to_dataset().isel(probe=-1)
    for name, x in zip(rows, points(ax), strict=True):
        np.testing.assert_array_equal(x, last.value.sel(bound=name))
    figure = drawn(plot_tightness(sweep))
    assert [x.size for x in points(figure.axes[0])] == [9, 9, 9]  # three points, three trajectories


def test_bars_of_the_last_probe(training):
    (ax,) = drawn(plot_bounds(training)).axes
    bars = [c for c in ax.containers if isinstance(c, BarContainer)]
    last = training["bounds"].to_dataset().isel(probe=-1)
    widths = [bar[0].get_width() for bar in bars]
    np.testing.assert_allclose(widths, last.value.mean("trajectory").values[:3])
    assert "not applicable: assumption violated" in [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("draw", OF_A_RUN)
def test_no_certificate_at_all(training, draw):
    none = training.copy()
    none["bounds"] = training["bounds"].to_dataset().isel(bound=[4, 5])
    figure = drawn(draw(none))
    (said,) = texts(figure)
    assert said.startswith("no certificate ")


@pytest.mark.parametrize("draw", OF_A_RUN)
def test_every_value_is_unknown(training, draw):
    unknown = training.copy()
    data = training["bounds"].to_dataset()
    real = [name for name in data.data_vars if data[name].dtype.kind == "f"]
    unknown["bounds"] = data.assign({name: data[name] * np.nan for name in real})
    figure = drawn(draw(unknown))
    said = texts(figure)
    assert said
    assert all(text.startswith(("no certificate ", "not applicable")) for text in said)


@pytest.mark.parametrize("draw", OF_A_RUN)
def test_one_probe(tmp_path, draw):
    tree = open_run(synthetic_training_run(tmp_path, probes=1)).load()
    figure = drawn(draw(tree))
    if draw is plot_bounds_over_time:
        assert "gap of the error rate: nowhere positive" in legend(figure)
        assert line(figure.axes[0], "VC")[1].shape == (1,)
    if draw is plot_factors:
        assert texts(figure) == ["no certificate changes along training"]


@pytest.mark.parametrize("draw", OF_A_RUN)
def test_some_or_all_trajectories_diverged(tmp_path, draw):
    one = open_run(synthetic_training_run(tmp_path / "one", diverged=1)).load()
    drawn(draw(one))
    every = open_run(synthetic_training_run(tmp_path / "all", diverged=3)).load()
    drawn(draw(every))


def test_the_one_that_diverged_does_not_count(tmp_path):
    tree = open_run(synthetic_training_run(tmp_path, diverged=1)).load()
    ax = drawn(plot_bounds_over_time(tree)).axes[0]
    living = tree["bounds"].value.sel(bound="BFT")[:2].mean("trajectory")
    np.testing.assert_allclose(line(ax, "BFT")[1][1:], living[1:])


def table_of(names, kinds, errors):
    count = len(names)
    tau = np.linspace(0.8, -0.6, count)
    columns = {
        "sign_error_mean": errors,
        "sign_error_p90": np.minimum(1.0, 1.5 * np.asarray(errors)),
        "sign_error_max": np.ones(count),
        "tau": tau,
        "tau_low": tau - 0.1,
        "tau_high": tau + 0.2,
    }
    return xr.Dataset(
        {name: ("bound", np.asarray(column)) for name, column in columns.items()},
        coords={"bound": names, "kind": ("bound", kinds)},
    )


def test_the_ranking_has_the_best_on_top():
    names = ["BFT", "path.norm", "l2"]
    kinds = ["certificate", "measure", "measure"]
    figure = drawn(plot_ranking(table_of(names, kinds, [0.5, 0.2, np.nan]), "A title"))
    left, right = figure.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["path.norm", "BFT"]
    (bars,) = [c for c in left.containers if isinstance(c, BarContainer)]
    assert [bar.get_width() for bar in bars] == [0.2, 0.5]
    np.testing.assert_allclose(line(left, "90th percentile")[0], [0.3, 0.75])
    (intervals,) = [c for c in right.containers if isinstance(c, ErrorbarContainer)]
    ends = np.array(intervals.lines[2][0].get_segments())[:, :, 0]
    np.testing.assert_allclose(ends, [[0.0, 0.3], [0.7, 1.0]], atol=1e-12)
    assert figure.get_suptitle() == "A title"
    assert {"certificate", "measure"} <= set(legend(figure))


@pytest.mark.parametrize("count", [1, 66])
def test_the_ranking_of_few_and_of_many(count):
    names = [f"measure.number.{i}.over.margin" for i in range(count)]
    drawn(plot_ranking(table_of(names, ["measure"] * count, np.linspace(0, 1, count))))


def test_a_ranking_without_sign_errors():
    figure = drawn(plot_ranking(table_of(["a"], ["measure"], [np.nan])))
    (said,) = texts(figure)
    assert said.startswith("no measure has a sign error")


def test_figures_of_a_sweep(sweep):
    figure = drawn(plot_sweep(sweep))
    told = " ".join([*(ax.get_title() + ax.get_ylabel() for ax in figure.axes), *legend(figure)])
    assert "generalization gap" in told
    assert "target loss" in told


def test_files_of_a_run(training, sweep, tmp_path):
    stems = {path.stem for path in save_figures(training, tmp_path / "run")}
    assert stems == {"bounds", "bounds_over_time", "factors"}
    assert {path.stem for path in save_figures(sweep, tmp_path / "sweep")} == {"sweep"}
