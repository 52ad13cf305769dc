"""Series of the detector: running medians, stays in a band, means with an error bar."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import median_filter

from sgdsim.stability._detector_states import DetectorSettings


class LateMean(NamedTuple):
    """Mean over the end of a run.

    Attributes
    ----------
    mean, stderr
        NaN without a number to average; the error is NaN with fewer than eight.
    """

    mean: float
    stderr: float


class Gauge(NamedTuple):
    """A sharpness over its edge, on the records that can be judged."""

    ratio: Float[np.ndarray, " judged"]  # free of period two, as far as the record allows
    smooth: Float[np.ndarray, " judged"]  # its running median
    error: Float[np.ndarray, " judged"]  # of one ratio


class Series(NamedTuple):
    """The records that can be judged."""

    step: Int[np.ndarray, " judged"]
    loss: Float[np.ndarray, " judged"]
    sharpness: Float[np.ndarray, " judged"]  # running median of the eigenvalue itself
    gauge: Gauge
    batch: Gauge | None


def late_mean(values: Float[np.ndarray, " record"], share: float | int = 0.25) -> LateMean:
    r"""Mean over the last records, with a standard error that knows of their correlation.

    .. math:: \mathrm{stderr}^2 = \frac{1}{m(m-1)}\sum_{j=1}^m(\bar x_j-\bar x)^2

    over the means of ``m`` batches of successive records (about as many batches as records in
    each). Correlations within a batch are accounted for.

    Parameters
    ----------
    values
        One per record; NaN where not measured, which is left out.
    share
        Share of the measured records, from the end.

    Notes
    -----
    Consistent if correlations are short beside a batch, and an underestimate if not. Source:
    batch means, for instance Flegal and Jones 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stability import late_mean
    >>> late_mean(np.array([5.0, 1.0, 3.0, 2.0]), share=0.5).mean
    2.5
    """
    known = values[np.isfinite(values)]
    late = known[known.size - int(np.ceil(share * known.size)) :]
    if late.size == 0:
        return LateMean(np.nan, np.nan)
    mean = float(np.mean(late))
    if late.size < 8:
        return LateMean(mean, np.nan)
    batches = max(4, int(np.sqrt(late.size)))
    length = late.size // batches
    means = np.mean(late[late.size - batches * length :].reshape(batches, length), axis=1)
    return LateMean(mean, float(np.std(means, ddof=1) / np.sqrt(batches)))


def window_length(records: int, settings: DetectorSettings) -> int:
    """Odd number of records of the running median."""
    return max(5, int(settings.window * records)) | 1


def running_median(
    values: Float[np.ndarray, " record"], length: int
) -> Float[np.ndarray, " record"]:
    """Centred median over a window, the end values repeated."""
    return np.asarray(median_filter(values, size=length, mode="nearest"))


def average_phases(values: Float[np.ndarray, " record"]) -> Float[np.ndarray, " record"]:
    """Weights 1, 2, 1 on neighbours: what alternates between two values becomes their mean."""
    padded = np.pad(values, 1, mode="reflect")
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def stretches(codes: np.ndarray) -> list[tuple[int, int]]:
    """Start and stop of each longest stretch of equal entries."""
    ends = [0, *(np.flatnonzero(np.diff(codes)) + 1), codes.size]
    return [(int(start), int(stop)) for start, stop in pairwise(ends)]


def zones(
    smooth: Float[np.ndarray, " record"], settings: DetectorSettings
) -> Int[np.ndarray, " record"]:
    """Below (-1), in (0) or above (1) the band, left only past the slack and for a window."""
    low, high = settings.band
    zone = np.where(smooth < low, -1, np.where(smooth > high, 1, 0))
    within = (smooth >= low - settings.slack) & (smooth <= high + settings.slack)
    for k in range(1, zone.size):
        if zone[k - 1] == 0 and within[k]:
            zone[k] = 0
    pieces = stretches(zone)
    for (_, before), (start, stop) in pairwise(pieces):
        returns = stop == zone.size or zone[stop] == 0
        if zone[before - 1] == 0 and returns and stop - start < window_length(zone.size, settings):
            zone[start:stop] = 0
    return zone


def staying(
    step: Int[np.ndarray, " record"],
    smooth: Float[np.ndarray, " record"],
    zone: Int[np.ndarray, " record"],
    settings: DetectorSettings,
    drift: float = 0.25,
) -> Bool[np.ndarray, " record"]:
    """Whether a record in the band belongs to a stay, and is not just passing through.

    A stay lasts at least a window, and twice as long as the way of the width of the band just
    before it; between its two halves (of its later half, if it lasts to the end of the run) the
    mean moves by at most the share ``drift`` of that width.
    A run that starts in the band was not driven there: its stay must end within an eighth of it
    around one.
    """
    window = window_length(step.size, settings)
    width = settings.band[1] - settings.band[0]
    stay = np.zeros(step.size, dtype=bool)
    for start, stop in stretches(zone):
        if zone[start] != 0 or stop - start < window:
            continue
        # The way into a stay that lasts to the end does not count: the run may creep to its level.
        first = (start + stop) // 2 if start > 0 and stop == step.size else start
        middle = (first + stop) // 2
        late = np.mean(smooth[middle:stop])
        moved = abs(late - np.mean(smooth[first:middle]))
        duration = step[stop - 1] - step[start]
        arrival = _time_of_arrival(step[: start + 1], smooth[: start + 1], settings)
        held = start > 0 or abs(late - 1) <= width / 8
        stay[start:stop] = held and moved <= drift * width and duration >= 2 * arrival
    return stay


def _time_of_arrival(step: np.ndarray, smooth: np.ndarray, settings: DetectorSettings) -> float:
    """Estimate in how many steps the width of the band was climbed, just below it.

    By the fastest of the last quarter, half and whole of that way, which ends with the last
    record: the run may have rested on it.
    """
    low, high = settings.band
    times = []
    for way in np.array([0.25, 0.5, 1.0]) * (high - low):
        far = np.flatnonzero(smooth[:-1] <= low - way)
        since = int(far[-1]) if far.size else 0
        climbed = low - smooth[since]
        if climbed > 0:
            times.append(float(step[-1] - step[since]) * (high - low) / float(climbed))
    return min(times, default=0.0)


def block_length(series: Series) -> int:
    """Count the records in a tenth of the run."""
    return max(5, series.step.size // 10)


def trend(series: Series) -> float:
    """Relative change of the sharpness between the last two eighths; 0 if it may be chance."""
    eighth = max(4, series.step.size // 8)
    before = late_mean(series.sharpness[-2 * eighth : -eighth], 1.0)
    after = late_mean(series.sharpness[-eighth:], 1.0)
    change = after.mean - before.mean
    if abs(change) < 4 * np.hypot(np.nan_to_num(before.stderr), np.nan_to_num(after.stderr)):
        return 0.0
    return change / max(abs(before.mean), 1e-300)


def scatter_before(step: np.ndarray, values: np.ndarray, entry: int, block: int) -> float:
    """Give the standard deviation about a straight line over a block of records up to one."""
    near = slice(max(0, entry - block), entry + 1)
    if entry < 3:
        return 0.0
    line = np.polynomial.Polynomial.fit(step[near], values[near], 1)
    return float(np.std(values[near] - line(step[near])))
