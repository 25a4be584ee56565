"""A 1-Lipschitz critic of our own that watches a run and bounds its W1 from below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wgan.bounds import Anchored, LipschitzCritic, Scaled, certify
from wgan.bounds.critics import Points
from wgan.bounds.fitting import fit_line, minibatches, orthogonal_network
from wgan.bounds.lipschitz import float64_copy
from wgan.training import OptimizerSpec, Player
from wgan.transport import exact

_UPDATES = 20  # at each audit; the network is kept from one to the next
_BATCH = 256
_ANCHORS = 256
_ADAM = OptimizerSpec("adam", 3e-3, 0.9, 0.99)


class Watcher:
    """Critics that are 1-Lipschitz by their form, found on data that may be trained on.

    An orthogonal network is trained on from audit to audit, so that it follows the generator at
    little cost; beside it stand, found anew each time, the extensions of the exact potentials of a
    sample and the best of some lines. Which is best is for the caller to choose on other data.

    Args:
        dim: Numbers in a sample.
        sample: Samples ``[n, dim]`` whose centre and spread set the network's units.
        seed: Of its first weights.
    """

    def __init__(self, dim: int, sample: Points, seed: int) -> None:
        self._centre = sample.mean(0)
        self._unit = float((sample - self._centre).std()) or 1.0
        network = orthogonal_network(dim, torch.Generator().manual_seed(seed))
        self._player = Player.of(network, _ADAM)

    def critics(
        self, real: Points, fake: Points, rng: torch.Generator
    ) -> Sequence[LipschitzCritic]:
        """Critics that score real samples above fake ones, after some more training."""
        for _ in range(_UPDATES):
            rows = [torch.randint(len(p), (_BATCH,), generator=rng).numpy() for p in (real, fake)]
            x, y = (self._seen(p[r]) for p, r in zip((real, fake), rows, strict=True))
            scores = self._player.module(torch.cat([x, y]))
            loss = scores[_BATCH:].mean() - scores[:_BATCH].mean()
            gradients = torch.autograd.grad(loss, self._player.parameters)
            for parameter, gradient in zip(self._player.parameters, gradients, strict=True):
                parameter.grad = gradient
            self._player.move(1, None)
        plain = float64_copy(self._player.module)
        dim = len(self._centre)
        network = Scaled(
            plain,
            (dim,),
            certify(plain, (dim,)).constant,
            self._centre,
            self._unit,
            "orthogonal network",
        )
        first, second = real[:_ANCHORS], fake[:_ANCHORS]
        plan = exact(first, second)
        return [
            network,
            Anchored(first, plan.phi, above=True),
            Anchored(second, plan.psi, above=False),
            fit_line(minibatches(real, fake), rng, starts=8, iterations=10),
        ]

    def _seen(self, points: Points) -> Tensor:
        return torch.from_numpy((points - self._centre) / self._unit).float()

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold for the next audit to be the same."""
        return self._player.tensors()

    def plain(self) -> list[dict[str, Any]]:
        """The plain part of it."""
        return self._player.plain()

    def load(self, tensors: Mapping[str, Tensor], plain: list[dict[str, Any]]) -> None:
        """Go on from what :meth:`tensors` and :meth:`plain` gave."""
        self._player.load(tensors, plain)
