"""Generalization certificates: norms, bounds with all constants, losses of the margin."""

from sgdsim.bounds._grid import GeometricGrid as GeometricGrid
from sgdsim.bounds._losses import (
    Gap as Gap,
    auto_margin as auto_margin,
    gap_from_moments as gap_from_moments,
    generalization_gap as generalization_gap,
    margin_fraction as margin_fraction,
    margins as margins,
    ramp as ramp,
    tightness as tightness,
    zero_one as zero_one,
)
from sgdsim.bounds._norms import (
    LayerDistances as LayerDistances,
    LayerNorms as LayerNorms,
    layer_distances as layer_distances,
    layer_norms as layer_norms,
)
from sgdsim.bounds._registry import CERTIFICATES as CERTIFICATES, evaluate_all as evaluate_all
from sgdsim.bounds._types import (
    LOSS_RANGE as LOSS_RANGE,
    BoundInputs as BoundInputs,
    Certificate as Certificate,
    Evaluation as Evaluation,
    LossName as LossName,
    TrainingSample as TrainingSample,
)
