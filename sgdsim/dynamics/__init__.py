"""How theta moves: gradient noise, diffrax terms, steppers."""

from sgdsim.dynamics._build import build_noise as build_noise, build_stepper as build_stepper
from sgdsim.dynamics._noise import (
    AbstractGradientNoise as AbstractGradientNoise,
    Clock as Clock,
    IsotropicNoise as IsotropicNoise,
    MinibatchNoise as MinibatchNoise,
    per_sample_square_norms as per_sample_square_norms,
)
from sgdsim.dynamics._noise_probe import (
    NoiseProbe as NoiseProbe,
    noise_alignment as noise_alignment,
    probe_noise as probe_noise,
)
from sgdsim.dynamics._random import step_normal as step_normal, unrolled_normal as unrolled_normal
from sgdsim.dynamics._rules import AbstractRule as AbstractRule, Plain as Plain
from sgdsim.dynamics._sde import SDE as SDE, gaussian_sgd as gaussian_sgd
from sgdsim.dynamics._sources import (
    AbstractGradientSource as AbstractGradientSource,
    FullGradient as FullGradient,
    GaussianGradient as GaussianGradient,
    MinibatchGradient as MinibatchGradient,
    NoisyGradient as NoisyGradient,
)
from sgdsim.dynamics._steppers import (
    AbstractStepper as AbstractStepper,
    Descent as Descent,
    Iterate as Iterate,
    gradient_descent as gradient_descent,
    minibatch_sgd as minibatch_sgd,
)
from sgdsim.dynamics._term import FusedTerm as FusedTerm, StepNoise as StepNoise
