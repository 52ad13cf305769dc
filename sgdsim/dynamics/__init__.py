"""How theta moves: gradient noise, diffrax terms, steppers."""

from sgdsim.dynamics._adaptive_sde import (
    AdamSDE as AdamSDE,
    Moments as Moments,
    RMSPropSDE as RMSPropSDE,
)
from sgdsim.dynamics._build import build_noise as build_noise, build_stepper as build_stepper
from sgdsim.dynamics._central_flow import (
    CentralFlow as CentralFlow,
    CentralState as CentralState,
    predicted_loss as predicted_loss,
    predicted_squared_gradient as predicted_squared_gradient,
)
from sgdsim.dynamics._complementarity import (
    Complementarity as Complementarity,
    solve_complementarity as solve_complementarity,
    symmetric_basis as symmetric_basis,
)
from sgdsim.dynamics._edge_flow import EdgeFlow as EdgeFlow, EdgeFlowState as EdgeFlowState
from sgdsim.dynamics._gradient_flow import GradientFlow as GradientFlow
from sgdsim.dynamics._modifiers import (
    AbstractModifier as AbstractModifier,
    Langevin as Langevin,
    Scheduled as Scheduled,
    WeightDecay as WeightDecay,
    sgld as sgld,
    step_times as step_times,
)
from sgdsim.dynamics._noise import (
    AbstractGradientNoise as AbstractGradientNoise,
    Clock as Clock,
    IsotropicNoise as IsotropicNoise,
    MinibatchNoise as MinibatchNoise,
)
from sgdsim.dynamics._noise_approximate import (
    DiagonalNoise as DiagonalNoise,
    LowRankNoise as LowRankNoise,
)
from sgdsim.dynamics._noise_fixed import (
    ConstantNoise as ConstantNoise,
    LangevinNoise as LangevinNoise,
)
from sgdsim.dynamics._noise_heavy import StableNoise as StableNoise, StudentNoise as StudentNoise
from sgdsim.dynamics._noise_output import (
    HessianAlignedNoise as HessianAlignedNoise,
    LabelNoise as LabelNoise,
)
from sgdsim.dynamics._noise_probe import (
    NoiseProbe as NoiseProbe,
    noise_alignment as noise_alignment,
    probe_noise as probe_noise,
)
from sgdsim.dynamics._past import Past as Past, WithPast as WithPast, midpoint as midpoint
from sgdsim.dynamics._paths import on_one_path as on_one_path
from sgdsim.dynamics._per_sample import per_sample_square_norms as per_sample_square_norms
from sgdsim.dynamics._preconditioner import preconditioner as preconditioner
from sgdsim.dynamics._projections import (
    AbstractProjection as AbstractProjection,
    BallProjection as BallProjection,
    BoxProjection as BoxProjection,
    Projected as Projected,
    SpectralProjection as SpectralProjection,
)
from sgdsim.dynamics._random import step_normal as step_normal, unrolled_normal as unrolled_normal
from sgdsim.dynamics._rules import (
    AbstractRule as AbstractRule,
    Adam as Adam,
    HeavyBall as HeavyBall,
    Nesterov as Nesterov,
    OptaxRule as OptaxRule,
    Plain as Plain,
    RMSProp as RMSProp,
)
from sgdsim.dynamics._sam import SharpnessAware as SharpnessAware, sam as sam
from sgdsim.dynamics._schedules import (
    AbstractSchedule as AbstractSchedule,
    Constant as Constant,
    CosineDecay as CosineDecay,
    ExponentialDecay as ExponentialDecay,
    LinearDecay as LinearDecay,
    Piecewise as Piecewise,
    Warmup as Warmup,
)
from sgdsim.dynamics._sde import SDE as SDE, gaussian_sgd as gaussian_sgd
from sgdsim.dynamics._solvers import check_solver as check_solver
from sgdsim.dynamics._sources import (
    AbstractGradientSource as AbstractGradientSource,
    FullGradient as FullGradient,
    GaussianGradient as GaussianGradient,
    LabelNoiseGradient as LabelNoiseGradient,
    MinibatchGradient as MinibatchGradient,
    NoisyGradient as NoisyGradient,
)
from sgdsim.dynamics._steppers import (
    AbstractStepper as AbstractStepper,
    Descent as Descent,
    Iterate as Iterate,
    adam as adam,
    gradient_descent as gradient_descent,
    heavy_ball as heavy_ball,
    label_noise_sgd as label_noise_sgd,
    minibatch_sgd as minibatch_sgd,
    nesterov as nesterov,
    rmsprop as rmsprop,
)
from sgdsim.dynamics._svag import SVAG as SVAG
from sgdsim.dynamics._term import FusedTerm as FusedTerm, StepNoise as StepNoise
from sgdsim.dynamics._underdamped import UnderdampedSDE as UnderdampedSDE
from sgdsim.dynamics._until import (
    UntilLoss as UntilLoss,
    stopped_step as stopped_step,
)
