"""How theta moves: gradient noise, diffrax terms, steppers."""

from sgdsim.dynamics._build import build_noise as build_noise, build_stepper as build_stepper
from sgdsim.dynamics._noise import (
    AbstractGradientNoise as AbstractGradientNoise,
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
from sgdsim.dynamics._steppers import (
    SDE as SDE,
    AbstractStepper as AbstractStepper,
    GradientDescent as GradientDescent,
    MinibatchSGD as MinibatchSGD,
    gaussian_sgd as gaussian_sgd,
)
from sgdsim.dynamics._term import FusedTerm as FusedTerm, StepNoise as StepNoise
