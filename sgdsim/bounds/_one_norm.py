r"""Certificates GRS-1inf and path: 1-norms of rows and of paths, with the logarithm of the inputs.

With ``L`` layers, ``m`` inputs, ``k`` outputs and :math:`\|X\|_{2,\infty}` the norm of the longest
column of the training inputs, both are

.. math::
    2\hat{\mathcal R} + 3\sqrt{\frac{\ln(2\,\mathrm{classes}/\delta)}{2n}},\qquad
    \hat{\mathcal R} = \frac{c\,P}{\gamma}\,\frac{\|X\|_{2,\infty}}{n}
    \sqrt{2\,(L\ln2+\ln m')}.

*GRS-1inf:* :math:`P=\prod_j\|A_j\|_{1,\infty}`, the largest 1-norm of a row; :math:`c=2` for two
outputs and :math:`2k` for more; :math:`m'=m`.

*path:* :math:`P=\varphi_1`, the sum over all paths from an input to an output of the products
:math:`\prod|w|`; :math:`c=1, m'=m` for two outputs and :math:`c=2, m'=mk` for more.

**Peeling.** :math:`Z=\sup\|\sum_i\epsilon_ih(x_i)\|_\infty` over hidden layers ``h`` with rows of
1-norm at most :math:`M_j`. A largest entry is one row, so that for a convex increasing
:math:`g\ge0` the absolute value costs a factor 2, Ledoux and Talagrand's contraction removes the
activation, and :math:`|\sum\epsilon_iw\cdot u_i|\le M_j\|\sum\epsilon_iu_i\|_\infty`; the
activation need not be homogeneous. After :math:`L-1` activations, with :math:`g(z)=e^{\lambda z}`
and :math:`b=\prod_{j<L}M_j\|X\|_{2,\infty}`,

.. math::
    \mathrm E Z\le\tfrac1\lambda\ln\Big(2^{L-1}\sum_{j\le m}2e^{\lambda^2b^2/2}\Big)
    = \frac{L\ln2+\ln m}{\lambda}+\frac{\lambda b^2}2 ,

at the best :math:`\lambda` :math:`b\sqrt{2(L\ln2+\ln m)}`. The publication has
:math:`2\sqrt{L+1+\ln m}`, which is larger.

**Outputs.** For two, :math:`f_1-f_2` is one output with weights of 1-norm at most
:math:`2\|A_L\|_{1,\infty}`. For more, each of the ``k`` outputs is bounded on its own. For the path
norm all hidden rows are rescaled, unit by unit from the inputs on, to 1-norm 1; this changes no
output of a network with a positively homogeneous activation and leaves rows :math:`a_j` of the last
layer with :math:`\sum_j\|a_j\|_1=\varphi_1`. Then :math:`f_1-f_2` has the 1-norm
:math:`\varphi_1` at most, and for more outputs :math:`\sup\sum_ja_j\cdot V_j\le\varphi_1\max_j
\|V_j\|_\infty`, a maximum of ``k`` independent copies: ``k`` times as many terms in the sum.

**Union.** Positively homogeneous activation: one grid for the mean per layer (see
``_complexity.py``). Otherwise GRS-1inf rounds every layer and pays for ``L`` norms.
"""

import math

import numpy as np
from jaxtyping import Bool, Float

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


def _evaluate(
    inputs: BoundInputs,
    log_product: Float[np.ndarray, "..."],
    outputs: tuple[float, int],
    log_classes: float,
    violations: dict[str, Bool[np.ndarray, "..."]],
) -> Evaluation:
    """Close the bound: ``outputs`` are the constant ``c`` and the number ``m'``."""
    constant, entries = outputs
    dimension = 0.5 * math.log(2.0 * (inputs.layers * math.log(2.0) + math.log(entries)))
    log_inputs = log(np.asarray(inputs.sample.column_norm, np.float64))
    factors = {
        "constant": math.log(2.0 * constant),
        "path": log_product,
        "margin": -math.log(inputs.margin),
        "inputs": log_inputs,
        "size": -math.log(inputs.sample.size),
        "dimension": dimension,
    }
    twice = log_product + sum(value for name, value in factors.items() if name != "path")
    log_complexity = np.asarray(twice - math.log(2.0))
    log_value = log_gap_bound(inputs, log_complexity, log_classes)
    return settle(log_value, violations, factors)


def _rows(inputs: BoundInputs) -> Evaluation:
    norms, what = inputs.iterate.one_inf, "(1,inf) norm"
    scale = math.log(inputs.sample.input_bound / inputs.margin)
    if inputs.homogeneous:
        size = round_up(inputs, log_product_of(norms), inputs.layers)
        log_product = np.asarray(size - scale)
        log_classes, what = inputs.grid.log_cells, f"product of the {what}s B_x/gamma per layer"
    else:
        log_product = log_product_of(inputs.grid.ceil(norms))
        log_classes = inputs.layers * inputs.grid.log_cells
    constant = 2.0 if inputs.outputs == 2 else 2.0 * inputs.outputs
    columns = inputs.iterate.shapes[0][1]
    violations = violations_of(inputs, log_product, what)
    return _evaluate(inputs, log_product, (constant, columns), log_classes, violations)


def _paths(inputs: BoundInputs) -> Evaluation:
    assert inputs.measured is not None  # the registry asks for what a certificate needs
    norm = np.asarray(inputs.measured["path_norm_1"], np.float64)
    scale = math.log(inputs.sample.input_bound / inputs.margin)
    log_product = np.asarray(round_up(inputs, log(norm), 1) - scale)
    columns = inputs.iterate.shapes[0][1]
    outputs = (1.0, columns) if inputs.outputs == 2 else (2.0, columns * inputs.outputs)
    violations = not_homogeneous(inputs) | violations_of(inputs, log_product, "path norm B_x/gamma")
    return _evaluate(inputs, log_product, outputs, inputs.grid.log_cells, violations)


GOLOWICH_ROWS = Certificate(
    name="GRS-1inf",
    formula=(
        "2 c P C/(gamma n) sqrt(2 (L ln 2 + ln m)) + 3 sqrt(ln(2 classes/delta)/(2n)), "
        "C = longest column of X, c = 2 for 2 outputs, 2k for k > 2, P = prod_j ||A_j||_(1,inf); "
        "homogeneous: (P B_x/gamma)^(1/L) rounded up to the grid, classes = cells; "
        "otherwise every norm rounded up, classes = cells^L"
    ),
    source=(
        "Golowich, Rakhlin & Shamir 2018, arXiv:1712.06541, Theorem 2, with a smaller constant; "
        "several outputs and union over the grid: this project"
    ),
    statement="with probability 1 - delta over the training rows, for all networks at once",
    population_loss="ramp",
    empirical_loss="ramp",
    fixed_in_advance="margin, B_x, grid",
    union_bound="mean per layer of the product of the (1,inf) norms, or every (1,inf) norm",
    assumptions=COMMON_ASSUMPTIONS,
    evaluate=_rows,
    invariances=("permutation", "width_doubling", "layer_rescaling", "output_scaling"),
)

PATH_NORM = Certificate(
    name="path",
    formula=(
        "2 c P C/(gamma n) sqrt(2 (L ln 2 + ln m')) + 3 sqrt(ln(2 cells/delta)/(2n)), "
        "P = sum over paths of prod |w|, C = longest column of X, "
        "c = 1, m' = m for 2 outputs, c = 2, m' = m k for k > 2, P B_x/gamma rounded up to the grid"
    ),
    source=(
        "this project, from Golowich, Rakhlin & Shamir 2018, arXiv:1712.06541, Theorem 2, after "
        "rescaling every hidden unit"
    ),
    statement="with probability 1 - delta over the training rows, for all networks at once",
    population_loss="ramp",
    empirical_loss="ramp",
    fixed_in_advance="margin, B_x, grid",
    union_bound="path norm",
    assumptions=(*COMMON_ASSUMPTIONS, HOMOGENEITY),
    evaluate=_paths,
    needs=("path_norm_1",),
    invariances=(
        "permutation",
        "width_doubling",
        "layer_rescaling",
        "node_rescaling",
        "output_scaling",
    ),
)
