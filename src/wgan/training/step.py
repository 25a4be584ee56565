"""One critic update and one generator update. Everything random is drawn before the first loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from wgan.errors import NonFiniteError, UserError
from wgan.training.state import Player, TrainState
from wgan.types import Batch, Critic, Scores

Terms = dict[str, Tensor]


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
            return Scores(out.reshape(len(values)))
        if isinstance(out, Scores):
            return out
        raise UserError(
            f"a critic must return a tensor [batch] or wgan.Scores, got {type(out).__name__}"
        )

    return critic


def generate(module: nn.Module, latent: Tensor, condition: Tensor | None) -> Tensor:
    """Fakes ``[batch, *shape]`` from latents, under a condition where there is one."""
    out: Tensor = module(latent) if condition is None else module(latent, condition)
    return out


def critic_update(state: TrainState, batch: Batch) -> Terms:
    """Move the critic once; its losses apart as detached scalars."""
    method, player = state.method, state.critic
    assert player is not None
    step = state.step + 1
    shape = tuple(batch.values.shape)
    latents = [state.latents(shape[0]) for _ in range(method.objective.n_fakes)]
    draw = method.objective.draw(state.rng, shape).to(state.like)
    penalty_draws = [c.draw(state.rng, shape).to(state.like) for c in method.constraints]

    with torch.no_grad():
        fakes = [generate(state.generator.module, z, batch.condition) for z in latents]
    critic = bind_critic(player.module, batch.condition)
    with cached():  # parametrised weights (spectral, orthogonal) are computed once per update
        loss, state.objective = method.objective.critic_loss(
            critic, batch.values, fakes, draw, state.objective, step
        )
        total, terms = loss.value, {"critic_loss": loss.value.detach(), **loss.terms}
        witness = method.objective.witness(critic, batch.values, fakes, draw)
        for constraint, penalty_draw in zip(method.constraints, penalty_draws, strict=True):
            for penalty in (
                constraint.penalty(witness, batch.values, fakes[0], penalty_draw, step),
                constraint.weight_penalty(player.module, step),
            ):
                if penalty is not None:
                    total = total + penalty.value
                    terms |= penalty.terms
    terms["critic_gradient_norm"] = _descend(player, total, terms, state, "critic")
    for constraint in method.constraints:
        constraint.project(player.module)
    return terms


def generator_update(state: TrainState, batch: Batch) -> Terms:
    """Move the generator once; its losses apart as detached scalars."""
    method = state.method
    step = state.step + 1
    shape = tuple(batch.values.shape)
    latents = [state.latents(shape[0]) for _ in range(method.objective.n_fakes)]
    draw = method.objective.draw(state.rng, shape).to(state.like)

    fakes = [generate(state.generator.module, z, batch.condition) for z in latents]
    critic = bind_critic(state.critic.module, batch.condition) if state.critic else _identity_critic
    with cached():
        loss, state.objective = method.objective.generator_loss(
            critic, batch.values, fakes, draw, state.objective, step
        )
    terms = {"generator_loss": loss.value.detach(), **loss.terms}
    terms["generator_gradient_norm"] = _descend(
        state.generator, loss.value, terms, state, "generator"
    )
    return terms


def _identity_critic(values: Tensor) -> Scores:
    """The critic of objectives that need none: the data are their own features."""
    flat = values.flatten(1)
    return Scores(flat.new_zeros(len(flat)), flat)


def _descend(
    player: Player, loss: Tensor, terms: Mapping[str, Tensor], state: TrainState, role: str
) -> Tensor:
    """One step of the player's optimizer down `loss`; the gradient's norm before any clipping.

    Raises:
        NonFiniteError: A term or the gradient is not finite; nothing has moved then.
    """
    step = state.step + 1
    gradients = torch.autograd.grad(loss, player.parameters, allow_unused=True)
    present = [gradient for gradient in gradients if gradient is not None]
    norm = torch.nn.utils.get_total_norm(present)
    if not torch.isfinite(norm + loss.detach()):
        bad = [name for name, value in terms.items() if not torch.isfinite(value)]
        raise NonFiniteError(bad[0] if bad else f"{role}_gradient_norm", step)
    if (limit := state.method.clip_norm) is not None:
        torch._foreach_mul_(present, (limit / (norm + 1e-6)).clamp(max=1.0))
    for parameter, gradient in zip(player.parameters, gradients, strict=True):
        parameter.grad = gradient
    player.set_rate(step, state.method.steps)
    player.optimizer.step()
    return norm
