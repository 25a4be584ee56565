"""A 1-Lipschitz critic of our own that watches a run and bounds its W1 from below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wgan.bounds import Anchored, LipschitzCritic, Scaled, certify
from wgan.bounds.critics import Points
from wgan.bounds.fitting import fit_line, minibatches, orthogonal_network
from wgan.bounds.lipschitz import float64_copy
from wgan.bounds.stiefel import StiefelMomentum, scores
from wgan.transport import exact

_UPDATES = 40  # at each audit; the network is kept from one to the next
_BATCH = 256
_ANCHORS = 256
_RATE = 0.01  # the largest turn of an update, in radians


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
        self._network = orthogonal_network(dim, torch.Generator().manual_seed(seed))
        self._weights = [p for p in self._network.parameters() if p.dim() == 2]
        self._biases = [p for p in self._network.parameters() if p.dim() == 1]
        self._turning = StiefelMomentum(self._weights)
        self._drift = [torch.zeros_like(bias) for bias in self._biases]

    def critics(
        self, real: Points, fake: Points, rng: torch.Generator
    ) -> Sequence[LipschitzCritic]:
        """Critics that score real samples above fake ones, after some more training."""
        for _ in range(_UPDATES):
            rows = [torch.randint(len(p), (_BATCH,), generator=rng).numpy() for p in (real, fake)]
            x, y = (self._seen(p[r]) for p, r in zip((real, fake), rows, strict=True))
            found = scores(self._network, torch.cat([x, y]))
            self._network.zero_grad()
            (found[_BATCH:].mean() - found[:_BATCH].mean()).backward()  # type: ignore[no-untyped-call]
            self._turning.step(_RATE)
            self._shift()
        plain = float64_copy(self._network)
        dim = len(self._centre)
        constant = certify(plain, (dim,)).constant
        network = Scaled(plain, (dim,), constant, self._centre, self._unit, "orthogonal network")
        first, second = real[:_ANCHORS], fake[:_ANCHORS]
        plan = exact(first, second)
        return [
            network,
            Anchored(first, plan.phi, above=True),
            Anchored(second, plan.psi, above=False),
            fit_line(minibatches(real, fake), rng, starts=8, iterations=10),
        ]

    @torch.no_grad()
    def _shift(self) -> None:
        """Move the biases along their momentum, by half of the rate."""
        for bias, drift in zip(self._biases, self._drift, strict=True):
            assert bias.grad is not None
            drift.lerp_(bias.grad, 1 - self._turning.beta)
            bias.sub_(_RATE / 2 * drift / drift.norm().clamp(min=1e-30))

    def _seen(self, points: Points) -> Tensor:
        return torch.from_numpy((points - self._centre) / self._unit).float()

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold for the next audit to be the same."""
        return {f"watcher.{i}": tensor.detach() for i, tensor in enumerate(self._state())}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`tensors` gave."""
        with torch.no_grad():
            for i, tensor in enumerate(self._state()):
                tensor.copy_(tensors[f"watcher.{i}"])

    def _state(self) -> list[Tensor]:
        return [*self._weights, *self._biases, *self._turning.momenta, *self._drift]
