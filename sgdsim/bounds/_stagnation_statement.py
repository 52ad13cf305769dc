r"""The statement that a run of SGD buys: gap, and everything that may fail, added up.

.. math:: P\Bigl(\forall t\in[t_0,T]:\ \mathrm{gap}(\theta_t)\le\min_i G_i(\delta)\Bigr)
          \ge 1-\sum_i\delta'_i-p_{\mathrm{reach}}-p_{\mathrm{exit}}-p_{\mathrm{deviation}}

over training rows and noise of the algorithm. The minimum of several bounds holds only where all
of them do: the failure probability of each bound that takes part is paid.

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from sgdsim.bounds._logdomain import exponential, log_sum
from sgdsim.bounds._stagnation_types import BoundTerms
from sgdsim.bounds._types import settle


@dataclass(frozen=True, eq=False, kw_only=True)
class CombinedStatement:
    r"""A bound on the gap of all iterates of a window, with the probability of the whole.

    Parameters
    ----------
    bounds
        G1, G2, G3 or some of them, by name.
    best
        Index of the smallest bound in ``bounds``, shape ``(...)``.
    log_gap_bound
        Natural logarithm of the smallest bound, shape ``(...)``; nan where nothing is claimed.
    log_failures
        Natural logarithms of the probabilities that the parts fail, by name, shapes ``(...)``.
    violations
        Where each assumption fails, by its description.
    measured
        Constants that were sampled or measured instead of proved, by name.
    """

    bounds: Mapping[str, BoundTerms]
    best: Int[np.ndarray, "*shape"]
    log_gap_bound: Float[np.ndarray, "*shape"]
    log_failures: Mapping[str, Float[np.ndarray, "*shape"]]
    violations: Mapping[str, Bool[np.ndarray, "*shape"]]
    measured: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["certificate", "plug-in"]:
        """Proved with all its constants, or with measured ones put in."""
        return "plug-in" if self.measured else "certificate"

    @property
    def gap_bound(self) -> Float[np.ndarray, "..."]:
        """Bound on population minus empirical risk of every iterate of the window, not clipped."""
        return exponential(self.log_gap_bound)

    @property
    def failure_probability(self) -> Float[np.ndarray, "..."]:
        """Sum of all failure probabilities, not clipped; nan where nothing is claimed."""
        total = exponential(log_sum(*self.log_failures.values()))
        return np.asarray(np.where(self.assumption_violated, np.nan, total))

    @property
    def probability(self) -> Float[np.ndarray, "..."]:
        """Probability with which the whole statement holds, at least."""
        return np.asarray(np.maximum(0.0, 1.0 - self.failure_probability))

    @property
    def vacuous(self) -> Bool[np.ndarray, "..."]:
        """Where the bound exceeds the range of the loss or the probability is 0."""
        loss = next(iter(self.bounds.values())).loss
        return np.asarray((self.gap_bound > loss.range_) | (self.failure_probability >= 1.0))

    @property
    def assumption_violated(self) -> Bool[np.ndarray, "..."]:
        """Where nothing is claimed."""
        return settle(self.log_gap_bound, dict(self.violations)).assumption_violated

    @property
    def reason(self) -> str:
        """Which assumptions fail and how often; empty if none does."""
        return settle(self.log_gap_bound, dict(self.violations)).reason

    def sentence(self, index: tuple[int, ...] = ()) -> str:
        """Say in words what holds, with every failure probability and every term.

        Parameters
        ----------
        index
            Which entry of the shape ``(...)``.
        """
        broken = [text for text, where in self.violations.items() if where[index]]
        if broken:
            return f"Nothing is claimed: {broken[0]}."
        names = list(self.bounds)
        bound = self.bounds[names[int(self.best[index])]]
        parts = " - ".join(
            f"{_number(float(value[index]))} ({name})" for name, value in self.log_failures.items()
        )
        terms = " + ".join(
            f"{name} {_number(float(np.broadcast_to(value, self.best.shape)[index]))}"
            for name, value in bound.log_terms.items()
        )
        notes = []
        if self.measured:
            notes.append(f"Plug-in, not proved: {', '.join(self.measured)} measured.")
        if self.vacuous[index]:
            notes.append("Vacuous.")
        return " ".join(
            [
                *notes,
                f"With probability at least {float(self.probability[index]):.6g} = 1 - {parts}, "
                "over training rows and noise, every iterate of the window has a population risk "
                f"at most {_number(float(self.log_gap_bound[index]))} above its empirical risk "
                f"({bound.name} = {terms}; the loss ranges over {bound.loss.range_:g}).",
            ]
        )


def combined_statement(
    bounds: Mapping[str, BoundTerms],
    log_exit_probability: Float[np.ndarray, "..."] | float,
    reach_probability: float = 0.0,
    deviation_probability: float = 0.0,
    exit_reason: str = "",
    measured: tuple[str, ...] = (),
) -> CombinedStatement:
    r"""Combine bounds on a union of stagnation sets with the probability of staying in it.

    .. math:: 1-\sum_i\delta'_i-p_{\mathrm{reach}}-p_{\mathrm{exit}}-p_{\mathrm{deviation}}

    Parameters
    ----------
    bounds
        What ``stagnation_terms`` returned: the minimum is taken over these, and each pays its own
        failure probability. For three bounds at :math:`\delta'` together give
        ``stagnation_terms`` a third of it; or leave out a bound.
    log_exit_probability
        :math:`\log p_{\mathrm{exit}}` of a start inside, shape ``(...)`` or one number: S2, or an
        exact value. Above 0 the statement is vacuous; nan where the exit bound claims nothing
        (contraction ``q >= 1``, start outside).
    reach_probability
        :math:`p_{\mathrm{reach}}`: probability of *not* being inside at the start of the window.
    deviation_probability
        Probability that the deviations :math:`\varepsilon_n,\omega_n` of the empirical from the
        population gradient exceed what the exit bound used, if that comes from theory; 0 if they
        were measured, and then they belong in ``measured``.
    exit_reason
        Why the exit bound claims nothing, where it does not.
    measured
        Names of constants that are sampled or measured, for example ``("mu", "noise trace")``: the
        statement is then called plug-in.

    Returns
    -------
    CombinedStatement
        Shape ``(...)``: that of the radii broadcast against that of the exit probability. nan,
        with a reason, where the radius is not in ``(0, inf)`` or a part claims nothing.

    Raises
    ------
    ValueError
        If there is no bound, one is a diagnostic, the bounds belong to different radii or losses,
        or a probability is out of range.

    Notes
    -----
    The exit bound is conditional on the training rows through :math:`\varepsilon_n,\omega_n`;
    bounds on the gap hold for all parameters of the union at once, so the two events may depend on
    each other and their probabilities add up.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import textwrap
    >>> import numpy as np
    >>> from sgdsim.bounds import (
    ...     LossBound, Neighbourhoods, TrainingSample, combined_statement, layer_norms,
    ...     stagnation_terms,
    ... )
    >>> bounds = stagnation_terms(
    ...     Neighbourhoods(norms=layer_norms([np.eye(3)])),
    ...     0.005,
    ...     LossBound.clipped_half_squared(0.5),
    ...     TrainingSample(size=4000, input_bound=1.0, frobenius=60.0),
    ...     failure_probability=0.03 / 2,
    ...     names=("G1", "G2"),
    ... )
    >>> statement = combined_statement(bounds, np.log(0.001), reach_probability=0.01)
    >>> print(textwrap.fill(statement.sentence(), 90))
    With probability at least 0.959 = 1 - 0.015 (G1) - 0.015 (G2) - 0.001 (exit) - 0.01
    (reach) - 0 (deviation), over training rows and noise, every iterate of the window has a
    population risk at most 0.02031 above its empirical risk (G2 = centre 0.01237 + entropy
    0.007699 + concentration 0.0002473; the loss ranges over 0.5).
    """
    given = list(bounds.values())
    _check_bounds(given)
    for name, value in (("reach", reach_probability), ("deviation", deviation_probability)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name}_probability must be in [0, 1]; got {value}.")
    shape = np.broadcast_shapes(given[0].radius.shape, np.shape(log_exit_probability))

    def spread(value: np.ndarray | float) -> np.ndarray:
        return np.array(np.broadcast_to(value, shape))

    radius, log_exit = spread(given[0].radius), spread(np.asarray(log_exit_probability, float))
    totals = np.stack([spread(bound.log_total) for bound in given])
    # A bound that claims nothing is passed over; its failure probability stays paid.
    ranked = np.where(np.isnan(totals), np.inf, totals)
    reasons = "; ".join(bound.reason for bound in given if bound.reason)
    violations = {
        "radius not in (0, inf)": ~(np.isfinite(radius) & (radius > 0.0)),
        f"no bound on the gap: {reasons}": np.isnan(totals).all(axis=0),
        f"no bound on the exit probability{exit_reason and ': '}{exit_reason}": np.isnan(log_exit),
    }
    violations = {text: np.asarray(where) for text, where in violations.items()}
    log_failures = {bound.name: spread(math.log(bound.failure_probability)) for bound in given}
    log_failures["exit"] = log_exit
    for name, value in (("reach", reach_probability), ("deviation", deviation_probability)):
        log_failures[name] = spread(math.log(value) if value > 0.0 else -math.inf)
    smallest = np.asarray(ranked.min(axis=0))
    return CombinedStatement(
        bounds={bound.name: bound for bound in given},
        best=np.asarray(ranked.argmin(axis=0)),
        log_gap_bound=settle(smallest, violations).log_value,
        log_failures=log_failures,
        violations=violations,
        measured=measured,
    )


def _check_bounds(bounds: list[BoundTerms]) -> None:
    if not bounds:
        raise ValueError("A statement needs at least one bound on the gap; got none.")
    for bound in bounds:
        if bound.kind != "certificate":
            raise ValueError(
                f"{bound.name} is a {bound.kind} and holds with no probability: a statement takes "
                "certificates only, see stagnation_terms."
            )
        if bound.loss != bounds[0].loss or not np.array_equal(
            bound.radius, bounds[0].radius, equal_nan=True
        ):
            raise ValueError(
                f"{bounds[0].name} and {bound.name} belong to different radii or losses; a "
                "statement is about one stagnation set and one loss."
            )


def _number(log_value: float) -> str:
    """Four digits of a number given by its logarithm, however small or large."""
    if -600.0 < log_value < 600.0:
        return f"{math.exp(log_value):.4g}"
    return "0" if log_value == -math.inf else f"10^{log_value / math.log(10.0):.1f}"
