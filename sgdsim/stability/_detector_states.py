"""What the detector of the edge of stability is given, and what it answers."""

import enum
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from sgdsim.stability._mean_square import Numbers


class EdgeState(enum.IntEnum):
    """What a run is doing at a recorded step; the codes are stored and stay as they are."""

    #: Not measured there, diverged, or too little is known to say.
    NOT_JUDGED = 0
    #: Below the edge, and the sharpness hardly moves while the loss falls.
    LAZY = 1
    #: Above the edge, with a spike of the loss that ends in a flatter place.
    CATAPULT = 2
    #: Below the edge and rising, or passing through.
    SHARPENING = 3
    #: In the band around the edge, and staying there.
    AT_EDGE = 4
    #: Above the band, without a catapult.
    ABOVE_EDGE = 5
    #: The Hessian is below its edge and the batch sharpness is at it.
    BELOW_EDGE = 6
    #: The sharpness has fallen far below an earlier value near the edge.
    COLLAPSED = 7
    #: Below the edge, and neither rising nor any of the others.
    NOT_REACHED = 8


class EdgeReason(enum.IntEnum):
    """Why the edge was not reached, or not judged; the codes are stored and stay as they are."""

    #: Nothing to explain.
    NONE = 0
    #: The loss is near zero, and with it the force that drives the sharpness up.
    LOSS_NEAR_ZERO = 1
    #: The sharpness is still rising.
    STILL_SHARPENING = 2
    #: The sharpness has levelled off below the edge.
    LEVELLED_OFF = 3
    #: Loss and sharpness stopped being finite.
    DIVERGED = 4
    #: Too few records, or the band was entered too late to tell staying from passing through.
    TOO_SHORT = 5
    #: There is no threshold to compare with.
    NO_EDGE = 6
    #: The sharpness is falling, though not far enough to have collapsed.
    FALLING = 7
    #: The run was at the edge and is below it at the end.
    LEFT_EDGE = 8
    #: All records may show one phase of an oscillation of period two.
    ONE_PHASE = 9
    #: The sharpness was not measured.
    NOT_MEASURED = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeRecord:
    r"""Measurements along one trajectory, one per record; NaN where something was not measured.

    Parameters
    ----------
    step
        Recorded steps, ascending, shape ``(record,)``.
    loss
        Full loss, shape ``(record,)``.
    sharpness
        Largest eigenvalue of the operator that the threshold belongs to, at the iterates
        themselves, shape ``(record,)``.
    threshold
        The edge, see :func:`edge_of`; one number or one per record.
    midpoint
        The same eigenvalue at :math:`(\theta_{k-2}+2\theta_{k-1}+\theta_k)/4`, shape
        ``(record,)``; preferred where it is there, because an oscillation of period two cancels.
    residual
        Bound on the error of the eigenvalue, shape ``(record,)``.
    batch_sharpness, batch_stderr
        Batch sharpness and its standard error, shape ``(record,)``.
    batch_threshold
        Edge of the batch sharpness; ``threshold`` if left out, NaN where none is known.
    stochastic
        Whether steps are random; only then is the batch sharpness looked at.
    binds
        Whether the threshold holds the process. It does not hold a flow or an SDE, which are never
        called at the edge where they happen to be in the band.
    oscillates
        Whether the process takes steps of the learning rate that the threshold belongs to, so that
        it may flip from side to side in every step. A flow, or an SDE in small steps, does not.
    diverged_step
        First step at which the iterate was not finite, -1 if it always was; without it a run whose
        last records have neither a loss nor a sharpness counts as diverged.
    edge_name, batch_edge_name
        The thresholds in words, for the sentence, for example ``2/eta``; the second one is that of
        the batch sharpness, ``edge_name`` if left out.

    Raises
    ------
    ValueError
        If the shapes disagree, there is no record, or the steps do not ascend.

    Examples
    --------
    >>> from sgdsim.stability import EdgeRecord
    >>> EdgeRecord(step=[0, 10], loss=[1.0, 0.9], sharpness=[1.0, 1.1], threshold=4.0).stochastic
    False
    """

    step: Numbers
    loss: Numbers
    sharpness: Numbers
    threshold: Numbers
    midpoint: Numbers | None = None
    residual: Numbers | None = None
    batch_sharpness: Numbers | None = None
    batch_stderr: Numbers | None = None
    batch_threshold: Numbers | None = None
    stochastic: bool = False
    binds: bool = True
    oscillates: bool = True
    diverged_step: int | None = None
    edge_name: str = "the edge"
    batch_edge_name: str | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        steps = np.asarray(self.step)
        if steps.ndim != 1 or steps.size == 0 or np.any(np.diff(steps) <= 0):
            where = np.flatnonzero(np.diff(steps) <= 0) if steps.ndim == 1 and steps.size else []
            given = (
                f"{steps[where[0]]} before {steps[where[0] + 1]}"
                if len(where)
                else f"shape {steps.shape}"
            )
            raise ValueError(f"step must be a list of at least one ascending step, got {given}.")
        along = ("loss", "sharpness", "midpoint", "residual", "batch_sharpness", "batch_stderr")
        for name in (*along, "threshold", "batch_threshold"):
            value = getattr(self, name)
            allowed = [steps.shape, *([] if name in along else [()])]
            if value is not None and np.shape(value) not in allowed:
                raise ValueError(
                    f"{name} must have one entry for each of the {steps.size} recorded steps, got "
                    f"the shape {np.shape(value)}."
                )

    def along(self, name: str) -> Float[np.ndarray, " record"]:
        """Give a measurement as one number per record, NaN if it is missing."""
        value = getattr(self, name)
        shape = np.shape(self.step)
        filled = np.nan if value is None else np.asarray(value, dtype=np.float64)
        return np.array(np.broadcast_to(filled, shape))


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """Where the detector draws its lines; all ratios are of sharpness to threshold.

    Parameters
    ----------
    band
        Ratios that count as the edge.
    slack
        By how much a ratio in the band may leave it before it counts as outside.
    window
        Length of the running median, as a share of the records; at least five records.
    batch_window
        The same of the batch sharpness, which is an estimate from few batches.
    rise
        Relative rise of the sharpness, between means over a tenth of the run, that counts as
        sharpening.
    lazy_change
        Relative change of the sharpness over the whole run up to which it hardly moves.
    lazy_loss
        Share of the first loss to which the loss of a lazy run has fallen.
    spike
        Rise of the loss, as a factor, that makes a stay above the edge a catapult.
    collapse
        Share of its earlier maximum at which the sharpness has collapsed.
    near
        Ratio that the maximum must have had for a collapse.
    loss_floor
        Share of the first loss below which the loss counts as near zero.
    late
        Share of the run, at its end, over which ratios are averaged.
    least_records
        Records with a sharpness below which nothing is judged.

    Raises
    ------
    ValueError
        If the band is not two ascending positive numbers around one, or a share is not in (0, 1].

    Examples
    --------
    >>> from sgdsim.stability import DetectorSettings
    >>> DetectorSettings(band=(0.95, 1.05)).late
    0.25
    """

    band: tuple[float | int, float | int] = (0.9, 1.1)
    slack: float | int = 0.05
    window: float | int = 0.02
    batch_window: float | int = 0.1
    rise: float | int = 0.1
    lazy_change: float | int = 0.1
    lazy_loss: float | int = 0.5
    spike: float | int = 2.0
    collapse: float | int = 0.5
    near: float | int = 0.5
    loss_floor: float | int = 1e-3
    late: float | int = 0.25
    least_records: int = 20

    @property
    def of_batches(self) -> "DetectorSettings":
        """The same lines for the batch sharpness."""
        return replace(self, window=self.batch_window)

    def __post_init__(self) -> None:
        """Refuse lines that contradict each other."""
        low, high = self.band
        if not 0 < low < 1 < high < np.inf:
            raise ValueError(f"band must be two numbers around 1, got {self.band}.")
        for name in ("window", "batch_window", "late", "collapse"):
            share = getattr(self, name)
            if not 0 < share <= 1:
                raise ValueError(f"{name} must be a share in (0, 1], got {share!r}.")
        if self.least_records < 8:
            raise ValueError(f"least_records must be at least 8, got {self.least_records!r}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """What the detector says of one trajectory.

    Attributes
    ----------
    state
        :class:`EdgeState` at every record.
    final_state
        State of the run as a whole, at its end.
    reason
        Why the edge was not reached, or why nothing is judged.
    entry_step
        First recorded step at the edge, to one per cent of it; -1 if it never got there. For a
        run that goes on to stay above, the step at which it passes the edge.
    entry_low, entry_high
        Last recorded step that is surely before the entry, and first one from which on the run
        stays; -1 with ``entry_step``.
    late_ratio, late_ratio_stderr
        Mean ratio over the last part of the run, of midpoints where they are there, and its
        standard error.
    late_batch_ratio, late_batch_ratio_stderr
        The same of the batch sharpness; NaN without it.
    sentence
        All of it in words.
    """

    state: Int[np.ndarray, " record"]
    final_state: EdgeState
    reason: EdgeReason
    entry_step: int
    entry_low: int
    entry_high: int
    late_ratio: float
    late_ratio_stderr: float
    late_batch_ratio: float
    late_batch_ratio_stderr: float
    sentence: str
