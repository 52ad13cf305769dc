"""Power laws against the Fokker-Planck equation, a simulation and eigenvalues of the generator."""

import math

import numpy as np
import pytest
from scipy import integrate, sparse
from scipy.sparse import linalg as sparse_linalg

from sgdsim.stagnation import (
    curvature_noise_escape_time,
    power_law_escape_rate,
    power_law_exponent,
    power_law_stationary,
)


def test_table_and_fokker_planck():
    eta, curvature, batch, loss = 0.1, 1.0, 1, 0.5
    law = power_law_stationary(eta, curvature, batch, loss)
    assert power_law_exponent(eta, curvature, batch) == pytest.approx(11.0)
    assert float(law.var()) == pytest.approx(0.0526316, abs=6e-8)
    # Zero flux: p = exp(int drift/D)/D with the exponent by quadrature, not by hand.
    eta, curvature, batch, loss = 0.3, 1.7, 2, 0.4
    law = power_law_stationary(eta, curvature, batch, loss)

    def diffusion(x):
        return eta * curvature / batch * (loss + curvature * x * x / 2)

    def density(x):
        drift = integrate.quad(lambda y: -curvature * y / diffusion(y), 0, x, epsrel=1e-12)[0]
        return math.exp(drift) / diffusion(x)

    total = integrate.quad(density, -np.inf, np.inf, epsrel=1e-10)[0]
    at = np.array([-2.0, -0.5, 0.0, 0.3, 1.1, 4.0])
    np.testing.assert_allclose(law.pdf(at), [density(x) / total for x in at], rtol=1e-8)


@pytest.mark.statistical
def test_simulation_with_additive_and_multiplicative_noise():
    """Two independent noises: a constant one and one proportional to the displacement."""
    eta, curvature, batch, loss, dt, runs = 0.5, 1.0, 1, 0.5, 0.005, 30_000
    rng = np.random.default_rng(0)
    law = power_law_stationary(eta, curvature, batch, loss)
    x = np.zeros(runs)
    strength = 2 * eta * curvature / batch * dt
    for _ in range(1200):
        one, two = rng.standard_normal((2, runs))
        x = x - curvature * x * dt + math.sqrt(strength * loss) * one
        x += math.sqrt(strength * curvature / 2) * (x * two)
    for level in (0.5, 1.5):
        expected = 2 * law.sf(level)
        unit = math.sqrt(expected * (1 - expected) / runs)
        # Half a step of the drift is the error of the scheme.
        assert abs(np.mean(np.abs(x) > level) - expected) < 5 * unit + curvature * dt * expected
    # The constant noise alone is far from it.
    gauss = math.erfc(1.5 / math.sqrt(2 * eta * loss / batch))
    assert abs(np.mean(np.abs(x) > 1.5) - gauss) > 10 * unit


def spectral_rate(gain, dimension, loss=0.5, cells=(160, 60)):
    """Half the relaxation rate of the two wells (x^2 - 1)^2/4 + y^2, by finite volumes.

    All curvatures of the minimum are 2, so that the noise is isotropic: D = L/gain.
    """
    axes = [np.linspace(-1.9, 1.9, cells[0]), np.linspace(-1.1, 1.1, cells[1])][:dimension]
    grid = np.meshgrid(*axes, indexing="ij")
    risk = loss + (grid[0] ** 2 - 1) ** 2 / 4 + (grid[1] ** 2 if dimension == 2 else 0.0)
    # Generator f -> div(p D grad f)/p with p = L^-(1 + gain), symmetric in the weight p.
    log_p = -(1 + gain) * np.log(risk / loss)
    size = risk.size
    number = np.arange(size).reshape(risk.shape)
    rows, columns, flows = [], [], []
    for axis, points in enumerate(axes):
        left, right = (
            np.take(number, range(start, stop), axis).ravel()
            for start, stop in ((0, points.size - 1), (1, points.size))
        )
        middle = 0.5 * (log_p + np.log(risk / gain)).ravel()
        flow = np.exp(middle[left] + middle[right]) / (points[1] - points[0]) ** 2
        rows.append(left)
        columns.append(right)
        flows.append(flow)
    rows, columns, flows = map(np.concatenate, (rows, columns, flows))
    coupling = sparse.coo_matrix((flows, (rows, columns)), (size, size))
    coupling = coupling + coupling.T
    root = np.exp(log_p.ravel() / 2)
    laplacian = sparse.diags(np.asarray(coupling.sum(axis=1)).ravel()) - coupling
    scaled = sparse.diags(1 / root) @ laplacian @ sparse.diags(1 / root)
    rates = sparse_linalg.eigsh(scaled.tocsc(), 2, sigma=-1e-9, return_eigenvectors=False)
    return float(np.sort(rates)[1]) / 2


@pytest.mark.parametrize("dimension", [1, 2])
def test_escape_rate_against_the_generator(dimension):
    """The formula is the limit of small steps; the error falls with the learning rate."""
    errors = []
    for gain in (15.0, 30.0, 60.0):
        eta = 1 / (2.0 * gain)
        rate = power_law_escape_rate(
            eta, 1, (0.5, 0.75), [2.0, 2.0][:dimension], [-1.0, 2.0][:dimension], 2.0
        )
        errors.append(spectral_rate(gain, dimension, cells=(400, 80)) / rate - 1)
    assert abs(errors[2]) < 0.01
    assert errors[2] / errors[1] == pytest.approx(0.5, abs=0.1)
    # The outliers count: without the transverse direction the exponent is another one.
    one = power_law_escape_rate(1 / 120, 1, (0.5, 0.75), [2.0], [-1.0])
    two = power_law_escape_rate(1 / 120, 1, (0.5, 0.75), [2.0, 2.0], [-1.0, 2.0], 2.0)
    assert two / one == pytest.approx(math.sqrt(1.5))


def test_passage_time_with_its_diffusion():
    """The exact passage integral, for a learning rate where its logarithm is large."""
    gain = 400.0
    y = np.linspace(-2.2, 1.0, 40_001)
    log_risk = np.log1p((y**2 - 1) ** 2 / 4 / 0.5)
    behind = integrate.cumulative_trapezoid(np.exp(-(gain + 1) * log_risk), y, initial=0)
    begin = np.searchsorted(y, -1.0)
    outer = np.exp(gain * (log_risk - math.log(1.5)))
    time = gain * integrate.trapezoid((outer * behind)[begin:], y[begin:]) / 0.5
    log_time = math.log(time) + gain * math.log(1.5)
    eta = 1 / (2.0 * gain)
    rate = power_law_escape_rate(eta, 1, (0.5, 0.75), [2.0], [-1.0])
    product = math.exp(log_time + math.log(rate))
    assert product == pytest.approx(1, abs=2 / gain)
    assert math.sqrt(1.5) * product != pytest.approx(1, abs=0.2)


def test_noise_of_the_hessian_has_its_limits():
    # With the share of a barrier of two equal halves and equal curvatures it is Kramers' time.
    eta, batch, curvature = 0.05, 2, 1.5
    time = curvature_noise_escape_time(0.2, (curvature, -curvature), eta, batch, 0.3)
    diffusion = eta * curvature / (2 * batch)
    assert time == pytest.approx(2 * math.pi / curvature * math.exp(0.2 / diffusion))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.1, 1, (0.0, 0.5), [1.0], [-1.0]), "losses must rise"),
        ((0.1, 1, (0.5, 0.75), [1.0], [1.0]), "exactly one negative"),
        ((0.1, 1, (0.5, 0.75), [1.0, 1.0], [-1.0]), "as many as"),
        ((0.1, 1, (0.5, 0.75), [1.0, 1.0], [-1.0, 1.0]), "escape_curvature must be given"),
        ((2.0, 1, (0.5, 0.75), [1.0] * 3, [-1.0, 1.0, 1.0], 1.0), "no stationary law"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        power_law_escape_rate(*arguments)
    with pytest.raises(ValueError, match="share must lie"):
        curvature_noise_escape_time(0.2, (1.0, -1.0), 0.1, 1, 1.0)
    with pytest.raises(ValueError, match="loss_minimum must be"):
        power_law_stationary(0.1, 1.0, 1, 0.0)
