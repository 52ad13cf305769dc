"""Stay reports against plain counts, coverage of the intervals, balls inside the sets."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.ensemble import NEVER, Track
from sgdsim.problems import Hyperbola, Quadratic, Sphere
from sgdsim.stagnation import (
    AffineTube,
    Ball,
    Below,
    Ellipsoid,
    FunctionBall,
    Interior,
    Sublevel,
    Tube,
    Union,
    interior_radius,
    stay_report,
)

pytestmark = pytest.mark.usefixtures("x64")

STEPS = 10


def track(**columns) -> Track:
    """Build a track of four trajectories that never left basin 0; columns replace fields."""
    count = len(next(iter(columns.values()), np.zeros(4)))
    never, zero = np.full(count, NEVER, np.int32), np.zeros(count, np.int32)
    fields = {f.name: zero for f in dataclasses.fields(Track)}
    fields |= {"exit_step": never, "diverged_step": never, "switch_step": never}
    fields |= {"steps_inside": np.full(count, STEPS, np.int32)}
    fields |= {"maximum": np.zeros(count), "late_sum": np.zeros(count)}
    fields |= {name: np.array(values, np.int32) for name, values in columns.items()}
    return Track(**{name: jnp.asarray(values) for name, values in fields.items()})


def test_counts_of_a_hand_made_ensemble():
    """Stays; switches and stays; exits; enters late; never enters; diverges."""
    record = track(
        entry_step=[0, 0, 0, 4, NEVER, 0],
        exit_step=[NEVER, NEVER, 3, NEVER, NEVER, 7],
        steps_inside=[10, 10, 2, 7, 0, 6],
        diverged_step=[NEVER, NEVER, NEVER, NEVER, NEVER, 7],
        hops=[0, 3, 0, 1, 0, 0],
        switch_step=[NEVER, 2, NEVER, 6, NEVER, NEVER],
    )
    report = stay_report(record, STEPS, 0.9, Interior(0.5))
    counts = {
        name: (getattr(report, name).successes, getattr(report, name).trials)
        for name in ("any_basin", "same_basin", "reached", "switched")
    }
    assert counts == {
        "any_basin": (2, 4),
        "same_basin": (1, 4),
        "reached": (5, 6),
        "switched": (2, 5),
    }
    assert report.diverged == 1
    # Clopper-Pearson for 1 of 4: the tails of the binomial law are 5 % at the limits.
    low, high = report.same_basin.low, report.same_basin.high
    assert 1 - (1 - low) ** 4 == pytest.approx(0.05)
    assert (1 - high) ** 4 + 4 * high * (1 - high) ** 3 == pytest.approx(0.05)
    shares = np.array([10, 10, 2, 7, 0, 6]) / 10
    mean = shares.mean()
    error = math.sqrt(np.sum((shares - mean) ** 2) / 5 / 6)
    assert report.occupancy == pytest.approx((mean, error))
    assert report.hops.value == pytest.approx(4 / 6)
    assert report.positive


def test_a_start_outside_makes_no_conditional_statement():
    report = stay_report(track(entry_step=[NEVER, 3, 5]), STEPS, 0.95, Interior(1.0))
    for share in (report.any_basin, report.same_basin):
        assert np.isnan([share.value, share.low, share.high]).all()
        assert "2 of 3 entered later" in share.reason
    assert (report.reached.value, report.reached.reason) == (2 / 3, "")
    assert not report.positive
    assert "inside the set at step 0" in report.not_positive
    nobody = stay_report(track(entry_step=[NEVER, NEVER]), STEPS, 0.95)
    assert math.isnan(nobody.switched.value)
    assert "ever inside" in nobody.switched.reason
    assert nobody.reached.value == 0.0


@pytest.mark.parametrize(
    ("exits", "interior", "reason"),
    [
        ([1, 2, 3], Interior(1.0), "lower limit is 0"),
        ([1, 2, NEVER], Interior(0.0), "has no interior"),
        ([1, 2, NEVER], Interior(math.nan, "who knows"), "who knows"),
        ([1, 2, NEVER], None, "not asked for"),
    ],
)
def test_what_is_missing_to_be_positive(exits, interior, reason):
    report = stay_report(track(exit_step=exits), STEPS, 0.95, interior)
    assert not report.positive
    assert reason in report.not_positive


def test_a_single_trajectory_has_no_standard_error():
    report = stay_report(track(steps_inside=[4]), STEPS, 0.95)
    assert report.occupancy.value == 0.4
    assert math.isnan(report.occupancy.stderr)


@pytest.mark.parametrize("column", ["exit_step", "steps_inside", "switch_step"])
def test_refuses_fewer_steps_than_the_track_has_seen(column):
    with pytest.raises(ValueError, match="got 5, but the track has seen at least 6"):
        stay_report(track(**{"steps_inside": [0], column: [6]}), 5, 0.95)
    with pytest.raises(ValueError, match="the track is empty"):
        stay_report(track(entry_step=np.zeros(0)), 5, 0.95)


def product(theta, x):
    return theta[0] * theta[1] * x


REGIONS = {
    "ball": (lambda: Ball(centre=jnp.array([1.0, 2.0]), radius=0.3), [1.0, 2.0], {}),
    "ring": (lambda: Tube(landscape=Sphere(1.0), radius=0.3), [0.6, 0.8], {}),
    "hyperbola": (lambda: Tube(landscape=Hyperbola(1.0), radius=0.3), [1.0, 1.0], {}),
    "valley": (
        lambda: AffineTube(centre=jnp.zeros(2), radius=0.3, normal=jnp.array([[0.6, 0.8]])),
        [0.0, 0.0],
        {},
    ),
    "ellipsoid": (
        lambda: Ellipsoid(
            centre=jnp.zeros(2),
            axes=jnp.array([[0.6, 0.8]]),
            scales=jnp.array([0.5]),
            rest_scale=0.2,
            radius=2.0,
        ),
        [0.0, 0.0],
        {},
    ),
    "sublevel": (
        lambda: Sublevel(problem=Quadratic([2.0, 8.0]).problem(), minimum_risk=0.0, height=1.0),
        [0.0, 0.0],
        {"growth": 8.0},
    ),
    # In the ball the gradient of the product is at most sqrt(2) (1 + r) with r <= 0.2 long.
    "function": (
        lambda: FunctionBall(
            outputs=product, rows=jnp.ones((1, 1)), reference=jnp.ones((1, 1)), radius=0.3
        ),
        [1.0, 1.0],
        {"lipschitz": math.sqrt(2) * 1.2},
    ),
    "union": (
        lambda: Union([Ball(centre=jnp.array([c, 0.0]), radius=r) for c, r in ((3, 0.1), (0, 1))]),
        [0.0, 0.0],
        {},
    ),
}
#: A slightly larger ball around the same point sticks out of these.
TIGHT = sorted(set(REGIONS) - {"function"})


@pytest.mark.parametrize("name", sorted(REGIONS))
def test_the_ball_lies_inside(name):
    make, centre, constants = REGIONS[name]
    region = make()
    interior = interior_radius(region, **constants)
    assert interior.radius > 0
    assert interior.reason == ""
    angle = jnp.linspace(0, 2 * jnp.pi, 721)
    circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)

    def farthest(radius):
        points = jnp.asarray(centre)[None] + radius * circle
        return float(jnp.sqrt(jnp.max(jax.vmap(region.squared_distance)(points))))

    assert farthest(0.999999 * interior.radius) <= float(region.radius)
    if name in TIGHT:
        assert farthest(1.02 * interior.radius) > float(region.radius)


def test_interiors_that_are_not_known():
    sublevel, function = REGIONS["sublevel"][0](), REGIONS["function"][0]()
    for region, reason in [
        (sublevel, "growth constant"),
        (function, "Lipschitz constant"),
        (Ball(centre=jnp.zeros(1), radius=np.inf), "must be in \\(0, inf\\), got inf"),
        (Ball(centre=jnp.zeros(1), radius=-1.0), "got -1"),
        (Ball(centre=jnp.zeros(1), radius=np.nan), "got nan"),
    ]:
        interior = interior_radius(region)
        assert math.isnan(interior.radius)
        assert reason.replace("\\", "") in interior.reason
    assert interior_radius(Below(coordinate=0, level=1.0)).radius == math.inf
    cylinder = Ellipsoid(centre=jnp.zeros(2), axes=jnp.eye(2)[:1], scales=jnp.array([3.0]))
    assert interior_radius(cylinder).radius == 3.0
    known = interior_radius(Union([sublevel, Ball(centre=jnp.zeros(2), radius=0.1)]))
    assert known.radius == pytest.approx(0.1)
    with pytest.raises(ValueError, match="growth must be a positive finite number"):
        interior_radius(sublevel, growth=0.0)
