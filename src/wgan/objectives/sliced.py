"""Sliced transport as a loss: along many random directions, or along the worst one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from wgan.errors import UserError
from wgan.objectives.base import Objective, features_of, rows_of
from wgan.objectives.standard import Standard
from wgan.shares import whole
from wgan.transport import (
    max_sliced_direction,
    random_directions,
    sliced_wasserstein,
)
from wgan.types import Critic, Draw, Loss, State


@dataclass(frozen=True)
class Sliced(Objective):
    """``generator: mean over t of W_p^p(t . x, t . y)``, directions t uniform on the sphere.

    On the data itself there is no critic. On features, the critic is trained as a classifier by
    cross-entropy, ``-E log s(D(x)) - E log(1 - s(D(y)))``, and the generator compares its
    features: ``[batch, n_features]``, of real and fake samples. Real and fake batches may differ in
    size. The record's ``sliced_wasserstein`` is ``(mean W_p^p)^(1/p)``, in the unit of the data or
    of the features; with a critic the ``js_estimate`` of the classifier stands beside it.

    Args:
        p: 1 or 2: the power of the distance along a line (the paper: 2).
        on: `data` (low dimension) or `features` (images).
        n_directions: >= 1, drawn anew for each loss (the paper: 10,000).
        n_features: Length of the critic's features, with `on="features"` only.

    Raises:
        UserError: A field is out of range; the critic gives no features or others than said.

    Source: Deshpande, Zhang, Schwing 2018, section 3.
    """

    p: Literal[1, 2] = 2
    on: Literal["data", "features"] = "data"
    n_directions: int = 10_000
    n_features: int | None = None

    name: ClassVar[str] = "sliced"
    estimate: ClassVar[str] = "sliced_wasserstein"
    meaning: ClassVar[str] = "sliced Wasserstein distance of the data, or of the critic's features"

    def __post_init__(self) -> None:
        if self.p not in (1, 2):
            raise UserError(f"{self.name}: `p` must be 1 or 2, got {self.p}")
        if self.on not in ("data", "features"):
            raise UserError(f"{self.name}: `on` must be 'data' or 'features', got {self.on!r}")
        if self.n_directions < 1:
            raise UserError(f"{self.name}: `n_directions` must be >= 1, got {self.n_directions}")
        if self.on == "features" and (self.n_features is None or self.n_features < 1):
            raise UserError(
                f"{self.name}: with `on='features'`, `n_features` must be the length of the "
                f"critic's features, >= 1, got {self.n_features}"
            )
        if self.on == "data" and self.n_features is not None:
            raise UserError(
                f"{self.name}: `n_features` needs `on='features'`, got {self.n_features} on data"
            )

    @property
    def uses_critic(self) -> bool:
        return self.on == "features"

    def draw(self, rng: torch.Generator, shape: tuple[int, ...]) -> Draw:
        dim = self.n_features or math.prod(shape[1:])
        return Draw(shared={"directions": random_directions(rng, self.n_directions, dim)})

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        return Standard().critic_loss(critic, real, fakes, draw, state, step)

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        if self.on == "features":
            x, y = (features_of(critic(batch), self) for batch in (real, fakes[0]))
            if x.shape[1] != self.n_features:
                raise UserError(
                    f"{self.name}: `n_features` is {self.n_features}, and the critic gives "
                    f"{x.shape[1]} features"
                )
        else:
            x, y = rows_of(real), rows_of(fakes[0])
        x, y = whole(x, self.name), whole(y, self.name)
        loss = self._compare(x, y, draw["directions"].to(x))
        return Loss(loss, {self.estimate: loss.detach() ** (1 / self.p)}), state

    def _compare(self, x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
        """W_p^p over the directions."""
        return sliced_wasserstein(x, y, directions, self.p)


@dataclass(frozen=True)
class MaxSliced(Sliced):
    """``generator: W_p^p(t . x, t . y)`` along the direction t in which the two differ most.

    The direction is found for every loss anew, by projected gradient ascent of the same W_p^p from
    random starts, and held while the generator's gradient is taken (the envelope theorem). The rest
    is as in :class:`Sliced`; the record's ``max_sliced_wasserstein`` is the distance along t.

    Args:
        p: 1 or 2 (the paper: 2).
        on: `data` or `features`.
        n_directions: Starts of the ascent, >= 1.
        n_features: Length of the critic's features, with `on="features"` only.
        iterations: Steps of the ascent, >= 0.

    Source: Deshpande et al. 2019. There the direction is the last layer of the
    classifier, trained with its surrogate loss; here the classifier gives only the features, and
    the direction maximises the distance itself.
    """

    n_directions: int = 16
    iterations: int = 20

    name: ClassVar[str] = "max-sliced"
    estimate: ClassVar[str] = "max_sliced_wasserstein"
    meaning: ClassVar[str] = "max-sliced Wasserstein distance of the data, or of critic features"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 0:
            raise UserError(f"max-sliced: `iterations` must be >= 0, got {self.iterations}")

    def _compare(self, x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
        _, worst = max_sliced_direction(x, y, directions, self.p, iterations=self.iterations)
        return sliced_wasserstein(x, y, worst.unsqueeze(0), self.p)
