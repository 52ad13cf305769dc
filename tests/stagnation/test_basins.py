"""The number of basins is the known one, whatever the seed; what is unseen is bounded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.problems import OutputLoss, PeriodicWells, Problem, TwoWells, random_network
from sgdsim.stagnation import (
    canonical,
    cluster_basins,
    good_turing_unseen_mass,
    good_turing_upper_limit,
    quench,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


@pytest.mark.parametrize("seed", range(3))
def test_periodic_wells_in_a_window(seed):
    """The window from -3.4 to 3.4 periods reaches into seven basins."""
    wells = PeriodicWells(amplitude=1.0, period=2.0)
    starts = np.random.default_rng(seed).uniform(-6.8, 6.8, (64, 1))
    ends = quench(wells.risk, jnp.asarray(starts))
    census = cluster_basins(ends.risk, 0.1, parameters=ends.theta)
    assert census.number == 7
    centres = np.asarray(ends.theta)[census.representatives, 0]
    np.testing.assert_allclose(np.sort(centres), 2.0 * np.arange(-3, 4), atol=1e-7)
    expected = np.bincount(np.round(starts[:, 0] / 2).astype(int) + 3)
    np.testing.assert_array_equal(census.counts[np.argsort(centres)], expected)
    np.testing.assert_allclose(census.between, 2.0, atol=1e-6)
    assert census.within < 1e-7


@pytest.mark.parametrize("seed", range(3))
def test_two_wells(seed):
    wells = TwoWells(height=1.0, tilt=0.0, width_left=1.0, width_right=2.0)
    starts = np.random.default_rng(seed).uniform(-2, 2, (30, 1))
    ends = quench(wells.risk, jnp.asarray(starts))
    minima = np.sort(np.asarray(wells.minima)[:, 0])
    census = cluster_basins(ends.risk, 0.1, parameters=ends.theta)
    assert census.number == 2
    found = np.sort(np.asarray(ends.theta)[census.representatives, 0])
    np.testing.assert_allclose(found, minima, atol=1e-7)


def student(theta, rows):
    return theta(rows[0])


def half_squares(outputs, rows):
    return 0.5 * jnp.sum(jnp.square(outputs - rows[1]), axis=1)


@pytest.fixture(scope="module")
def students(x64):
    """Tanh teacher with two hidden units, quenches from 40 starts, teacher."""
    teacher = random_network(jax.random.key(3), (2, 2, 1), gain=2.0)
    teacher = jax.tree.map(lambda leaf: leaf.astype(float), teacher)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(200, 2)))
    problem = Problem(OutputLoss(student, half_squares), (inputs, teacher(inputs)))
    keys = jax.random.split(jax.random.key(1), 40)
    starts = jax.vmap(lambda key: random_network(key, (2, 2, 1), gain=2.0))(keys)
    starts = jax.tree.map(lambda leaf: leaf.astype(float), starts)
    return problem, quench(problem, starts), teacher


def members(thetas, chosen):
    return [jax.tree.map(lambda leaf, i=i: leaf[i], thetas) for i in chosen]


def test_symmetric_copies_of_the_teacher_are_one_basin(students):
    """Eight copies: two permutations times four signs; one function, one canonical network."""
    problem, ends, teacher = students
    exact = np.flatnonzero(ends.is_minimum & (ends.risk < 1e-15))
    assert len(exact) >= 20
    networks = members(ends.theta, exact)

    def flat(networks):
        return np.array([np.concatenate([np.ravel(w) for w in net.weights]) for net in networks])

    raw = cluster_basins(ends.risk[exact], 1e-3, parameters=flat(networks))
    assert 4 <= raw.number <= 8
    quotient = [canonical(net, teacher) for net in networks]
    census = cluster_basins(ends.risk[exact], 1e-3, parameters=flat(quotient))
    assert census.number == 1
    np.testing.assert_allclose(flat(quotient), np.tile(flat([teacher]), (len(exact), 1)), atol=1e-5)
    outputs = np.array([net(problem.data[0]) for net in networks])
    by_function = cluster_basins(ends.risk[exact], 1e-3, outputs=outputs)
    assert by_function.number == 1
    assert by_function.counts.tolist() == [len(exact)]


def test_the_teacher_has_the_same_basins_in_each_half_of_the_starts(students):
    problem, ends, _ = students
    minima = np.flatnonzero(ends.is_minimum)
    numbers = []
    for half in (minima, minima[::2], minima[1::2]):
        outputs = np.array([net(problem.data[0]) for net in members(ends.theta, half)])
        numbers.append(cluster_basins(ends.risk[half], 1e-2, outputs=outputs).number)
    assert numbers[0] == numbers[1] == numbers[2]


def test_order_of_quenches_and_ties():
    random = np.random.default_rng(8)
    centres = random.normal(size=(5, 3)) * 10
    labels = random.integers(0, 5, 60)
    labels[:5] = range(5)
    points = centres[labels] + 1e-3 * random.normal(size=(60, 3))
    risks = np.array([0.3, 0.1, 0.1, 0.2, 0.0])[labels]
    census = cluster_basins(risks, 0.1, parameters=points)
    assert census.number == 5
    assert census.risks.tolist() == [0.0, 0.1, 0.1, 0.2, 0.3]
    assert census.labels[census.representatives].tolist() == [0, 1, 2, 3, 4]
    for found in np.unique(census.labels):
        assert len(np.unique(labels[census.labels == found])) == 1
    order = random.permutation(60)
    shuffled = cluster_basins(risks[order], 0.1, parameters=points[order], method="complete")
    assert sorted(shuffled.counts) == sorted(census.counts)
    assert census.within < 0.01 < 1 < census.between
    assert "60 quenches ended in 5 basins" in census.sentence


def test_risk_separates_where_the_function_does_not():
    outputs = np.zeros((3, 4, 2))
    outputs[2] = 0.3  # root mean square over rows: 0.3 sqrt(2)
    census = cluster_basins([0.0, 0.5, 0.5], 0.4, outputs=outputs)
    assert census.labels.tolist() == [0, 1, 2]
    census = cluster_basins([0.0, 0.5, 0.5], 0.43, outputs=outputs)
    assert census.labels.tolist() == [0, 1, 1]
    census = cluster_basins([0.0, 0.5, 0.5], 0.43, outputs=outputs, risk_tolerance=0.6)
    assert census.labels.tolist() == [0, 0, 0]
    chain = np.arange(5.0)[:, None]
    assert cluster_basins(np.zeros(5), 1.1, parameters=chain).number == 1
    assert cluster_basins(np.zeros(5), 1.1, parameters=chain, method="complete").number == 3
    assert cluster_basins([1.0], 0.1, parameters=[[2.0]]).between == np.inf


@pytest.mark.statistical
@pytest.mark.parametrize("basins", [3, 30, 3000])
def test_good_turing_against_draws_with_known_probabilities(basins):
    """Unbiased for the unseen mass after N - 1 quenches; the limit holds, the estimate does not."""
    random = np.random.default_rng(basins)
    law = random.dirichlet(np.full(basins, 0.5))
    size, repeats = 100, 4000
    counts = random.multinomial(size, law, size=repeats)
    unseen = (counts == 0) @ law
    seen = [row[row > 0] for row in counts]
    estimates = np.array([good_turing_unseen_mass(row) for row in seen])
    limits = np.array([good_turing_upper_limit(row, 0.9) for row in seen])
    expected = np.sum(law * (1 - law) ** (size - 1))
    error = estimates.std(ddof=1) / np.sqrt(repeats) + 1e-12
    assert abs(estimates.mean() - expected) < 5 * error
    assert np.mean(unseen > limits) <= 0.1
    if basins > 3:
        assert np.mean(unseen > estimates) > 0.2
        # A mutant that counts basins seen twice as well is off.
        wrong = np.array([np.sum(row <= 2) / size for row in seen])
        assert abs(wrong.mean() - expected) > 5 * wrong.std(ddof=1) / np.sqrt(repeats)


def test_limit_in_numbers():
    half_width = (1 + 2**0.5) * (np.log(2 / 0.05) / 400) ** 0.5
    np.testing.assert_allclose(good_turing_upper_limit([399, 1]), 1 / 400 + half_width, rtol=1e-12)
    assert good_turing_upper_limit([1, 1]) == 1.0


def test_refusals():
    with pytest.raises(ValueError, match="either outputs or parameters"):
        cluster_basins([0.0], 0.1)
    with pytest.raises(ValueError, match="either outputs or parameters"):
        cluster_basins([0.0], 0.1, outputs=[[[1.0]]], parameters=[[1.0]])
    with pytest.raises(ValueError, match="each end of a quench needs one risk"):
        cluster_basins([0.0], 0.1, parameters=[[1.0], [2.0]])
    with pytest.raises(ValueError, match="must be finite"):
        cluster_basins([np.nan], 0.1, parameters=[[1.0]])
    with pytest.raises(ValueError, match="tolerance must be a positive"):
        cluster_basins([0.0], 0.0, parameters=[[1.0]])
    with pytest.raises(ValueError, match=r"shape \(quench, n, k\), got \(1, 1\)"):
        cluster_basins([0.0], 0.1, outputs=[[1.0]])
    for counts in ([0, 1], [], [0.5]):
        with pytest.raises(ValueError, match="counts must be positive integers"):
            good_turing_unseen_mass(np.array(counts))
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 1.0"):
        good_turing_upper_limit([1], 1.0)
