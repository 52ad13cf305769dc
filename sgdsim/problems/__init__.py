"""What is minimised: data, models, losses."""

from sgdsim.problems._biased import (
    BiasedNetwork as BiasedNetwork,
    biased_network as biased_network,
)
from sgdsim.problems._build import (
    Minimised as Minimised,
    array_count as array_count,
    build_known as build_known,
    build_landscape as build_landscape,
    build_problem as build_problem,
    build_regression as build_regression,
    build_task as build_task,
    coordinate_count as coordinate_count,
    initial_network as initial_network,
    layer_count as layer_count,
)
from sgdsim.problems._classification import (
    ClassificationTask as ClassificationTask,
    Rows as Rows,
    cross_entropies as cross_entropies,
    error_rate as error_rate,
    margins as margins,
)
from sgdsim.problems._digits import digits as digits
from sgdsim.problems._hypercube import (
    HypercubeTeacher as HypercubeTeacher,
    hypercube as hypercube,
)
from sgdsim.problems._known import (
    Curvature as Curvature,
    Deviations as Deviations,
    Estimate as Estimate,
    KnownLandscape as KnownLandscape,
    KnownProblem as KnownProblem,
    LossFacts as LossFacts,
)
from sgdsim.problems._landscapes import (
    AbstractLandscape as AbstractLandscape,
    LeastSquares as LeastSquares,
    Quadratic as Quadratic,
    Sphere as Sphere,
)
from sgdsim.problems._landscapes_edge import (
    LipschitzProduct as LipschitzProduct,
    ScalarDeepLinear as ScalarDeepLinear,
)
from sgdsim.problems._landscapes_products import DeepLinear as DeepLinear, Hyperbola as Hyperbola
from sgdsim.problems._landscapes_ripples import Ripples as Ripples
from sgdsim.problems._landscapes_wells import (
    AbstractWells as AbstractWells,
    DoubleWell as DoubleWell,
    PeriodicWells as PeriodicWells,
    TwoWells as TwoWells,
)
from sgdsim.problems._many_minima import (
    ManyMinima as ManyMinima,
    many_minima as many_minima,
)
from sgdsim.problems._networks import (
    ACTIVATIONS as ACTIVATIONS,
    Network as Network,
    random_network as random_network,
)
from sgdsim.problems._problem import (
    OutputLoss as OutputLoss,
    Problem as Problem,
    cast as cast,
    inner as inner,
    squared_norm as squared_norm,
)
from sgdsim.problems._regression import (
    LinearRegression as LinearRegression,
    linear_regression as linear_regression,
)
from sgdsim.problems._regression_tasks import (
    RegressionTask as RegressionTask,
    chebyshev as chebyshev,
    digit_targets as digit_targets,
    noisy_signs as noisy_signs,
    squared_errors as squared_errors,
    wrong_share as wrong_share,
)
from sgdsim.problems._starts import build_start as build_start, build_starts as build_starts
from sgdsim.problems._streams import stream as stream
from sgdsim.problems._teacher import (
    TeacherStudent as TeacherStudent,
    teacher_network as teacher_network,
    teacher_student as teacher_student,
)
