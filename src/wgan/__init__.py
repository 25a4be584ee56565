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
    from wgan.api import compare, distance, iterate, load, resume, train
    from wgan.bounds import Certificate, Distance, certify
    from wgan.checkup import doctor
    from wgan.constraints import Constraint
    from wgan.data import Source, Synthetic
    from wgan.errors import NonFiniteError, RunFailedError, UserError
    from wgan.integrity import Verification, verify
    from wgan.networks import CriticNetwork, Generator, NetworkSpec, Shapes
    from wgan.objectives import Objective
    from wgan.plugins import load_plugin, register, register_network, register_source
    from wgan.recipes import RECIPES, Recipe, Settings
    from wgan.search import Sweep, sweep
    from wgan.shares import whole
    from wgan.trained import Trained
    from wgan.types import Batch, Draw, Loss, Record, Scores

_HOMES = {
    "wgan.api": ("compare", "distance", "iterate", "load", "resume", "train"),
    "wgan.bounds": ("Certificate", "Distance", "certify"),
    "wgan.constraints": ("Constraint",),
    "wgan.data": ("Source", "Synthetic"),
    "wgan.checkup": ("doctor",),
    "wgan.errors": ("NonFiniteError", "RunFailedError", "UserError"),
    "wgan.integrity": ("Verification", "verify"),
    "wgan.networks": ("CriticNetwork", "Generator", "NetworkSpec", "Shapes"),
    "wgan.objectives": ("Objective",),
    "wgan.plugins": ("load_plugin", "register", "register_network", "register_source"),
    "wgan.recipes": ("RECIPES", "Recipe", "Settings"),
    "wgan.shares": ("whole",),
    "wgan.search": ("Sweep", "sweep"),
    "wgan.trained": ("Trained",),
    "wgan.types": ("Batch", "Draw", "Loss", "Record", "Scores"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - in the order of _HOMES
    "Trained",
    "compare",
    "distance",
    "iterate",
    "load",
    "resume",
    "train",
    "Certificate",
    "Distance",
    "certify",
    "Constraint",
    "Source",
    "Synthetic",
    "doctor",
    "NonFiniteError",
    "RunFailedError",
    "UserError",
    "Verification",
    "verify",
    "CriticNetwork",
    "Generator",
    "NetworkSpec",
    "Shapes",
    "Objective",
    "load_plugin",
    "register",
    "register_network",
    "register_source",
    "RECIPES",
    "Recipe",
    "Settings",
    "whole",
    "Sweep",
    "sweep",
    "Batch",
    "Draw",
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
