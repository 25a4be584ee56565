"""The least-squares GAN: scores are pulled to codes; the loss bounds a chi-squared divergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wgan.errors import UserError
from wgan.objectives.base import Objective
from wgan.types import Critic, Draw, Loss, State


@dataclass(frozen=True)
class LeastSquares(Objective):
    """``critic: (E (D(x) - b)^2 + E (D(y) - a)^2) / 2``, ``generator: E (D(y) - c)^2 / 2``.

    At the optimal critic ``D* = (b p + a q) / (p + q)``, for densities p of real and q of fake
    samples, the critic's loss is ``(b - a)^2 / 2 . integral p q / (p + q)``. So the record's
    ``chi_squared_estimate = 2 - 8 critic_loss / (b - a)^2`` (which is ``2 - 2 critic_loss`` in the
    coding -1, 1, 0) is a lower bound of ``integral (p - q)^2 / (p + q)``, Pearson's chi-squared
    between p + q and 2 q: at most 2, and negative while the critic is worse than a constant.

    Args:
        a: Code of fake samples, in score units.
        b: Code of real samples; differs from `a`.
        c: Code that the generator wants for its samples. (0, 1, 1) asks it for the code of real
            samples; with (-1, 1, 0) it minimises the divergence above.

    Raises:
        UserError: `a` equals `b`, or a code is not finite.

    Source: Mao et al. 2017, equation 2 and section 3.2.
    """

    a: float = 0.0
    b: float = 1.0
    c: float = 1.0

    name: ClassVar[str] = "lsgan"
    estimate: ClassVar[str | None] = "chi_squared_estimate"
    meaning: ClassVar[str] = "lower bound of Pearson's chi-squared between p + q and 2 q, at most 2"

    def __post_init__(self) -> None:
        for field in ("a", "b", "c"):
            if not math.isfinite(getattr(self, field)):
                raise UserError(f"lsgan: `{field}` must be finite, got {getattr(self, field)}")
        if self.a == self.b:
            raise UserError(f"lsgan: the codes `a` and `b` must differ, got {self.a} for both")

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        on_real = (critic(real).score - self.b).square().mean()
        on_fake = (critic(fakes[0]).score - self.a).square().mean()
        loss = (on_real + on_fake) / 2
        estimate = 2 - 8 * loss.detach() / (self.b - self.a) ** 2
        return Loss(loss, {"chi_squared_estimate": estimate}), state

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        return Loss((critic(fakes[0]).score - self.c).square().mean() / 2, {}), state
