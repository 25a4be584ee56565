"""The figures on pictures, in a few steps on the digits that stand in for MNIST."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wgan.experiments.reproduction import (
    architectures,
    deep_resnet,
    js_is_not,
    meaningful_loss,
    pictures,
)
from wgan.experiments.reproduction.base import FAILS, HOLDS, Budget, judge, reproduce
from wgan.experiments.reproduction.pictures import Course, Digits, follow, looks
from wgan.reports.plots import Curve

SMALL: dict[str, tuple[Any, dict[str, Any]]] = {
    "js-is-not": (js_is_not, {"steps": 6, "looks": 3, "batch_size": 16}),
    "architectures": (architectures, {"steps": 3, "batch_size": 16}),
    "deep-resnet": (deep_resnet, {"steps": 3, "blocks": 2, "batch_size": 8}),
}


@pytest.fixture
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WGAN_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", SMALL)
def test_a_few_steps_give_every_number_and_the_picture(name: str, no_data: Path) -> None:
    module, small = SMALL[name]
    settings = module.Settings(width=4, judged=60, seeds=1, **small)
    outcome = module.run(Budget(3), settings)
    assert set(outcome.statistics) == {claim.name for claim in module.CLAIMS}
    assert all(math.isfinite(values[0]) for values in outcome.statistics.values())
    assert "in place of MNIST" in outcome.data
    assert str(no_data) in outcome.data
    json.dumps([outcome.notes, outcome.settings])
    assert len(outcome.figure.axes) >= 4


def test_one_pair_of_the_meaningful_loss_is_followed_and_audited(no_data: Path) -> None:
    digits = Digits.open(60)
    assert digits.instead is not None
    given = {**meaningful_loss.GENERATORS["DCGAN"], **meaningful_loss.CRITICS["penalised"]}
    given |= {"width": 4, "batch_size": 16}
    names = (meaningful_loss.ESTIMATE,)
    course = follow(given, names, 3, digits, looks(4, 2, 2), Budget(), audited=True)
    assert course.at.tolist() == [2, 4]
    assert (course.frechet > 5 * digits.floor).all()
    assert (course.lower > 0).all()
    assert len(course.curves[meaningful_loss.ESTIMATE]) == 4
    assert course.samples[0].shape == (16, 8, 8)


def test_a_result_says_what_it_was_run_on(
    no_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(budget: Budget) -> Any:
        settings = deep_resnet.Settings(steps=1, blocks=1, width=2, judged=20, seeds=1)
        return deep_resnet.run(budget, settings)

    experiment = type(deep_resnet.EXPERIMENT)(**{**vars(deep_resnet.EXPERIMENT), "run": run})
    result = reproduce(experiment, tmp_path / "out")
    assert "there is no mnist" in result.data


def made(values: list[float], quality: list[float], name: str) -> Course:
    steps = np.arange(1, len(values) + 1)
    curve = Curve(steps, np.array(values))
    return Course({name: curve}, steps, np.array(quality), np.array(quality[::-1]), ())


def test_an_estimate_that_falls_with_quality_tracks_it() -> None:
    falls, stays = made([4, 3, 2, 1], [9, 8, 5, 1], "e"), made([1, 1, 1, 1], [9, 8, 5, 1], "e")
    assert falls.correlation("e") == pytest.approx(1)
    assert falls.correlation("e", "lower") == pytest.approx(-1)
    assert stays.correlation("e") == 0
    (tracks, *_) = meaningful_loss.CLAIMS
    found = [course.correlation("e") for course in (falls, stays)]
    assert judge([found[0]] * 3, tracks, 3) == HOLDS
    assert judge([found[1]] * 3, tracks, 3) == FAILS


def test_a_saturated_js_estimate_is_close_to_log_2() -> None:
    course = made([0.1, 0.2, math.log(2), math.log(2)], [1, 1, 1, 1], js_is_not.JS)
    assert js_is_not.saturation(course) == pytest.approx(1)
    assert js_is_not.saturation(made([0.7, 0.7, 0, 0], [1] * 4, js_is_not.JS)) == 0


def test_samples_that_are_all_alike_have_no_spread_and_the_data_have_1(no_data: Path) -> None:
    digits = Digits.open(60)
    own = digits.held.codec.decode(digits.held.batch(torch.arange(60)).values)
    same = architectures.judge(1.0, own, digits, 4)
    assert same.frechet == pytest.approx(0, abs=1e-6)
    assert (same.coverage, same.spread) == pytest.approx((1, 1))
    alike = architectures.judge(1.0, own[:1].repeat(60, 0), digits, 4)
    assert alike.spread == pytest.approx(0, abs=1e-6)
    assert alike.coverage < 0.3


def test_gradients_that_vanish_or_an_estimate_that_stays_are_seen() -> None:
    steps = np.arange(1, 5)

    def trial(norms: list[float], estimate: list[float]) -> deep_resnet.Trial:
        both = np.array([[1.0, 1.0, 1.0], norms])
        curve = Curve(steps, np.array(estimate))
        return deep_resnet.Trial({}, curve, {"critic": both}, (1, 1), np.empty(0))

    good = trial([1, 2, 3], [5, 8, 4, 2])
    bad = trial([1, 1e-6, 0], [5, 8, 8, 8])
    assert good.spread("critic") == pytest.approx(math.log10(3))
    assert good.fall == 0.25
    assert bad.spread("critic") > 100
    assert bad.fall == 1


def test_every_block_has_its_gradient(no_data: Path) -> None:
    digits = Digits.open(60)
    given = {"recipe": "wgan-gp", "network": "resnet", "depth": 3, "width": 4}
    state = pictures.start(given, 3, 1, digits.training)
    found = deep_resnet.gradients(state, digits, 8, 3)
    assert {player: len(norms) for player, norms in found.items()} == {"generator": 3, "critic": 3}
    assert all((norms > 0).all() for norms in found.values())


def test_mnist_is_judged_in_the_classifiers_features() -> None:
    if not (pictures.data_folder() / "mnist").is_dir():
        pytest.skip(f"no mnist in {pictures.data_folder()}; set WGAN_DATA to a folder that has it")
    digits = Digits.open(100)
    assert digits.instead is None
    assert digits.real.shape == (100, 84)
    noise = np.random.default_rng(0).integers(0, 256, (100, 28, 28), dtype=np.uint8)
    assert digits.frechet(noise) > 5 * digits.floor
