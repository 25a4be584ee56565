"""From a generator to samples."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from wgan.training.chain import Chain
from wgan.training.losses import generate

_BATCH = 128  # samples generated at a time; what is larger leaves the processor's cache


@torch.no_grad()
def synthesize(
    generator: nn.Module, latent: Tensor, condition: Tensor | None, like: Tensor
) -> Tensor:
    """Samples in training units on the CPU, generated in evaluation mode, a batch at a time."""
    training = generator.training
    generator.eval()
    chain = Chain.of(generator)
    give = chain.generate if chain is not None and chain.free else partial(generate, generator)
    parts = [
        give(
            latent[i : i + _BATCH].to(like),
            None if condition is None else condition[i : i + _BATCH].to(like),
        )
        .float()
        .cpu()
        for i in range(0, len(latent), _BATCH)
    ]
    generator.train(training)
    return torch.cat(parts)
