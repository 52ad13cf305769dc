"""Which processes the theorems are about: plain Gaussian SGD and the Euler steps of its SDE."""

from sgdsim.scenario import Dynamics, GaussianSgd, Sde, Sgd


def why_not_plain(dynamics: Dynamics) -> str:
    r"""Say why a process is not :math:`\theta' = \theta - h(\nabla L_n + \xi)`, Gaussian."""
    if not isinstance(dynamics, GaussianSgd | Sde):
        return f"the theorems are about Gaussian noise around gradient descent, not {dynamics.kind}"
    if not dynamics.is_plain:
        return "the theorems are about SGD without decay, schedule or projection"
    if isinstance(dynamics, Sde) and not (dynamics.order == 1 and dynamics.solver == "euler"):
        return "the theorems are about Euler steps of the SDE of order 1"
    if dynamics.noise.kind in ("student", "stable"):
        return "the theorems need light-tailed noise"
    return ""


def is_plain(dynamics: Dynamics) -> bool:
    r"""Whether the recursion is :math:`\theta' = \theta - h(\nabla L_n + \xi)`, light-tailed."""
    return (isinstance(dynamics, Sgd) and dynamics.is_plain) or not why_not_plain(dynamics)


def substeps_of(dynamics: Dynamics) -> int:
    """Count the steps of the recursion per SGD step: those of an Euler SDE."""
    return dynamics.substeps if isinstance(dynamics, Sde) else 1
