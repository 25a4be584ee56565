"""The losses of both players as functions of tensors, and their gradients written out by hand.

Nothing here sees a state: who trains gives networks, what was drawn and what the objective
remembers, and gets what it remembers after. So torch can compile each as it is
(:mod:`wgan.training.compiled`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wgan.constraints.slopes import SlopePenalty, dual_norm
from wgan.errors import UserError
from wgan.objectives import Objective
from wgan.training.chain import Chain
from wgan.training.method import Method
from wgan.types import Batch, Critic, Draw, Loss, Scores, State

Terms = dict[str, Tensor]
Gradients = tuple[tuple[Tensor | None, ...], Terms]
LOSS = ""  # among terms, the loss with its penalties


class Drawn(NamedTuple):
    """A critic update before anything is differentiated.

    Attributes:
        batch: Real samples.
        latents: One for each batch of fakes, ``[batch, latent]``.
        draw: The objective's.
        penalty_draws: The constraints', in their order.
    """

    batch: Batch
    latents: list[Tensor]
    draw: Draw
    penalty_draws: list[Draw]

    def part(self, index: int, of: int) -> Drawn:
        """One of equal parts of the batch, with what belongs to it."""
        if of == 1:
            return self
        values, condition = self.batch
        size = len(values) // of
        rows = slice(index * size, (index + 1) * size)
        return Drawn(
            Batch(values[rows], None if condition is None else condition[rows]),
            [latent[rows] for latent in self.latents],
            self.draw.take(rows),
            [draw.take(rows) for draw in self.penalty_draws],
        )


def bind_critic(module: nn.Module, condition: Tensor | None) -> Critic:
    """The critic as objectives see it: values to scores, the condition already in place.

    A module that returns a tensor ``[batch]`` or ``[batch, 1]`` is wrapped; its scores have no
    features. A condition is repeated where several batches are scored in one pass.
    """

    def critic(values: Tensor) -> Scores:
        if condition is None:
            out = module(values)
        else:
            out = module(values, condition.repeat(len(values) // len(condition), 1))
        if isinstance(out, Tensor):
            out = Scores(out.reshape(len(values)))
        if isinstance(out, Scores):
            half = out.score.dtype is torch.bfloat16
            return out._replace(score=out.score.float()) if half else out
        raise UserError(
            f"a critic must return a tensor [batch] or wgan.Scores, got {type(out).__name__}"
        )

    return critic


def generate(module: nn.Module, latent: Tensor, condition: Tensor | None) -> Tensor:
    """Fakes ``[batch, *shape]`` from latents, under a condition where there is one."""
    out: Tensor = module(latent) if condition is None else module(latent, condition)
    return out.float() if out.dtype is torch.bfloat16 else out


def precisely(method: Method, like: Tensor) -> AbstractContextManager[object]:
    """The context of a loss: autocast for bf16; penalties on slopes exempt themselves."""
    if method.precision != "bf16":
        return nullcontext()
    return torch.autocast(like.device.type, torch.bfloat16)


def asked_of_critic(
    method: Method, drawn: Drawn, fakes: Sequence[Tensor], step: int
) -> tuple[list[Tensor], dict[str, Tensor], Tensor | None]:
    """What a critic's loss asks of it: batches, points by penalty, and all points in one."""
    real, points = drawn.batch.values, {}
    if type(method.objective).witness is Objective.witness:
        points = {
            c.name: c.points(real, fakes[0], draw)
            for c, draw in zip(method.constraints, drawn.penalty_draws, strict=True)
            if isinstance(c, SlopePenalty) and c.method == "exact" and c.due(step)
        }
    return [real, *fakes], points, torch.cat([*points.values()]) if points else None


def answers(
    batches: Sequence[Tensor],
    points: Mapping[str, Tensor],
    scores: Scores,
    slopes: Tensor,
    otherwise: Critic,
) -> tuple[Critic, dict[str, Tensor]]:
    """A critic that knows the scores of batches, and asks another for any else; and the slopes."""
    sizes = [len(batch) for batch in batches]
    assert scores.features is not None
    parts = zip(*(part.split_with_sizes(sizes) for part in scores if part is not None), strict=True)
    known = list(zip(batches, (Scores(*part) for part in parts), strict=True))

    def critic(values: Tensor) -> Scores:
        return next((found for batch, found in known if batch is values), None) or otherwise(values)

    of_each = slopes.split_with_sizes([len(each) for each in points.values()])
    return critic, dict(zip(points, of_each, strict=True))


def weigh_critic(
    method: Method,
    module: nn.Module,
    critic: Critic,
    slopes: Mapping[str, Tensor],
    drawn: Drawn,
    fakes: Sequence[Tensor],
    remembered: State,
    share: float | Tensor | None,
    step: int,
) -> tuple[Tensor, Terms, State]:
    """The critic's loss with its penalties, its terms, and what the objective remembers."""
    real = drawn.batch.values
    loss, remembered = method.objective.critic_loss(
        critic, real, fakes, drawn.draw, remembered, step
    )
    total, terms = loss.value, {"critic_loss": loss.value.detach(), **loss.terms}
    witness = method.objective.witness(critic, real, fakes, drawn.draw)
    for constraint, penalty_draw in zip(method.constraints, drawn.penalty_draws, strict=True):
        if (slope := slopes.get(constraint.name)) is not None:
            assert isinstance(constraint, SlopePenalty)
            penalty: Loss | None = constraint.priced(dual_norm(slope, constraint.norm))
        else:
            penalty = constraint.penalty(witness, real, fakes[0], penalty_draw, step)
        for part in (penalty, constraint.weight_penalty(module, step)):
            if part is not None:
                total = total + (part.value if share is None else share * part.value)
                terms |= part.terms
    return total, terms, remembered


def critic_alone(
    method: Method,
    module: nn.Module,
    drawn: Drawn,
    fakes: Sequence[Tensor],
    remembered: State,
    share: Tensor | None,
) -> tuple[Tensor, Terms, State]:
    """The critic's loss as a function of tensors, to be compiled."""
    with precisely(method, drawn.batch.values):
        critic = bind_critic(module, drawn.batch.condition)
        return weigh_critic(method, module, critic, {}, drawn, fakes, remembered, share, 2)


def critic_by_hand(
    method: Method,
    module: nn.Module,
    chain: Chain,
    drawn: Drawn,
    fakes: Sequence[Tensor],
    remembered: State,
    share: Tensor | None,
) -> tuple[list[Tensor], Terms, State]:
    """The gradient of a chain's loss as a function of tensors, to be compiled."""
    batches, points, at = asked_of_critic(method, drawn, fakes, 2)

    def weigh(scores: Scores, slopes: Tensor) -> tuple[Tensor, tuple[Terms, State]]:
        critic, of_each = answers(batches, points, scores, slopes, _refuse)
        rest = (drawn, fakes, remembered, share, 2)
        total, terms, after = weigh_critic(method, module, critic, of_each, *rest)
        return total, ({**terms, LOSS: total.detach()}, after)

    half = method.precision == "bf16"
    gradients, (terms, after) = chain.differentiate(
        torch.cat(batches), at, drawn.batch.condition, weigh, half=half
    )
    return gradients, terms, after


class UnknownScoresError(Exception):
    """A loss asks for scores that the pass written out by hand does not have."""


def _refuse(values: Tensor) -> Scores:
    raise UnknownScoresError


def weigh_generator(
    method: Method,
    module: nn.Module,
    critic: Critic,
    drawn: Drawn,
    fakes: Sequence[Tensor],
    remembered: State,
    step: int,
) -> tuple[Tensor, Terms, State]:
    """The generator's loss with its penalties, its terms, and what the objective remembers."""
    loss, remembered = method.objective.generator_loss(
        critic, drawn.batch.values, fakes, drawn.draw, remembered, step
    )
    total, terms = loss.value, {"generator_loss": loss.value.detach(), **loss.terms}
    for constraint in method.generator_constraints:
        if (penalty := constraint.weight_penalty(module, step)) is not None:
            total = total + penalty.value
            terms |= {f"generator_{name}": value for name, value in penalty.terms.items()}
    return total, terms, remembered


def generator_alone(
    method: Method,
    module: nn.Module,
    critic: nn.Module | None,
    drawn: Drawn,
    remembered: State,
) -> tuple[Tensor, Terms, State]:
    """The generator's loss as a function of tensors, to be compiled."""
    condition = drawn.batch.condition
    with precisely(method, drawn.batch.values):
        fakes = [generate(module, z, condition) for z in drawn.latents]
        judge = bind_critic(critic, condition) if critic else identity_critic
        return weigh_generator(method, module, judge, drawn, fakes, remembered, 2)


def generator_by_hand(
    method: Method,
    module: nn.Module,
    chain: Chain,
    critic: Chain,
    drawn: Drawn,
    remembered: State,
) -> tuple[list[Tensor], Terms, State]:
    """The gradient of a chain's loss under a critic's chain as a function of tensors."""
    condition = drawn.batch.condition
    half = method.precision == "bf16"
    latent = torch.cat(drawn.latents)

    def weigh(fakes: Tensor, scores: Scores) -> tuple[Tensor, tuple[Terms, State]]:
        batches = list(fakes.split_with_sizes([len(z) for z in drawn.latents]))
        judge, _ = answers(batches, {}, scores, fakes[:0], _refuse)
        total, terms, after = weigh_generator(method, module, judge, drawn, batches, remembered, 2)
        return total, ({**terms, LOSS: total.detach()}, after)

    gradients, (terms, after) = chain.differentiate_under(
        critic, latent, condition, weigh, half=half
    )
    return gradients, terms, after


def identity_critic(values: Tensor) -> Scores:
    """The critic of objectives that need none: the data are their own features."""
    flat = values.flatten(1)
    return Scores(flat.new_zeros(len(flat)), flat)
