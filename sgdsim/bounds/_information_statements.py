"""What the bounds on the mean gap along noisy trajectories say, and under which assumptions.

The proofs are at the head of ``_information.py``.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sgdsim.bounds._types import ExpectationBound

_OVER = "over training rows, start and noise of the steps"
_COMMON = (
    "the training rows are independent draws of one distribution",
    "the loss whose gap is bounded has values in an interval of length B; it need not be the one "
    "that is descended",
    "the start, the learning rates and the noise variances do not depend on the training rows",
)
_STEPS = (
    "theta' = theta - eta g + sqrt(v) zeta with zeta ~ N(0, I), v > 0, and g a weighted sum of the "
    "gradients of the rows whose weights are drawn afresh, whatever the rows are (no momentum, no "
    "preconditioner); weight decay and projections onto a fixed convex set may follow",
)
_SIZE = "c the batch factor: 0 for the full gradient, 1/B for batches of B rows"

POPULATION_CHAIN = ExpectationBound(
    name="population_chain",
    formula=(
        f"B sqrt(I/(2n)), I = sum_t eta_t^2/(2 v_t) E[||grad L_n - grad L||^2 + c tr C_n], {_SIZE}"
    ),
    source="this project, after Xu & Raginsky 2017, arXiv:1705.07809, and Pensia, Jog & Loh 2018",
    statement=f"on average {_OVER}, for the iterate of every step",
    assumptions=(*_COMMON, *_STEPS),
    needs=("deviation",),
)

GRADIENT_ENTROPY = ExpectationBound(
    name="gradient_entropy",
    formula=(
        "B sqrt(I/(2n)), I = sum_t p/2 ln(1 + eta_t^2/(p v_t) "
        f"E[||grad L_n||^2 + c tr C_n]), {_SIZE}"
    ),
    source=(
        "Pensia, Jog & Loh 2018, arXiv:1801.04295, with the mean square of the gradient in place "
        "of the square of its largest norm, which the proof allows: this project"
    ),
    statement=f"on average {_OVER}, for the iterate of every step",
    assumptions=(*_COMMON, *_STEPS),
)

GRADIENT_NORM = ExpectationBound(
    name="gradient_norm",
    formula=(
        f"B sqrt(I/2), I = (1 + c (n-1)) sum_t eta_t^2/(2 v_t n^2) E[mean_i ||g_i||^2], {_SIZE}"
    ),
    source=("after Li, Luo & Qiao 2020, arXiv:1902.00621; constant and batch factor: this project"),
    statement=f"on average {_OVER}, for the iterate of every step",
    assumptions=(*_COMMON, *_STEPS),
)

INCOHERENCE = ExpectationBound(
    name="incoherence",
    formula=(
        "B sqrt(I/2), I = (1 + c (n-1)) sum_t eta_t^2/(2 v_t (n-1)^2) E[tr C_n]; with m kept rows "
        "and the full gradient B sqrt(I/(2(n-m))), I = sum_t eta_t^2/(2 v_t) (n-m)/(m(n-1)) "
        f"E[tr C_n], {_SIZE}"
    ),
    source=(
        "after Negrea et al. 2019, arXiv:1911.02151; mean over the kept rows in closed form and "
        "batch factor: this project"
    ),
    statement=f"on average {_OVER}, for the iterate of every step",
    assumptions=(*_COMMON, *_STEPS),
)

CONDITIONAL = ExpectationBound(
    name="conditional",
    formula=(
        "B sqrt(2 I), I = (1 + c (n-1)) sum_t eta_t^2/(8 v_t n^2) "
        f"E[mean_i ||g_i - g_i'||^2], {_SIZE}"
    ),
    source="after Haghifam et al. 2020, arXiv:2004.12983; batch factor: this project",
    statement=f"on average {_OVER}, and over the pairs and coins, for the iterate of every step",
    assumptions=(
        *_COMMON,
        *_STEPS,
        "n pairs of rows are drawn, and a fair coin says which row of a pair is trained on",
    ),
    needs=("pair_square",),
)

CONDITIONAL_TESTED = ExpectationBound(
    name="conditional_tested",
    formula=(
        "B sqrt(2 I), I = sum_t eta_t^2/(2 v_t n^2) E[mean_i pi_ti^2 ||g_i - g_i'||^2], "
        "pi_ti = 1/(1 + likelihood ratio of row i against its ghost before step t)"
    ),
    source=("after Haghifam et al. 2020, arXiv:2004.12983; logistic weight: this project"),
    statement=f"on average {_OVER}, and over the pairs and coins, for the iterate of every step",
    assumptions=(
        *_COMMON,
        *_STEPS,
        "n pairs of rows are drawn, and a fair coin says which row of a pair is trained on",
        "g is the full gradient, and every step is recorded",
    ),
    needs=("pair_square", "pair_noise"),
)

VIRTUAL_NOISE = ExpectationBound(
    name="virtual_noise",
    formula=(
        "B sqrt(I/(2n)) + |E[Delta(theta, S') - Delta(theta, S)]|, I = sum_t eta_t^2/sigma_t^2 "
        "E[Gamma_t + ||grad L_n - grad L||^2 + c tr C_n], "
        "Gamma_t = E||grad L(theta_t) - grad L(theta_t + u_t)||^2, "
        f"u_t ~ N(0, sum_(s<t) sigma_s^2 I), {_SIZE}"
    ),
    source="after Neu et al. 2021, arXiv:2102.00931; constant: this project",
    statement=f"on average {_OVER}, for the iterate of every step",
    assumptions=(
        *_COMMON,
        "theta' = theta - eta g without further noise, decay or projection; g a weighted sum of "
        "the gradients of the rows whose weights are drawn afresh, whatever the rows are",
        "the virtual variances sigma_t^2 are chosen before the rows are seen",
    ),
    needs=("deviation", "virtual_variance", "sensitivity", "smoothing"),
)

#: Bounds on the mean gap along trajectories by name, read-only.
INFORMATION_BOUNDS: Mapping[str, ExpectationBound] = MappingProxyType(
    {
        bound.name: bound
        for bound in (
            POPULATION_CHAIN,
            GRADIENT_ENTROPY,
            GRADIENT_NORM,
            INCOHERENCE,
            CONDITIONAL,
            CONDITIONAL_TESTED,
            VIRTUAL_NOISE,
        )
    }
)
