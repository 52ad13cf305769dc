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
from sgdsim.bounds._maximum import (
    expected_maximum_of_normals as expected_maximum_of_normals,
    log_count_bound as log_count_bound,
)
from sgdsim.bounds._norms import (
    LayerDistances as LayerDistances,
    LayerNorms as LayerNorms,
    layer_distances as layer_distances,
    layer_norms as layer_norms,
)
from sgdsim.bounds._registry import CERTIFICATES as CERTIFICATES, evaluate_all as evaluate_all
from sgdsim.bounds._stagnation_curve import (
    GeneralizationCurve as GeneralizationCurve,
    StationarySGD as StationarySGD,
    generalization_curve as generalization_curve,
)
from sgdsim.bounds._stagnation_entropy import (
    ball_entropy as ball_entropy,
    ellipsoid_entropy as ellipsoid_entropy,
    ellipsoid_semi_axes as ellipsoid_semi_axes,
    log_cover_of_ellipsoid as log_cover_of_ellipsoid,
)
from sgdsim.bounds._stagnation_statement import (
    CombinedStatement as CombinedStatement,
    combined_statement as combined_statement,
)
from sgdsim.bounds._stagnation_terms import (
    empirical_terms as empirical_terms,
    stagnation_terms as stagnation_terms,
)
from sgdsim.bounds._stagnation_types import (
    BoundTerms as BoundTerms,
    LossBound as LossBound,
    Neighbourhoods as Neighbourhoods,
)
from sgdsim.bounds._types import (
    LOSS_RANGE as LOSS_RANGE,
    BoundInputs as BoundInputs,
    Certificate as Certificate,
    Evaluation as Evaluation,
    LossName as LossName,
    TrainingSample as TrainingSample,
)
