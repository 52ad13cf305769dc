r"""Certificates NTS and GRS: products of Frobenius norms, no width but that of the outputs.

.. math::
    2\hat{\mathcal R} + 3\sqrt{\frac{\ln(2\,\mathrm{cells}/\delta)}{2n}},\qquad
    \hat{\mathcal R} = c\,\frac{\prod_j\|A_j\|_F}{\gamma}\,\frac{\|X\|_F}{n},\qquad
    c = \begin{cases}\sqrt2\,D & k=2\\ 2\sqrt k\,\sqrt{D^2+1} & k>2\end{cases}

with ``k`` outputs, ``L`` layers and the factor of the depth :math:`D = 2^{L-1}` (NTS) or
:math:`D = 1+\sqrt{2\ln 2\,(L-1)}` (GRS). NTS is the smaller one for two layers only.

**Peeling.** Write :math:`h` for the hidden layer below the outputs and
:math:`Z=\sup\|\sum_i\epsilon_i h(x_i)\|` over all networks with :math:`\|A_j\|_F\le M_j`. For a
convex increasing :math:`g\ge0`,

.. math::
    \mathrm E\,g\Big(\sup_{\|W\|_F\le M}\big\|\sum_i\epsilon_i s(W u_i)\big\|\Big)
    \le 2\,\mathrm E\,g\Big(M\sup\big\|\sum_i\epsilon_i u_i\big\|\Big):

since :math:`s(cx)=c\,s(x)`, the squared norm is
:math:`\sum_r\|w_r\|^2(\sum_i\epsilon_i s(\hat w_r\cdot u_i))^2` with unit rows
:math:`\hat w_r`, hence largest for a single row; the absolute value costs the factor 2, because
:math:`g(|z|)\le g(z)+g(-z)` and the signs are symmetric; Ledoux and Talagrand's contraction
removes ``s``. There are :math:`L-1` activations. Let
:math:`a=\prod_{j<L}M_j\,\|X\|_F`, so that :math:`\mathrm E\|\prod M_j\sum\epsilon_ix_i\|\le a`.

* NTS: :math:`g(z)=\max(z,0)` gives :math:`\mathrm E Z\le2^{L-1}a`.
* GRS: :math:`g(z)=e^{\lambda z}`. One sign moves :math:`\prod M_j\|\sum\epsilon_i x_i\|` by at most
  :math:`2\prod M_j\|x_i\|`, hence :math:`\mathrm E Z\le\tfrac1\lambda\ln(2^{L-1}
  e^{\lambda a+\lambda^2a^2/2})`, which is :math:`a(1+\sqrt{2\ln2\,(L-1)})` at the best
  :math:`\lambda`. The publication has ``L`` in place of :math:`L-1`: it counts an activation more.

**Outputs.** For two, :math:`f_1-f_2` is one output with weights of norm at most
:math:`\sqrt2\|A_L\|_F`. For more, with :math:`V_j=\sum_i\epsilon_{ij}h(x_i)`,
:math:`\sup\sum_j a_j\cdot V_j\le\|A_L\|_F\sup(\sum_j\|V_j\|^2)^{1/2}`, and
:math:`\mathrm E\sup\sum_j\|V_j\|^2\le k\,\mathrm E Z^2\le k\,((\mathrm E Z)^2+a^2)`: one sign moves
``Z`` by at most twice the length of its term, so that Efron and Stein bound its variance by
:math:`a^2`.

Rounding, contraction and the third term: see ``_complexity.py``.
"""

import math

import numpy as np

from sgdsim.bounds._complexity import (
    HOMOGENEITY,
    log_gap_bound,
    log_product_of,
    not_homogeneous,
    round_up,
    violations_of,
)
from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._logdomain import log
from sgdsim.bounds._types import COMMON_ASSUMPTIONS, Certificate, Evaluation, settle

_INVARIANCES = ("permutation", "width_doubling", "layer_rescaling", "output_scaling")


def log_depth_of_nts(layers: int) -> float:
    r"""Logarithm of :math:`2^{L-1}`."""
    return (layers - 1) * math.log(2.0)


def log_depth_of_grs(layers: int) -> float:
    r"""Logarithm of :math:`1+\sqrt{2\ln2\,(L-1)}`."""
    return math.log1p(math.sqrt(2.0 * math.log(2.0) * (layers - 1)))


def _evaluate(inputs: BoundInputs, log_depth: float) -> Evaluation:
    size = round_up(inputs, log_product_of(inputs.iterate.frobenius), inputs.layers)
    outputs = inputs.outputs
    if outputs == 2:
        constant, dimension = math.log(math.sqrt(2.0)), log_depth
    else:
        constant = math.log(2.0)
        # 2^(2L - 2) overflows for deep networks.
        dimension = 0.5 * (math.log(outputs) + float(np.logaddexp(2.0 * log_depth, 0.0)))
    scale = math.log(inputs.sample.input_bound / inputs.margin)
    log_inputs = log(np.asarray(inputs.sample.frobenius, np.float64))
    log_size = -math.log(inputs.sample.size)
    product = size - scale
    complexity = constant + dimension + product - math.log(inputs.margin) + log_inputs + log_size
    return settle(
        log_gap_bound(inputs, np.asarray(complexity), inputs.grid.log_cells),
        not_homogeneous(inputs)
        | violations_of(inputs, size, "product of the Frobenius norms B_x/gamma per layer"),
        {
            "constant": math.log(2.0) + constant,
            "frobenius_product": product,
            "margin": -math.log(inputs.margin),
            "inputs": log_inputs,
            "size": log_size,
            "dimension": dimension,
        },
    )


def _formula(depth: str) -> str:
    return (
        f"2 c P ||X||_F/(gamma n) + 3 sqrt(ln(2 cells/delta)/(2n)), D = {depth}, "
        "c = sqrt(2) D for 2 outputs, 2 sqrt(k (D^2 + 1)) for k > 2, "
        "P = prod_j ||A_j||_F, (P B_x/gamma)^(1/L) rounded up to the grid"
    )


NEYSHABUR_FROBENIUS = Certificate(
    name="NTS",
    formula=_formula("2^(L-1)"),
    source=(
        "Neyshabur, Tomioka & Srebro 2015, arXiv:1503.00036, Theorem 1 (Frobenius norms); "
        "constants, several outputs and union over the grid: this project"
    ),
    statement="with probability 1 - delta over the training rows, for all networks at once",
    population_loss="ramp",
    empirical_loss="ramp",
    fixed_in_advance="margin, B_x, grid",
    union_bound="mean per layer of the product of the Frobenius norms",
    assumptions=(*COMMON_ASSUMPTIONS, HOMOGENEITY),
    evaluate=lambda inputs: _evaluate(inputs, log_depth_of_nts(inputs.layers)),
    invariances=_INVARIANCES,
)

GOLOWICH_FROBENIUS = Certificate(
    name="GRS",
    formula=_formula("1 + sqrt(2 ln(2) (L-1))"),
    source=(
        "Golowich, Rakhlin & Shamir 2018, arXiv:1712.06541, Theorem 1, with L - 1 activations; "
        "several outputs and union over the grid: this project"
    ),
    statement="with probability 1 - delta over the training rows, for all networks at once",
    population_loss="ramp",
    empirical_loss="ramp",
    fixed_in_advance="margin, B_x, grid",
    union_bound="mean per layer of the product of the Frobenius norms",
    assumptions=(*COMMON_ASSUMPTIONS, HOMOGENEITY),
    evaluate=lambda inputs: _evaluate(inputs, log_depth_of_grs(inputs.layers)),
    invariances=_INVARIANCES,
)
