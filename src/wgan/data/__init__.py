"""Where real samples come from: built-in sources, arrays, tables, pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wgan.data.base import Order, Source, Subset
from wgan.data.codec import Codec, Scale
from wgan.data.opening import known_sources, open_source
from wgan.data.options import LAYOUTS, DataOptions
from wgan.data.synthetic import Synthetic
from wgan.data.tables import write_table

if TYPE_CHECKING:
    from wgan.data.pictures import as_pixels, write_images

__all__ = [
    "LAYOUTS",
    "Codec",
    "DataOptions",
    "Order",
    "Scale",
    "Source",
    "Subset",
    "Synthetic",
    "as_pixels",
    "known_sources",
    "open_source",
    "write_images",
    "write_table",
]


def __getattr__(name: str) -> Any:
    # Pillow is loaded by the first who draws.
    if name in ("as_pixels", "write_images"):
        from wgan.data import pictures

        return getattr(pictures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
