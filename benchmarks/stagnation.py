"""The stagnation figures: a large ensemble watched at every step, S2 for many settings, rare exits.

* `ensemble`: trajectories of a ten-dimensional quadratic, every step checked for an exit, against a
  target in wall-clock seconds for the whole ensemble on two cores.
* `bound`: theorem S2 for 1,000 settings at once, against a Python loop over them.
* `rare`: steps that importance splitting takes for a probability, against plain Monte Carlo.

The exit status is 0 whether or not targets are met.
"""

import argparse
import time
from collections.abc import Sequence

from _common import Row, machine, print_table

from sgdsim.ensemble import use_host_devices

SECTIONS = ("ensemble", "bound", "rare")
DIMENSION, TRAJECTORIES, STEPS = 10, 100_000, 10_000


def ensemble(quick: bool) -> list[Row]:
    """Gaussian SGD on a quadratic, all devices, one program."""
    import jax
    import jax.numpy as jnp

    import sgdsim
    from sgdsim.problems import Quadratic

    trajectories, steps = (2_000, 100) if quick else (TRAJECTORIES, STEPS)
    origin = jnp.zeros(DIMENSION, jnp.float32)
    run = sgdsim.Ensemble(
        problem=Quadratic([1.0] * DIMENSION).problem().astype(jnp.float32),
        stepper=sgdsim.gaussian_sgd(0.05, sgdsim.IsotropicNoise(0.04)),
        region=sgdsim.Ball(centre=origin, radius=0.2),
        observer=sgdsim.no_observables,
        schedule=sgdsim.Schedule(steps, steps // 10, steps // 10),
        layout=sgdsim.choose_layout("vmap"),
    )
    keys, state = run.keys(0, trajectories), run.start(origin, trajectories)
    began, compiled = time.perf_counter(), None
    for chunk in run.run(keys, state):
        state = jax.block_until_ready(chunk.state)
        compiled = compiled or time.perf_counter()
    assert compiled is not None
    seconds = time.perf_counter() - began
    per_step = (time.perf_counter() - compiled) / (0.9 * trajectories * steps)
    left = float((state.track.exit_step > 0).mean())
    print(
        f"ensemble: {trajectories} trajectories x {steps} steps, {run.layout.devices} devices: "
        f"{seconds:.1f} s with compilation, {1e9 * per_step:.0f} ns per trajectory-step, "
        f"{left:.3f} left the ball"
    )
    name = f"{trajectories:,} x {steps:,} steps in {DIMENSION} dimensions"
    return [] if quick else [Row(name, "under 120 s", f"{seconds:.0f} s", seconds < 120)]


def bound(quick: bool) -> list[Row]:
    """S2 for many settings at once, and one after another."""
    import numpy as np

    from sgdsim.stagnation import StayConstants, log_exit_bound_s2

    count = 50 if quick else 1000
    rng = np.random.default_rng(0)
    rows = []
    for name, bias in (("without bias", 0.0), ("with bias", 0.01)):
        eta = 10 ** rng.uniform(-2, -1, count)
        noise = 10 ** rng.uniform(-3, -1, count)
        fields = {
            "learning_rate": eta,
            "contraction": 1 - eta,
            "noise_operator_norm": noise,
            "noise_trace": noise * rng.integers(1, 50, count),
            "radius": 5 * np.sqrt(eta * noise * 50),
            "gradient_bias": bias * np.ones(count) * np.sqrt(noise),
        }
        steps = np.array([1000])
        began = time.perf_counter()
        together = log_exit_bound_s2(StayConstants(**fields), steps)
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        singly = [
            log_exit_bound_s2(StayConstants(**{k: float(v[i]) for k, v in fields.items()}), steps)
            for i in range(count)
        ]
        loop = time.perf_counter() - began
        worst = float(np.max(np.abs(together - np.stack(singly))))
        print(
            f"bound, {name}: {count} settings in {seconds:.3f} s, in a loop {loop:.1f} s "
            f"({loop / seconds:.0f} times), largest difference {worst:.1e}"
        )
        rows.append(Row(f"S2, 1,000 settings {name}", "under 1 s", f"{seconds:.2f} s", seconds < 1))
    return [] if quick else rows


def rare(quick: bool) -> list[Row]:
    """Importance splitting of an exit that plain Monte Carlo cannot see."""
    import jax.numpy as jnp

    import sgdsim
    from sgdsim.problems import Quadratic
    from sgdsim.stagnation import Splitting, exact_exit_probability, splitting_exit_probability

    eta, variance, radius, steps = 0.05, 0.04, 0.215, 1000
    splitting = Splitting(particles=50 if quick else 500, replicas=4 if quick else 20)
    began = time.perf_counter()
    found = splitting_exit_probability(
        Quadratic([1.0]).problem(),
        sgdsim.gaussian_sgd(eta, sgdsim.IsotropicNoise(variance)),
        sgdsim.Ball(centre=jnp.zeros(1), radius=radius),
        jnp.zeros(1),
        steps,
        splitting,
    )
    seconds = time.perf_counter() - began
    exact = exact_exit_probability(1 - eta, eta * variance**0.5, 1, radius, 0.0, steps)[-1]
    plain = steps * (1 - exact) / (exact * found.relative_error**2)
    gain = plain / found.trajectory_steps
    print(f"rare: exact {exact:.2e}; {found.sentence}; {seconds:.1f} s")
    if quick:
        return []
    covered = found.low <= exact <= found.high
    interval = f"{found.low:.1e} to {found.high:.1e}"
    return [
        Row(f"exit probability {exact:.1e}", "inside the 95 % interval", interval, covered),
        Row("plain Monte Carlo / splitting, steps", "more than 1", f"{gain:.1e}", gain > 1),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small: shows that all of it runs")
    parser.add_argument("--only", choices=SECTIONS, help="one of the sections")
    options = parser.parse_args(arguments)
    use_host_devices("auto")
    print(machine(), flush=True)
    rows: list[Row] = []
    for section in (ensemble, bound, rare):
        if options.only in (None, section.__name__):
            rows += section(options.quick)
    if rows:
        print()
        print_table(rows)


if __name__ == "__main__":
    main()
