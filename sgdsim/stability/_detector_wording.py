"""The words of the detector of the edge of stability."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sgdsim.stability._detector_series import LateMean
from sgdsim.stability._detector_states import EdgeReason, EdgeState

_REASONS = {
    EdgeReason.LOSS_NEAR_ZERO: "the loss is near zero",
    EdgeReason.STILL_SHARPENING: "the sharpness is still rising: run longer",
    EdgeReason.LEVELLED_OFF: "the sharpness has levelled off below",
    EdgeReason.FALLING: "the sharpness is falling",
    EdgeReason.DIVERGED: "the run diverged",
    EdgeReason.NO_EDGE: "there is no threshold to compare the sharpness with",
    EdgeReason.NOT_MEASURED: "the sharpness was not measured",
    EdgeReason.ONE_PHASE: (
        "all records are at even distances and may show one phase of an oscillation of period "
        "two: record midpoints, or an odd number of steps apart"
    ),
}


_UNKNOWN = LateMean(np.nan, np.nan)


class Entry(NamedTuple):
    """Step of the entry, with an interval; -1 if there is none."""

    step: int = -1
    low: int = -1
    high: int = -1


_NEVER = Entry()


@dataclass(frozen=True, kw_only=True)
class Story:
    """What the sentence tells of a run; ratios are of sharpness to its edge."""

    state: EdgeState
    reason: EdgeReason
    entry: Entry = _NEVER
    late: LateMean = _UNKNOWN
    batch: LateMean = _UNKNOWN
    first_ratio: float = np.nan
    largest_ratio: float = np.nan
    one_phase: bool = False
    diverged_step: int | None = None
    records: int = 0


def describe_state(story: Story, edge: str, batch_edge: str | None = None) -> str:
    """Say in one sentence what a run does, when it got there and how sharp it is at its end.

    Parameters
    ----------
    story
        What is known.
    edge, batch_edge
        The thresholds in words; the second one is ``edge`` if left out.
    """
    text = _clause(story, edge)
    explained = story.state in (EdgeState.NOT_REACHED, EdgeState.NOT_JUDGED)
    if story.reason is EdgeReason.DIVERGED and not explained:
        text += ", until the run diverged"
    if story.diverged_step is not None:
        text += f" at step {story.diverged_step:,}"
    if np.isfinite(story.late.mean):
        text += f"; sharpness is {_quantity(story.late)}"
        if not np.isfinite(story.batch.mean):
            text += f" of {edge}"
        elif batch_edge in (None, edge):
            text += f" and batch sharpness {_quantity(story.batch)} of {edge}"
        else:
            text += f" of {edge} and batch sharpness {_quantity(story.batch)} of {batch_edge}"
        text += " at the end"
    return text


def _clause(story: Story, edge: str) -> str:
    when = _when(story.entry)
    match story.state:
        case EdgeState.AT_EDGE:
            return f"at the edge from {when}"
        case EdgeState.BELOW_EDGE:
            return f"below the edge, with the batch sharpness at it from {when}"
        case EdgeState.ABOVE_EDGE:
            return f"above the edge from {when}"
        case EdgeState.LAZY:
            return "lazy: the sharpness hardly moves"
        case EdgeState.CATAPULT:
            return f"catapult: the sharpness fell from {story.largest_ratio:.3g} of {edge}"
        case EdgeState.COLLAPSED:
            return f"collapsed: the sharpness fell from {story.largest_ratio:.3g} of {edge}"
        case EdgeState.NOT_REACHED:
            return f"not at the edge, because {_why(story)}"
        case _:
            return f"not judged, because {_why(story)}"


def _why(story: Story) -> str:
    if story.reason is EdgeReason.LEFT_EDGE:
        return f"the run left it after coming to it at {_when(story.entry)}"
    if story.reason is EdgeReason.TOO_SHORT and story.state is EdgeState.NOT_JUDGED:
        return f"the run is too short to judge ({story.records} records with a sharpness)"
    if story.reason is EdgeReason.TOO_SHORT:
        return "the run is too short to tell staying from passing through"
    text = _REASONS[story.reason]
    if story.reason is EdgeReason.LEVELLED_OFF and story.one_phase:
        text += " (records at even distances, without midpoints, show one phase of period two)"
    return text


def _when(entry: Entry) -> str:
    return f"step {entry.step:,} ({entry.low:,} to {entry.high:,})"


def _quantity(value: LateMean) -> str:
    error = f" +- {value.stderr:.3f}" if np.isfinite(value.stderr) else ""
    return f"{value.mean:.3f}{error}"
