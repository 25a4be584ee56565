"""Critics that score a sample by how badly they reconstruct it."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from wgan.networks.base import CriticNetwork, NetworkSpec, Shapes
from wgan.networks.dcgan import dcgan_critic, dcgan_generator
from wgan.networks.mlp import mlp_critic, mlp_generator
from wgan.types import Scores

_CODE = 64  # length of a code where none is asked for, as in BEGAN


class AutoencodingCritic(nn.Module):
    """``score = mean |v - decoder(encoder(v))|^power`` per sample; its features are the code.

    Args:
        encoder: A critic network whose features are the code; its score is not used.
        decoder: Codes ``[batch, k]`` (and conditions) to samples.
        power: 1 (Berthelot et al. 2017) or 2 (Li et al. 2017).
    """

    def __init__(self, encoder: CriticNetwork, decoder: nn.Module, power: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.encoder.score.requires_grad_(False)
        self.decoder = decoder
        self.power = power

    def forward(self, values: Tensor, condition: Tensor | None = None) -> Scores:
        code = self.encoder(values, condition).features
        again: Tensor = self.decoder(code, condition)
        error = (values - again).flatten(1).abs()
        return Scores((error if self.power == 1 else error.square()).mean(1), code)


def autoencoder_critic(
    spec: NetworkSpec, shapes: Shapes, features: int | None = None, *, power: int = 1
) -> nn.Module:
    """A dcgan encoder and decoder for pictures with sides of 16 and more, else an mlp each.

    Args:
        spec: Of both halves; no batch norm, which would mix the samples' scores.
        shapes: The data's side.
        features: Length of the code; None: 64.
        power: 1 or 2, see :class:`AutoencodingCritic`.
    """
    code = features or _CODE
    decoded = replace(shapes, latent=code)
    if len(shapes.shape) == 3 and min(shapes.shape[1:]) >= 16:
        encoder, decoder = dcgan_critic(spec, shapes, code), dcgan_generator(spec, decoded)
    else:
        encoder, decoder = mlp_critic(spec, shapes, code), mlp_generator(spec, decoded)
    assert isinstance(encoder, CriticNetwork)
    return AutoencodingCritic(encoder, decoder, power)
