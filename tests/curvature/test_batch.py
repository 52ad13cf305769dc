"""Curvature that minibatches see, against all batches that there are and dense matrices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sgdsim.curvature import batch_curvature, batch_sharpness
from sgdsim.problems import Problem, cast
from sgdsim.testing._dense import dense_gradients, dense_hessian

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "unoptimised")]

SIZE = 2


@pytest.fixture(scope="module")
def dense(network_problem):
    """Gradients and Hessians of single rows, as NumPy arrays."""
    problem, theta = network_problem
    hessians = [dense_hessian(problem.take(jnp.array([i])), theta) for i in range(problem.n)]
    return dense_gradients(problem, theta), np.stack(hessians)


def along_gradients(dense, batches) -> tuple[np.ndarray, np.ndarray]:
    """``g'Hg`` and ``g'g`` of every batch."""
    gradients, hessians = dense
    pairs = []
    for rows in map(np.asarray, batches):
        gradient, hessian = gradients[rows].mean(axis=0), hessians[rows].mean(axis=0)
        pairs.append((gradient @ hessian @ gradient, gradient @ gradient))
    curved, squares = np.array(pairs).T
    return curved, squares


@pytest.fixture(scope="module")
def measure(network_problem):
    """Batch curvature of the network by one compiled program for all keys and errors."""
    problem, theta = network_problem
    compiled = jax.jit(
        lambda problem, theta, key, relative_error: batch_curvature(
            problem, theta, key, SIZE, relative_error=relative_error, least=8, most=3000
        )
    )
    return lambda key, relative_error: compiled(problem, theta, key, relative_error)


def drawn_rows(key, n: int, count: int, replacement: bool, size: int = SIZE) -> list:
    keys = [jax.random.fold_in(key, i) for i in range(count)]
    if replacement:
        return [jax.random.randint(k, (size,), 0, n) for k in keys]
    return [jax.random.choice(k, n, (size,), replace=False) for k in keys]


@pytest.mark.parametrize("replacement", [True, False])
def test_the_numbers_are_those_of_the_drawn_batches(network_problem, dense, getkey, replacement):
    """Means, and a jackknife that really leaves one batch out at a time."""
    problem, theta = network_problem
    key, count = getkey(), 25
    seen = batch_curvature(
        problem, theta, key, SIZE, replacement=replacement, relative_error=0, least=2, most=count
    )
    assert seen.batches == seen.products == count
    curved, squares = along_gradients(dense, drawn_rows(key, problem.n, count, replacement))

    ratios = curved / squares
    np.testing.assert_allclose(seen.batch_sharpness, ratios.mean(), rtol=1e-10)
    # Along the gradient of all rows it is another number.
    gradients, hessians = dense
    full = gradients.mean(axis=0)
    along_full = full @ hessians.mean(axis=0) @ full / (full @ full)
    assert abs(along_full / seen.batch_sharpness - 1) > 0.05
    np.testing.assert_allclose(
        seen.batch_sharpness_stderr, ratios.std(ddof=1) / np.sqrt(count), rtol=1e-8
    )
    left_out = np.array(
        [np.delete(curved, i).sum() / np.delete(squares, i).sum() for i in range(count)]
    )
    whole = curved.sum() / squares.sum()
    corrected = count * whole - (count - 1) * left_out.mean()
    np.testing.assert_allclose(seen.gradient_noise_interaction, corrected, rtol=1e-10)
    stderr = np.sqrt((count - 1) * left_out.var())
    np.testing.assert_allclose(seen.gradient_noise_interaction_stderr, stderr, rtol=1e-8)


@pytest.mark.statistical
@pytest.mark.parametrize("replacement", [True, False])
def test_expectations_over_all_batches(network_problem, dense, getkey, replacement):
    problem, theta = network_problem
    rows = range(problem.n)
    batches = (
        itertools.product(rows, repeat=SIZE) if replacement else itertools.permutations(rows, SIZE)
    )
    curved, squares = along_gradients(dense, [list(batch) for batch in batches])
    sharpness, interaction = np.mean(curved / squares), curved.mean() / squares.mean()

    seen = jax.jit(
        lambda key: batch_curvature(
            problem,
            theta,
            key,
            SIZE,
            replacement=replacement,
            relative_error=0,
            least=20_000,
            most=20_000,
        )
    )(getkey())
    z = (seen.batch_sharpness - sharpness) / seen.batch_sharpness_stderr
    assert abs(z) < 4
    z = (seen.gradient_noise_interaction - interaction) / seen.gradient_noise_interaction_stderr
    assert abs(z) < 4
    # The two numbers are told apart, and the way of drawing makes a difference that would be seen.
    assert abs(seen.batch_sharpness - interaction) > 6 * seen.batch_sharpness_stderr
    assert abs(seen.gradient_noise_interaction - sharpness) > 6 * float(
        seen.gradient_noise_interaction_stderr
    )
    np.testing.assert_allclose(
        seen.batch_sharpness_stderr, np.std(curved / squares) / np.sqrt(20_000), rtol=0.1
    )


def test_the_full_batch_gives_a_rayleigh_quotient(network_problem, getkey):
    problem, theta = network_problem
    seen = batch_curvature(problem, theta, getkey(), problem.n, replacement=False, least=3)
    gradient = dense_gradients(problem, theta).mean(axis=0)
    quotient = gradient @ dense_hessian(problem, theta) @ gradient / (gradient @ gradient)
    np.testing.assert_allclose(seen.batch_sharpness, quotient, rtol=1e-10)
    np.testing.assert_allclose(seen.gradient_noise_interaction, quotient, rtol=1e-10)
    assert seen.batch_sharpness_stderr < 1e-10 * quotient
    assert seen.gradient_noise_interaction_stderr < 1e-10 * quotient
    assert seen.batches == 3


@pytest.fixture(scope="module")
def of_scaled(x64):
    """Rows ``z theta^2 / 2``: at ``theta = 1`` gradient and curvature of a row are both ``z``."""

    @jax.jit
    def measure(scales, key, relative_error):
        problem = Problem(lambda theta, z: 0.5 * z * theta**2, scales)
        return batch_curvature(
            problem, jnp.asarray(1.0), key, 1, relative_error=relative_error, least=8, most=3000
        )

    return lambda scales, key, relative_error=0.05: measure(
        jnp.asarray(scales), key, relative_error
    )


@pytest.mark.statistical
def test_batches_without_gradient_have_no_direction(of_scaled, getkey):
    seen = of_scaled([0.0, 0.0, 1.0, 2.0], getkey(), 0.0)
    assert abs(seen.batch_sharpness - 1.5) < 4 * seen.batch_sharpness_stderr
    z = (seen.gradient_noise_interaction - 9 / 5) / seen.gradient_noise_interaction_stderr
    assert abs(z) < 4
    # Of the 3000 batches one half has a gradient, with the standard deviation 1/2.
    np.testing.assert_allclose(seen.batch_sharpness_stderr, 0.5 / np.sqrt(1500), rtol=0.05)


def test_no_gradient_at_all_gives_no_number(of_scaled, getkey):
    seen = of_scaled([0.0, 0.0, 0.0, 0.0], getkey())
    assert np.all(np.isnan(np.array(seen[:4])))
    assert seen.batches == 3000


def test_one_gradient_gives_numbers_without_error_bars(getkey):
    """With the first key whose eight batches hold the only row with a gradient once."""
    problem = Problem(lambda theta, z: 0.5 * z * theta**2, jnp.array([0.0] * 9 + [3.0]))
    keys = jax.random.split(getkey(), 100)
    rows_of = jax.jit(jax.vmap(lambda key: jnp.stack(drawn_rows(key, 10, 8, True, size=1))))
    hits = jnp.sum(rows_of(keys) == 9, axis=(1, 2))
    key = keys[jnp.argmax(hits == 1)]
    seen = batch_curvature(problem, jnp.asarray(1.0), key, 1, least=4, most=8)
    np.testing.assert_allclose(seen.batch_sharpness, 3.0)
    np.testing.assert_allclose(seen.gradient_noise_interaction, 3.0)
    assert np.isnan(seen.batch_sharpness_stderr)
    assert np.isnan(seen.gradient_noise_interaction_stderr)
    assert seen.batches == 8


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_seen_and_ends_the_drawing(of_scaled, getkey, bad):
    seen = of_scaled([1.0, bad, bad, bad], getkey())
    assert not np.any(np.isfinite(np.array(seen[:4])))
    assert seen.batches == 8


def test_drawing_ends_when_both_intervals_are_narrow_enough(measure, getkey):
    key = getkey()
    coarse, fine, never = measure(key, 0.5), measure(key, 0.1), measure(key, 0.0)
    for seen, tolerance in [(coarse, 0.5), (fine, 0.1)]:
        assert 1.9 * seen.batch_sharpness_stderr <= tolerance * seen.batch_sharpness
        assert (
            1.9 * seen.gradient_noise_interaction_stderr
            <= tolerance * seen.gradient_noise_interaction
        )
    assert 8 <= coarse.batches < fine.batches < never.batches == 3000
    # One look earlier the intervals were too wide: not many more batches than needed are drawn.
    needed = [
        (1.96 * stderr / (0.1 * value)) ** 2 * fine.batches
        for value, stderr in [(fine[0], fine[1]), (fine[2], fine[3])]
    ]
    assert fine.batches < 1.6 * max(needed)


def test_either_interval_alone_keeps_the_drawing_going(getkey):
    """Rows of chosen gradient g and curvature h, so that one number is much harder to get."""

    @jax.jit
    def measure(rows, key):
        problem = Problem(lambda theta, z: z[:, 0] * theta + z[:, 1] * theta**2 / 2, rows)
        return batch_curvature(problem, jnp.asarray(0.0), key, 1, relative_error=0.1, least=12)

    hard_sharpness = [(10.0, 1.0)] * 7 + [(0.01, 2.0), (0.01, 0.0)] * 2
    hard_interaction = [(1.0, 1.0)] * 10 + [(3.0, 1.5)]
    first = measure(jnp.array(hard_sharpness), getkey())
    assert 1.9 * first.batch_sharpness_stderr <= 0.1 * first.batch_sharpness
    assert first.gradient_noise_interaction_stderr < 1e-3
    second = measure(jnp.array(hard_interaction), getkey())
    stderr = second.gradient_noise_interaction_stderr
    assert 1.9 * stderr <= 0.1 * second.gradient_noise_interaction
    assert second.batch_sharpness_stderr / second.batch_sharpness < 0.025
    assert first.batches > 40
    assert second.batches > 24


def test_the_first_batches_do_not_depend_on_how_many_follow(network_problem, measure, getkey):
    problem, theta = network_problem
    key = getkey()
    stopped = measure(key, 0.3)
    again = batch_sharpness(problem, theta, key, SIZE, int(stopped.batches))
    assert 8 < stopped.batches < 500
    np.testing.assert_allclose(again.value, stopped.batch_sharpness, rtol=1e-12)
    np.testing.assert_allclose(again.stderr, stopped.batch_sharpness_stderr, rtol=1e-9)


@pytest.mark.statistical
def test_stated_intervals_cover_although_the_number_of_batches_depends_on_them(
    network_problem, dense, getkey
):
    problem, theta = network_problem
    batches = [list(rows) for rows in itertools.product(range(problem.n), repeat=SIZE)]
    curved, squares = along_gradients(dense, batches)
    exact = np.mean(curved / squares)

    seen = jax.jit(
        lambda keys: jax.lax.map(
            lambda key: batch_curvature(problem, theta, key, SIZE, relative_error=0.2), keys
        )
    )(jax.random.split(getkey(), 400))
    assert len(np.unique(seen.batches)) > 3
    error = np.abs(seen.batch_sharpness - exact)
    width = scipy.stats.t.ppf(0.975, seen.batches - 1) * seen.batch_sharpness_stderr
    assert 0.90 <= np.mean(error < width) <= 0.99


def test_inside_scan_and_vmap(network_problem, getkey):
    problem, theta = network_problem
    keys = jax.random.split(getkey(), 2)

    def measure(key):
        return batch_curvature(problem, theta, key, SIZE, relative_error=0.3, least=4, most=64)

    compiled = jax.jit(measure)
    direct = [compiled(key) for key in keys]
    scanned = jax.lax.scan(lambda carry, key: (carry, measure(key)), None, keys)[1]
    together = jax.jit(jax.vmap(measure))(keys)
    for result in (scanned, together):
        for i in range(2):
            np.testing.assert_array_equal(result.batches[i], direct[i].batches)
            np.testing.assert_allclose(
                np.array([leaf[i] for leaf in result]), np.array(direct[i]), rtol=1e-9
            )


def test_single_precision_stays_single(network_problem, getkey):
    problem, theta = network_problem
    double = batch_curvature(problem, theta, key := getkey(), SIZE, least=40, most=40)
    single = batch_curvature(
        problem.astype(jnp.float32), cast(theta, jnp.float32), key, SIZE, least=40, most=40
    )
    assert {leaf.dtype for leaf in single[:4]} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(np.array(single[:4]), np.array(double[:4]), rtol=2e-4)


def test_batch_sharpness_along_one_eigenvector(getkey):
    """All gradients of a scalar quadratic see its curvature, whatever the batch."""
    problem = Problem(lambda t, z: 1.5 * (t - z) ** 2, jnp.array([1.0, 2.0, 5.0]))
    estimate = batch_sharpness(problem, jnp.asarray(-1.0), getkey(), 2, 10)
    np.testing.assert_allclose(estimate.value, 3.0, rtol=1e-14)
    np.testing.assert_allclose(estimate.stderr, 0.0, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"least": 1}, "least = 1 and most = 1024"),
        ({"least": 9, "most": 8}, "least = 9 and most = 8"),
        ({"most": 0}, "most must be a positive integer"),
        ({"relative_error": -0.1}, "relative_error must be a finite number, not negative"),
        ({"batch_size": 8, "replacement": False}, "cannot be drawn without replacement from 7"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(network_problem, getkey, options, words):
    problem, theta = network_problem
    options = {"batch_size": 2} | options
    with pytest.raises(ValueError, match=words):
        batch_curvature(problem, theta, getkey(), **options)
