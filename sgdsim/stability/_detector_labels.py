"""The state of every record at the edge of stability."""

import numpy as np
from scipy.ndimage import uniform_filter1d

from sgdsim.stability._detector_series import (
    Series,
    block_length,
    staying,
    stretches,
    trend,
    zones,
)
from sgdsim.stability._detector_states import DetectorSettings, EdgeState

#: States in which the run is held at an edge.
HELD = (EdgeState.AT_EDGE, EdgeState.BELOW_EDGE)
#: States of a run that has not come to an edge.
UNDECIDED = (EdgeState.SHARPENING, EdgeState.NOT_REACHED)


def label_records(series: Series, settings: DetectorSettings) -> np.ndarray:
    """State of every record that can be judged."""
    state = _at_or_above(series, settings)
    _mark_catapults(state, series, settings)
    _mark_sharpening(state, series, settings)
    _mark_collapse(state, series, settings)
    hardly = np.abs(series.sharpness - series.sharpness[0]) <= settings.lazy_change * np.abs(
        series.sharpness[0]
    )
    halved = series.loss[-1] <= settings.lazy_loss * series.loss[0]
    below = np.all(series.gauge.smooth < 1)
    if np.all(np.isin(state, UNDECIDED)) and below and np.all(hardly) and halved:
        state[:] = EdgeState.LAZY
    return state


def _at_or_above(series: Series, settings: DetectorSettings) -> np.ndarray:
    """Tell records at and above the edge from all others, which are not reached for now."""
    zone = zones(series.gauge.smooth, settings)
    at = staying(series.step, series.gauge.smooth, zone, settings)
    state = np.full(zone.size, EdgeState.NOT_REACHED, dtype=np.int8)
    state[at] = EdgeState.AT_EDGE
    if series.batch is not None:
        batch_zone = zones(series.batch.smooth, settings.of_batches)
        # It comes to its edge slowly, as the loss falls: what counts is that it stays in the band.
        held = staying(series.step, series.batch.smooth, batch_zone, settings.of_batches, drift=0.5)
        for start, stop in stretches(held):
            if held[start]:
                # One verdict for the whole stay: the ratio may lie on the rim of the band.
                inside = np.mean(series.gauge.ratio[start:stop]) >= settings.band[0]
                state[start:stop] = EdgeState.AT_EDGE if inside else EdgeState.BELOW_EDGE
        state[batch_zone > 0] = EdgeState.ABOVE_EDGE
    state[zone > 0] = EdgeState.ABOVE_EDGE
    return state


def _mark_catapults(state: np.ndarray, series: Series, settings: DetectorSettings) -> None:
    """Turn a stretch above the edge into a catapult if the loss spikes and the stretch ends."""
    block = block_length(series)
    above = state == EdgeState.ABOVE_EDGE
    if state[0] == EdgeState.NOT_REACHED:
        # A start above the edge counts from the edge on, not from the end of the band on.
        above |= np.minimum.accumulate(series.gauge.smooth) > 1
    for start, stop in stretches(above):
        if not above[start] or stop == state.size:
            continue
        peak = np.max(series.loss[start : stop + block])
        if not peak >= settings.spike * series.loss[start]:
            continue
        state[start:stop] = EdgeState.CATAPULT
        while stop < state.size and state[stop] == EdgeState.NOT_REACHED:
            ahead = np.min(series.sharpness[stop : stop + block])
            if ahead >= (1 - settings.rise) * series.sharpness[stop]:
                break
            state[stop] = EdgeState.CATAPULT
            stop += 1


def _mark_sharpening(state: np.ndarray, series: Series, settings: DetectorSettings) -> None:
    """Mark records below the edge after which the sharpness rises, or is rising at the end."""
    sharpness = series.sharpness
    mean = np.asarray(uniform_filter1d(sharpness, 2 * block_length(series), mode="nearest"))
    ahead = np.maximum.accumulate(mean[::-1])[::-1]
    rises = np.ones(state.size, dtype=bool)
    for now in (mean, sharpness):
        rises &= ahead > now + settings.rise * np.abs(now)
    below = state == EdgeState.NOT_REACHED
    state[below & rises] = EdgeState.SHARPENING
    rising_at_end = trend(series) > settings.rise / 2
    for start, stop in stretches(below):
        # Whatever ends in the edge, or in a rise, has been rising since it began to.
        if below[start] and (stop < state.size or rising_at_end):
            first = np.flatnonzero(rises[start:stop])
            since = start + int(first[0]) if first.size else stop
            if stop == state.size:
                since = min(since, stop - block_length(series))
            state[max(since, start) : stop] = EdgeState.SHARPENING


def _mark_collapse(state: np.ndarray, series: Series, settings: DetectorSettings) -> None:
    """Mark where the sharpness has fallen far below a maximum near the edge, and the way there."""
    catapults = np.flatnonzero(state == EdgeState.CATAPULT)
    risen = ~np.isin(state, (EdgeState.NOT_REACHED, EdgeState.CATAPULT))
    risen[: int(catapults[-1]) + 1 if catapults.size else 0] = False
    if not np.any(risen):
        return
    start = int(np.argmax(risen))
    maximum = np.maximum.accumulate(series.sharpness[start:])
    was_near = np.maximum.accumulate(series.gauge.smooth[start:]) >= settings.near
    fallen = np.zeros(state.size, dtype=bool)
    fallen[start:] = was_near & (series.sharpness[start:] <= settings.collapse * maximum)
    fallen &= np.isin(state, UNDECIDED)
    if not np.any(fallen):
        return
    first = int(np.argmax(fallen))
    before = series.sharpness[start:first]
    high = np.flatnonzero(before >= (1 - settings.rise) * np.max(before))
    way = np.arange(state.size) > start + int(high[-1])
    way[first:] = False
    state[fallen | (way & np.isin(state, UNDECIDED))] = EdgeState.COLLAPSED
