"""The benchmark of W1 bounds: a trial, its continuation, its page."""

import json
from pathlib import Path
from typing import Any

import pytest

from wgan.cli import main
from wgan.errors import UserError
from wgan.experiments.benchmark_w1 import Trial, known_pairs, open_pair, page, read, run_trial


def test_every_pair_can_be_named() -> None:
    assert len(known_pairs()) == len(set(known_pairs())) == 28 + 22
    assert open_pair("translation-8").name == "translation-8"
    with pytest.raises(UserError, match="cones-2-4"):
        open_pair("cones-3-4")


def test_a_trial_compares_with_what_is_known() -> None:
    found = run_trial(Trial("translation-2", "all", 0, 1.0, 100_000))
    assert found["w1"] == 1
    assert 0.9 < found["lower"] <= found["estimate"] < 1.05
    assert found["cos"] > 0.95
    assert found["gap"] == pytest.approx(found["estimate"], abs=6 * found["standard_error"])
    assert found["inside"] in (True, False)
    json.dumps(found)


def result(pair: str, estimate: float, lower: float, seed: int = 0, **more: Any) -> dict[str, Any]:
    trial = {"pair": pair, "estimator": "all", "seed": seed, "seconds": 1.0, "fresh": 0}
    return {
        "trial": trial,
        "w1": 2.0,
        "w1_error": 0.001,
        "estimate": estimate,
        "lower": lower,
        "method": "max-sliced",
        "seconds": 1.0,
        "cos": 0.9,
        **more,
    }


def test_the_page_counts_what_exceeds_and_what_is_near() -> None:
    found = page(
        [
            result("cones-2-4", 1.9, 1.8, inside=True),
            result("cones-2-4", 2.3, 2.2, seed=1, inside=False),
            result("cones-8-64", 1.0, 0.9),
            result("ball-2", 1.0, 0.9),
        ]
    )
    assert "exceeds the truth in 1 of 4 trials" in found
    assert "own gap in 1 of 2 trials" in found
    assert "On 2 of the 28 published pairs: mean absolute deviation 27.5%" in found
    assert "within 5% on 1, within 10% on 1" in found
    assert "| cones-2-4 | 2.0000 | 2.1000 | +5.0% | 2.0000 | 0.90 | 2 |" in found


def test_a_finished_trial_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = Trial("translation-2", "networks", 0, 600.0, 0)
    (tmp_path / trial.file).write_text(
        json.dumps(result("translation-2", 2.0, 1.9) | {"trial": vars(trial)})
    )
    given = ["--out", str(tmp_path), "--pairs", "translation-2", "--estimators", "networks"]
    assert main(["benchmark-w1", *given, "--seconds", "600"]) == 0
    assert "translation-2" in (tmp_path / "w1.md").read_text()
    assert main(["benchmark-w1", *given, "--seconds", "500"]) == 2
    assert "other settings" in capsys.readouterr().err
    (tmp_path / trial.file).write_text("{")
    with pytest.raises(UserError, match="not a result"):
        read(trial, tmp_path)
