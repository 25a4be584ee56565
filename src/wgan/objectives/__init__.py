"""Critic and generator losses, one file per family."""

from wgan.objectives.base import Objective
from wgan.objectives.standard import Standard
from wgan.objectives.wasserstein import Wasserstein

OBJECTIVES: dict[str, type[Objective]] = {kind.name: kind for kind in (Standard, Wasserstein)}

__all__ = ["OBJECTIVES", "Objective", "Standard", "Wasserstein"]
