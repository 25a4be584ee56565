"""The loop, the state it changes, and the two updates it makes."""

from wgan.training.loop import train
from wgan.training.optimizers import OPTIMIZERS, SCHEDULES, OptimizerSpec
from wgan.training.state import Method, Player, TrainState
from wgan.training.step import bind_critic, generate

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Method",
    "OptimizerSpec",
    "Player",
    "TrainState",
    "bind_critic",
    "generate",
    "train",
]
