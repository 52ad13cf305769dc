"""All bounds and measures of an array of networks, beside the gaps that they are about."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._losses import Gap, generalization_gap, tightness
from sgdsim.bounds._measures import evaluate_measures
from sgdsim.bounds._pac_bayes import best_scale
from sgdsim.bounds._registry import evaluate_all, lookup
from sgdsim.bounds._types import FACTORS, Certificate, Evaluation, Score


class MarginSample(NamedTuple):
    """Margins from which the measured gaps are made.

    Attributes
    ----------
    training
        On the training rows, ``(..., row)``.
    held_out
        On rows that nothing depends on, ``(..., held_out)``.
    exact
        Whether the held-out rows are the whole population, each equally probable: then their
        means have no error.
    """

    training: Float[np.ndarray, "*lead row"]
    held_out: Float[np.ndarray, "*lead held_out"]
    exact: bool = False

    def gap(self, pair: tuple, gamma: float) -> Gap:
        """Gap between two losses of the margin."""
        found = generalization_gap(self.training, self.held_out, pair, gamma)
        return found._replace(stderr=np.zeros_like(found.stderr)) if self.exact else found


class Assessment(NamedTuple):
    """What is known of every bound and measure; arrays of shape ``(..., bound)``.

    Attributes
    ----------
    names
        Certificates first, then measures.
    value, log_value
        Nan where nothing is claimed.
    assumption_violated, vacuous
        Flags; a measure has neither.
    gap, gap_stderr
        In the loss of the certificate; for measures, of the error rate.
    tightness
        Value over gap; nan for measures.
    log_factor
        Shape ``(..., bound, factor)``: adds up to ``log_value`` along ``FACTORS``.
    reasons
        Why a certificate is nan somewhere, by name.
    """

    names: tuple[str, ...]
    value: Float[np.ndarray, "*lead bound"]
    log_value: Float[np.ndarray, "*lead bound"]
    assumption_violated: np.ndarray
    vacuous: np.ndarray
    gap: Float[np.ndarray, "*lead bound"]
    gap_stderr: Float[np.ndarray, "*lead bound"]
    tightness: Float[np.ndarray, "*lead bound"]
    log_factor: Float[np.ndarray, "*lead bound factor"]
    reasons: Mapping[str, str]


def assess(
    inputs: BoundInputs, margins: MarginSample | None = None, names: Sequence[str] | None = None
) -> Assessment:
    """Evaluate bounds and measures and put the measured gaps beside them.

    Parameters
    ----------
    inputs
        What certificates and measures read.
    margins
        For the gaps; without them gaps and tightness are nan.
    names
        Which bounds and measures; all that the inputs suffice for if left out.

    Returns
    -------
    Assessment
        One column per name.

    Raises
    ------
    ValueError
        If a bound is asked for by name and something that it needs is missing.

    Notes
    -----
    Each certificate holds on its own with probability one minus ``inputs.failure_probability``.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import (
    ...     BoundInputs, GeometricGrid, MarginSample, TrainingSample, assess, layer_norms
    ... )
    >>> inputs = BoundInputs(
    ...     iterate=layer_norms([np.eye(3)]),
    ...     sample=TrainingSample(size=1000, input_bound=1.0, frobenius=30.0),
    ...     margin=0.5,
    ...     failure_probability=0.05,
    ...     grid=GeometricGrid(low=1e-3, high=1e4, ratio=1.1),
    ... )
    >>> margins = MarginSample(np.full(1000, 0.6), np.array([0.6, 0.4, -0.1, 0.6]))
    >>> found = assess(inputs, margins, ["linear", "params"])
    >>> found.names, found.gap.round(3).tolist()
    (('linear', 'params'), [0.3, 0.25])
    """
    if names is None:
        certificates, measures = evaluate_all(inputs), evaluate_measures(inputs)
    else:
        kinds = {name: lookup(name).kind for name in names}
        certificates = evaluate_all(inputs, [n for n in names if kinds[n] == "certificate"])
        measures = evaluate_measures(inputs, names=[n for n in names if kinds[n] == "measure"])
    results: dict[str, Evaluation | Score] = {**certificates, **measures}
    gaps = [_gap(name, inputs, margins) for name in results]
    value = _columns([result.value for result in results.values()], inputs)
    gap = _columns([found.value for found in gaps], inputs)
    certified = np.array([name in certificates for name in results], bool)
    ratio = np.where(certified, tightness(value, gap), np.nan)
    return Assessment(
        names=tuple(results),
        value=value,
        log_value=_columns([result.log_value for result in results.values()], inputs),
        assumption_violated=_flags(
            [getattr(result, "assumption_violated", None) for result in results.values()], inputs
        ),
        vacuous=_flags([_vacuous(result) for result in results.values()], inputs),
        gap=gap,
        gap_stderr=_columns([found.stderr for found in gaps], inputs),
        tightness=np.asarray(ratio),
        log_factor=np.asarray(
            np.stack([_factors(result, inputs) for result in results.values()], axis=-2)
            if results
            else np.zeros((*inputs.lead, 0, len(FACTORS)))
        ),
        reasons={name: found.reason for name, found in certificates.items() if found.reason},
    )


def _gap(name: str, inputs: BoundInputs, margins: MarginSample | None) -> Gap:
    entry = lookup(name)
    unknown = np.full(inputs.lead, np.nan)
    if not isinstance(entry, Certificate):
        pair = ("zero_one", "zero_one")
    elif entry.population_loss == "gibbs":
        return gibbs_gap(name, inputs, margins)
    else:
        pair = entry.pair
    return Gap(unknown, unknown) if margins is None else margins.gap(pair, inputs.margin)


def gibbs_gap(name: str, inputs: BoundInputs, margins: MarginSample | None) -> Gap:
    r"""Gap of the stochastic network at the scale that a PAC-Bayes certificate is about.

    .. math:: \hat g = \bar q_{\text{held out}} - \bar q_{\text{train}},\qquad
              \mathrm{se}^2 = \sum\frac{\bar q(1-\bar q)}{m}
              + \frac{\bar q_{\text{held out}}(1-\bar q_{\text{held out}})}{n_{\text{held out}}}

    Parameters
    ----------
    name
        Name of a PAC-Bayes certificate.
    inputs
        With ``gibbs``.
    margins
        Tells how many held-out rows there are; no error from their number if they are the whole
        population. The first terms, over both sets of rows, bound the Monte-Carlo error: the
        variance of the share of wrong answers of one draw is at most :math:`\bar q(1-\bar q)`.
    """
    gibbs = inputs.gibbs
    unknown = np.full(inputs.lead, np.nan)
    if gibbs is None or gibbs.held_out is None:
        return Gap(unknown, unknown)
    scale = best_scale(name, inputs)
    known = scale >= 0

    def at_scale(errors: Float[np.ndarray, "*lead scale"]) -> Float[np.ndarray, "*lead"]:
        chosen = np.take_along_axis(errors, np.maximum(scale, 0)[..., None], axis=-1)[..., 0]
        return np.asarray(np.where(known, chosen, np.nan))

    training, held_out = at_scale(gibbs.training), at_scale(gibbs.held_out)
    variance = (training * (1 - training) + held_out * (1 - held_out)) / gibbs.draws
    if margins is not None and not margins.exact:
        variance = variance + held_out * (1 - held_out) / margins.held_out.shape[-1]
    return Gap(np.asarray(held_out - training), np.asarray(np.sqrt(variance)))


def _vacuous(result: Evaluation | Score) -> np.ndarray | None:
    if not isinstance(result, Evaluation):
        return None
    return np.where(result.assumption_violated, -1, result.vacuous)


def _factors(result: Evaluation | Score, inputs: BoundInputs) -> np.ndarray:
    """Logarithms of the factors in the order of ``FACTORS``; those that are not there are 0."""
    known = dict(result.log_factors) or {"rest": result.log_value}
    columns = [known.get(name, np.zeros(inputs.lead)) for name in FACTORS]
    nothing = np.isnan(result.log_value)
    return np.stack([np.where(nothing, np.nan, column) for column in columns], axis=-1)


def _columns(columns: list, inputs: BoundInputs) -> Float[np.ndarray, "*lead bound"]:
    if not columns:
        return np.zeros((*inputs.lead, 0))
    return np.stack([np.asarray(c, np.float64) for c in columns], axis=-1)


def _flags(columns: list, inputs: BoundInputs) -> np.ndarray:
    """Stack flags as int8, -1 for a measure."""
    filled = [np.full(inputs.lead, -1) if c is None else np.asarray(c) for c in columns]
    return _columns(filled, inputs).astype(np.int8)
