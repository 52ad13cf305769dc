"""Gradient statistics along trajectories, and the noise that steppers inject."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unoptimised")]

DIMENSION, ROWS, ETA, VARIANCE, STEPS = 5, 50, 0.1, 0.3, 60


def squares(theta, rows):
    return 0.5 * jnp.sum((theta[None] - rows) ** 2, axis=1)


def tanh_losses(theta, rows):
    return jnp.tanh(rows @ theta) ** 2 + 0.1 * jnp.sum(theta**2)


@pytest.fixture(scope="module")
def make_problem(x64):
    from sgdsim.problems import Problem

    def make(rows, losses=tanh_losses, ridge=0.0):
        return Problem(losses, jnp.asarray(rows), ridge)

    return make


@pytest.fixture(scope="module")
def small(make_problem):
    """Six rows, their ghosts, eight other rows; three parameters."""
    random = np.random.default_rng(1)
    rows, ghosts = random.normal(size=(2, 6, 3))
    return make_problem(rows), jnp.asarray(ghosts), make_problem(random.normal(size=(8, 3)))


@pytest.fixture(scope="module")
def stream_of(x64):
    """Run ``gradient_stream`` on a few trajectories from one start."""
    from sgdsim.ensemble import gradient_stream, root_key

    def run(problem, stepper, steps, trajectories=2, **options):
        members = jnp.arange(trajectories)
        keys = jax.vmap(lambda k: jax.random.fold_in(root_key(0, 0), k))(members)
        start = jnp.zeros(3) if "start" not in options else options.pop("start")
        return gradient_stream(problem, stepper, start, keys, steps=steps, **options), keys

    return run


def dense_gradients(problem, theta):
    """Gradients of the rows as an (n, p) matrix."""
    flat, unravel = ravel_pytree(theta)
    return np.asarray(jax.jacrev(lambda t: problem.per_sample_losses(unravel(t)))(flat))


def test_the_observer_against_all_gradients_of_the_rows(network_problem):
    from sgdsim.ensemble import InformationObserver
    from sgdsim.problems import Problem, Rows

    problem, network = network_problem
    random = np.random.default_rng(2)

    def rows(n):
        targets = np.eye(2)[random.integers(0, 2, n)]
        return Rows(jnp.asarray(random.normal(size=(n, 3))), jnp.asarray(targets))

    ghosts, population = rows(7), Problem(problem.losses, rows(11), problem.ridge)
    record = eqx.filter_jit(InformationObserver(population, ghosts))(problem, network)
    own = dense_gradients(problem, network)
    other = dense_gradients(Problem(problem.losses, ghosts, problem.ridge), network)
    mean = own.mean(axis=0)
    expected = {
        "gradient_square": mean @ mean,
        "covariance_trace": np.trace(np.cov(own.T, bias=True)),
        "deviation": np.sum((mean - dense_gradients(population, network).mean(axis=0)) ** 2),
        "pair_square": np.mean(np.sum((own - other) ** 2, axis=1)),
    }
    assert record.keys() == expected.keys()
    for name, value in expected.items():
        assert float(record[name]) == pytest.approx(value, rel=1e-10)
    bare = jax.eval_shape(InformationObserver(), problem, network)
    assert bare.keys() == {"gradient_square", "covariance_trace"}


def test_the_usual_loop_and_the_stream_record_the_same(small, stream_of):
    from sgdsim.dynamics import sgld
    from sgdsim.ensemble import Ensemble, InformationObserver, Layout, Schedule
    from sgdsim.stagnation import Ball

    problem, ghosts, population = small
    observer, stepper = InformationObserver(population, ghosts), sgld(0.2, 30.0, batch_size=2)
    ensemble = Ensemble(
        problem,
        stepper,
        Ball(centre=jnp.zeros(3), radius=1.0),
        observer,
        Schedule(steps=12, record_every=1, chunk_steps=6),
        Layout("map", 1),
    )
    keys = ensemble.keys(seed=0, trajectories=2)
    chunks = list(ensemble.run(keys, ensemble.start(jnp.zeros(3), 2)))
    fields, _ = stream_of(problem, stepper, 12, observer=observer)
    for name in ("gradient_square", "covariance_trace", "deviation", "pair_square"):
        looped = np.concatenate([np.asarray(chunk.records[name]) for chunk in chunks], axis=1)
        streamed = fields[name].mean(axis=-1) if name == "pair_square" else fields[name]
        np.testing.assert_allclose(streamed, looped, rtol=1e-10)
    assert "pair_noise" not in fields  # the steps take batches
    assert (fields["batch_factor"], fields["samples"], fields["parameters"]) == (0.5, 6, 3)


def test_products_with_the_noise_of_the_step(small, stream_of):
    """The path again by hand, with the normals that the stepper draws; some of the rows."""
    from sgdsim.dynamics import LinearDecay, Scheduled, sgld
    from sgdsim.ensemble import InformationObserver

    problem, ghosts, _ = small
    stepper = Scheduled(sgld(1.0, 30.0), LinearDecay(0.4, 0.1, steps=5))
    rows, observer = np.array([4, 1]), InformationObserver(ghosts=ghosts)
    fields, keys = stream_of(problem, stepper, 5, observer=observer, rows=rows)
    other = type(problem)(problem.losses, ghosts)
    theta = np.zeros(3)
    for t in range(5):
        rate, (_, normals) = stepper.draw(keys[1], jnp.asarray(t), problem, jnp.zeros(3))
        own, ghost = (dense_gradients(p, jnp.asarray(theta)) for p in (problem, other))
        difference, zeta = (own - ghost)[rows], np.asarray(normals)
        np.testing.assert_allclose(fields["pair_noise"][1, t], difference @ zeta, rtol=1e-7)
        np.testing.assert_allclose(fields["pair_square"][1, t], np.sum(difference**2, axis=1))
        assert fields["noise_variance"][t] == pytest.approx(2 * float(rate) / 30)
        theta = theta - float(rate) * own.mean(axis=0) + np.sqrt(2 * float(rate) / 30) * zeta


def test_the_stream_suffices_for_every_bound_on_noisy_steps(small, stream_of):
    from sgdsim.bounds import EXPECTATION_BOUNDS, GradientStream, expectation_bounds
    from sgdsim.dynamics import sgld
    from sgdsim.ensemble import InformationObserver

    problem, ghosts, population = small
    observer = InformationObserver(population, ghosts)
    stream = GradientStream(**stream_of(problem, sgld(0.2, 30.0), 12, observer=observer)[0])
    bounds = expectation_bounds(stream, 1)
    assert set(EXPECTATION_BOUNDS) - set(bounds) == {"virtual_noise"}
    tested, simple = bounds["conditional_tested"].value, bounds["conditional"].value
    assert tested[0] == pytest.approx(simple[0])
    assert tested[-1] < simple[-1]


@pytest.fixture(scope="module")
def mean_estimation(make_problem, stream_of):
    """The oracle of the theory on many training sets, with this library's loop."""
    from sgdsim import IsotropicNoise, gaussian_sgd
    from sgdsim.bounds import GradientStream, join_streams
    from sgdsim.ensemble import InformationObserver

    random = np.random.default_rng(7)
    observer = InformationObserver(make_problem(np.zeros((1, DIMENSION)), squares))
    stepper = gaussian_sgd(ETA, IsotropicNoise(VARIANCE))
    sets = random.normal(size=(150, ROWS, DIMENSION))
    streams = []
    for rows in sets:
        problem = make_problem(rows, squares)
        fields, _ = stream_of(
            problem, stepper, STEPS, 1, start=jnp.zeros(DIMENSION), observer=observer
        )
        streams.append(GradientStream(**fields))
    return sets, streams, join_streams(streams)


def test_the_chain_of_one_training_set_is_exact(mean_estimation):
    """T |mean of the rows|^2 / (2 s): the difference of the gradients is the same everywhere."""
    from sgdsim.bounds import expectation_bounds

    sets, streams, _ = mean_estimation
    for rows, stream in zip(sets[:5], streams[:5], strict=True):
        chain = expectation_bounds(stream, 1, ["population_chain"])["population_chain"]
        exact = STEPS * np.sum(rows.mean(axis=0) ** 2) / (2 * VARIANCE)
        assert chain.information[-1] == pytest.approx(exact, rel=1e-9)


@pytest.mark.statistical
def test_the_chain_over_training_sets(mean_estimation):
    """T d / (2 n s) = 10 (stagnation theory 13)."""
    from sgdsim.bounds import expectation_bounds

    chain = expectation_bounds(mean_estimation[2], 1, ["population_chain"])["population_chain"]
    assert chain.note == ""
    expected = STEPS * DIMENSION / (2 * ROWS * VARIANCE)
    assert expected == pytest.approx(10)

    def z(information):
        return (chain.value[-1] - np.sqrt(information / (2 * ROWS))) / chain.stderr[-1]

    assert abs(z(expected)) < 4
    assert abs(z(2 * expected)) > 5
    assert abs(z(expected / 2)) > 5


def shaken(stepper, problem, draws):
    """Displacements in one step from a fixed point, and the gradients of the rows there."""
    theta = jnp.asarray([0.3, -0.2, 0.5])

    def one(key):
        randomness = stepper.draw(key, jnp.asarray(0), problem, theta)
        return stepper.step(problem, stepper.start(problem, theta), randomness)[0].theta

    moved = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), draws))
    return np.asarray(moved) - np.asarray(theta), dense_gradients(problem, theta)


def langevin_noise(d):
    return d.LangevinNoise(inverse_temperature=20.0, learning_rate=0.5)


def noise_on_batches(d):
    source = d.MinibatchGradient(2, replacement=False)
    return d.NoisyGradient(source, d.IsotropicNoise(0.4))


STEPPERS = {
    "isotropic": lambda d: d.gaussian_sgd(0.2, d.IsotropicNoise(0.7)),
    "langevin noise on the sde": lambda d: d.Scheduled(
        d.gaussian_sgd(9.0, langevin_noise(d)), d.LinearDecay(0.3, 0.1, steps=10)
    ),
    "langevin noise of the gradient": lambda d: d.Descent(
        0.2, d.GaussianGradient(langevin_noise(d))
    ),
    "sgld": lambda d: d.sgld(0.2, 15.0),
    "sgld with batches": lambda d: d.sgld(0.2, 15.0, batch_size=2),
    "noise on batches": lambda d: d.Descent(0.2, noise_on_batches(d)),
    "gaussian batches": lambda d: d.gaussian_sgd(0.2, d.MinibatchNoise(2, replacement=False)),
    "batches": lambda d: d.minibatch_sgd(0.2, 3),
    "langevin on gaussian batches": lambda d: d.Langevin(
        d.gaussian_sgd(0.2, d.MinibatchNoise(2)), 15.0
    ),
    "descent": lambda d: d.gradient_descent(0.2),
}


@pytest.mark.statistical
@pytest.mark.parametrize("name", STEPPERS)
def test_steps_have_the_variance_that_is_told(name, small):
    from sgdsim import dynamics
    from sgdsim.ensemble import injected_noise

    problem, stepper = small[0], STEPPERS[name](dynamics)
    facts = injected_noise(stepper, problem.n, 1)
    moved, gradients = shaken(stepper, problem, 20_000)
    assert facts.plain_steps
    spread = np.cov(gradients.T, bias=True)
    covariance = facts.learning_rate[0] ** 2 * facts.batch_factor * spread
    covariance = covariance + facts.variance[0] * np.eye(3)
    error = (moved - moved.mean(axis=0)) ** 2
    stderr = error.std(axis=0, ddof=1) / np.sqrt(len(error)) + 1e-14
    assert np.all(np.abs(error.mean(axis=0) - np.diag(covariance)) < 4 * stderr)
    offset = moved.mean(axis=0) + facts.learning_rate[0] * gradients.mean(axis=0)
    assert np.all(np.abs(offset) < 4 * moved.std(axis=0) / np.sqrt(len(moved)) + 1e-12)
    if name != "descent":  # a tenth more or less would be seen
        assert np.any(np.abs(error.mean(axis=0) - 1.1 * np.diag(covariance)) > 4 * stderr)


@pytest.mark.statistical
@pytest.mark.parametrize("replacement", [True, False])
def test_the_mean_square_of_the_weight_of_a_row(replacement, make_problem):
    """(1 + c (n-1)) / n^2, read off batches of rows whose gradients are unit vectors."""
    from sgdsim.dynamics import minibatch_sgd
    from sgdsim.ensemble import injected_noise

    problem = make_problem(np.eye(3), lambda theta, rows: -(rows @ theta))
    stepper = minibatch_sgd(1.0, 2, replacement)
    weights, _ = shaken(stepper, problem, 4000)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    factor = injected_noise(stepper, 3, 1).batch_factor
    second = weights**2
    z = (second.mean(axis=0) - (1 + 2 * factor) / 9) / (second.std(axis=0) / np.sqrt(4000))
    assert np.all(np.abs(z) < 4)
    if replacement:
        assert factor == 0.5
    else:
        assert factor == pytest.approx(0.25)


def test_modifiers_that_are_told(x64):
    from sgdsim.dynamics import BoxProjection, Projected, WeightDecay, sgld
    from sgdsim.ensemble import injected_noise

    for stepper in (
        WeightDecay(sgld(0.2, 10.0), 0.1),
        Projected(sgld(0.2, 10.0), BoxProjection(-1.0, 1.0)),
    ):
        facts = injected_noise(stepper, 6, 3)
        np.testing.assert_allclose(facts.variance, 0.04)
        assert not facts.plain_steps


REFUSED = {
    "the rule HeavyBall": lambda d: d.Langevin(d.heavy_ball(0.1, 0.9), 10.0),
    "the rule Adam": lambda d: d.Langevin(d.adam(0.1), 10.0),
    "the rule SharpnessAware": lambda d: d.sam(0.1, 0.05),
    "the rule OptaxRule": lambda d: d.Descent(0.1, rule=d.OptaxRule(optax.identity())),
    "StableNoise is heavy-tailed": lambda d: d.Descent(
        0.1, d.GaussianGradient(d.StableNoise(d.IsotropicNoise(0.1), 1.5))
    ),
    "StudentNoise is heavy-tailed": lambda d: d.Descent(
        0.1, d.GaussianGradient(d.StudentNoise(d.IsotropicNoise(0.1), 3.0))
    ),
    "covariance of DiagonalNoise": lambda d: d.gaussian_sgd(0.1, d.DiagonalNoise(2)),
    "covariance of LabelNoise": lambda d: d.gaussian_sgd(0.1, d.LabelNoise(2, 0.1)),
    "same in all directions": lambda d: d.gaussian_sgd(0.1, d.ConstantNoise(jnp.eye(3))),
    "LabelNoiseGradient is no weighted sum": lambda d: d.label_noise_sgd(0.1, 2, 0.1),
    "an SDE with substeps": lambda d: d.SDE(0.1, d.IsotropicNoise(0.1), substeps=4),
    "or another solver": lambda d: d.SDE(0.1, d.IsotropicNoise(0.1), solver="heun"),
    "put Projected outside": lambda d: d.Langevin(
        d.Projected(d.gradient_descent(0.1), d.BoxProjection(-1.0, 1.0)), 10.0
    ),
    "UnderdampedSDE are not of the form": lambda d: d.UnderdampedSDE(
        0.1, 0.9, d.IsotropicNoise(0.1)
    ),
    "SVAG are not of the form": lambda d: d.SVAG(0.1, 2, 2),
    "GradientFlow are not of the form": lambda d: d.GradientFlow(0.1),
}


@pytest.mark.parametrize("message", REFUSED)
def test_steppers_that_are_refused(message):
    from sgdsim import dynamics
    from sgdsim.ensemble import injected_noise

    with pytest.raises(ValueError, match=message):
        injected_noise(REFUSED[message](dynamics), 6, 3)


def test_batches_larger_than_the_training_set_are_refused():
    from sgdsim import MinibatchNoise, gaussian_sgd
    from sgdsim.ensemble import injected_noise

    with pytest.raises(ValueError, match="without replacement"):
        injected_noise(gaussian_sgd(0.1, MinibatchNoise(9, replacement=False)), 6, 3)
    whole = gaussian_sgd(0.1, MinibatchNoise(6, replacement=False))
    assert injected_noise(whole, 6, 3).batch_factor == 0


@pytest.mark.parametrize(
    ("ghosts", "rows", "message"),
    [
        (None, [0], "no ghosts"),
        (np.zeros((5, 3)), None, "one ghost for every training row"),
        (np.zeros((6, 3)), [6], "some of 0..5"),
        (np.zeros((6, 3)), [-1], "some of 0..5"),
    ],
)
def test_ghosts_that_do_not_fit(ghosts, rows, message, small, stream_of):
    from sgdsim.dynamics import sgld
    from sgdsim.ensemble import InformationObserver

    observer = InformationObserver(ghosts=ghosts if ghosts is None else jnp.asarray(ghosts))
    rows = None if rows is None else np.array(rows)
    with pytest.raises(ValueError, match=message):
        stream_of(small[0], sgld(0.1, 10.0), 2, observer=observer, rows=rows)
