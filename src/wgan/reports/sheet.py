"""Sample sheets: one picture of many samples, in the data's own units."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgan.data.codec import Codec
from wgan.errors import UserError
from wgan.reports.style import write_whole

_WIDTH, _HEIGHT = 800, 1000  # pixels aimed at by enlarging small pictures
_WHITE = 255


def sample_sheet(
    samples: NDArray[Any],
    codec: Codec,
    *,
    path: Path,
    columns: int = 8,
    real: NDArray[Any] | None = None,
) -> None:
    """Write a PNG of samples: a grid of pictures, projections of volumes, or marginals of rows.

    Pictures are shown pixel by pixel, enlarged by a whole factor where they are small. Volumes are
    shown as means along each of their axes. Rows of two numbers are scattered over the real ones;
    other rows are shown as one histogram per column, against the real ones.

    Args:
        samples: ``[n, *codec.own_shape]`` in the data's own units, as ``codec.decode`` gives.
        codec: What a sample is, its own range and its columns.
        path: The PNG file; written whole or not at all.
        columns: Pictures side by side, >= 1.
        real: Real samples, ``[m, *codec.own_shape]``: drawn for comparison with rows; for pictures
            and volumes they set the scale of colours where the codec has no range, so that sheets
            made with the same ones can be compared.

    Raises:
        UserError: There are no samples, or `columns` < 1.
    """
    if len(samples) == 0:
        raise UserError("a sample sheet needs at least one sample, got none")
    if columns < 1:
        raise UserError(f"`columns` must be >= 1, got {columns}")
    if codec.kind == "image":
        content = _picture_sheet(samples, codec, columns, real)
    else:
        # Matplotlib takes a while to load, and pictures do without it.
        from wgan.reports.panels import row_sheet, volume_sheet

        sheet = volume_sheet if codec.kind == "volume" else row_sheet
        content = sheet(samples, codec, real)
    write_whole(path, content)


def _picture_sheet(
    samples: NDArray[Any], codec: Codec, columns: int, real: NDArray[Any] | None
) -> bytes:
    """A grid of pictures as a PNG file."""
    from PIL import Image

    pixels = _pixels(samples, codec, samples if real is None else real)
    n, height, width, channels = pixels.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    factor = max(1, min(round(_WIDTH / (columns * width)), round(_HEIGHT / (rows * height))))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = height * factor, width * factor
    gap = max(2, min(height, width) // 16)
    down, across = height + gap, width + gap
    sheet = np.full((rows * down - gap, columns * across - gap, channels), _WHITE, np.uint8)
    for i, picture in enumerate(pixels):
        top, left = (i // columns) * down, (i % columns) * across
        sheet[top : top + height, left : left + width] = picture
    buffer = io.BytesIO()
    Image.fromarray(sheet if channels == 3 else sheet[..., 0]).save(buffer, format="png")
    return buffer.getvalue()


def _pixels(samples: NDArray[Any], codec: Codec, reference: NDArray[Any]) -> NDArray[np.uint8]:
    """Pictures ``[n, h, w, 1 or 3]`` of bytes, black at the low end of the range.

    Four channels are red, green, blue and opacity, laid on white; any other number of them stands
    side by side in grey.
    """
    low, high = codec.low, codec.high
    if low is None or high is None:
        # A few wild pixels must not turn all the others grey.
        low, high = (float(q) for q in np.nanquantile(reference, (0.001, 0.999)))
    levels = (samples.astype(np.float64) - low) / ((high - low) or 1.0)
    levels = np.nan_to_num(levels, posinf=1.0, neginf=0.0).clip(0, 1)
    if codec.layout == "no-channels":
        levels = levels[..., None]
    elif codec.layout == "channels-first":
        levels = np.moveaxis(levels, 1, -1)
    channels = levels.shape[-1]
    if channels == 4:
        levels = levels[..., :3] * levels[..., 3:] + (1 - levels[..., 3:])
    elif channels not in (1, 3):
        levels = np.concatenate(np.split(levels, channels, axis=-1), axis=2)
    return np.rint(levels * 255).astype(np.uint8)
