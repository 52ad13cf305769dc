"""Processes that cannot be: refused with reason and alternative, before anything is written."""

import pytest
from typer.testing import CliRunner

from sgdsim._cli import app

NOISE = "noise = {kind = 'isotropic', variance = 1.0}"
ROWS = "batch_size = 8"


def refusal(memories, out, process: str, *settings: str) -> str:
    """What the command line says of one process instead of running it."""
    table = f"{{learning_rate = 0.1, {process}}}" if "learning_rate" not in process else process
    chosen = [
        "claim = []",
        f"process = [{{name = 'the process', dynamics = {table}}}]",
        *settings,
    ]
    arguments = ["run", str(memories), "--out", str(out), "--quiet"]
    arguments += [part for setting in chosen for part in ("--set", setting)]
    result = CliRunner().invoke(app, arguments, prog_name="sgdsim")
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert not out.exists()
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("process", "key", "reason", "alternative"),
    [
        (
            f"kind = 'sde', {ROWS}, substeps = 1, solver = 'eulerr'",
            "solver",
            "unknown value 'eulerr'",
            "Did you mean 'euler'?",
        ),
        (
            f"{{kind = 'sgd', learning_rate = 0.0, {ROWS}}}",
            "learning_rate",
            "because steps go downhill and time is counted in it (got 0)",
            "should be greater than 0",
        ),
        (
            "{kind = 'gd', learning_rate = -1}",
            "learning_rate",
            "because steps go downhill and time is counted in it (got -1)",
            "should be greater than 0",
        ),
        (
            "kind = 'sgd', batch_size = 0",
            "batch_size",
            "because the gradient of no row is not defined (got 0)",
            "should be at least 1",
        ),
        (
            "kind = 'svag', batch_size = -3, l = 2",
            "batch_size",
            "because the gradient of no row is not defined (got -3)",
            "should be at least 1",
        ),
        (
            "kind = 'sgd', batch_size = 41",
            "batch_size",
            "because a batch is drawn from these rows (got 41)",
            "should be at most problem.data.training = 40",
        ),
        (
            "kind = 'heavy_ball', momentum = 1.0",
            "momentum",
            "the damping 1 - momentum must be positive",
            "0 is plain SGD (got 1)",
        ),
        (
            f"kind = 'underdamped_sde', {ROWS}, substeps = 1, momentum = -0.1",
            "momentum",
            "the damping 1 - momentum must be positive",
            "0 is plain SGD (got -0.1)",
        ),
        (
            f"kind = 'sde', {ROWS}, substeps = 1, adaptive = true",
            "adaptive",
            "adaptive steps are refused on an SDE: Euler has no error estimate",
            "raise substeps, or take gradient_flow",
        ),
    ],
)
def test_numbers_that_no_process_can_have(memories, tmp_path, process, key, reason, alternative):
    said = refusal(memories, tmp_path / "out", process)
    assert f"--set process.0.dynamics.{key}: " in said
    assert reason in said
    assert alternative in said


@pytest.mark.parametrize(
    ("process", "reason", "alternative"),
    [
        (
            f"kind = 'sde', {ROWS}, substeps = 1, solver = 'heun'",
            "converges to the Stratonovich equation",
            "take 'euler', or ito_correction=True",
        ),
        (
            f"kind = 'sde', {ROWS}, substeps = 1, solver = 'shark'",
            "it is for additive noise, and the covariance of MinibatchNoise depends on theta",
            "take 'euler', or with ito_correction=True one of 'heun'",
        ),
        (
            f"kind = 'sde', {ROWS}, substeps = 1, solver = 'itomilstein'",
            "it needs the diffusion as a dense matrix",
            "take 'euler', or with ito_correction=True one of",
        ),
        (
            f"kind = 'sde', {ROWS}, substeps = 1, solver = 'heun', ito_correction = true, "
            "noise = {kind = 'diagonal'}",
            "the Ito correction of DiagonalNoise is not known",
            "take 'euler'",
        ),
        (
            f"kind = 'sde', {ROWS}, substeps = 1, ito_correction = true",
            "ito_correction would be in excess",
            "take ito_correction=False",
        ),
        (
            f"kind = 'sde', {NOISE}, substeps = 1, solver = 'align'",
            "it solves the underdamped Langevin equation alone",
            "or UnderdampedSDE",
        ),
        (
            f"kind = 'underdamped_sde', momentum = 0.9, {ROWS}, substeps = 1, solver = 'align'",
            "it is for isotropic noise",
            "take 'euler'",
        ),
        (
            "kind = 'sde', substeps = 2, noise = {kind = 'stable', alpha = 1.5, base = "
            "{kind = 'isotropic', variance = 1.0}}",
            "StableNoise is not Gaussian",
            "take solver='euler' with substeps=1",
        ),
        (
            "kind = 'gaussian_sgd', noise = {kind = 'constant', covariance = [[1.0]]}",
            "the covariance matrix has shape (1, 1)",
            "give a matrix of shape (650, 650)",
        ),
        (
            f"kind = 'gaussian_sgd', {ROWS}, noise = {{kind = 'low_rank', rank = 1000}}",
            "rank = 1000 leaves nothing to approximate",
            "take a smaller rank, or MinibatchNoise",
        ),
        (
            "kind = 'gradient_flow', solver = 'kvaerno5'",
            "it is implicit and factorises the p x p Hessian",
            "take 'tsit5', 'dopri5', 'dopri8'",
        ),
    ],
)
def test_what_does_not_fit_together(memories, tmp_path, process, reason, alternative):
    said = refusal(memories, tmp_path / "out", process)
    assert said.startswith("error: process 'the process': ")
    assert reason in said
    assert alternative in said
    assert said.count(". ") == 0, "one sentence"


def test_the_last_process_is_refused_before_the_first_one_runs(memories, tmp_path):
    """Also where only tracing tells."""
    last = f"process.2.dynamics={{kind='gaussian_sgd', learning_rate=0.1, {ROWS}, "
    last += "noise={kind='low_rank', rank=1000}}"
    arguments = ["run", str(memories), "--out", str(tmp_path / "out"), "--quiet", "--set", last]
    result = CliRunner().invoke(app, arguments, prog_name="sgdsim")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: process 'Adam': rank = 1000")
    assert not (tmp_path / "out").exists()


def test_an_earlier_run_is_kept_when_its_replacement_is_refused(memories, tmp_path):
    kept = tmp_path / "out" / "run.zarr"
    kept.mkdir(parents=True)
    arguments = ["run", str(memories), "--out", str(tmp_path / "out"), "--overwrite", "--quiet"]
    refused = "process.0.dynamics={kind='sde', learning_rate=0.1, batch_size=8, substeps=1, "
    arguments += ["--set", refused + "solver='heun'}"]
    assert CliRunner().invoke(app, arguments, prog_name="sgdsim").exit_code == 2
    assert kept.exists()
