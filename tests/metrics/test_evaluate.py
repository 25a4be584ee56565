import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from wgan.errors import UnknownNameError, UserError
from wgan.metrics import Evaluation, evaluate, feature_space, frechet_distance
from wgan.transport import exact

Points = NDArray[np.float64]


def normal(*shape: int, seed: int = 0) -> Points:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture(scope="module")
def equal() -> Evaluation:
    """Two samples of one distribution, with twice as many real ones."""
    return evaluate(
        normal(300, 4),
        normal(600, 4, seed=1),
        train=normal(500, 4, seed=2),
        heldout=normal(200, 4, seed=3),
        reference_name="normals",
        unit="metres",
    )


@pytest.fixture(scope="module")
def apart() -> Evaluation:
    """The same, one metre away along each axis, with too few real ones for a floor of full size."""
    return evaluate(normal(300, 4) + 1, normal(300, 4, seed=1))


def test_equal_distributions_are_at_the_floor(equal: Evaluation) -> None:
    for m in equal.measurements:
        assert m.floor is not None
        assert m.value == pytest.approx(m.floor, rel=0.25, abs=0.06), m.name
        assert "value_at_floor_size" not in m.detail
    assert equal["energy"].detail["p_value"] > 0.01
    assert equal["memorisation"].detail["p_value"] > 0.01
    assert (equal.compared["size"], equal.compared["floor_size"]) == (300, 300)


def test_a_shift_is_seen_by_every_measure(apart: Evaluation) -> None:
    """Against the floor, at the floor's own size."""
    assert (apart.compared["size"], apart.compared["floor_size"]) == (300, 150)
    for m in apart.measurements:
        if m.name == "duplicates":
            continue
        assert m.floor is not None
        fair = m.detail["value_at_floor_size"]
        assert fair < m.floor if m.better == "higher" else fair > m.floor, m.name
    assert apart["energy"].detail["p_value"] == pytest.approx(1 / 501)


def test_values_are_those_of_the_measures_themselves(apart: Evaluation) -> None:
    x, y = normal(300, 4) + 1, normal(300, 4, seed=1)
    assert apart["w1"].value == pytest.approx(exact(x, y).value, rel=1e-12)
    assert apart["frechet"].value == pytest.approx(frechet_distance(x, y), rel=1e-12)


def test_floor_uses_further_real_samples_and_only_for_the_floor() -> None:
    x, y = normal(40, 2), normal(40, 2, seed=1)
    far = normal(40, 2, seed=2) + 100
    with_more = evaluate(x, y, more_real=far)
    assert with_more["w1"].value == pytest.approx(exact(x, y).value)
    assert with_more.compared["floor_size"] == 40
    assert with_more["w1"].floor == pytest.approx(exact(y, far).value)


def test_copies_duplicates_and_lost_modes_are_found() -> None:
    @dataclass
    class Two:
        centres: Points
        standard_deviation: float = 1.0

    modes = Two(np.array([[0.0, 0.0], [60.0, 0.0]]))
    train, heldout = normal(200, 2), normal(100, 2, seed=1)
    train[::2, 0] += 60
    heldout[::2, 0] += 60
    copies = np.repeat(train[1::4], 2, axis=0)  # of the first mode, each twice
    result = evaluate(copies, heldout, train=train, heldout=heldout, modes=modes)
    assert result["duplicates"].value == 1
    assert result["copies"].value == 1
    assert result["copies"].floor is not None
    assert result["copies"].floor < 0.2
    assert result["memorisation"].value == 1
    assert result["modes"].value == 1
    assert result["modes"].floor == 2
    assert result["near_modes"].value == 1
    assert result["recall"].value < 0.7


def test_scale_judges_every_column_but_leaves_own_units_to_w1() -> None:
    """The second column differs, by much of its own scale and nothing of the first's."""
    width = np.array([1000.0, 0.001])
    x, y = normal(200, 2) * width, normal(200, 2, seed=1) * width
    x[:, 1] += 0.003
    blind = evaluate(x, y)
    seeing = evaluate(x, y, scale=width)
    assert blind["energy"].detail["p_value"] > 0.01
    assert blind["nn_accuracy"].value < 0.6
    assert seeing["energy"].detail["p_value"] < 0.01
    assert seeing["nn_accuracy"].value > 0.85
    assert seeing["w1"].value == blind["w1"].value == pytest.approx(exact(x, y).value)
    assert seeing["w1_scaled"].value == pytest.approx(exact(x / width, y / width).value)
    assert "w1_scaled" not in blind
    assert seeing.compared["scale"] == [1000, 0.001]
    expected = frechet_distance(x / width, y / width)
    assert seeing["frechet"].value == pytest.approx(expected)
    assert blind.compared["features_fingerprint"] != seeing.compared["features_fingerprint"]


def test_memorisation_is_judged_in_scaled_columns() -> None:
    width = np.array([1000.0, 0.001])
    train, heldout = normal(200, 2) * width, normal(200, 2, seed=1) * width
    copies = train[:100] + np.array([0.0, 1.0]) * width  # near in the wide column alone
    assert evaluate(copies, heldout, train=train, heldout=heldout)["copies"].value == 1
    scaled = evaluate(copies, heldout, train=train, heldout=heldout, scale=width)
    train, heldout, copies = train / width, heldout / width, copies / width
    by_hand = evaluate(copies, heldout, train=train, heldout=heldout)
    for name in ("memorisation", "copies"):
        assert scaled[name].value == by_hand[name].value
    assert scaled["copies"].value < 0.2


def test_units() -> None:
    """A change of unit and origin multiplies distances and leaves every other measure alone."""
    x, y, train, heldout = (normal(60, 3, seed=s) for s in range(4))
    before = evaluate(x, y, train=train, heldout=heldout)
    x, y, train, heldout = (64 * v + 8 for v in (x, y, train, heldout))
    after = evaluate(x, y, train=train, heldout=heldout)
    power = {"w1": 1, "sliced_w1": 1, "energy": 1, "frechet": 2}
    for m in before.measurements:
        expected = m.value * 64 ** power.get(m.name, 0)
        assert after[m.name].value == pytest.approx(expected, rel=1e-9), m.name


def test_pictures_are_flattened_and_in_pixel_levels() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 6, 6, 3), dtype=np.uint8)
    y = rng.integers(0, 256, (70, 6, 6, 3), dtype=np.uint8)
    result = evaluate(x, y, n_exact=40)
    assert result.compared["size"] == 40
    floats = evaluate(x.astype(float), y.astype(float), n_exact=40)
    assert floats.to_json()["measurements"] == result.to_json()["measurements"]


def test_one_number_a_sample() -> None:
    x, y = normal(50), normal(50, seed=1)
    assert evaluate(x, y)["w1"].value == pytest.approx(wasserstein_distance(x, y))


def test_features_by_name_and_by_space() -> None:
    x, y = normal(40, 6), normal(40, 6, seed=1)
    named = evaluate(x, y, features="pca:2")
    space = feature_space("pca:2", y)
    assert named["frechet"].value == evaluate(x, y, features=space)["frechet"].value
    assert named.compared["features"] == "pca:2"
    assert named["precision"].detail["features_fingerprint"] == space.fingerprint
    with pytest.raises(UserError, match="unknown features"):
        evaluate(x, y, features="inception")


def test_same_seed_same_numbers() -> None:
    x, y = normal(100, 2), normal(100, 2, seed=1)
    first, second, third = (evaluate(x, y, n_exact=50, seed=s) for s in (0, 0, 1))
    assert first.to_json()["measurements"] == second.to_json()["measurements"]
    assert first["w1"].value != third["w1"].value


def test_to_json_is_plain_and_complete(equal: Evaluation) -> None:
    plain = json.loads(json.dumps(equal.to_json()))
    assert list(plain["measurements"]) == [m.name for m in equal.measurements]
    assert plain["measurements"]["w1"]["value"] == equal["w1"].value
    assert plain["compared"]["unit"] == "metres"
    assert plain["seconds"] > 0


def test_table_is_aligned_and_says_what_was_compared(equal: Evaluation, apart: Evaluation) -> None:
    lines = equal.table().splitlines()
    assert "300 samples against 300 real ones of normals, distances in metres" in lines[0]
    rows = lines[lines.index("") + 1 :]
    assert len(rows) == 1 + len(equal.measurements)
    column = rows[0].index("what it says")
    assert all(row[column - 1] == " " != row[column] for row in rows)
    assert "150 against 150" in apart.table()


def test_unknown_measurement_lists_the_known(equal: Evaluation) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'frechet'"):
        equal["freshet"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"samples": normal(11, 2)}, "`samples` must be at least 12 to be judged, got 11"),
        ({"reference": normal(20, 3)}, r"`reference` must have the shape of the samples, \[2\]"),
        ({"more_real": normal(20, 3)}, "`more_real` must have the shape"),
        ({"train": normal(9, 3), "heldout": normal(9, 2)}, "`train` must have the shape"),
        ({"samples": np.full((20, 2), np.nan)}, "`samples` must be finite: 20 of 20"),
        ({"samples": np.array([["a"]] * 20)}, "must be an array of numbers"),
        ({"scale": [1.0, 0.0]}, "`scale` must be 2 finite numbers > 0"),
        ({"scale": [1.0]}, "`scale` must be 2"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {"samples": normal(20, 2), "reference": normal(20, 2, seed=1)}
    with pytest.raises(UserError, match=match):
        evaluate(**{**arguments, **change})
