"""From a configuration to networks in training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wgan.config import Config, resolve
from wgan.data import open_source
from wgan.data.base import Source
from wgan.networks import make_critic, make_generator
from wgan.recipes import get_recipe
from wgan.training import TrainState, train


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
    device = torch.device(config.device)
    return TrainState.create(
        config.method(), generator.to(device), critic and critic.to(device), source
    )


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
