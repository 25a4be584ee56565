from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from wgan.data.codec import Codec
from wgan.errors import UserError
from wgan.reports import panels
from wgan.reports.sheet import sample_sheet

GREY = Codec("image", (1, 2, 2), "no-channels", dtype="uint8", low=0, high=16)


def pixels(samples: NDArray[Any], codec: Codec, path: Path, **options: Any) -> NDArray[np.uint8]:
    sample_sheet(samples, codec, path=path / "sheet.png", **options)
    assert [p.name for p in path.iterdir()] == ["sheet.png"]  # nothing left beside it
    with Image.open(path / "sheet.png") as image:
        return np.asarray(image)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures in place of the PNG files made of them."""
    made: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        made.append(figure)
        return b"png"

    monkeypatch.setattr(panels, "png", keep)
    return made


def test_pictures_stand_in_a_grid_enlarged_by_a_whole_factor(tmp_path: Path) -> None:
    samples = np.array([[[0, 16], [8, 4]], [[16, 0], [0, 16]], [[16, 16], [16, 16]]])
    sheet = pixels(samples, GREY, tmp_path, columns=2)
    # 2 pictures of 2 pixels across: 200-fold for 800 pixels, and gaps of a sixteenth of 400.
    assert sheet.shape == (825, 825)
    first = sheet[:400, :400]
    assert (first[:200, :200] == 0).all()
    assert (first[:200, 200:] == 255).all()
    assert (first[200:, :200] == 128).all()
    assert (first[200:, 200:] == 64).all()
    assert (sheet[:, 400:425] == 255).all()
    assert sheet[0, 425] == 255
    assert sheet[0, 824] == 0
    assert (sheet[425:, 425:] == 255).all()  # no fourth picture


def test_a_sheet_of_small_pictures_can_be_read(tmp_path: Path) -> None:
    codec = Codec("image", (1, 8, 8), "no-channels", low=0, high=16)
    height, width = pixels(np.zeros((64, 8, 8)), codec, tmp_path).shape
    assert 600 <= width <= 1000
    assert 600 <= height <= 1000


def test_large_pictures_keep_their_size(tmp_path: Path) -> None:
    codec = Codec("image", (1, 128, 128), "no-channels", low=0, high=1)
    assert pixels(np.zeros((16, 128, 128)), codec, tmp_path).shape == (2 * 128 + 8, 8 * 128 + 7 * 8)


@pytest.mark.parametrize("layout", ["channels-first", "channels-last"])
def test_colours_come_out_as_they_went_in(tmp_path: Path, layout: Any) -> None:
    colour = np.array([255, 128, 0], np.uint8)
    samples = np.broadcast_to(colour, (1, 4, 4, 3))
    if layout == "channels-first":
        samples = np.moveaxis(samples, -1, 1)
    codec = Codec("image", (3, 4, 4), layout, dtype="uint8", low=0, high=255)
    assert (pixels(samples, codec, tmp_path) == colour).all()


def test_opacity_is_laid_on_white(tmp_path: Path) -> None:
    samples = np.zeros((1, 4, 4, 4))
    samples[..., 3] = 0.4  # black, 40% opaque
    codec = Codec("image", (4, 4, 4), "channels-last", low=0, high=1)
    assert (pixels(samples, codec, tmp_path) == 153).all()


def test_other_numbers_of_channels_stand_side_by_side(tmp_path: Path) -> None:
    samples = np.stack([np.zeros((1, 4, 4)), np.ones((1, 4, 4))], axis=1)
    sheet = pixels(samples, Codec("image", (2, 4, 4), low=0, high=1), tmp_path)
    assert (sheet[:, : sheet.shape[1] // 2] == 0).all()
    assert (sheet[:, sheet.shape[1] // 2 :] == 255).all()


def test_real_pictures_set_the_contrast_where_the_range_is_not_known(tmp_path: Path) -> None:
    codec = Codec("image", (1, 4, 4), "no-channels")
    sheet = pixels(np.full((1, 4, 4), 5.0), codec, tmp_path, real=np.linspace(0, 10, 160))
    assert (sheet == 128).all()


def test_what_is_not_a_number_is_drawn_all_the_same(tmp_path: Path) -> None:
    samples = np.full((1, 4, 4), np.nan)
    assert (pixels(samples, GREY, tmp_path) == 0).all()


def test_nothing_to_draw_is_refused_before_a_file_exists(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one sample"):
        sample_sheet(np.zeros((0, 2, 2)), GREY, path=tmp_path / "sheet.png")
    with pytest.raises(UserError, match="`columns` must be >= 1, got 0"):
        sample_sheet(np.zeros((1, 2, 2)), GREY, path=tmp_path / "sheet.png", columns=0)
    assert not list(tmp_path.iterdir())


# -- volumes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["no-channels", "channels-first", "channels-last"])
def test_volumes_are_shown_as_means_along_each_axis(
    tmp_path: Path, figures: list[Figure], layout: Any
) -> None:
    volume = np.arange(24.0).reshape(1, 2, 3, 4)
    own = {
        "no-channels": volume,
        "channels-first": volume[:, None],
        "channels-last": volume[..., None],
    }
    codec = Codec("volume", (1, 2, 3, 4), layout)
    sample_sheet(own[layout], codec, path=tmp_path / "sheet.png")
    mosaic = figures[0].axes[0].images[0].get_array()
    assert mosaic is not None
    views = np.ma.filled(mosaic, np.nan)
    # Cells of 4 x 4 with a gap of 1; smaller views stand in the middle of theirs.
    np.testing.assert_array_equal(views[0:3, 0:4], volume[0].mean(0))
    np.testing.assert_array_equal(views[1:3, 5:9], volume[0].mean(1))
    np.testing.assert_array_equal(views[1:3, 10:13], volume[0].mean(2))
    assert np.isnan(views[:, 4]).all()
    assert figures[0].axes[0].get_title(loc="left") == "1 samples, means"


def test_heavy_tails_get_a_log_scale_and_say_so(tmp_path: Path, figures: list[Figure]) -> None:
    codec = Codec("volume", (1, 4, 4, 4), "no-channels")
    showers = np.ones((30, 4, 4, 4))
    showers[:, 0, 0, 0] = 1e4
    sample_sheet(showers, codec, path=tmp_path / "sheet.png")
    sample_sheet(np.ones_like(showers), codec, path=tmp_path / "sheet.png", real=showers)
    for figure in figures:
        assert isinstance(figure.axes[0].images[0].norm, LogNorm)
        title = figure.axes[0].get_title(loc="left")
        assert title == "12 of 30 samples, means, colours on a log scale"
    # The real ones set the scale of both.
    assert figures[0].axes[0].images[0].get_clim() == figures[1].axes[0].images[0].get_clim()


def test_volumes_with_negative_values_keep_a_plain_scale(
    tmp_path: Path, figures: list[Figure]
) -> None:
    volumes = np.random.default_rng(0).normal(size=(4, 4, 4, 4))
    volumes[:, 0, 0, 0] = 1e4
    volumes[:, 1, 1, 1] = -1e4
    sample_sheet(volumes, Codec("volume", (1, 4, 4, 4), "no-channels"), path=tmp_path / "s.png")
    assert not isinstance(figures[0].axes[0].images[0].norm, LogNorm)


def test_empty_volumes_are_drawn(tmp_path: Path) -> None:
    codec = Codec("volume", (1, 4, 4, 4), "no-channels")
    sample_sheet(np.zeros((2, 4, 4, 4)), codec, path=tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width == 960


# -- rows ------------------------------------------------------------------------------------------


def test_the_plane_is_scattered_over_real_points(tmp_path: Path, figures: list[Figure]) -> None:
    codec = Codec("rows", (2,), columns=("cost in $", "_tax in $"), dtypes=("float64",) * 2)
    real = np.random.default_rng(0).uniform(size=(50, 2))
    samples = np.array([[0.5, 0.5], [0.2, 0.7], [9.0, 0.5]])
    sample_sheet(samples, codec, path=tmp_path / "sheet.png", real=real)
    axes = figures[0].axes[0]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), samples)
    np.testing.assert_array_equal(axes.collections[1].get_offsets(), real[:3])
    assert axes.get_title() == "3 samples (blue), 3 real (orange); 1 outside the frame"
    assert axes.get_xlabel() == r"cost in \$"
    assert axes.get_xlim()[1] < 1.2  # the stray sample does not shrink the rest


def test_columns_are_compared_in_histograms(tmp_path: Path, figures: list[Figure]) -> None:
    names = ("height", "count", "constant")
    codec = Codec("rows", (3,), columns=names, dtypes=("float64", "int64", "float64"))
    rng = np.random.default_rng(0)
    real = np.stack([rng.normal(size=500), rng.integers(0, 3, 500), np.ones(500)], 1)
    samples = real[:100].copy()
    samples[:50, 0] = 1e6
    samples[:, 1] = 2
    sample_sheet(samples, codec, path=tmp_path / "sheet.png", real=real)
    axes = figures[0].axes
    assert [a.get_title(loc="left") for a in axes] == list(names)
    assert axes[0].get_title(loc="right") == "50% outside"
    values, edges, _ = axes[1].patches[1].get_data()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(edges, [-1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    np.testing.assert_array_equal(values, [0, 0, 0, 1, 0])
    bars, _, _ = axes[1].patches[0].get_data()  # type: ignore[attr-defined]
    np.testing.assert_allclose(bars, [0, *np.bincount(real[:, 1].astype(int)) / 500, 0])


def test_of_many_columns_some_are_shown_and_it_says_so(
    tmp_path: Path, figures: list[Figure]
) -> None:
    codec = Codec("rows", (40,), flattened=(2, 20))
    sample_sheet(np.random.default_rng(0).normal(size=(30, 2, 20)), codec, path=tmp_path / "s.png")
    (figure,) = figures
    assert len(figure.axes) == 16
    assert figure.get_suptitle() == "30 samples (blue): 16 of 40 columns"
    assert figure.axes[0].get_title(loc="left") == "[0, 0]"
    assert figure.axes[-1].get_title(loc="left") == "[1, 19]"
