from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wgan.data import Codec, DataOptions, Scale, Source, as_pixels, open_source, write_images
from wgan.data.codec import Layout
from wgan.errors import UserError

RNG = np.random.default_rng(0)


def options(tmp_path: Path, size: int = 8, skip_bad: bool = False) -> DataOptions:
    return DataOptions(size=size, skip_bad=skip_bad, cache=tmp_path.parent / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **how: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **how)  # type: ignore[arg-type]


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def own(source: Source) -> np.ndarray:
    return source.codec.decode(source.batch(torch.arange(source.size or 0)).values)


def test_pictures_of_the_right_size_are_kept_to_the_byte(folder: Path) -> None:
    pixels = noise(3, 8, 8, 3)
    for name, picture in zip(["b/2.png", "a.bmp", "b/1.tif"], pixels, strict=True):
        save(folder / name, picture)
    source = open_source(folder, options(folder))
    assert source.name == "pictures"
    assert (source.size, source.shape, source.codec.layout) == (3, (3, 8, 8), "channels-last")
    assert source.codec.bounded
    np.testing.assert_array_equal(own(source), pixels[[1, 2, 0]])  # in the order of their paths


def test_grey_stays_grey_only_if_all_are(folder: Path) -> None:
    pixels = noise(8, 8)
    save(folder / "a.png", pixels)
    save(folder / "b.png", pixels, "LA")
    save(folder / "c.gif", pixels, "L")
    save(folder / "d.png", pixels.astype(np.uint16) * 257)
    source = open_source(folder, options(folder))
    assert (source.shape, source.codec.layout) == ((1, 8, 8), "no-channels")
    np.testing.assert_array_equal(own(source), np.stack([pixels] * 4))
    save(folder / "colour.png", noise(8, 8, 3))
    source = open_source(folder, options(folder))
    assert source.shape == (3, 8, 8)
    np.testing.assert_array_equal(
        own(source)[[0, 1, 2, 4]], np.stack([pixels] * 3, axis=-1)[None].repeat(4, 0)
    )


def test_transparency_is_flattened_on_white(folder: Path) -> None:
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[:, 4:, 3] = 255
    pixels[0, 0, 3] = 51
    save(folder / "a.png", pixels)
    picture = own(open_source(folder, options(folder)))[0]
    assert picture[4].tolist() == [[255] * 3] * 4 + [[0] * 3] * 4
    assert picture[0, 0].tolist() == [204] * 3


def test_a_palette_with_a_transparent_colour_is_flattened(folder: Path) -> None:
    indices = np.zeros((8, 8), dtype=np.uint8)
    indices[:, 4:] = 1
    image = Image.frombytes("P", (8, 8), indices.tobytes())
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.save(folder / "a.png", transparency=0)
    picture = own(open_source(folder, options(folder)))[0]
    assert picture[0].tolist() == [[255] * 3] * 4 + [[0, 0, 255]] * 4


def test_pictures_are_turned_upright(folder: Path) -> None:
    pixels = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 90 degrees clockwise to be upright
    save(folder / "a.png", pixels, exif=exif)
    np.testing.assert_array_equal(
        own(open_source(folder, options(folder)))[0], np.rot90(pixels, k=-1)
    )


@pytest.mark.parametrize("shape", [(16, 40, 3), (40, 16, 3), (31, 17, 3), (5, 9, 3)])
def test_the_shorter_side_is_resized_and_the_centre_cut_out(
    folder: Path, shape: tuple[int, ...]
) -> None:
    # A linear ramp in both directions: what is resampled about the centre stays linear.
    height, width, _ = shape
    rows, columns = np.mgrid[:height, :width]
    ramp = 128 + 2.0 * (rows - (height - 1) / 2) - 1.0 * (columns - (width - 1) / 2)
    save(folder / "a.png", np.repeat(ramp.clip(0, 255)[..., None], 3, axis=-1).astype(np.uint8))
    picture = own(open_source(folder, options(folder)))[0, :, :, 0].astype(float)
    step = min(height, width) / 8
    rows, columns = np.mgrid[:8, :8] - 3.5
    expected = 128 + 2 * step * rows - step * columns
    inside = slice(1, -1)  # the outermost pixels see the border of the picture
    np.testing.assert_allclose(picture[inside, inside], expected[inside, inside], atol=2.5)


def test_a_large_photograph_is_decoded_at_a_fraction_of_its_size(folder: Path) -> None:
    rows, columns = np.mgrid[:600, :800] / 8
    smooth = (128 + 100 * np.sin(rows) * np.cos(columns)).astype(np.uint8)
    save(folder / "a.jpg", smooth, quality=95)
    picture = own(open_source(folder, options(folder, size=64)))[0].astype(float)
    plain = Image.fromarray(smooth).resize((64, 64), Image.Resampling.LANCZOS, (100, 0, 700, 600))
    np.testing.assert_allclose(picture, np.asarray(plain), atol=4)


def test_a_zip_holds_the_same_pictures_as_its_folder(folder: Path) -> None:
    for i in range(5):
        save(folder / f"{i % 2}/{i}.png", noise(12, 10, 3))
    archive = folder.parent / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in [*folder.rglob("*.png")][::-1]:
            file.write(path, path.relative_to(folder))
        file.writestr("__MACOSX/0/._0.png", b"hidden")
        file.writestr("notes.txt", b"hello")
    ours, theirs = (open_source(path, options(folder)) for path in (folder, archive))
    np.testing.assert_array_equal(own(ours), own(theirs))
    assert ours.fingerprint == theirs.fingerprint
    assert theirs.name == "pictures"
    assert theirs.describe()["other_files"] == 1


def test_a_zip_member_without_a_name_is_passed_over(folder: Path) -> None:
    save(folder / "a.png", noise(8, 8, 3))
    path = folder.parent / "nameless.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "a.png", "a.png")
        nameless = zipfile.ZipInfo("x")
        nameless.filename = ""
        archive.writestr(nameless, b"?")
    assert open_source(path, options(folder.parent)).size == 1


def test_hidden_and_other_files_are_passed_over(folder: Path) -> None:
    save(folder / "A.PNG", noise(8, 8))
    for name in (".b.png", ".git/c.png", "notes.txt", "no-ending"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("hello")
    source = open_source(folder, options(folder))
    assert source.size == 1
    assert source.describe()["other_files"] == 2


def test_progress_is_told_and_the_cache_is_used(folder: Path) -> None:
    for i in range(5):
        save(folder / f"{i}.png", noise(8, 8))
    told: list[tuple[int, int]] = []
    for _ in range(2):
        open_source(folder, options(folder), progress=lambda *done: told.append(done))
    assert told == [(5, 5)]
    save(folder / "0.png", noise(9, 9))
    open_source(folder, options(folder), progress=lambda *done: told.append(done))
    assert told == [(5, 5), (5, 5)]
    open_source(folder, options(folder, size=12), progress=lambda *done: told.append(done))
    assert len(told) == 3


def damage(folder: Path) -> None:
    """Two good pictures, and each way of being bad."""
    save(folder / "good.png", noise(8, 8))
    save(folder / "good2.png", noise(8, 8))
    (folder / "text.png").write_text("hello")
    (folder / "empty.jpg").touch()
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    save(folder / "cut.png", noise(64, 64, 3))
    cut = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(cut[: len(cut) // 2])
    (folder / "text2.png").write_text("hello")
    Image.fromarray(np.ones((8, 8), dtype=np.float32)).save(folder / "range.tif")


def test_bad_pictures_are_counted_and_listed(folder: Path) -> None:
    damage(folder)
    with pytest.raises(
        UserError, match=r"6 of 8 pictures in .* cut\.png \(.*\); empty\.jpg \(not .*and 3 more\. "
    ):
        open_source(folder, options(folder))
    source = open_source(folder, options(folder, skip_bad=True))
    assert source.size == 2
    assert source.describe()["skipped"] == 6
    with pytest.raises(UserError, match="--skip-bad"):  # although the cache has the good ones
        open_source(folder, options(folder))


def test_a_program_in_disguise_is_not_given_to_ghostscript(folder: Path) -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    (folder / "a.png").write_bytes(postscript)
    (folder / "b.eps").write_bytes(postscript)
    with Image.open(folder / "a.png") as image:
        assert image.format == "EPS"
    with pytest.raises(UserError, match=r"none of the 1 pictures .* a\.png \(not a picture\)"):
        open_source(folder, options(folder))


def test_nothing_to_learn_is_said(folder: Path) -> None:
    with pytest.raises(UserError, match=r"holds no pictures \(0 other files\)"):
        open_source(folder, options(folder))
    (folder / "a.png").write_text("hello")
    with pytest.raises(UserError, match=r"none of the 1 pictures .* a\.png \(not a picture\)"):
        open_source(folder, options(folder, skip_bad=True))
    (folder.parent / "a.zip").write_text("hello")
    with pytest.raises(UserError, match=r"cannot read .*a\.zip as a zip archive"):
        open_source(folder.parent / "a.zip", options(folder))


def test_too_many_pixels_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder / "a.png", noise(20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 399)
    with pytest.raises(UserError, match="400 pixels, more than 399"):
        open_source(folder, options(folder))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="decompression bomb"):
        open_source(folder, options(folder))


def test_a_zip_member_that_declares_too_much_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = folder.parent / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(10_000))
    monkeypatch.setattr("wgan.data.pictures.MEMBER_BYTES", 9_999)
    with pytest.raises(UserError, match="declares 10000 bytes"):
        open_source(archive, options(folder))


def test_a_damaged_member_is_a_bad_picture(folder: Path) -> None:
    archive = folder.parent / "a.zip"
    buffer = io.BytesIO()
    Image.fromarray(noise(8, 8)).save(buffer, "png")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", buffer.getvalue())
        file.writestr("b.png", buffer.getvalue())
    content = bytearray(archive.read_bytes())
    content[content.index(b"IDAT") + 10] ^= 255
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"1 of 2 .* a\.png \(Bad CRC-32"):
        open_source(archive, options(folder))


PICTURES: dict[Layout, tuple[np.ndarray, tuple[int, ...], str]] = {
    "no-channels": (np.arange(128).reshape(2, 8, 8), (1, 8, 8), "L"),
    "channels-last": (np.arange(384).reshape(2, 8, 8, 3) % 256, (3, 8, 8), "RGB"),
    "channels-first": (np.arange(512).reshape(2, 4, 8, 8) % 256, (4, 8, 8), "RGBA"),
}


@pytest.mark.parametrize("layout", PICTURES)
def test_samples_are_written_as_png(tmp_path: Path, layout: Layout) -> None:
    samples, shape, mode = PICTURES[layout]
    codec = Codec(
        kind="image",
        shape=shape,
        layout=layout,
        dtype="uint8",
        low=0,
        high=255,
    )
    write_images(tmp_path / "new" / "folder", codec, samples.astype(np.uint8))
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [file.name for file in files] == ["00000.png", "00001.png"]
    for file, sample in zip(files, samples, strict=True):
        with Image.open(file) as image:
            assert image.mode == mode
            pixels = np.asarray(image)
        expected = np.moveaxis(sample, 0, -1) if layout == "channels-first" else sample
        np.testing.assert_array_equal(pixels, expected)
    with pytest.raises(UserError, match="is not empty"):
        write_images(tmp_path / "new" / "folder", codec, samples.astype(np.uint8))


def test_other_ranges_are_brought_to_bytes() -> None:
    codec = open_source("digits").codec
    pixels = as_pixels(codec, np.array([[[0, 8, 16] + [0] * 5] + [[0] * 8] * 7]))
    assert pixels[0, 0, :3, 0].tolist() == [0, 128, 255]
    odd = Codec(kind="image", shape=(1, 1, 2), values=Scale.between(-1, 1), low=-1.0, high=1.0)
    assert as_pixels(odd, np.array([[[[-1.0, 1.0]]]])).flatten().tolist() == [0, 255]


def test_volumes_are_no_pictures(tmp_path: Path) -> None:
    codec = Codec(kind="volume", shape=(1, 4, 4, 4), layout="no-channels")
    with pytest.raises(UserError, match="cannot be drawn as pictures"):
        write_images(tmp_path / "a", codec, np.zeros((1, 4, 4, 4)))
    assert not (tmp_path / "a").exists()
