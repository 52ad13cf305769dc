r"""Certificates BFT: the spectrally normalized margin bound of Bartlett, Foster and Telgarsky.

.. math::
    \frac{8}{n^{3/2}} + \frac{72\,\|X\|_F\sqrt{\ln(2W^2)}\,\ln(n)\,R_A}{\gamma n}
    + 3\sqrt{\frac{\ln(2/\delta)}{2n}},\qquad
    R_A = \prod_i s_i\,\Big(\sum_i (b_i/s_i)^{2/3}\Big)^{3/2}

for the class :math:`\|A_i\|_2\le s_i`, :math:`\|(A_i-M_i)^T\|_{2,1}\le b_i`. The reference matrices
:math:`M_i` are zero (BFT, BFT-fixed, BFT-cut) or the initialisation (BFT-init): the covering
theorem covers :math:`(A_i-M_i)X_{i-1}` and shifts by :math:`M_iX_{i-1}`, for any matrices that are
chosen without the training rows. The induction over the layers needs covers by members of the
class, and sparsification gives others; the set of all :math:`A_iX_{i-1}` is convex, and the
projection onto it moves no point of a cover away from a member, so that nothing is lost.

**The constant 72.** The covering theorem bounds :math:`\ln N(\varepsilon)` of the losses by
:math:`C/\varepsilon^2`, :math:`\sqrt C = (2/\gamma)\|X\|_F\sqrt{\ln(2W^2)}R_A`, with the constant 2
that the paper gives to the margin. Dudley from :math:`\alpha=1/n` to :math:`\sqrt n`:
:math:`2\hat{\mathcal R} \le 8\alpha/\sqrt n + (24/n)\sqrt C\ln(\sqrt n/\alpha)
= 8/n^{3/2} + (24\cdot\tfrac32\cdot2)\,\|X\|_F\cdots/(\gamma n)`, and :math:`36\cdot2=72`.
The margin is in truth :math:`\sqrt2`-Lipschitz, which leaves a factor :math:`\sqrt2`; it more than
pays for the :math:`\ln(2W^2+1)` that a covering without rounding needs (see the notes of
``_stagnation.py``), because :math:`\ln 3/\ln 2<2`. The published form is therefore kept as it is.

**Sample norm.** The third term is that of the *empirical* Rademacher complexity (two applications
of McDiarmid, hence the 3), so :math:`\|X\|_F` of the training rows is the right quantity here.

**Uniform version.** :math:`R_A=(\sum_i(b_i\prod_{j\ne i}s_j)^{2/3})^{3/2}` increases in every
argument. All :math:`2L` norms are rounded up to the geometric grid and :math:`\delta` is divided by
the number :math:`\mathrm{cells}^{2L}` of classes.

**Fixed version (BFT-fixed).** The norms of ``caps`` describe one class, chosen in advance: no grid,
no union. Nothing is claimed for a network with a larger norm.

**Best cut (BFT-cut).** With :math:`t=3\sqrt C/n`, the sum
:math:`8\alpha/\sqrt n+(24/n)\sqrt C\ln(\sqrt n/\alpha)` is smallest at
:math:`\alpha=t\sqrt n`, where it is :math:`8t(1-\ln t)`, if :math:`t<1`, and 8 at
:math:`\alpha=\sqrt n` otherwise. (It exceeds 1 there, and the certificate says nothing.) The cut
depends on the class only. Here the constants are those of the proof,
:math:`\sqrt C=(\sqrt2/\gamma)\|X\|_F\sqrt{\ln(2W^2+1)}R_A`.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._logdomain import log, log_sum, log_sum_over_layers, product_of_others
from sgdsim.bounds._types import COMMON_ASSUMPTIONS, Certificate, Evaluation, settle

#: Maps :math:`\sqrt C/n` without its constants, as a logarithm, to the complexity term of the bound
#: and the factors that are its own.
Entropy = Callable[
    [BoundInputs, Float[np.ndarray, "..."]],
    tuple[Float[np.ndarray, "..."], dict[str, Float[np.ndarray, "..."] | float]],
]


def _published(
    inputs: BoundInputs, log_capacity: Float[np.ndarray, "..."]
) -> tuple[Float[np.ndarray, "..."], dict[str, Float[np.ndarray, "..."] | float]]:
    """Dudley's integral from 1/n, with the constant 2 of the margin."""
    size = inputs.sample.size
    dimension = math.log(2.0 * inputs.iterate.largest_dimension**2)
    factor = 72.0 * math.sqrt(dimension) * math.log(size) / (inputs.margin * size)
    term = log_sum(math.log(8.0) - 1.5 * math.log(size), math.log(factor) + log_capacity)
    return term, {
        "constant": math.log(72.0),
        "size": math.log(math.log(size) / size),
        "dimension": 0.5 * math.log(dimension),
    }


def _best_cut(
    inputs: BoundInputs, log_capacity: Float[np.ndarray, "..."]
) -> tuple[Float[np.ndarray, "..."], dict[str, Float[np.ndarray, "..."] | float]]:
    """Dudley's integral from its best lower end, with the constants of the proof."""
    size = inputs.sample.size
    dimension = math.log(2.0 * inputs.iterate.largest_dimension**2 + 1.0)
    factor = 3.0 * math.sqrt(2.0 * dimension) / (inputs.margin * size)
    log_cut = np.minimum(math.log(factor) + log_capacity, 0.0)
    growth = np.where(np.isfinite(log_cut), np.log1p(-np.where(log_cut < 0, log_cut, 0.0)), 0.0)
    return np.asarray(math.log(8.0) + log_cut + growth), {
        "constant": math.log(24.0 * math.sqrt(2.0)),
        "size": np.asarray(growth - math.log(size)),
        "dimension": 0.5 * math.log(dimension),
    }


def _evaluate(
    inputs: BoundInputs,
    spectral: Float[np.ndarray, "... layer"],
    two_one: Float[np.ndarray, "... layer"],
    log_classes: float,
    violations: dict[str, Bool[np.ndarray, "..."]],
    entropy: Entropy = _published,
) -> Evaluation:
    """Bound for the class of the given norms, of which there are so many."""
    size = inputs.sample.size
    capacity = 1.5 * log_sum_over_layers(
        2.0 / 3.0 * (log(two_one) + product_of_others(log(spectral)))
    )
    log_inputs = log(np.asarray(inputs.sample.frobenius, np.float64))
    term, factors = entropy(inputs, np.asarray(log_inputs + capacity))
    inverse_probability = math.log(2.0 / inputs.failure_probability) + log_classes
    log_value = log_sum(term, math.log(3.0) + 0.5 * math.log(inverse_probability / (2 * size)))
    product = np.asarray(np.sum(log(spectral), axis=-1))
    return settle(
        log_value,
        {
            "norms not finite": np.asarray(~inputs.finite),
            "one output has no margin": np.full(inputs.lead, inputs.outputs < 2),
            **violations,
        },
        {
            "spectral_product": product,
            "distance": capacity - product,
            "margin": -math.log(inputs.margin),
            "inputs": log_inputs,
            **factors,
        },
    )


def _on_grid(
    inputs: BoundInputs,
    two_one: Float[np.ndarray, "... layer"],
    what: str = "(2,1) norm",
    entropy: Entropy = _published,
) -> Evaluation:
    grid = inputs.grid
    spectral, rounded = grid.ceil(inputs.iterate.spectral_high), grid.ceil(two_one)
    end = f"above the grid, which ends at {grid.high:g}"
    violations = {
        f"spectral norm {end}": np.asarray(np.isnan(spectral).any(axis=-1)),
        f"{what} {end}": np.asarray(np.isnan(rounded).any(axis=-1)),
    }
    log_classes = 2 * inputs.layers * grid.log_cells
    return _evaluate(inputs, spectral, rounded, log_classes, violations, entropy)


def _from_initial(inputs: BoundInputs) -> Evaluation:
    assert inputs.initial is not None  # the registry asks for what a certificate needs
    return _on_grid(inputs, inputs.initial.two_one, "(2,1) distance")


def _fixed(inputs: BoundInputs) -> Evaluation:
    assert inputs.caps is not None  # the registry asks for what a certificate needs
    caps, norms = inputs.caps, inputs.iterate
    shape = (*inputs.lead, inputs.layers)
    spectral = np.broadcast_to(caps.spectral_high, shape)
    two_one = np.broadcast_to(caps.two_one, shape)
    violations = {
        "spectral norm above its cap": np.asarray((norms.spectral_high > spectral).any(axis=-1)),
        "(2,1) norm above its cap": np.asarray((norms.two_one > two_one).any(axis=-1)),
    }
    return _evaluate(inputs, spectral, two_one, 0.0, violations)


SPECTRALLY_NORMALIZED = Certificate(
    name="BFT",
    formula=(
        "8/n^(3/2) + 72 ||X||_F sqrt(ln(2W^2)) ln(n) R_A/(gamma n) "
        "+ 3 sqrt(ln(2 cells^(2L)/delta)/(2n)), "
        "R_A = prod_i s_i (sum_i (b_i/s_i)^(2/3))^(3/2), s_i, b_i rounded up to the grid"
    ),
    source=(
        "Bartlett, Foster & Telgarsky 2017, arXiv:1706.08498, Lemma 3.1, Theorem 3.3 and Lemma A.5 "
        "for a fixed class; union over the grid: this project"
    ),
    statement="with probability 1 - delta over the training rows, for all networks at once",
    population_loss="ramp",
    empirical_loss="ramp",
    fixed_in_advance="margin, grid",
    union_bound="spectral norm and (2,1) norm of every layer",
    assumptions=COMMON_ASSUMPTIONS,
    evaluate=lambda inputs: _on_grid(inputs, inputs.iterate.two_one),
)

SPECTRALLY_NORMALIZED_FROM_INITIAL = replace(
    SPECTRALLY_NORMALIZED,
    name="BFT-init",
    formula=SPECTRALLY_NORMALIZED.formula.replace(
        "s_i, b_i rounded", "b_i = ||(A_i - A_i(0))^T||_(2,1), s_i, b_i rounded"
    ),
    fixed_in_advance="initialisation, margin, grid",
    union_bound="spectral norm and (2,1) distance of every layer",
    assumptions=(*COMMON_ASSUMPTIONS, "the initialisation is independent of the training rows"),
    evaluate=_from_initial,
    needs=("initial",),
    invariances=(),
)

SPECTRALLY_NORMALIZED_FIXED = replace(
    SPECTRALLY_NORMALIZED,
    name="BFT-fixed",
    formula=(
        "8/n^(3/2) + 72 ||X||_F sqrt(ln(2W^2)) ln(n) R_A/(gamma n) + 3 sqrt(ln(2/delta)/(2n)), "
        "R_A = prod_i s_i (sum_i (b_i/s_i)^(2/3))^(3/2), s_i, b_i the norms of the caps"
    ),
    source="Bartlett, Foster & Telgarsky 2017, arXiv:1706.08498, Lemmas 3.1, A.5, Theorem 3.3",
    statement=(
        "with probability 1 - delta over the training rows, for all networks within the caps at "
        "once"
    ),
    fixed_in_advance="margin, caps",
    union_bound="nothing",
    assumptions=(*COMMON_ASSUMPTIONS, "no norm of a layer exceeds its cap"),
    evaluate=_fixed,
    needs=("caps",),
)

SPECTRALLY_NORMALIZED_CUT = replace(
    SPECTRALLY_NORMALIZED,
    name="BFT-cut",
    formula=(
        "8 t (1 - ln t) + 3 sqrt(ln(2 cells^(2L)/delta)/(2n)), t = min(1, 3 sqrt(2) ||X||_F "
        "sqrt(ln(2W^2+1)) R_A/(gamma n)), "
        "R_A = prod_i s_i (sum_i (b_i/s_i)^(2/3))^(3/2), s_i, b_i rounded up to the grid"
    ),
    source=(
        "Bartlett, Foster & Telgarsky 2017, arXiv:1706.08498, Lemma 3.1, Theorem 3.3 and Lemma A.5 "
        "for a fixed class; best cut of the entropy integral, constants and union over the grid: "
        "this project"
    ),
    evaluate=lambda inputs: _on_grid(inputs, inputs.iterate.two_one, entropy=_best_cut),
)
