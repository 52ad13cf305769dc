r"""Certificate VC: counts the classifications that a relu network can give to ``n`` inputs.

.. math::
    \sqrt{\frac{2\ln\Pi}{n}} + \sqrt{\frac{\ln(1/\delta)}{2n}},\qquad
    \ln\Pi = \min\Big(n\ln2,\ \sum_{i=1}^L\ln\beta(n\,m_i,\,i,\,W_i)\Big),

.. math::
    \beta(M,D,W) = \begin{cases}\min(2^M,\ 2\,(2eMD/W)^W) & W\le M\\ 2^M & W>M,\end{cases}

with :math:`m_i` units in layer ``i`` (:math:`m_L=k-1`) and :math:`W_i` weights in the layers up to
``i``.

**Count.** Warren's bound (Anthony and Bartlett 1999, Theorem 8.3): ``M`` polynomials of degree at
most ``D`` in ``W`` variables take at most :math:`\beta(M,D,W)` vectors of signs. Fix ``n`` inputs.
Suppose that the weights of the first :math:`i-1` layers are divided into cells on which the signs
of all their units at all inputs are constant. On a cell the :math:`n\,m_i` values before the
activation of layer ``i`` are polynomials of degree ``i`` in :math:`W_i` weights, so that the cell
is divided into at most :math:`\beta(nm_i,i,W_i)` smaller ones. This is the induction of Bartlett,
Harvey, Liaw and Mehrabian 2019, Theorem 7. In the last layer the error of row ``r`` depends on the
signs of :math:`f_y-f_j`, :math:`j\ne y`, only: :math:`n(k-1)` polynomials of degree ``L``. Hence
the count covers any number of outputs, and no VC dimension is needed in between.

**Gap.** McDiarmid and symmetrization: :math:`2\,\mathrm E\hat{\mathcal R}+\sqrt{\ln(1/\delta)/
(2n)}`. Errors lie in :math:`\{0,1\}`; less the constant 1/2, whose sum with the signs has mean 0,
the :math:`\Pi` vectors have the length :math:`\sqrt n/2`, and Massart's lemma gives
:math:`\hat{\mathcal R}\le\sqrt{\ln\Pi/(2n)}`.

No norm enters; the value is the same for every iterate.
"""

import math

import numpy as np

from sgdsim.bounds._complexity import not_homogeneous
from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._types import COMMON_ASSUMPTIONS, Certificate, Evaluation, settle


def log_sign_vectors(polynomials: int, degree: int, variables: int) -> float:
    r"""Logarithm of a bound on the number of sign vectors of polynomials.

    Parameters
    ----------
    polynomials
        Number ``M``.
    degree
        Largest degree ``D``, at least 1.
    variables
        Number ``W`` of variables.
    """
    if variables > polynomials:
        return polynomials * math.log(2.0)
    ratio = 2.0 * math.e * polynomials * degree / variables
    return min(polynomials * math.log(2.0), math.log(2.0) + variables * math.log(ratio))


def log_classifications(shapes: tuple[tuple[int, int], ...], rows: int) -> float:
    r"""Logarithm of a bound on the number of vectors of errors on ``n`` rows.

    Parameters
    ----------
    shapes
        ``(rows, cols)`` of every layer, first layer first.
    rows
        Number ``n`` of rows of data.
    """
    total, weights = 0.0, 0
    for layer, (units, columns) in enumerate(shapes, start=1):
        weights += units * columns
        signs = units - 1 if layer == len(shapes) else units
        total += log_sign_vectors(rows * signs, layer, weights)
    return min(total, rows * math.log(2.0))


def _dimension(inputs: BoundInputs) -> Evaluation:
    rows = inputs.sample.size
    count = log_classifications(inputs.iterate.shapes, rows)
    value = math.sqrt(2.0 * count / rows) + math.sqrt(
        -math.log(inputs.failure_probability) / (2.0 * rows)
    )
    return settle(
        np.full(inputs.lead, math.log(value)),
        not_homogeneous(inputs)
        | {
            "norms not finite": np.asarray(~inputs.finite),
            "one output has no margin": np.full(inputs.lead, inputs.outputs < 2),
        },
        {
            "constant": 0.5 * math.log(2.0),
            "dimension": 0.5 * math.log(count) if count > 0.0 else 0.0,
            "size": -0.5 * math.log(rows),
        },
    )


VC = Certificate(
    name="VC",
    formula=(
        "sqrt(2 ln(Pi)/n) + sqrt(ln(1/delta)/(2n)), ln Pi = min(n ln 2, sum_i ln beta(n m_i, i, "
        "W_i)), beta(M, D, W) = 2 (2 e M D/W)^W if W <= M, at most 2^M, m_i units (last: k-1), "
        "W_i weights up to layer i"
    ),
    source=(
        "Bartlett, Harvey, Liaw & Mehrabian 2019, arXiv:1703.02930, proof of Theorem 7; several "
        "outputs and the step from the count to the gap: this project"
    ),
    statement="with probability 1 - delta over the training rows, for all networks at once",
    population_loss="zero_one",
    empirical_loss="zero_one",
    fixed_in_advance="layers and their widths",
    union_bound="nothing",
    assumptions=(
        COMMON_ASSUMPTIONS[0],
        "f(x) = A_L s(A_{L-1} ... s(A_1 x)) without biases, s = relu or the identity",
    ),
    evaluate=_dimension,
    invariances=("permutation", "layer_rescaling", "node_rescaling", "output_scaling"),
)
