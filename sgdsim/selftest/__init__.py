"""The numbers of the theory, computed anew: closed forms against the simulator, network runs."""

from sgdsim.selftest._line import (
    Line as Line,
    between as between,
    close as close,
    near as near,
)
from sgdsim.selftest._networks import (
    claim_lines as claim_lines,
    network_claims as network_claims,
)
from sgdsim.selftest._run import (
    CLOSED_FORMS as CLOSED_FORMS,
    NETWORKS as NETWORKS,
    run_check as run_check,
)
from sgdsim.selftest._steps import (
    after as after,
    crossing as crossing,
    derivative as derivative,
    spectral_radius as spectral_radius,
)
from sgdsim.selftest._table import print_lines as print_lines
from sgdsim.selftest._variances import variance as variance
