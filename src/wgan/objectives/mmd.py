"""MMD GANs: the maximum mean discrepancy between critic features, in two published forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import relu

from wgan.errors import UserError
from wgan.objectives.base import Objective, features_of, require_pairs
from wgan.shares import whole
from wgan.transport import Gaussian, RationalQuadratic, mmd_squared
from wgan.types import Critic, Draw, Loss, Scores, State

_EPSILON = 1e-8  # inside the root: its slope stays below 5,000 where the discrepancy vanishes


@dataclass(frozen=True)
class GaussianMmd(Objective):
    """Gaussian kernels on the codes of an autoencoding critic.

    With h the code, ``M = sqrt(max(MMD^2, 0))`` and the rank term
    ``R = -mean max(0, -(E h(x) - E h(y)))`` over the units of the code::

        critic:     -(M + rank_weight R - autoencoder_weight (AE(x) + AE(y)))
        generator:    M + rank_weight R

    Needs an autoencoding critic: its features are the code ``[batch, k]``, its score the
    reconstruction error of each sample (the paper: mean squared error per number of a sample);
    AE is its mean. The paper clips the weights of the encoder, and not of the decoder. For the
    generator R has no lower bound: where the critic lags behind, samples overshoot, and a smaller
    `rank_weight` helps.

    The record's ``mmd2`` is the unbiased estimate of MMD^2, in kernel units (MMD^2 is at most twice
    the number of bandwidths), 0 for equal distributions and negative by chance; there M is flat.

    Args:
        bandwidths: Standard deviations of the kernels, > 0, in code units.
        autoencoder_weight: >= 0.
        rank_weight: >= 0.

    Raises:
        UserError: A field is out of range, the critic gives no features, or a batch has one sample.

    Source: Li et al. 2017, section 3; the R term and the weights are those of the
    released code, whose estimate of MMD^2 is the biased one.
    """

    bandwidths: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    autoencoder_weight: float = 8.0
    rank_weight: float = 16.0

    name: ClassVar[str] = "mmd"
    estimate: ClassVar[str | None] = "mmd2"
    meaning: ClassVar[str] = "squared MMD of the critic's codes, unbiased, in kernel units"

    def __post_init__(self) -> None:
        Gaussian(self.bandwidths)  # it checks them
        for field in ("autoencoder_weight", "rank_weight"):
            if not getattr(self, field) >= 0:
                raise UserError(f"mmd: `{field}` must be >= 0, got {getattr(self, field)}")

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        on_real, on_fake = critic(real), critic(fakes[0])
        value, mmd2 = self._discrepancy(on_real, on_fake)
        errors = on_real.score.mean(), on_fake.score.mean()
        terms = {
            "mmd2": mmd2.detach(),
            "reconstruction_real": errors[0].detach(),
            "reconstruction_fake": errors[1].detach(),
        }
        return Loss(self.autoencoder_weight * (errors[0] + errors[1]) - value, terms), state

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        value, _ = self._discrepancy(critic(real), critic(fakes[0]))
        return Loss(value, {}), state

    def _discrepancy(self, on_real: Scores, on_fake: Scores) -> tuple[Tensor, Tensor]:
        """M + rank_weight R, and MMD^2."""
        x, y = (whole(features_of(scores, self), self.name) for scores in (on_real, on_fake))
        require_pairs(self, x, y)
        mmd2 = mmd_squared(x, y, Gaussian(self.bandwidths))
        rank = -relu(y.mean(0) - x.mean(0)).mean()
        return (relu(mmd2) + _EPSILON).sqrt() + self.rank_weight * rank, mmd2


@dataclass(frozen=True)
class RationalQuadraticMmd(Objective):
    """``critic: -MMD^2``, ``generator: MMD^2``, rational quadratic kernels on critic features.

    ``k(h, h') = sum_a (1 + |h - h'|^2 / (2 a))^-a + linear h . h'``. The critic besides minimises
    ``activation_weight (mean h(x)^2 + mean h(y)^2)``, means over batch and units. The estimate of
    MMD^2 is unbiased and so has an unbiased gradient for the generator; it is the record's
    ``mmd2``, in kernel units, 0 for equal distributions and negative by chance.

    The constraints see the witness ``f(u) = E k(h(u), h(x)) - E k(h(u), h(y))``. Needs a critic
    with features ``[batch, k]`` (the paper: 16); its score is not used.

    Args:
        alphas: Exponents, > 0. The paper's are the default; the released code's are .1, 1, 10.
        linear: Weight of the linear kernel, >= 0 (the paper's rq*: 1).
        activation_weight: >= 0. The released code penalises every layer's activations so; here it
            is the features' alone.

    Raises:
        UserError: A field is out of range, the critic gives no features, or a batch has one sample.

    Source: Binkowski, Sutherland, Arbel, Gretton 2018. The released code leaves the diagonal of the
    linear kernel in, and so a bias; here it is left out.
    """

    alphas: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0)
    linear: float = 1.0
    activation_weight: float = 1.0

    name: ClassVar[str] = "mmd-rq"
    estimate: ClassVar[str | None] = "mmd2"
    meaning: ClassVar[str] = "squared MMD of the critic's features, unbiased, in kernel units"

    def __post_init__(self) -> None:
        RationalQuadratic(self.alphas, self.linear)  # it checks them
        if not self.activation_weight >= 0:
            raise UserError(
                f"mmd-rq: `activation_weight` must be >= 0, got {self.activation_weight}"
            )

    def witness(self, critic: Critic, real: Tensor, fakes: Sequence[Tensor], draw: Draw) -> Critic:
        def score(points: Tensor) -> Scores:
            kernel = RationalQuadratic(self.alphas, self.linear)
            u = features_of(critic(points), self)
            x, y = (
                whole(features_of(critic(batch), self), self.name) for batch in (real, fakes[0])
            )
            return Scores(kernel(u, x).mean(1) - kernel(u, y).mean(1), u)

        return score

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        x, y, mmd2 = self._discrepancy(critic, real, fakes[0])
        activation = x.square().mean() + y.square().mean()
        loss = self.activation_weight * activation - mmd2
        return Loss(loss, {"mmd2": mmd2.detach()}), state

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        _, _, mmd2 = self._discrepancy(critic, real, fakes[0])
        return Loss(mmd2, {}), state

    def _discrepancy(
        self, critic: Critic, real: Tensor, fake: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features of real and fake samples, and MMD^2 between them."""
        x, y = (whole(features_of(critic(batch), self), self.name) for batch in (real, fake))
        require_pairs(self, x, y)
        return x, y, mmd_squared(x, y, RationalQuadratic(self.alphas, self.linear))
