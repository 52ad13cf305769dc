r"""Certificate linear: one weight matrix in a Frobenius ball.

.. math::
    2c\,\frac{\|A\|_F B_x}{\gamma\sqrt n} + \sqrt{\frac{\ln(\mathrm{cells}/\delta)}{2n}},\qquad
    c = \begin{cases}\sqrt2 & k=2\\ 2\sqrt k & k>2\end{cases}

**Proof.** McDiarmid and symmetrization: the gap is at most :math:`2\,\mathrm E\hat{\mathcal R}
+\sqrt{\ln(1/\delta)/(2n)}`. For two outputs, :math:`f_1-f_2=(a_1-a_2)\cdot x` with
:math:`\|a_1-a_2\|\le\sqrt2\|A\|_F`, and
:math:`\mathrm E\|\sum\epsilon_ix_i\|\le(\sum\|x_i\|^2)^{1/2}\le\sqrt nB_x`. For more,
:math:`\sup\sum_{ij}\epsilon_{ij}(Ax_i)_j=\|A\|_F\|\sum_{ij}\epsilon_{ij}e_jx_i^T\|_F`, of mean at
most :math:`\|A\|_F\sqrt{kn}B_x`, and the contraction costs :math:`2/\gamma` (``_complexity.py``).
:math:`\|A\|_FB_x/\gamma` is rounded up to the grid.
"""

import math

import numpy as np

from sgdsim.bounds._complexity import log_product_of, round_up, violations_of
from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._logdomain import log_sum
from sgdsim.bounds._types import COMMON_ASSUMPTIONS, Certificate, Evaluation, settle


def _linear(inputs: BoundInputs) -> Evaluation:
    size = round_up(inputs, log_product_of(inputs.iterate.frobenius), inputs.layers)
    scale = math.log(inputs.sample.input_bound / inputs.margin)
    outputs = 2.0 if inputs.outputs == 2 else 4.0 * inputs.outputs
    rows = inputs.sample.size
    complexity = 0.5 * math.log(outputs) + size - 0.5 * math.log(rows)
    inverse_probability = inputs.grid.log_cells - math.log(inputs.failure_probability)
    log_value = log_sum(
        math.log(2.0) + np.asarray(complexity), 0.5 * math.log(inverse_probability / (2 * rows))
    )
    deep = np.full(inputs.lead, inputs.layers > 1)
    return settle(
        log_value,
        {f"{inputs.layers} layers instead of one": deep}
        | violations_of(inputs, size, "Frobenius norm B_x/gamma"),
        {
            "constant": math.log(2.0),
            "frobenius_product": size - scale,
            "margin": -math.log(inputs.margin),
            "inputs": math.log(inputs.sample.input_bound),
            "size": -0.5 * math.log(rows),
            "dimension": 0.5 * math.log(outputs),
        },
    )


LINEAR = Certificate(
    name="linear",
    formula=(
        "2 c ||A||_F B_x/(gamma sqrt(n)) + sqrt(ln(cells/delta)/(2n)), c = sqrt(2) for 2 outputs, "
        "2 sqrt(k) for k > 2, ||A||_F B_x/gamma rounded up to the grid"
    ),
    source=(
        "Bartlett & Mendelson 2002; contraction of Maurer 2016, arXiv:1605.00251, for several "
        "outputs and union over the grid: this project"
    ),
    statement="with probability 1 - delta over the training rows, for all matrices at once",
    population_loss="ramp",
    empirical_loss="ramp",
    fixed_in_advance="margin, B_x, grid",
    union_bound="Frobenius norm",
    assumptions=(*COMMON_ASSUMPTIONS[:2], "f(x) = A x, one layer without a bias"),
    evaluate=_linear,
    invariances=("output_scaling",),
)
