"""Every state on series with that state by construction, and negative controls."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from scipy.signal import lfilter

from sgdsim.stability import (
    DetectorSettings,
    EdgeReason,
    EdgeRecord,
    EdgeState,
    detect,
    late_mean,
)

RECORDS = 400
STEP = 50 * np.arange(RECORDS)
SHARE = np.arange(RECORDS) / RECORDS
FALLING_LOSS = np.exp(-3 * SHARE)
THRESHOLD = 4.0


def found(ratio, **others):
    """Detect on a series of ratios."""
    given = {"step": STEP, "loss": FALLING_LOSS, "threshold": THRESHOLD} | others
    return detect(EdgeRecord(sharpness=THRESHOLD * np.asarray(ratio), **given))


def states_of(detection):
    """States in the order in which they first occur, runs of one state counted once."""
    codes = detection.state
    firsts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1])
    return [EdgeState(int(codes[k])) for k in firsts]


def noise(size, scale, memory, seed):
    """Stationary autoregression of the given standard deviation."""
    shocks = np.random.default_rng(seed).standard_normal(size)
    shocks[1:] *= np.sqrt(1 - memory**2)
    return scale * lfilter([1.0], [1.0, -memory], shocks)


def arriving(at, level=1.0, start=0.2):
    """Rise in a straight line to a level at a share of the run, then stay."""
    return np.minimum(start + (level - start) * SHARE / at, level)


def test_rising_to_the_edge_and_staying():
    ratio = arriving(0.4) + noise(RECORDS, 0.02, 0.0, 1)
    detection = found(ratio, midpoint=THRESHOLD * ratio, edge_name="2/eta")
    assert states_of(detection) == [EdgeState.SHARPENING, EdgeState.AT_EDGE]
    assert (detection.final_state, detection.reason) == (EdgeState.AT_EDGE, EdgeReason.NONE)
    # 99 % of the edge is reached at 0.4 (0.99 - 0.2)/0.8 of the run.
    truth = 0.4 * (0.99 - 0.2) / 0.8 * STEP[-1]
    assert detection.entry_low <= truth <= detection.entry_high
    assert detection.entry_low <= detection.entry_step <= detection.entry_high
    assert detection.entry_high - detection.entry_low < 0.05 * STEP[-1]
    assert abs(detection.late_ratio - 1) < 4 * detection.late_ratio_stderr
    assert detection.sentence == (
        f"at the edge from step {detection.entry_step:,} ({detection.entry_low:,} to "
        f"{detection.entry_high:,}); sharpness is {detection.late_ratio:.3f} +- "
        f"{detection.late_ratio_stderr:.3f} of 2/eta at the end"
    )


@pytest.mark.parametrize(("start", "reached"), [(0.95, np.log(5) / 30), (1.05, 0.0)])
def test_in_the_band_from_the_start(start, reached):
    detection = found(1 + (start - 1) * np.exp(-30 * SHARE), oscillates=False)
    assert states_of(detection) == [EdgeState.AT_EDGE]
    assert detection.entry_low <= reached * STEP[-1] <= detection.entry_high
    assert detection.entry_high - detection.entry_low <= 400


@pytest.mark.parametrize("rate", [1.5, 3.0, 12.0])
@pytest.mark.parametrize("shape", ["line", "root", "logarithm"])
def test_a_flow_that_goes_on_rising_is_above_and_never_at(shape, rate):
    curve = {
        "line": SHARE,
        "root": np.sqrt(SHARE),
        "logarithm": np.log1p(20 * SHARE) / np.log(21),
    }[shape]
    detection = found(0.2 + rate * curve, oscillates=False)
    assert EdgeState.AT_EDGE not in states_of(detection)
    assert detection.final_state is EdgeState.ABOVE_EDGE
    crossed = STEP[np.argmax(0.2 + rate * curve >= 1)]
    assert detection.entry_low - 50 <= crossed <= detection.entry_high + 50
    assert f"above the edge from step {detection.entry_step:,}" in detection.sentence


@pytest.mark.parametrize("end", [0.93, 0.97, 1.0, 1.05])
def test_a_run_that_ends_while_it_passes_is_too_short(end):
    detection = found(end * SHARE, oscillates=False)
    assert states_of(detection) == [EdgeState.SHARPENING]
    assert detection.final_state is EdgeState.NOT_REACHED
    assert detection.reason is EdgeReason.TOO_SHORT
    assert "staying from passing through" in detection.sentence
    assert detection.entry_step == detection.entry_low == detection.entry_high == -1


def test_an_absence_shorter_than_a_window_is_none():
    ratio = arriving(0.4)
    ratio[300:306] = 0.7
    assert states_of(found(ratio)) == [EdgeState.SHARPENING, EdgeState.AT_EDGE]
    ratio[300:330] = 0.8
    assert len(states_of(found(ratio))) == 4


def test_lazy():
    detection = found(0.5 + 0.02 * SHARE)
    assert states_of(detection) == [EdgeState.LAZY]
    assert detection.final_state is EdgeState.LAZY
    assert detection.sentence.startswith("lazy: the sharpness hardly moves")
    # Without a falling loss nothing is learnt, lazily or not.
    idle = found(0.5 + 0.02 * SHARE, loss=np.ones(RECORDS))
    assert (idle.final_state, idle.reason) == (EdgeState.NOT_REACHED, EdgeReason.LEVELLED_OFF)


@pytest.mark.parametrize("end", [0.3, 0.6, 0.8])
def test_catapult(end):
    spike = np.where(SHARE < 0.1, np.exp(30 * SHARE), np.exp(3 - 40 * (SHARE - 0.1)))
    fall = end + (1.4 - end) * np.exp(-60 * np.maximum(SHARE - 0.1, 0))
    detection = found(fall, loss=spike)
    assert states_of(detection) == [EdgeState.CATAPULT, EdgeState.NOT_REACHED]
    assert detection.final_state is EdgeState.CATAPULT
    assert "1.4 of" in detection.sentence
    # The same fall without a spike of the loss is no catapult.
    assert states_of(found(fall, oscillates=False))[0] is EdgeState.ABOVE_EDGE


def test_catapult_that_ends_at_the_edge():
    spike = np.where(SHARE < 0.1, np.exp(30 * SHARE), np.exp(3 - 40 * (SHARE - 0.1)))
    fall = 0.999 + 0.3 * np.exp(-60 * np.maximum(SHARE - 0.1, 0))
    detection = found(fall, loss=spike, oscillates=False)
    assert states_of(detection) == [EdgeState.CATAPULT, EdgeState.AT_EDGE]
    assert detection.final_state is EdgeState.AT_EDGE


def test_catapult_from_the_edge_is_no_collapse():
    """The learning rate doubles; the sharpness falls to 0.3 of what it was."""
    late = np.maximum(SHARE - 0.6, 0)
    threshold = np.where(SHARE < 0.6, THRESHOLD, THRESHOLD / 2)
    sharpness = arriving(0.4) * (0.3 + 0.7 * np.exp(-30 * late))
    loss = FALLING_LOSS * (1 + 20 * late / 0.05 * np.exp(1 - late / 0.05))
    detection = found(sharpness, threshold=threshold, loss=loss, oscillates=False)
    assert states_of(detection) == [
        EdgeState.SHARPENING,
        EdgeState.AT_EDGE,
        EdgeState.CATAPULT,
        EdgeState.NOT_REACHED,
    ]
    assert detection.final_state is EdgeState.CATAPULT


def test_sharpness_that_collapses_after_the_edge():
    """Cross-entropy late in training."""
    ratio = arriving(0.4) * np.where(SHARE < 0.6, 1, np.exp(-8 * (SHARE - 0.6)))
    detection = found(ratio)
    assert states_of(detection) == [
        EdgeState.SHARPENING,
        EdgeState.AT_EDGE,
        EdgeState.COLLAPSED,
    ]
    assert detection.final_state is EdgeState.COLLAPSED
    assert detection.entry_step > 0
    assert detection.sentence.startswith("collapsed")


def test_sharpness_that_collapses_short_of_the_edge_is_not_at_it():
    """Negative control: cross-entropy on few data rises to half the edge and falls to a tenth."""
    ratio = 0.1 + 0.5 * np.exp(-(((SHARE - 0.4) / 0.15) ** 2))
    detection = found(ratio)
    assert EdgeState.AT_EDGE not in states_of(detection)
    assert detection.final_state is EdgeState.COLLAPSED
    assert detection.entry_step == -1


def test_sharpness_that_only_falls_has_not_collapsed():
    detection = found(0.6 * np.exp(-3 * SHARE))
    assert set(states_of(detection)) == {EdgeState.NOT_REACHED}
    assert detection.reason is EdgeReason.FALLING


def test_random_steps_below_the_edge_with_the_batch_at_it():
    """Ornstein-Uhlenbeck noise around 0.75, batch sharpness around one."""
    up = np.minimum(0.3 + 3 * SHARE, 1)
    batch = THRESHOLD * (up + noise(RECORDS, 0.04, 0.8, 2))
    ratio = 0.75 * up + noise(RECORDS, 0.03, 0.9, 3)
    kind = {
        "batch_sharpness": batch,
        "batch_stderr": np.full(RECORDS, 0.1),
        "stochastic": True,
    }
    detection = found(ratio, **kind)
    assert states_of(detection) == [EdgeState.SHARPENING, EdgeState.BELOW_EDGE]
    assert detection.final_state is EdgeState.BELOW_EDGE
    truth = (0.99 - 0.3) / 3 * STEP[-1]
    assert detection.entry_low <= truth <= detection.entry_high
    assert abs(detection.late_batch_ratio - 1) < 4 * detection.late_batch_ratio_stderr
    assert "batch sharpness" in detection.sentence
    # With large batches the Hessian is at its edge too.
    near = found(0.97 * up, **kind)
    assert states_of(near) == [EdgeState.SHARPENING, EdgeState.AT_EDGE]
    # Without random steps, or without the batch sharpness, there is nothing that holds it there.
    for missing in ({"stochastic": False}, {"batch_sharpness": None}):
        assert found(ratio, **kind | missing).final_state is EdgeState.NOT_REACHED
    # A batch sharpness that was measured at every third record tells the same.
    rare = np.where(np.arange(RECORDS) % 3 == 0, batch, np.nan)
    assert found(ratio, **kind | {"batch_sharpness": rare}).final_state is EdgeState.BELOW_EDGE


def test_a_ratio_on_the_rim_of_the_band_does_not_flicker():
    up = np.minimum(0.3 + 3 * SHARE, 1)
    detection = found(
        0.89 * up + noise(RECORDS, 0.03, 0.9, 4),
        batch_sharpness=THRESHOLD * (up + noise(RECORDS, 0.03, 0.8, 5)),
        stochastic=True,
    )
    assert states_of(detection) == [EdgeState.SHARPENING, EdgeState.BELOW_EDGE]


def test_an_sde_goes_above_by_its_batch_sharpness_too():
    up = np.minimum(0.3 + 1.5 * SHARE, 1.3)
    batch = THRESHOLD * (up + noise(RECORDS, 0.03, 0.8, 6))
    kind = {"batch_sharpness": batch, "stochastic": True, "oscillates": False}
    for share_of_batch in (1.0, 0.6):
        detection = found(share_of_batch * up, **kind)
        assert detection.final_state is EdgeState.ABOVE_EDGE
        assert not {EdgeState.AT_EDGE, EdgeState.BELOW_EDGE} & set(states_of(detection))
        assert abs(detection.entry_step - 0.7 / 1.5 * STEP[-1]) < 0.06 * STEP[-1]


def period_two(every, share):
    """Raw ratio of a run whose sharpness alternates between 1.2 and 0.8 once it is at the edge."""
    step = every * np.arange(RECORDS)
    up = np.minimum(0.3 + 3 * SHARE, 1)
    return step, up, up + share * np.where(step % 2 == 0, 0.2, -0.2) * (up >= 1)


@pytest.mark.parametrize("phase", [1, -1])
def test_midpoints_tell_that_a_period_of_two_is_at_the_edge(phase):
    step, middle, raw = period_two(50, phase)
    detection = found(raw, step=step, midpoint=THRESHOLD * middle)
    assert states_of(detection) == [EdgeState.SHARPENING, EdgeState.AT_EDGE]
    assert detection.late_ratio == pytest.approx(1)


def test_one_phase_alone_is_never_called_above():
    step, _, raw = period_two(50, 1)
    detection = found(raw, step=step)
    assert EdgeState.ABOVE_EDGE not in states_of(detection)
    assert detection.final_state is EdgeState.NOT_JUDGED
    assert detection.reason is EdgeReason.ONE_PHASE
    assert "record midpoints" in detection.sentence
    # The same numbers of a process that cannot flip are above the edge.
    assert found(raw, step=step, oscillates=False).final_state is EdgeState.ABOVE_EDGE
    # The low phase is not reached, with a caveat.
    low = found(period_two(50, -1)[2], step=step)
    assert low.final_state is EdgeState.NOT_REACHED
    assert "period two" in low.sentence


def test_records_at_odd_distances_average_both_phases():
    step, _, raw = period_two(51, 1)
    detection = found(raw, step=step)
    assert states_of(detection) == [EdgeState.SHARPENING, EdgeState.AT_EDGE]
    assert detection.late_ratio == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("ratio", "loss", "reason"),
    [
        (0.2 + 0.4 * SHARE, FALLING_LOSS, EdgeReason.STILL_SHARPENING),
        (arriving(0.5, 0.6), FALLING_LOSS, EdgeReason.LEVELLED_OFF),
        (arriving(0.5, 0.6), np.exp(-20 * SHARE), EdgeReason.LOSS_NEAR_ZERO),
        (0.8 - 0.35 * SHARE, FALLING_LOSS, EdgeReason.FALLING),
    ],
)
def test_reasons_why_the_edge_was_not_reached(ratio, loss, reason):
    detection = found(ratio, loss=loss)
    assert detection.final_state is EdgeState.NOT_REACHED
    assert detection.reason is reason
    assert detection.sentence.startswith("not at the edge, because the ")


def test_noise_below_the_edge_is_no_sharpening():
    detection = found(0.7 + noise(RECORDS, 0.03, 0.5, 7), loss=np.ones(RECORDS))
    assert set(states_of(detection)) == {EdgeState.NOT_REACHED}
    assert detection.reason is EdgeReason.LEVELLED_OFF


def test_a_lower_learning_rate_leaves_the_edge_without_a_collapse():
    threshold = np.where(SHARE < 0.7, THRESHOLD, 3 * THRESHOLD)
    ratio = arriving(0.4)
    detection = found(ratio, threshold=threshold)
    assert EdgeState.COLLAPSED not in states_of(detection)
    assert detection.final_state is EdgeState.NOT_REACHED
    assert detection.reason is EdgeReason.LEFT_EDGE
    assert "left it" in detection.sentence


def test_divergence():
    ratio = arriving(0.4)
    loss = FALLING_LOSS.copy()
    gone = SHARE >= 0.75
    ratio[gone] = loss[gone] = np.nan
    for kind in ({}, {"diverged_step": 15_000}):
        detection = found(ratio, loss=loss, **kind)
        assert detection.final_state is EdgeState.AT_EDGE
        assert detection.reason is EdgeReason.DIVERGED
        assert np.all(detection.state[gone] == EdgeState.NOT_JUDGED)
        assert "diverged at step 15,000" in detection.sentence
    # A shorter process has not diverged.
    assert found(ratio, loss=loss, diverged_step=-1).reason is EdgeReason.NONE
    early = np.arange(RECORDS) >= 5
    lost = np.where(early, np.nan, 2.0)
    detection = found(lost, loss=lost)
    assert (detection.final_state, detection.reason) == (
        EdgeState.NOT_JUDGED,
        EdgeReason.DIVERGED,
    )
    below = found(np.where(gone, np.nan, 0.5 - 0.2 * SHARE), loss=loss)
    assert (below.final_state, below.reason) == (EdgeState.NOT_REACHED, EdgeReason.DIVERGED)


def test_too_little_to_judge():
    short = {"step": STEP[:19], "loss": FALLING_LOSS[:19]}
    detection = found(np.ones(19), **short)
    assert detection.reason is EdgeReason.TOO_SHORT
    assert "19 records" in detection.sentence
    assert np.all(detection.state == EdgeState.NOT_JUDGED)
    assert found(np.ones(RECORDS), threshold=np.nan).reason is EdgeReason.NO_EDGE
    assert found(np.full(RECORDS, np.nan)).reason is EdgeReason.NOT_MEASURED
    assert found(np.ones(20), step=STEP[:20], loss=FALLING_LOSS[:20]).reason is EdgeReason.NONE


def test_missing_measurements_are_left_out():
    ratio = arriving(0.4)
    gaps = np.arange(RECORDS) % 7 == 3
    detection = found(np.where(gaps, np.nan, ratio))
    assert np.all(detection.state[gaps] == EdgeState.NOT_JUDGED)
    assert detection.final_state is EdgeState.AT_EDGE
    # Without a loss nothing is known of catapults and laziness, and all else is.
    blind = found(ratio, loss=np.full(RECORDS, np.nan))
    assert states_of(blind) == [EdgeState.SHARPENING, EdgeState.AT_EDGE]


def test_the_residual_widens_the_interval():
    ratio = arriving(0.4)
    sure = found(ratio)
    unsure = found(ratio, residual=np.full(RECORDS, 0.05 * THRESHOLD))
    assert unsure.entry_low < sure.entry_low - 250
    assert unsure.entry_low <= sure.entry_step <= unsure.entry_high


def random_run(seed):
    """Some series with a random rise, level, fall and noise."""
    rng = np.random.default_rng(seed)
    rise, level = rng.uniform(0.1, 0.6), rng.uniform(0.3, 1.6)
    fall = rng.choice([0.0, 4.0]) * np.maximum(SHARE - 0.7, 0)
    return arriving(rise, level) * np.exp(-fall) + noise(RECORDS, 0.01, 0.3, seed + 1)


@given(st.integers(0, 10_000), st.integers(-20, 20))
@hypothesis_settings(max_examples=30, deadline=None, derandomize=True)
def test_scaling_sharpness_and_threshold_together_changes_nothing(seed, power):
    ratio, factor = random_run(seed), 2.0**power
    plain = found(ratio)
    scaled = detect(
        EdgeRecord(
            step=STEP,
            loss=FALLING_LOSS,
            sharpness=factor * THRESHOLD * ratio,
            threshold=factor * THRESHOLD,
        )
    )
    for one in dataclasses.fields(plain):
        a, b = getattr(plain, one.name), getattr(scaled, one.name)
        np.testing.assert_array_equal(a, b, err_msg=one.name)


@given(st.integers(0, 10_000))
@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
def test_thinning_by_two_tells_the_same(seed):
    ratio = random_run(seed)
    # The lines between the states are sharp; a level on one of them may fall on either side.
    level = np.median(ratio[(SHARE > 0.62) & (SHARE < 0.7)])
    if np.min(np.abs(level - np.array([0.5, 0.9, 1.1]))) < 0.03:
        return
    whole = found(ratio, oscillates=False)
    thin = found(ratio[::2], step=STEP[::2], loss=FALLING_LOSS[::2], oscillates=False)
    assert thin.final_state is whole.final_state
    assert thin.reason is whole.reason
    assert np.mean(thin.state == whole.state[::2]) > 0.95
    assert (thin.entry_step < 0) == (whole.entry_step < 0)
    assert max(thin.entry_low, whole.entry_low) <= min(thin.entry_high, whole.entry_high)


@pytest.mark.statistical
def test_late_mean_covers_with_correlated_noise():
    """Mean zero in 100 runs of an autoregression: the z-values have variance about one."""
    z = [late_mean(5 + noise(4000, 1.0, 0.6, seed), 0.5) for seed in range(100)]
    z = np.array([(value.mean - 5) / value.stderr for value in z])
    # 100 standard normals; var of their mean square is 2/100. A naive error gives 4.
    assert abs(np.mean(z)) < 4 / np.sqrt(100)
    assert 0.5 < np.mean(z**2) < 1.8


def test_late_mean_by_hand():
    values = np.array([np.nan, 9.0, *[1.0, 3.0] * 8])
    # The last 16 of 17 known ones, four batches of four with equal means.
    assert late_mean(values, 16 / 17) == (2.0, 0.0)
    batches = np.repeat([0.0, 1.0, 2.0, 3.0], 4)
    assert late_mean(batches, 1.0).stderr == pytest.approx(np.sqrt(5 / 3 / 4))
    assert np.isnan(late_mean(np.arange(7.0), 1.0).stderr)
    assert np.isnan(late_mean(np.full(3, np.nan)).mean)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": STEP[::-1]}, "step must be a list of at least one ascending step, got 19950 bef"),
        ({"step": []}, "step must be a list of at least one ascending step"),
        ({"loss": [1.0]}, r"loss must have one entry for each of the 400 .* shape \(1,\)"),
        ({"threshold": np.ones(3)}, r"threshold must have one entry .* shape \(3,\)"),
        ({"midpoint": np.ones((400, 1))}, r"midpoint must have one entry .* \(400, 1\)"),
    ],
)
def test_records_that_do_not_fit_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        found(np.ones(RECORDS), **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"band": (1.05, 1.1)}, "band must be two numbers around 1"),
        ({"band": (0.0, 1.1)}, "band must be two numbers around 1"),
        ({"late": 0.0}, "late must be a share"),
        ({"window": 1.5}, "window must be a share"),
        ({"least_records": 7}, "least_records must be at least 8"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        DetectorSettings(**change)


def test_codes_are_those_that_are_stored():
    from sgdsim.store import EDGE_REASONS, EDGE_STATES

    assert len(EDGE_STATES) == len(EdgeState)
    assert len(EDGE_REASONS) == len(EdgeReason)
    assert EDGE_STATES[EdgeState.AT_EDGE] == "at_the_edge"
    assert EDGE_STATES[EdgeState.BELOW_EDGE] == "below_the_edge"
    assert EDGE_STATES[EdgeState.NOT_REACHED] == "not_reached"
    assert EDGE_REASONS[EdgeReason.DIVERGED] == "diverged"
    assert EDGE_REASONS[EdgeReason.NOT_MEASURED] == "not_measured"


def two_layer_linear(product, steps=400, width=1024):
    """C11: gradient descent on (u.v)^2/(2 width) from a tangent kernel of product/eta."""
    u, v = np.random.default_rng(0).standard_normal((2, width))
    v += (np.sqrt(width) * 0.2 - u @ v) / (u @ u) * u  # the first output is 0.2
    rate = product / ((u @ u + v @ v) / width)
    basis = np.linalg.qr(np.stack([u, v], axis=1))[0]
    u, v = basis.T @ u, basis.T @ v  # gradients stay in that plane
    swap = np.kron([[0, 1], [1, 0]], np.eye(2)) / np.sqrt(width)
    loss, sharpness = [], []
    for _ in range(steps):
        output = u @ v / np.sqrt(width)
        if not abs(output) < 1e50:
            loss.append(np.inf)
            sharpness.append(np.nan)
            break
        gradient = np.concatenate([v, u]) / np.sqrt(width)
        hessian = np.outer(gradient, gradient) + output * swap
        loss.append(output**2 / 2)
        sharpness.append(np.linalg.eigvalsh(hessian)[-1])
        u, v = u - rate * output * v / np.sqrt(width), v - rate * output * u / np.sqrt(width)
    return EdgeRecord(step=np.arange(len(loss)), loss=loss, sharpness=sharpness, threshold=2 / rate)


@pytest.mark.parametrize("product", [1.0, 1.5, 1.9])
def test_two_layer_linear_network_is_lazy_below_two(product):
    assert detect(two_layer_linear(product)).final_state is EdgeState.LAZY


@pytest.mark.parametrize("product", [2.1, 2.5, 3.0, 3.5, 3.8])
def test_two_layer_linear_network_catapults_between_two_and_four(product):
    record = two_layer_linear(product)
    detection = detect(record)
    assert detection.final_state is EdgeState.CATAPULT
    assert detection.state[0] == EdgeState.CATAPULT
    assert detection.late_ratio < 1
    assert detection.entry_step == -1
    # Every other step shows it too.
    thin = EdgeRecord(
        step=np.arange(0, 400, 2),
        loss=np.asarray(record.loss)[::2],
        sharpness=np.asarray(record.sharpness)[::2],
        threshold=record.threshold,
    )
    assert detect(thin).final_state is EdgeState.CATAPULT


def test_two_layer_linear_network_diverges_above_four():
    detection = detect(two_layer_linear(4.2))
    assert detection.reason is EdgeReason.DIVERGED
    assert detection.sentence.startswith("not judged, because the run diverged at step ")


def self_stabilising(every, steps=20_000):
    """Damian et al. 2022: the map of an oscillation x and of the sharpness 2/eta + y.

    With damping of y, some noise in x that keeps it from vanishing on the way, and a third
    derivative along x that lifts the raw sharpness by x.
    """
    eta, drive, damping = 0.1, 0.05, 0.05
    x, y, xs, ys = 1e-3, -8.0, [], []
    for _ in range(steps):
        xs.append(x)
        ys.append(y)
        x, y = (
            -np.copysign(max(abs((1 + eta * y) * x), 1e-3), x),
            y + eta * (drive * 2 - x * x - damping * (y > -0.3) * y),
        )
    x, y = np.array(xs), np.array(ys)
    raw = 2 / eta + y + 10 * x
    middle = np.r_[np.nan, np.nan, (2 / eta + (y + 10 * x))[:-2] / 4]
    middle[2:] += (raw[1:-1] * 2 + raw[2:]) / 4
    loss = 5 * np.exp(-np.arange(steps) / 8000) + x**2
    pick = slice(0, None, every)
    return np.arange(steps)[pick], loss[pick], raw[pick], middle[pick], y


@pytest.mark.parametrize("every", [50, 51])
def test_reduced_model_of_self_stabilisation_is_at_the_edge(every):
    step, loss, raw, middle, y = self_stabilising(every)
    detection = detect(
        EdgeRecord(step=step, loss=loss, sharpness=raw, midpoint=middle, threshold=20.0)
    )
    assert states_of(detection) == [EdgeState.SHARPENING, EdgeState.AT_EDGE]
    assert detection.late_ratio == pytest.approx(1, abs=0.01)
    crossed = np.argmax(y >= -0.2)
    assert detection.entry_low - every <= crossed <= detection.entry_high + every
    # The raw values are one phase at even distances, and average out at odd ones.
    alone = detect(EdgeRecord(step=step, loss=loss, sharpness=raw, threshold=20.0))
    if every % 2:
        assert alone.final_state is EdgeState.AT_EDGE
    else:
        assert np.mean(raw[-100:]) / 20 > 1.15 or np.mean(raw[-100:]) / 20 < 0.85
        assert alone.final_state in (EdgeState.NOT_JUDGED, EdgeState.NOT_REACHED)


def test_what_nothing_holds_is_never_at_the_edge():
    """A flow that levels off in the band."""
    sharpness = THRESHOLD * (0.95 - 0.6 * np.exp(-20 * SHARE))
    assert found(sharpness / THRESHOLD).final_state is EdgeState.AT_EDGE
    flow = found(sharpness / THRESHOLD, oscillates=False, binds=False)
    assert flow.final_state is EdgeState.NOT_REACHED


def test_without_an_edge_of_batches_their_sharpness_says_nothing():
    ratio = arriving(0.4)
    batch = 2 * THRESHOLD * np.ones(SHARE.size)
    unknown = np.full(SHARE.size, np.nan)
    detection = found(
        ratio, stochastic=True, batch_sharpness=batch, batch_threshold=unknown, midpoint=None
    )
    assert detection.final_state is EdgeState.AT_EDGE
    assert np.isnan(detection.late_batch_ratio)


def test_near_the_edge_from_the_start_is_not_lazy():
    detection = found(np.full(SHARE.size, 1.06), loss=np.exp(-5 * SHARE))
    assert detection.final_state is not EdgeState.LAZY
