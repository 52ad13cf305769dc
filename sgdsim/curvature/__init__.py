"""Curvature and noise at an iterate: Hessian products, Lanczos with residuals, probes."""

from sgdsim.curvature._alignment import Alignment as Alignment, alignment as alignment
from sgdsim.curvature._batch import (
    BatchCurvature as BatchCurvature,
    batch_curvature as batch_curvature,
    batch_sharpness as batch_sharpness,
)
from sgdsim.curvature._critical import (
    CriticalSharpness as CriticalSharpness,
    critical_sharpness as critical_sharpness,
)
from sgdsim.curvature._density import (
    SpectralDensity as SpectralDensity,
    spectral_density as spectral_density,
)
from sgdsim.curvature._eigenpairs import (
    Eigenpairs as Eigenpairs,
    eigenpairs as eigenpairs,
    require_finite as require_finite,
)
from sgdsim.curvature._estimates import Estimate as Estimate
from sgdsim.curvature._follow import follow as follow
from sgdsim.curvature._lanczos import (
    ExtremeEigenvalues as ExtremeEigenvalues,
    lanczos as lanczos,
    random_direction as random_direction,
)
from sgdsim.curvature._probe import hessian_trace as hessian_trace
from sgdsim.curvature._products import (
    MatVec as MatVec,
    block_product as block_product,
    chunked_hessian_product as chunked_hessian_product,
    flat_product as flat_product,
    hessian_product as hessian_product,
    preconditioned_product as preconditioned_product,
)
from sgdsim.curvature._products_first_order import (
    empirical_fisher_product as empirical_fisher_product,
    fisher_product as fisher_product,
    gauss_newton_product as gauss_newton_product,
    gaussian_fisher as gaussian_fisher,
    noise_covariance_product as noise_covariance_product,
    softmax_fisher as softmax_fisher,
)
from sgdsim.curvature._self_stabilisation import (
    SelfStabilisation as SelfStabilisation,
    predicted_gap as predicted_gap,
    self_stabilisation as self_stabilisation,
)
from sgdsim.curvature._trace import (
    TraceEstimate as TraceEstimate,
    trace as trace,
    xtrace as xtrace,
)
