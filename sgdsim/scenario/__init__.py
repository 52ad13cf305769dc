"""Scenarios: what a run is, as checked, immutable data; nothing here imports JAX."""

from sgdsim.scenario._catalogue import (
    scenario_names as scenario_names,
    scenario_root as scenario_root,
)
from sgdsim.scenario._dynamics import (
    Dynamics as Dynamics,
    GaussianSgd as GaussianSgd,
    Gd as Gd,
    IsotropicNoise as IsotropicNoise,
    MinibatchNoise as MinibatchNoise,
    Noise as Noise,
    Sde as Sde,
    Sgd as Sgd,
)
from sgdsim.scenario._load import (
    list_scenarios as list_scenarios,
    load_scenario as load_scenario,
)
from sgdsim.scenario._problem import (
    Classification as Classification,
    Digits as Digits,
    Mlp as Mlp,
    Model as Model,
    Problem as Problem,
    Softmax as Softmax,
)
from sgdsim.scenario._render import (
    scenario_schema as scenario_schema,
    to_toml as to_toml,
)
from sgdsim.scenario._schema import (
    KNOWN_QUANTITIES as KNOWN_QUANTITIES,
    Bounds as Bounds,
    Claim as Claim,
    Compute as Compute,
    Convexity as Convexity,
    Ensemble as Ensemble,
    Minimum as Minimum,
    Scenario as Scenario,
    Stagnation as Stagnation,
)
