"""Slow, independent oracles for the tests: nothing in the library depends on them."""

from sgdsim.testing._certificate_oracles import (
    CERTIFICATE_ORACLES as CERTIFICATE_ORACLES,
    CertificateCase as CertificateCase,
    gibbs_risks as gibbs_risks,
    inverse_divergence as inverse_divergence,
    path_norm as path_norm,
)
from sgdsim.testing._convolutions import dense_convolution as dense_convolution
from sgdsim.testing._measures import (
    plain_measures as plain_measures,
    plain_path_norm as plain_path_norm,
)
from sgdsim.testing._same_run import assert_same_run as assert_same_run
from sgdsim.testing._synthetic import synthetic_run as synthetic_run
from sgdsim.testing._synthetic_dynamics import synthetic_dynamics_run as synthetic_dynamics_run
from sgdsim.testing._synthetic_edge import synthetic_edge_run as synthetic_edge_run
from sgdsim.testing._synthetic_exits import synthetic_exits_run as synthetic_exits_run
from sgdsim.testing._synthetic_sweep import synthetic_sweep as synthetic_sweep
from sgdsim.testing._synthetic_training import synthetic_training_run as synthetic_training_run
