"""Train, judge and use Wasserstein GANs and their relatives.

>>> import wgan
>>> run = wgan.train("digits", recipe="wgan-gp", steps=2000, seed=0, out="runs/digits")
>>> samples = run.sample(1000, seed=1)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from wgan.api import Trained, iterate, load, resume, train
    from wgan.errors import NonFiniteError, RunFailedError, UserError
    from wgan.recipes import RECIPES
    from wgan.types import Batch, Loss, Record, Scores

_HOMES = {
    "wgan.api": ("Trained", "iterate", "load", "resume", "train"),
    "wgan.errors": ("NonFiniteError", "RunFailedError", "UserError"),
    "wgan.recipes": ("RECIPES",),
    "wgan.types": ("Batch", "Loss", "Record", "Scores"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - in the order of _HOMES
    "Trained",
    "iterate",
    "load",
    "resume",
    "train",
    "NonFiniteError",
    "RunFailedError",
    "UserError",
    "RECIPES",
    "Batch",
    "Loss",
    "Record",
    "Scores",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `wgan --help` does not wait for torch."""
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'wgan' has no attribute {name!r}")
