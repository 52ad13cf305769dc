"""Tables of the problems with a known population minimum."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sgdsim.scenario import CaseProblem, Digits

ADAPTER = TypeAdapter(CaseProblem)
REGRESSION = {"kind": "linear_regression", "dimension": 5, "samples": 100, "label_noise": 0.5}
NETWORK = {
    "kind": "teacher_student",
    "dimension": 5,
    "hidden": [3],
    "activation": "tanh",
    "samples": 100,
    "label_noise": 0.5,
    "clip": 1.0,
}
WELLS = {
    "kind": "many_minima",
    "wells": 10,
    "amplitude": 1.0,
    "period": 2.0,
    "plateau": 0.5,
    "samples": 100,
    "spread": 1.0,
    "start": "best",
    "replicas": 8,
}
LANDSCAPE = {"kind": "landscape", "landscape": {"kind": "sphere", "modulus": 1.0}}
COUNT = ([1, 2**31 - 1], [0, -1, 1.0, 2**31, True])
SEED = ([0, 2**31 - 1], [-1, 0.5, 2**31])
POSITIVE = ([1e-300, 1], [0, -1, "1", float("inf"), True])
NOISE = ([0, 0.0, 3.5], [-1e-9, float("nan"), "0"])
TWO_OR_MORE = ([2, 100], [1, 0, 2.0])
KEYS: list[tuple[dict[str, Any], dict[str, tuple[list[Any], list[Any]]]]] = [
    (REGRESSION, {"dimension": COUNT, "samples": COUNT, "label_noise": NOISE, "seed": SEED}),
    (
        NETWORK,
        {
            "dimension": TWO_OR_MORE,
            "hidden": ([[1], [3, 4]], [[], [0], 3, [1.0]]),
            "activation": (["relu"], ["Tanh", "identity", None]),
            "spectral_norm": POSITIVE,
            "samples": COUNT,
            "label_noise": NOISE,
            "clip": POSITIVE,
            "fresh": TWO_OR_MORE,
            "seed": SEED,
        },
    ),
    (
        WELLS,
        {
            "wells": COUNT,
            "amplitude": POSITIVE,
            "period": ([1.01, 1e300], [1.0, 0, -1]),
            "plateau": ([1e-9, 0.999], [0, 1.0, 1.5]),
            "samples": COUNT,
            "spread": POSITIVE,
            "start": (["first"], ["worst", True]),
            "replicas": COUNT,
            "seed": SEED,
        },
    ),
    (LANDSCAPE, {"landscape": ([{"kind": "double_well"}], [{"kind": "mountain"}, "sphere"])}),
]


def accepts(values: dict[str, Any]) -> bool:
    try:
        ADAPTER.validate_python(values)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("correct", "keys"), KEYS, ids=[c["kind"] for c, _ in KEYS])
def test_boundaries(correct, keys):
    table = ADAPTER.validate_python(correct)
    assert table.kind == correct["kind"]
    fields = type(table).model_fields
    assert set(keys) == set(fields) - {"kind"}
    assert all(field.description for field in fields.values())
    for key, (good, bad) in keys.items():
        for value in good:
            assert accepts({**correct, key: value}), (key, value)
        for value in bad:
            assert not accepts({**correct, key: value}), (key, value)
        without = {name: value for name, value in correct.items() if name != key}
        assert accepts(without) != fields[key].is_required(), key
    assert not accepts({**correct, "unknown": 1})


def test_classification_has_no_known_minimum():
    assert not accepts({"kind": "classification"})


def test_overlapping_shifts_are_explained():
    with pytest.raises(ValidationError, match=r"less than half of period = 2, .* \(got 1\.5\)"):
        ADAPTER.validate_python({**WELLS, "plateau": 1.5})


@pytest.mark.parametrize(
    ("share", "good"), [(0, True), (1, True), (0.3, True), (-0.1, False), (1.01, False)]
)
def test_share_of_random_labels(share, good):
    table = {"kind": "digits", "training": 10, "reference": 10, "split_seed": 0}
    assert Digits.model_validate(table).random_labels == 0.0
    if good:
        assert Digits.model_validate({**table, "random_labels": share}).random_labels == share
    else:
        with pytest.raises(ValidationError):
            Digits.model_validate({**table, "random_labels": share})
