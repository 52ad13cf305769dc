"""Curvature and noise at an iterate: Hessian products, Lanczos with residuals, probes."""

from sgdsim.curvature._lanczos import (
    ExtremeEigenvalues as ExtremeEigenvalues,
    hessian_product as hessian_product,
    lanczos as lanczos,
    random_direction as random_direction,
)
from sgdsim.curvature._probe import (
    Estimate as Estimate,
    batch_sharpness as batch_sharpness,
    hessian_trace as hessian_trace,
)
