"""Edges of stability and the validity of the SDE as a model of SGD."""

from sgdsim.stability._thresholds import (
    gradient_descent_threshold as gradient_descent_threshold,
    sde_verdict as sde_verdict,
    variance_ratio as variance_ratio,
)
