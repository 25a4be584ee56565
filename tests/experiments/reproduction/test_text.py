"""The language model: what is counted, and a few steps on a text made here."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from wgan.experiments.reproduction import text
from wgan.experiments.reproduction.base import Budget, MissingDataError

LINE = b"It was the best of times, it was the worst of times; it was the age of wisdom!\n"


def symbols(lines: list[str]) -> text.Symbols:
    return np.array([[text.ALPHABET.index(c) for c in line] for line in lines], dtype=np.uint8)


def test_a_text_is_folded_into_windows() -> None:
    windows = text.read(LINE)
    assert windows.shape == (2, text.LENGTH)
    folded = "it was the best of times, it was the worst of times, it was the age of wisdom. "
    assert "".join(text.write(windows)) == folded[: 2 * text.LENGTH]


def test_training_windows_are_one_hot() -> None:
    values = text.Windows(text.read(LINE)).batch(torch.tensor([1, 0])).values
    assert values.shape == (2, len(text.ALPHABET), text.LENGTH)
    torch.testing.assert_close(values.sum(1), torch.ones(2, text.LENGTH))
    np.testing.assert_array_equal(values.argmax(1).numpy(), text.read(LINE)[[1, 0]])


def test_divergences_of_known_tables() -> None:
    aaaa, abab = symbols(["a" * text.LENGTH]), symbols(["ab" * (text.LENGTH // 2)])
    assert text.js(text.grams(abab, 3), text.grams(abab, 3)) == 0
    assert text.js(text.grams(aaaa, 2), text.grams(abab, 2)) == pytest.approx(math.log(2))
    half = 0.5 * (math.log(1 / 0.75) + 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(2))
    assert text.js(text.grams(aaaa, 1), text.grams(abab, 1)) == pytest.approx(half)
    found, shares = text.grams(abab, 2)
    assert len(found) == 2
    assert shares.tolist() == pytest.approx([16 / 31, 15 / 31])


def test_characters_are_drawn_by_their_probability() -> None:
    probabilities = torch.zeros(400, len(text.ALPHABET), text.LENGTH)
    probabilities[:, 1], probabilities[:, 3] = 0.25, 0.75
    uniform = torch.rand(400, text.LENGTH, generator=torch.Generator().manual_seed(0))
    found = text.drawn(probabilities, uniform)
    assert set(np.unique(found)) == {1, 3}
    assert np.mean(found == 1) == pytest.approx(0.25, abs=0.02)


def test_what_is_left_is_counted_above_the_floor() -> None:
    course = text.Course((0, 9), np.array([[0.5, 0.6], [0.2, 0.6]]), ())
    assert course.left(np.array([0.1, 0.2])).tolist() == pytest.approx([0.25, 1])


def test_a_few_steps_on_a_text_give_every_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WGAN_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match="`text` needs text/novels"):
        text.run(Budget())
    (tmp_path / "text").mkdir()
    (tmp_path / text.FILE).write_bytes(gzip.compress(b"".join(
        b"%s %d " % (LINE, k) for k in range(3000)
    )))  # fmt: skip
    settings = text.Settings(steps=6, looks=2, judged=40, width=4, blocks=1, seeds=1, shown=3)
    outcome = text.run(Budget(3), settings)
    assert set(outcome.statistics) == {claim.name for claim in text.CLAIMS}
    (course,) = outcome.notes["WGAN-GP"]
    assert course["steps"] == [0, 3, 6]
    assert np.array(course["js"]).shape == (3, 6)
    assert [len(sample) for sample in course["samples"]] == [text.LENGTH] * 3
    assert 0 < outcome.statistics["short_come_closer"][0] < 1.2
