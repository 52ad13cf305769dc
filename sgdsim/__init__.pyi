from ._errors import (
    RunInterrupted as RunInterrupted,
    ScenarioError as ScenarioError,
    SgdsimError as SgdsimError,
    StoreError as StoreError,
)
from .bounds import (
    CERTIFICATES as CERTIFICATES,
    BoundInputs as BoundInputs,
    GeometricGrid as GeometricGrid,
    TrainingSample as TrainingSample,
    evaluate_all as evaluate_all,
    layer_norms as layer_norms,
)
from .curvature import hessian_product as hessian_product, lanczos as lanczos
from .dynamics import (
    SDE as SDE,
    IsotropicNoise as IsotropicNoise,
    MinibatchNoise as MinibatchNoise,
    gaussian_sgd as gaussian_sgd,
    gradient_descent as gradient_descent,
    minibatch_sgd as minibatch_sgd,
)
from .ensemble import (
    Ensemble as Ensemble,
    Layout as Layout,
    Schedule as Schedule,
    choose_layout as choose_layout,
    no_observables as no_observables,
)
from .problems import Network as Network, OutputLoss as OutputLoss, Problem as Problem
from .runs import resume as resume, run as run, simulate as simulate
from .scenario import Scenario as Scenario, load_scenario as load_scenario
from .stagnation import (
    Ball as Ball,
    StayConstants as StayConstants,
    auto_radius as auto_radius,
    clopper_pearson as clopper_pearson,
    find_minimum as find_minimum,
    log_exit_bounds as log_exit_bounds,
)
from .store import open_run as open_run
