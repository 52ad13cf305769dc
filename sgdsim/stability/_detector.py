"""What a run is doing at the edge of stability: a state for every record, and when it got there."""

import numpy as np

from sgdsim.stability._detector_labels import HELD, UNDECIDED, label_records
from sgdsim.stability._detector_series import (
    Gauge,
    Series,
    average_phases,
    block_length,
    late_mean,
    running_median,
    scatter_before,
    stretches,
    trend,
    window_length,
    zones,
)
from sgdsim.stability._detector_states import (
    Detection,
    DetectorSettings,
    EdgeReason,
    EdgeRecord,
    EdgeState,
)
from sgdsim.stability._detector_wording import Entry, Story, describe_state

_SETTINGS = DetectorSettings()
#: Share of the edge that may be missing where it counts as reached.
_PRECISION = 0.01


def detect(record: EdgeRecord, settings: DetectorSettings = _SETTINGS) -> Detection:
    r"""Say at every record of a run what it is doing at the edge of stability.

    The ratio of sharpness to threshold is taken at midpoints where they were measured, freed of
    period two otherwise, and smoothed by a running median. Then a record is

    * *at the edge* in a stretch inside the band that is a stay: as long as a window, twice as long
      as the way of the width of the band just before it took, and without drift; if the run starts
      there, it must also be near one, because nothing shows that it was driven there;
    * *above the edge* above the band, or a *catapult* if the stretch ends and the loss rises in it
      by the factor ``spike``; the catapult lasts until the sharpness stops falling;
    * *below the edge* if steps are random and the batch sharpness is at its own edge while the
      ratio is below the band on average (above it if the batch sharpness is above its band);
    * *collapsed* below the band, where the sharpness has fallen to the share ``collapse`` of the
      maximum after its rise, if that maximum was near the edge;
    * *progressive sharpening* below the band or passing through, if the sharpness later rises by
      the share ``rise`` or is rising at the end;
    * *not reached* otherwise. A run that is never anything but the last two, whose sharpness
      hardly moves and whose loss halves, is *lazy* throughout.

    Parameters
    ----------
    record
        What was measured.
    settings
        The lines between the states.

    Returns
    -------
    Detection
        A state per record and one for the run, the step of entry with an interval, the late ratio
        with its standard error, and a sentence. Bad or short measurements are a reason, never an
        exception.

    Notes
    -----
    Gradient descent at the edge has period two. Raw values at even distances show one phase of it;
    without midpoints such a run is not called above the edge, but not judged.

    Sources: Cohen et al. 2021 (progressive sharpening, edge of stability), Lewkowycz et al. 2020
    (lazy, catapult), Andreyev and Beneventano 2024 (edge of stochastic stability); the rules
    themselves are this library's.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stability import EdgeRecord, detect
    >>> step = np.arange(0, 10_000, 50)
    >>> sharpness = np.minimum(1.0 + step / 1000, 4.0)
    >>> loss = np.exp(-step / 3000)
    >>> found = detect(
    ...     EdgeRecord(step=step, loss=loss, sharpness=sharpness, threshold=4.0, edge_name="2/eta")
    ... )
    >>> found.final_state.name, found.entry_step
    ('AT_EDGE', 3000)
    >>> found.sentence
    'at the edge from step 3,000 (2,950 to 3,000); sharpness is 1.000 +- 0.000 of 2/eta at the end'
    """
    steps = np.asarray(record.step).astype(np.int64)
    measured, ratio = _ratios(record)
    at = _diverged_at(record, steps, measured)
    valid = np.isfinite(ratio) & (steps < (np.inf if at is None else at))
    reason = _obstacle(record, measured, int(np.sum(valid)), at is not None, settings)
    if reason is not EdgeReason.NONE:
        state = np.zeros(steps.size, dtype=np.int8)
        story = Story(
            state=EdgeState.NOT_JUDGED,
            reason=reason,
            diverged_step=at,
            records=int(np.sum(valid)),
        )
        return _answer(record, story, state)
    series = _series(record, measured, ratio, valid, settings)
    judged = label_records(series, settings)
    if not record.binds:
        judged[np.isin(judged, HELD)] = EdgeState.NOT_REACHED
    one_phase = _shows_one_phase(record, steps[valid])
    final, reason = _conclude(judged, series, at is not None, settings)
    entry = _entry(judged, series, settings)
    if one_phase:
        judged[judged == EdgeState.ABOVE_EDGE] = EdgeState.NOT_JUDGED
        if final is EdgeState.ABOVE_EDGE:
            final, reason = EdgeState.NOT_JUDGED, EdgeReason.ONE_PHASE
    state = np.zeros(steps.size, dtype=np.int8)
    state[valid] = judged
    story = Story(
        state=final,
        reason=reason,
        entry=entry,
        late=late_mean(series.gauge.ratio, settings.late),
        batch=late_mean(_batch_ratio(record)[valid], settings.late),
        first_ratio=float(series.gauge.smooth[0]),
        largest_ratio=float(np.max(series.gauge.smooth)),
        one_phase=one_phase,
        diverged_step=at,
        records=series.step.size,
    )
    return _answer(record, story, state)


def _answer(record: EdgeRecord, story: Story, state: np.ndarray) -> Detection:
    return Detection(
        state=state,
        final_state=story.state,
        reason=story.reason,
        entry_step=story.entry.step,
        entry_low=story.entry.low,
        entry_high=story.entry.high,
        late_ratio=story.late.mean,
        late_ratio_stderr=story.late.stderr,
        late_batch_ratio=story.batch.mean,
        late_batch_ratio_stderr=story.batch.stderr,
        sentence=describe_state(story, record.edge_name, record.batch_edge_name),
    )


def _ratios(record: EdgeRecord) -> tuple[np.ndarray, np.ndarray]:
    """Sharpness, at midpoints where measured, and its ratio to the threshold."""
    midpoint, raw = record.along("midpoint"), record.along("sharpness")
    threshold = record.along("threshold")
    measured = np.where(np.isfinite(midpoint), midpoint, raw)
    usable = np.isfinite(measured) & np.isfinite(threshold) & (threshold > 0)
    safe = np.where(usable, threshold, 1.0)
    return measured, np.where(usable, measured, np.nan) / safe


def _diverged_at(record: EdgeRecord, steps: np.ndarray, measured: np.ndarray) -> int | None:
    """Find the step at which the run diverged, if it did."""
    if record.diverged_step is not None:
        return record.diverged_step if record.diverged_step >= 0 else None
    loss = record.along("loss")
    finite = np.flatnonzero(np.isfinite(loss) | np.isfinite(measured))
    last = int(finite[-1]) + 1 if finite.size else steps.size
    infinite = np.flatnonzero(np.isinf(loss))
    first = min(last, int(infinite[0])) if infinite.size else last
    return int(steps[first]) if first < steps.size else None


def _obstacle(
    record: EdgeRecord,
    measured: np.ndarray,
    judged: int,
    diverged: bool,
    settings: DetectorSettings,
) -> EdgeReason:
    """Why nothing at all can be said, if so."""
    threshold = record.along("threshold")
    if not np.any(np.isfinite(threshold) & (threshold > 0)):
        return EdgeReason.NO_EDGE
    if judged >= settings.least_records:
        return EdgeReason.NONE
    if diverged:
        return EdgeReason.DIVERGED
    return EdgeReason.TOO_SHORT if np.any(np.isfinite(measured)) else EdgeReason.NOT_MEASURED


def _shows_one_phase(record: EdgeRecord, steps: np.ndarray) -> bool:
    """Whether no midpoint was measured and all records are at even distances."""
    alternates = record.oscillates and not record.stochastic
    no_midpoint = not np.any(np.isfinite(record.along("midpoint")))
    return alternates and no_midpoint and bool(np.all(np.diff(steps) % 2 == 0))


def _series(
    record: EdgeRecord,
    measured: np.ndarray,
    ratio: np.ndarray,
    valid: np.ndarray,
    settings: DetectorSettings,
) -> Series:
    window = window_length(int(np.sum(valid)), settings)
    sharpness, ratio = measured[valid], ratio[valid]
    if record.oscillates and not np.any(np.isfinite(record.along("midpoint"))):
        sharpness, ratio = average_phases(sharpness), average_phases(ratio)
    error = np.nan_to_num(record.along("residual")[valid] / record.along("threshold")[valid])
    return Series(
        step=np.asarray(record.step).astype(np.int64)[valid],
        loss=record.along("loss")[valid],
        sharpness=running_median(sharpness, window),
        gauge=Gauge(ratio, running_median(ratio, window), error),
        batch=_batch_gauge(record, valid, settings) if record.stochastic else None,
    )


def _batch_ratio(record: EdgeRecord) -> np.ndarray:
    return record.along("batch_sharpness") / _batch_threshold(record)


def _batch_threshold(record: EdgeRecord) -> np.ndarray:
    return record.along("threshold" if record.batch_threshold is None else "batch_threshold")


def _batch_gauge(record: EdgeRecord, valid: np.ndarray, settings: DetectorSettings) -> Gauge | None:
    ratio = _batch_ratio(record)[valid]
    known = np.flatnonzero(np.isfinite(ratio))
    if known.size < settings.least_records:
        return None
    smooth = running_median(ratio[known], window_length(known.size, settings.of_batches))
    error = np.nan_to_num((record.along("batch_stderr") / _batch_threshold(record))[valid][known])
    # A record without a batch sharpness takes the one before it.
    last = np.searchsorted(known, np.arange(ratio.size), side="right") - 1
    last = np.maximum(last, 0)
    return Gauge(ratio[known][last], smooth[last], error[last])


def _conclude(
    state: np.ndarray, series: Series, diverged: bool, settings: DetectorSettings
) -> tuple[EdgeState, EdgeReason]:
    """State of the whole run, and why the edge was not reached."""
    last = EdgeState(int(state[-1]))
    explained = EdgeReason.DIVERGED if diverged else EdgeReason.NONE
    if last not in UNDECIDED:
        return last, explained
    catapults = np.flatnonzero(state == EdgeState.CATAPULT)
    if catapults.size and np.all(state[catapults[-1] + 1 :] == EdgeState.NOT_REACHED):
        return EdgeState.CATAPULT, explained
    return EdgeState.NOT_REACHED, _reason(state, series, diverged, settings)


def _reason(
    state: np.ndarray, series: Series, diverged: bool, settings: DetectorSettings
) -> EdgeReason:
    if diverged:
        return EdgeReason.DIVERGED
    if np.any(np.isin(state, HELD)):
        return EdgeReason.LEFT_EDGE
    zone = zones(series.gauge.smooth, settings)
    if zone[-1] == 0 and np.any(zone != 0):
        return EdgeReason.TOO_SHORT
    if series.batch is not None and zones(series.batch.smooth, settings.of_batches)[-1] == 0:
        return EdgeReason.TOO_SHORT
    if state[-1] == EdgeState.SHARPENING:
        return EdgeReason.STILL_SHARPENING
    if series.loss[-1] <= settings.loss_floor * series.loss[0]:
        return EdgeReason.LOSS_NEAR_ZERO
    return EdgeReason.FALLING if trend(series) < -settings.rise / 2 else EdgeReason.LEVELLED_OFF


def _entry(state: np.ndarray, series: Series, settings: DetectorSettings) -> Entry:
    """When the run first came to its edge; else when it passed it, if it ends above."""
    held = np.isin(state, HELD)
    if np.any(held):
        start = int(np.argmax(held))
        stop = next(stop for first, stop in stretches(held) if first == start)
        by_batch = state[start] == EdgeState.BELOW_EDGE
    elif state[-1] == EdgeState.ABOVE_EDGE:
        start, stop = stretches(state)[-1]
        by_batch = float(np.mean(series.gauge.smooth[start:stop])) <= settings.band[1]
    else:
        return Entry()
    gauge = series.batch if by_batch and series.batch is not None else series.gauge
    plateau = float(np.mean(gauge.smooth[(start + stop) // 2 : stop]))
    level = (1 - _PRECISION) * min(1.0, plateau) if held[start] else 1.0
    if not held[start]:
        # It came through the band before the stretch began.
        below = np.flatnonzero(gauge.smooth[:start] < settings.band[0])
        start = int(below[-1]) + 1 if below.size else 0
    inside = np.flatnonzero(gauge.smooth[start:stop] >= level)
    entry = start + int(inside[0]) if inside.size else start
    error = gauge.error + scatter_before(series.step, gauge.ratio, entry, block_length(series))
    # The median lags by up to half its window where the sharpness moves faster than that.
    highest = gauge.smooth.copy()
    blurred = slice(max(0, entry - window_length(series.step.size, settings) // 2), entry)
    highest[blurred] = np.maximum.accumulate(np.maximum(highest, gauge.ratio)[blurred])
    surely_before = np.flatnonzero(highest[:entry] + error[:entry] < level)
    low = int(surely_before[-1]) if surely_before.size else 0
    surely = np.minimum(level + error, plateau)[entry:stop]
    surely_inside = np.flatnonzero(gauge.smooth[entry:stop] >= surely)
    high = entry + int(surely_inside[0]) if surely_inside.size else stop - 1
    return Entry(*(int(series.step[k]) for k in (entry, low, high)))
