"""From a configuration to networks in training."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from wgan.config import Config, resolve
from wgan.data import open_source
from wgan.data.base import Source
from wgan.networks import make_critic, make_generator
from wgan.recipes import get_recipe
from wgan.training import TrainState, ranks, train


def build_state(
    config: Config,
    source: Source,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> TrainState:
    """The players and their optimizers before the first step.

    Networks are initialised from the seed, each from a stream of its own.
    """
    shapes, hyper = config.shapes(source), config.hyper
    if generator is None:
        generator = make_generator(
            str(hyper.generator_network),
            config.network_spec("generator"),
            shapes,
            config.seed * 2 + 1,
        )
    if critic is None and config.objective.uses_critic:
        critic = make_critic(
            str(hyper.critic_network),
            config.network_spec("critic"),
            shapes,
            config.seed * 2 + 2,
            hyper.features,
        )
    _keep_freed_memory()
    torch.backends.cudnn.allow_tf32 = config.precision == "tf32"
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    return TrainState.create(
        config.method(),
        _placed(generator, config),
        critic and _placed(critic, config),
        source,
        ranks.world(),
    )


@cache
def _keep_freed_memory() -> None:
    """Have the C library keep the memory that tensors free for the next ones, up to 256 MiB.

    By default glibc gives blocks of 128 KiB and more back to the system at once, and each is made
    of fresh zeroed pages when it is next wanted: a tenth to a third of a small network's step.
    """
    if sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((_MMAP_THRESHOLD, 1 << 25), (_TRIM_THRESHOLD, 1 << 28)):
            libc.mallopt(option, value)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h; the largest value of the latter is 32 MiB


def _placed(network: nn.Module, config: Config) -> nn.Module:
    """The network on the run's device, in its type, with pictures' channels last."""
    wide = torch.float64 if config.precision == "fp64" else torch.float32
    network = network.to(torch.device(config.device), wide)
    if any(isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) for m in network.modules()):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def critic_passes(recipe: str) -> float:
    """Batches that the critic scores in a step of a recipe, penalties included; counted in one.

    Without a warm-up; the published ``n_critic``. A penalty's second derivative is not counted.
    """
    source = open_source("gaussians8")
    small = {"recipe": recipe, "settings": "published", "width": 2, "depth": 1}
    if get_recipe(recipe).settings.critic_network == "dcgan":  # which needs pictures
        small["network"] = "mlp"
    config, _ = resolve(
        {**small, "batch_size": 4, "generator_batch_size": 4, "warmup": False, "latent": 2},
        source,
        source.name,
    )
    state = build_state(config, source)
    if state.critic is None:
        return 0
    scored = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal scored
        scored += len(inputs[0])

    with state.critic.module.register_forward_hook(count):
        for _ in train(state, source, until=1):
            pass
    return scored / 4
