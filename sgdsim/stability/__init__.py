"""Edges of stability and the validity of the SDE as a model of SGD."""

from sgdsim.stability._break_even import (
    BreakEven as BreakEven,
    break_even as break_even,
    break_even_sharpness as break_even_sharpness,
)
from sgdsim.stability._detector import detect as detect
from sgdsim.stability._detector_series import LateMean as LateMean, late_mean as late_mean
from sgdsim.stability._detector_states import (
    Detection as Detection,
    DetectorSettings as DetectorSettings,
    EdgeReason as EdgeReason,
    EdgeRecord as EdgeRecord,
    EdgeState as EdgeState,
)
from sgdsim.stability._edges import (
    BATCH_EDGES as BATCH_EDGES,
    EDGES as EDGES,
    Edge as Edge,
    edge_of as edge_of,
)
from sgdsim.stability._gauges import (
    Failure as Failure,
    SdeGauges as SdeGauges,
    SdeProbes as SdeProbes,
)
from sgdsim.stability._gaussianity import NoiseShape as NoiseShape, noise_shape as noise_shape
from sgdsim.stability._mean_square import (
    MeanSquareGauge as MeanSquareGauge,
    heavy_ball_sde_variance as heavy_ball_sde_variance,
    heavy_ball_variance as heavy_ball_variance,
    homogenised_gauge as homogenised_gauge,
    homogenised_threshold as homogenised_threshold,
    mean_square_gauge as mean_square_gauge,
    mean_square_threshold as mean_square_threshold,
    stationary_excess_risk as stationary_excess_risk,
    stationary_variance as stationary_variance,
)
from sgdsim.stability._sam_thresholds import (
    sam_threshold as sam_threshold,
    unnormalised_sam_threshold as unnormalised_sam_threshold,
)
from sgdsim.stability._svag import SvagTest as SvagTest, svag_sweep_test as svag_sweep_test
from sgdsim.stability._thresholds import (
    adam_threshold as adam_threshold,
    batch_sharpness_threshold as batch_sharpness_threshold,
    critical_curvature_variance as critical_curvature_variance,
    gradient_descent_threshold as gradient_descent_threshold,
    heavy_ball_threshold as heavy_ball_threshold,
    momentum_plateaus as momentum_plateaus,
    nesterov_threshold as nesterov_threshold,
    rmsprop_threshold as rmsprop_threshold,
    variance_ratio as variance_ratio,
)
from sgdsim.stability._validity import SdeValidity as SdeValidity, judge_sde as judge_sde
