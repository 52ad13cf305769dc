"""What a ``[[claim]]`` may be about, by study."""

from typing import Literal, get_args

StagnationQuantity = Literal[
    "stay_bound_excess",
    "exit_bound",
    "distance_to_lyapunov_ratio",
    "certificate_slack",
]
QuantityOfTwo = Literal["loss_agreement", "loss_difference"]
QuantityOfOne = Literal[
    "sde_gauge",
    "sde_valid",
    "escape_time_over_kramers",
    "escape_time_over_exact",
    "escape_time_over_corrected",
]
DynamicsQuantity = Literal[QuantityOfTwo, QuantityOfOne]

#: Names that a ``[[claim]]`` may be about, by study.
KNOWN_QUANTITIES: dict[str, tuple[str, ...]] = {
    "stagnation": get_args(StagnationQuantity),
    "dynamics": get_args(DynamicsQuantity),
}
