r"""The three bounds on a union of stagnation sets, term by term, so that one sees which pays.

Population minima, or points of nets that cover the sets of minima, :math:`\bar K` centres in all;
neighbourhoods of radius ``r`` around them; a loss in :math:`[0, B_\ell]` that is
:math:`\lambda`-Lipschitz in the output of the network. For every centre, with
:math:`S_j = \|A_j\|_2 + r` and :math:`w_j` output rows of layer ``j``,

.. math::
    \Lambda = \prod_j S_j\,\Big(\sum_j S_j^{-2}\Big)^{1/2},\qquad
    \Delta = \lambda B_x \Lambda r,\qquad
    R = \prod_j S_j\,\Big(\sum_j(\sqrt{w_j}\,r/S_j)^{2/3}\Big)^{3/2} .

With probability :math:`1-\delta'` over the ``n`` training rows, for all parameters in the union at
once, population minus empirical risk is at most

.. math::
    G_1 &= \underbrace{B_\ell\sqrt{\log(\bar K/\delta')/2n}}_{\text{centre}}
         + \underbrace{2\Delta}_{\text{displacement}} \\
    G_2 &= \underbrace{B_\ell\sqrt{\log(2\bar K/\delta')/2n}}_{\text{centre}}
         + \underbrace{24\,\Delta J/\sqrt n}_{\text{entropy}}
         + \underbrace{\Delta\sqrt{2\log(2\bar Kc/\delta')/n}}_{\text{concentration}} \\
    G_3 &= \underbrace{B_\ell\sqrt{\log(2\bar K/\delta')/2n}}_{\text{centre}}
         + \underbrace{8B_\ell/n}_{\text{cut}}
         + \underbrace{24\lambda\ln n\sqrt{\ln(2W^2+1)}\,B_xR/\sqrt n}_{\text{entropy}}
         + \underbrace{\min(B_\ell,\Delta)\sqrt{2\log(2\bar Kc/\delta')/n}}_{\text{concentration}}

with the entropy integral ``J`` (:math:`1.35258\sqrt d` for a ball in ``d`` dimensions) and ``c``
cells of the grid of radii (1 for a radius fixed in advance). The proofs are in
``sgdsim/bounds/_stagnation.py``, for the ramp and one centre. A loss of range :math:`B_\ell` is
cut off at :math:`\alpha = B_\ell/\sqrt n` in Dudley's integral, which leaves :math:`\ln n` as it
is and multiplies :math:`8/n` by :math:`B_\ell`. A union over the centres divides :math:`\delta'`
by :math:`\bar K` in every event.

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from sgdsim.bounds._grid import GeometricGrid
from sgdsim.bounds._inputs import TrainingSample
from sgdsim.bounds._logdomain import log, log_sum, log_sum_over_layers, product_of_others
from sgdsim.bounds._stagnation_types import BoundTerms, LossBound, Neighbourhoods

BoundName = Literal["G1", "G2", "G3"]


def log_lipschitz(
    spectral: Float[np.ndarray, "centre layer"], radius: Float[np.ndarray, "..."]
) -> tuple[Float[np.ndarray, "... centre"], Float[np.ndarray, "... centre layer"]]:
    r"""Logarithms of :math:`\Lambda` and of :math:`\prod_{i\ne j}S_i`.

    Parameters
    ----------
    spectral
        Spectral norms of the centres, shape (centre, layer).
    radius
        ``r``, shape ``(...)``.

    Returns
    -------
    log_constant
        :math:`\log\Lambda`, shape ``(..., centre)``: the network moves by at most
        :math:`\|x\|\Lambda\|\theta-\theta'\|` in the ball.
    log_others
        Shape ``(..., centre, layer)``.
    """
    others = product_of_others(log(spectral + np.asarray(radius)[..., None, None]))
    return np.asarray(0.5 * log_sum_over_layers(2.0 * others)), others


def stagnation_terms(
    neighbourhoods: Neighbourhoods,
    radius: Float[np.ndarray, "..."] | float | int,
    loss: LossBound,
    sample: TrainingSample,
    failure_probability: float,
    grid: GeometricGrid | None = None,
    names: Sequence[BoundName] = ("G1", "G2", "G3"),
) -> dict[str, BoundTerms]:
    r"""Evaluate G1, G2 and G3 as sums of terms that have names.

    See the module: :math:`G_1 = \text{centre} + 2\Delta`, and so on.

    Parameters
    ----------
    neighbourhoods
        Centres, their number, and the entropy of a neighbourhood.
    radius
        :math:`\delta`, shape ``(...)``: largest distance of a parameter from the set of minima, in
        units of the parameters.
    loss
        Range and Lipschitz constant.
    sample
        Number of training rows and bound on the inputs.
    failure_probability
        :math:`\delta'` of each bound on its own; for the smallest of three, give a third of what is
        to be spent.
    grid
        Grid to which the radius is rounded up in G2 and G3, its cells paid for, if the radius
        depends on the training rows; left out for a radius fixed in advance. G1 needs none.
    names
        Which bounds.

    Returns
    -------
    dict
        ``BoundTerms`` of shape ``(...)`` by name. With several centres, the terms of the centre
        with the largest sum. nan, with a reason, where the radius is not in ``[0, inf)``.

    Raises
    ------
    ValueError
        If the failure probability is not in (0, 1).

    Notes
    -----
    Assumptions: independent training rows; inputs no longer than ``sample.input_bound``; network
    :math:`A_L\sigma(A_{L-1}\cdots\sigma(A_1x))` with 1-Lipschitz :math:`\sigma`,
    :math:`\sigma(0)=0`, no biases; centres, entropy, grid, and without a grid the radius, fixed
    without the training rows. The bounds do not depend on how the parameters got there: that the
    iterate *is* in the union is the other half, see ``combined_statement``.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import (
    ...     LossBound, Neighbourhoods, TrainingSample, layer_norms, stagnation_terms
    ... )
    >>> centres = [np.stack([np.eye(3), -np.eye(3)])]  # two minima, one layer
    >>> bounds = stagnation_terms(
    ...     Neighbourhoods(norms=layer_norms(centres)),
    ...     np.array([0.001, 0.1]),
    ...     LossBound.clipped_half_squared(0.5),
    ...     TrainingSample(size=1000, input_bound=1.0, frobenius=30.0),
    ...     failure_probability=0.05,
    ... )
    >>> for name, bound in bounds.items():
    ...     print(name, bound.total.round(3), bound.largest_term)
    G1 [0.023 0.221] ['centre' 'displacement']
    G2 [0.027 0.341] ['centre' 'entropy']
    G3 [0.043 1.595] ['centre' 'entropy']
    """
    if not 0.0 < failure_probability < 1.0:
        raise ValueError(f"failure_probability must be in (0, 1); got {failure_probability}.")
    given = np.asarray(radius, dtype=np.float64)
    enlarged = np.asarray(given + neighbourhoods.cover_radius)
    possible = np.isfinite(given) & (given >= 0.0)
    found = {}
    for name in names:
        used, violations = enlarged, {"radius not in [0, inf)": np.asarray(~possible)}
        if grid is not None and name != "G1":
            used = grid.ceil(enlarged)
            end = f"radius above the grid, which ends at {grid.high:g}"
            violations[end] = np.asarray(np.isnan(used))
        kept = np.where(np.logical_or.reduce(list(violations.values())), np.nan, used)
        cells = 0.0 if grid is None else grid.log_cells
        log_terms = _log_terms(
            name, neighbourhoods, kept, loss, sample, math.log(failure_probability), cells
        )
        log_terms, worst = _of_worst_centre(log_terms)
        found[name] = BoundTerms(
            name=name,
            log_terms=log_terms,
            violations=violations,
            radius=given,
            failure_probability=failure_probability,
            loss=loss,
            log_count_per_row=neighbourhoods.log_total / sample.size,
            worst_centre=worst,
        )
    return found


def empirical_terms(
    jacobian_norm: Float[np.ndarray, "*shape"],
    radius: Float[np.ndarray, "*shape"],
    loss: LossBound,
    size: int,
    failure_probability: float,
    log_count: float = 0.0,
) -> BoundTerms:
    r"""Evaluate G1 with a measured slope of the network: a diagnostic, not a certificate.

    .. math:: B_\ell\sqrt{\log(\hat K/\delta')/2n} + 2\lambda\hat J\delta,\qquad
              \hat J = \max_{i,\theta}\|\partial f_\theta(x_i)/\partial\theta\|_{\mathrm{op}}

    Parameters
    ----------
    jacobian_norm
        :math:`\hat J`, shape ``(...)``: largest operator norm over training inputs and snapshots.
    radius
        :math:`\delta`, same shape.
    loss
        Range and Lipschitz constant.
    size
        Number of training rows ``n``.
    failure_probability
        :math:`\delta'` of the first term.
    log_count
        :math:`\log\hat K` of the basins that were seen.

    Returns
    -------
    BoundTerms
        Of the kind ``"diagnostic"``: ``combined_statement`` refuses it.

    Raises
    ------
    ValueError
        If the failure probability is not in (0, 1).

    Notes
    -----
    It shows how much of :math:`B_x\Lambda` is slack. It is no bound: the slope was seen on
    training rows and snapshots only, not on all rows and in the whole neighbourhood, and basins
    that were not seen are not counted.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import LossBound, empirical_terms
    >>> seen = empirical_terms(np.array(0.3), np.array(0.1), LossBound.ramp(1.0), 1000, 0.05)
    >>> seen.kind, float(seen.total.round(3))
    ('diagnostic', 0.124)
    """
    if not 0.0 < failure_probability < 1.0:
        raise ValueError(f"failure_probability must be in (0, 1); got {failure_probability}.")
    possible = np.asarray(
        np.isfinite(jacobian_norm * radius) & (jacobian_norm >= 0.0) & (radius >= 0.0)
    )
    moved = np.asarray(np.where(possible, jacobian_norm * radius, np.nan))
    change = np.asarray(math.log(loss.lipschitz) + log(moved))
    centre = math.log(loss.range_) + _hoeffding(log_count - math.log(failure_probability), size)
    return BoundTerms(
        name="G1 with the measured slope",
        log_terms={
            "centre": np.asarray(np.where(possible, centre, np.nan)),
            "displacement": np.asarray(math.log(2.0) + change),
        },
        violations={"slope or radius not in [0, inf)": np.asarray(~possible)},
        radius=np.asarray(radius, dtype=np.float64),
        failure_probability=failure_probability,
        loss=loss,
        log_count_per_row=log_count / size,
        worst_centre=np.zeros(change.shape, dtype=np.int64),
        kind="diagnostic",
    )


def _hoeffding(log_inverse_probability: float, size: int) -> float:
    return 0.5 * (math.log(log_inverse_probability) - math.log(2 * size))


def _log_terms(
    name: BoundName,
    neighbourhoods: Neighbourhoods,
    radius: Float[np.ndarray, "..."],
    loss: LossBound,
    sample: TrainingSample,
    log_probability: float,
    log_cells: float,
) -> dict[str, Float[np.ndarray, "... centre"]]:
    """Terms for every centre."""
    constant, others = log_lipschitz(neighbourhoods.spectral, radius)
    slope = math.log(loss.lipschitz) + math.log(sample.input_bound)
    change = np.asarray(slope + constant + log(radius)[..., None])
    log_range, size = math.log(loss.range_), sample.size
    once = neighbourhoods.log_total - log_probability
    if name == "G1":
        centre = np.full_like(change, log_range + _hoeffding(once, size))
        return {"centre": centre, "displacement": math.log(2.0) + change}
    # One half of the failure probability for the centres, the other for the balls.
    half = math.log(2.0) + once
    centre = np.full_like(change, log_range + _hoeffding(half, size))
    deviation = 0.5 * math.log(2.0 * (half + log_cells) / size)
    if name == "G2":
        entropy = math.log(24.0 * neighbourhoods.entropy_integral) - 0.5 * math.log(size)
        return {"centre": centre, "entropy": entropy + change, "concentration": deviation + change}
    norms = neighbourhoods.norms
    rows = np.array([shape[0] for shape in norms.shapes], dtype=np.float64)
    layers = 0.5 * np.log(rows) + log(radius)[..., None, None] + others
    covering = 1.5 * log_sum_over_layers(2.0 / 3.0 * layers)
    dimension = math.log(2.0 * norms.largest_dimension**2 + 1.0)
    factor = math.log(24.0 * math.log(size) * math.sqrt(dimension)) - 0.5 * math.log(size)
    return {
        "centre": centre,
        "cut": np.full_like(change, log_range + math.log(8.0 / size)),
        "entropy": np.asarray(slope + factor + covering),
        "concentration": deviation + np.minimum(log_range, change),
    }


def _of_worst_centre(
    log_terms: dict[str, Float[np.ndarray, "... centre"]],
) -> tuple[dict[str, Float[np.ndarray, "..."]], np.ndarray]:
    """Terms of the centre with the largest sum, so that they still add up to the bound."""
    total = log_sum(*log_terms.values())
    nothing = np.isnan(total).any(axis=-1)
    worst = np.asarray(np.nan_to_num(total).argmax(axis=-1))
    picked = {}
    for name, terms in log_terms.items():
        values = np.take_along_axis(terms, worst[..., None], axis=-1)[..., 0]
        picked[name] = np.asarray(np.where(nothing, np.nan, values))
    return picked, worst
