"""The consistency term: two passes with dropout should agree on a real sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from wgan.constraints.base import Constraint
from wgan.errors import UserError
from wgan.layers import Dropout
from wgan.types import Critic, Draw, Loss


@dataclass(frozen=True)
class Consistency(Constraint):
    """``E max(0, weight [(D(x') - D(x''))^2 + feature_weight |F(x') - F(x'')|^2 / k] - margin)``.

    x' and x'' are two passes of the critic over one real batch under different dropout masks, F the
    last hidden layer of k units: slopes are bounded at the data, where the interpolates of the
    gradient penalty seldom come. It goes with a gradient penalty. Two passes are made for it; the
    released code uses the first of them as D(x) too.

    Args:
        weight: lambda_2, >= 0 (the paper: 2).
        feature_weight: Of the hidden layer's part, >= 0 (the paper: 0.1); 0 needs no features.
        margin: M', >= 0, what is let go (the paper: 0 to 0.2; its code: 0).

    Source: Wei et al. 2018, equations 4 and 5; biuyq/CT-GAN.
    """

    weight: float = 2.0
    feature_weight: float = 0.1
    margin: float = 0.0

    name: ClassVar[str] = "consistency"

    def __post_init__(self) -> None:
        for field in ("weight", "feature_weight", "margin"):
            self.require(field, at_least=0)

    def prepare(self, critic: nn.Module) -> nn.Module:
        """Refuse a critic whose two passes would be the same.

        Raises:
            UserError: It has no `wgan.layers.Dropout` with p > 0.
        """
        if not any(isinstance(layer, Dropout) and layer.p > 0 for layer in critic.modules()):
            raise UserError(
                "consistency compares two passes of the critic under dropout, and this critic has "
                "no `wgan.layers.Dropout`; give it one (torch's own draws from the global "
                "generator, so a resumed run would differ)"
            )
        return critic

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, draw: Draw, step: int
    ) -> Loss | None:
        first, second = critic(real), critic(real)
        distance = (first.score - second.score).square()
        if self.feature_weight:
            if first.features is None or second.features is None:
                raise UserError(
                    "consistency compares the critic's features, and this critic gives none; "
                    "return `Scores(score, features)`, or set feature_weight=0"
                )
            apart = (first.features - second.features).flatten(1).square().mean(1)
            distance = distance + self.feature_weight * apart
        penalty = (self.weight * distance - self.margin).clamp_min(0).mean()
        return Loss(penalty, {"consistency_penalty": penalty.detach()})
