"""Shared by all tests; sgdsim is imported inside fixtures, after pytest has set up its hooks."""

import atexit
import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator

import fsspec
import jax
import jax.numpy as jnp
import numpy as np
import pytest

# Before JAX starts: two CPU devices, so that sharding is tested on any machine, and no silent
# broadcasting of arrays of different rank.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")

# A program is compiled once per session, also by the processes that tests start. Each worker has
# its own folder, because JAX does not write these files at once. Some versions of JAX take flags
# of its compiler for features of another machine, and log that whenever they read one.
_COMPILED = tempfile.mkdtemp(prefix="sgdsim-tests-")
atexit.register(shutil.rmtree, _COMPILED, ignore_errors=True)
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": _COMPILED,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
jax.config.update("jax_compilation_cache_dir", _COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture
def getkey() -> Callable[[], jax.Array]:
    """Give a new random key at every call, the same ones in every run."""
    counter = itertools.count()
    return lambda: jax.random.fold_in(jax.random.key(20_240_613), next(counter))


@pytest.fixture(scope="module")
def x64() -> Iterator[None]:
    """Double precision for a test module; the doctests show what users see, float32."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def unoptimised() -> Iterator[None]:
    """Compile quickly to slow programs, where the compiler takes most of the time of a module.

    For tests of what is computed, and in what order; not for tests of speed, of devices or of the
    compiler, and not where programs run for long.
    """
    jax.clear_caches()  # what is compiled already would be used as it is, and the other way round
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


@pytest.fixture(scope="module")
def network_problem(x64):
    """Tanh network on seven rows with a ridge penalty: (problem, parameters), p = 20."""
    from sgdsim.problems import Network, Problem, Rows, cross_entropies

    random = np.random.default_rng(3)
    rows = Rows(
        jnp.asarray(random.normal(size=(7, 3))), jnp.asarray(np.eye(2)[random.integers(0, 2, 7)])
    )
    weights = tuple(jnp.asarray(random.normal(size=shape)) for shape in [(4, 3), (2, 4)])
    return Problem(cross_entropies, rows, 0.3), Network(weights)


@pytest.fixture(scope="module")
def quadratic(x64):
    """Build a quadratic problem with additive noise: (problem, Hessian, per-row covariance)."""
    from sgdsim.problems import Problem

    def losses(theta, data):
        hessian, centres = data["hessian"][0], data["centre"]
        offsets = theta[None, :] - centres
        return 0.5 * jnp.sum(offsets * (offsets @ hessian), axis=1)

    def build(hessian, centres):
        hessian, centres = np.asarray(hessian, float), np.asarray(centres, float)
        centres = centres - centres.mean(axis=0)
        data = {
            "hessian": jnp.asarray(np.broadcast_to(hessian, (len(centres), *hessian.shape))),
            "centre": jnp.asarray(centres),
        }
        gradients = centres @ hessian
        return Problem(losses, data), hessian, gradients.T @ gradients / len(centres)

    return build


@pytest.fixture(scope="session")
def z_of_covariance() -> Callable[..., np.ndarray]:
    """Z-scores of draws against a normal law with mean zero and a given covariance.

    Of the mean and the variance along fixed directions and of the trace. ``gaussian=False``
    estimates the standard errors from the draws instead of taking them from the normal law.
    """

    def z_scores(draws, covariance, gaussian: bool = True) -> np.ndarray:
        draws, covariance = np.asarray(draws), np.asarray(covariance)
        count, p = draws.shape
        directions = np.random.default_rng(11).normal(size=(5, p))
        projected = draws @ directions.T
        variances = np.einsum("dp,pq,dq->d", directions, covariance, directions)
        squares = np.column_stack([projected**2, np.sum(draws**2, axis=1)])
        expected = np.append(variances, np.trace(covariance))
        exact = np.append(2 * variances**2, 2 * np.sum(covariance**2))
        spread = exact if gaussian else squares.var(axis=0, ddof=1)
        z_squares = (squares.mean(axis=0) - expected) / np.sqrt(spread / count)
        z_mean = projected.mean(axis=0) / np.sqrt(variances / count)
        return np.concatenate([z_mean, z_squares])

    return z_scores


@pytest.fixture(scope="session")
def s3_server():
    """A server that speaks S3."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """URL of an empty bucket; its server is found through the environment, as for users."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}"


@pytest.fixture(params=["memory", "s3"])
def remote(request):
    """URL of a run folder, in memory and on a server that speaks S3."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/runs/first"
    return f"memory://{uuid.uuid4().hex}/first"
