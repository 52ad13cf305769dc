"""Generalization certificates: norms, bounds with all constants, losses of the margin."""

from sgdsim.bounds._assess import (
    Assessment as Assessment,
    MarginSample as MarginSample,
    assess as assess,
)
from sgdsim.bounds._changes import (
    constant_predictor as constant_predictor,
    double_width as double_width,
    rescale_nodes as rescale_nodes,
)
from sgdsim.bounds._fft_norms import fft_ingredients as fft_ingredients
from sgdsim.bounds._grid import GeometricGrid as GeometricGrid
from sgdsim.bounds._information import (
    ExpectationValue as ExpectationValue,
    expectation_bounds as expectation_bounds,
    wrong_row_weights as wrong_row_weights,
)
from sgdsim.bounds._information_stream import (
    GradientStream as GradientStream,
    join_streams as join_streams,
)
from sgdsim.bounds._ingredients import (
    INGREDIENTS as INGREDIENTS,
    check_ingredients as check_ingredients,
)
from sgdsim.bounds._inputs import (
    ActivationName as ActivationName,
    BoundInputs as BoundInputs,
    GibbsErrors as GibbsErrors,
    TrainingSample as TrainingSample,
)
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
from sgdsim.bounds._measures import (
    compat_differences as compat_differences,
    evaluate_measures as evaluate_measures,
    why_undefined as why_undefined,
)
from sgdsim.bounds._measures_flatness import MAGNITUDE_FLOOR as MAGNITUDE_FLOOR
from sgdsim.bounds._norms import (
    LayerDistances as LayerDistances,
    LayerNorms as LayerNorms,
    layer_distances as layer_distances,
    layer_norms as layer_norms,
)
from sgdsim.bounds._ornstein_uhlenbeck import (
    ornstein_uhlenbeck_kl as ornstein_uhlenbeck_kl,
    ornstein_uhlenbeck_variances as ornstein_uhlenbeck_variances,
)
from sgdsim.bounds._pac_bayes import best_scale as best_scale
from sgdsim.bounds._pac_bayes_kl import (
    gaussian_kl as gaussian_kl,
    kl_inverse as kl_inverse,
    pac_bayes_bound as pac_bayes_bound,
)
from sgdsim.bounds._reading import Compat as Compat
from sgdsim.bounds._registry import (
    CERTIFICATES as CERTIFICATES,
    EXPECTATION_BOUNDS as EXPECTATION_BOUNDS,
    MEASURES as MEASURES,
    available as available,
    certificate as certificate,
    evaluate_all as evaluate_all,
    explain as explain,
    lookup as lookup,
)
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
    FACTORS as FACTORS,
    LOSS_RANGE as LOSS_RANGE,
    Certificate as Certificate,
    Evaluation as Evaluation,
    ExpectationBound as ExpectationBound,
    LossName as LossName,
    Measure as Measure,
    Score as Score,
)
