"""Scenarios: what a run is, as checked, immutable data; nothing here imports JAX."""

from sgdsim.scenario._bounds import (
    BoundsClaim as BoundsClaim,
    BoundsScenario as BoundsScenario,
    Measuring as Measuring,
    Training as Training,
)
from sgdsim.scenario._catalogue import (
    scenario_names as scenario_names,
    scenario_root as scenario_root,
)
from sgdsim.scenario._classification import (
    DIGITS_ROWS as DIGITS_ROWS,
    Classification as Classification,
    Digits as Digits,
    Hypercube as Hypercube,
    Mlp as Mlp,
    Model as Model,
    Softmax as Softmax,
)
from sgdsim.scenario._dynamics import (
    Adam as Adam,
    AdamSde as AdamSde,
    CentralFlow as CentralFlow,
    Dynamics as Dynamics,
    EdgeFlow as EdgeFlow,
    GaussianSgd as GaussianSgd,
    Gd as Gd,
    GradientFlow as GradientFlow,
    HeavyBall as HeavyBall,
    LabelNoiseSgd as LabelNoiseSgd,
    Nesterov as Nesterov,
    Rmsprop as Rmsprop,
    RmspropSde as RmspropSde,
    Sam as Sam,
    Sde as Sde,
    Sgd as Sgd,
    Sgld as Sgld,
    Svag as Svag,
    UnderdampedSde as UnderdampedSde,
)
from sgdsim.scenario._edge import (
    Curvature as Curvature,
    Detector as Detector,
    EdgeClaim as EdgeClaim,
    EdgeProcess as EdgeProcess,
    EdgeScenario as EdgeScenario,
    Fork as Fork,
)
from sgdsim.scenario._exits import (
    Case as Case,
    Evaluation as Evaluation,
    ExitEnsemble as ExitEnsemble,
    ExitsClaim as ExitsClaim,
    ExitsScenario as ExitsScenario,
    Splitting as Splitting,
)
from sgdsim.scenario._known_problem import (
    CaseProblem as CaseProblem,
    LinearRegression as LinearRegression,
    ManyMinima as ManyMinima,
    TeacherStudent as TeacherStudent,
)
from sgdsim.scenario._landscape import (
    AnalyticLandscape as AnalyticLandscape,
    DeepLinear as DeepLinear,
    DoubleWell as DoubleWell,
    Hyperbola as Hyperbola,
    LipschitzProduct as LipschitzProduct,
    PeriodicWells as PeriodicWells,
    Quadratic as Quadratic,
    Ripples as Ripples,
    Sphere as Sphere,
    TwoWells as TwoWells,
)
from sgdsim.scenario._load import (
    list_scenarios as list_scenarios,
    load_scenario as load_scenario,
)
from sgdsim.scenario._modifiers import (
    BallProjection as BallProjection,
    BoxProjection as BoxProjection,
    CosineSchedule as CosineSchedule,
    ExponentialSchedule as ExponentialSchedule,
    LinearSchedule as LinearSchedule,
    Projection as Projection,
    Schedule as Schedule,
    SpectralProjection as SpectralProjection,
    StepSchedule as StepSchedule,
    WarmupSchedule as WarmupSchedule,
)
from sgdsim.scenario._noise import (
    ConstantNoise as ConstantNoise,
    DiagonalNoise as DiagonalNoise,
    HessianAlignedNoise as HessianAlignedNoise,
    IsotropicNoise as IsotropicNoise,
    LabelNoise as LabelNoise,
    LangevinNoise as LangevinNoise,
    LowRankNoise as LowRankNoise,
    MinibatchNoise as MinibatchNoise,
    Noise as Noise,
    StableNoise as StableNoise,
    StudentNoise as StudentNoise,
)
from sgdsim.scenario._problem import (
    Landscape as Landscape,
    Problem as Problem,
)
from sgdsim.scenario._processes import (
    DynamicsClaim as DynamicsClaim,
    DynamicsScenario as DynamicsScenario,
    Escape as Escape,
    Process as Process,
    Validity as Validity,
)
from sgdsim.scenario._quantities import (
    KNOWN_QUANTITIES as KNOWN_QUANTITIES,
    QUANTITIES_OF_A_SWEEP as QUANTITIES_OF_A_SWEEP,
    QUANTITIES_OF_ONE_BOUND as QUANTITIES_OF_ONE_BOUND,
)
from sgdsim.scenario._regions import (
    BallRegion as BallRegion,
    EllipsoidRegion as EllipsoidRegion,
    FunctionRegion as FunctionRegion,
    HalfSpaceRegion as HalfSpaceRegion,
    Region as Region,
    SublevelRegion as SublevelRegion,
    TubeRegion as TubeRegion,
    WellsRegion as WellsRegion,
)
from sgdsim.scenario._regression import (
    BiasedMlp as BiasedMlp,
    Chebyshev as Chebyshev,
    DigitTargets as DigitTargets,
    NoisySigns as NoisySigns,
    Regression as Regression,
    RegressionData as RegressionData,
)
from sgdsim.scenario._render import (
    scenario_schema as scenario_schema,
    to_toml as to_toml,
)
from sgdsim.scenario._schema import (
    Claim as Claim,
    Compute as Compute,
    Ensemble as Ensemble,
    Scenario as Scenario,
)
from sgdsim.scenario._stagnation import (
    Bounds as Bounds,
    Convexity as Convexity,
    Minimum as Minimum,
    Stagnation as Stagnation,
    StagnationClaim as StagnationClaim,
    StagnationScenario as StagnationScenario,
)
from sgdsim.scenario._start import (
    PointStart as PointStart,
    RandomStart as RandomStart,
    Start as Start,
)
from sgdsim.scenario._sweep import (
    point_label as point_label,
    sweep_dimensions as sweep_dimensions,
    sweep_points as sweep_points,
)
from sgdsim.scenario._sweep_axes import (
    Axis as Axis,
    Sweep as Sweep,
)
from sgdsim.scenario._sweep_points import (
    SweepDimension as SweepDimension,
)
