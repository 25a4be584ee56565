"""The loop, the state it changes, and the updates it makes."""

from wgan.training.loop import train
from wgan.training.losses import bind_critic, generate
from wgan.training.method import PRECISIONS, Method
from wgan.training.optimizers import OPTIMIZERS, SCHEDULES, OptimisticAdam, OptimizerSpec
from wgan.training.player import Player
from wgan.training.sampling import synthesize
from wgan.training.state import TrainState

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULES",
    "Method",
    "OptimisticAdam",
    "OptimizerSpec",
    "Player",
    "TrainState",
    "bind_critic",
    "generate",
    "synthesize",
    "train",
]
