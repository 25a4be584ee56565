"""The updates of a step. Everything random is drawn before the first loss.

Each player's share is in three parts: its loss, the gradient of it, the move. An ordinary update
is the three in a row; extragradient puts both players' gradients before both moves.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from wgan.errors import NonFiniteError, UserError
from wgan.training.player import Player
from wgan.training.state import TrainState
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
    terms = _critic_gradient(state, batch)
    _move_critic(state)
    return terms


def generator_update(state: TrainState, batch: Batch) -> Terms:
    """Move the generator once; its losses apart as detached scalars."""
    terms = _generator_gradient(state, batch)
    _move_generator(state)
    return terms


def extragradient_update(state: TrainState, next_batch: Callable[[int], Batch]) -> Terms:
    """Move both players once, by the gradients a step ahead; their losses there.

    With ``F(w)`` both gradients at ``w = (generator, critic)``, each on a fresh batch, and ``step``
    the optimizers' update: ``ahead = step(w, F(w))``, ``w <- step(w, F(ahead))``. The critic is
    projected after each. Adam's moments take in both gradients, as published; what the objective
    remembers moves once.

    Source: Gidel et al. 2019, algorithms 3 and 4 (Extra-SGD, Extra-Adam).
    """
    method = state.method
    assert state.critic is not None
    parameters = state.critic.parameters + state.generator.parameters
    origin, objective = [p.detach().clone() for p in parameters], state.objective
    terms: Terms = {}
    for ahead in (False, True):
        state.objective = objective
        terms = _critic_gradient(state, next_batch(method.batch_size))
        terms |= _generator_gradient(state, next_batch(method.generator_batch_size))
        if ahead:
            with torch.no_grad():
                torch._foreach_copy_(parameters, origin)
        _move_critic(state)
        _move_generator(state)
    return terms


def critic_loss(state: TrainState, batch: Batch) -> tuple[Tensor, Terms]:
    """What the critic minimises, constraints included, and its parts as detached scalars."""
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
        share = method.penalty_share(step)
        witness = method.objective.witness(critic, batch.values, fakes, draw)
        for constraint, penalty_draw in zip(method.constraints, penalty_draws, strict=True):
            for penalty in (
                constraint.penalty(witness, batch.values, fakes[0], penalty_draw, step),
                constraint.weight_penalty(player.module, step),
            ):
                if penalty is not None:
                    total = total + share * penalty.value
                    terms |= penalty.terms
    return total, terms


def generator_loss(state: TrainState, batch: Batch) -> tuple[Tensor, Terms]:
    """What the generator minimises, constraints included, and its parts as detached scalars."""
    method, module = state.method, state.generator.module
    step = state.step + 1
    shape = tuple(batch.values.shape)
    latents = [state.latents(shape[0]) for _ in range(method.objective.n_fakes)]
    draw = method.objective.draw(state.rng, shape).to(state.like)

    fakes = [generate(module, z, batch.condition) for z in latents]
    critic = bind_critic(state.critic.module, batch.condition) if state.critic else _identity_critic
    with cached():
        loss, state.objective = method.objective.generator_loss(
            critic, batch.values, fakes, draw, state.objective, step
        )
        total, terms = loss.value, {"generator_loss": loss.value.detach(), **loss.terms}
        for constraint in method.generator_constraints:
            if (penalty := constraint.weight_penalty(module, step)) is not None:
                total = total + penalty.value
                terms |= {f"generator_{name}": value for name, value in penalty.terms.items()}
    return total, terms


def _identity_critic(values: Tensor) -> Scores:
    """The critic of objectives that need none: the data are their own features."""
    flat = values.flatten(1)
    return Scores(flat.new_zeros(len(flat)), flat)


def _critic_gradient(state: TrainState, batch: Batch) -> Terms:
    assert state.critic is not None
    return _differentiate(state, state.critic, *critic_loss(state, batch), "critic")


def _generator_gradient(state: TrainState, batch: Batch) -> Terms:
    return _differentiate(state, state.generator, *generator_loss(state, batch), "generator")


def _differentiate(
    state: TrainState, player: Player, loss: Tensor, terms: Terms, role: str
) -> Terms:
    """Set the player's gradients, clipped; the terms with the norm that they had before.

    Raises:
        NonFiniteError: A term or the gradient is not finite; nothing has moved then.
    """
    gradients = torch.autograd.grad(loss, player.parameters, allow_unused=True)
    norm = torch.nn.utils.get_total_norm([g for g in gradients if g is not None])
    if not torch.isfinite(norm + loss.detach()):
        bad = [name for name, value in terms.items() if not torch.isfinite(value)]
        raise NonFiniteError(bad[0] if bad else f"{role}_gradient_norm", state.step + 1)
    if (limit := state.method.clip_norm) is not None:
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        # Not in place: autograd may give two parameters the same tensor, or an expanded one.
        gradients = tuple(g if g is None else g * scale for g in gradients)
    for parameter, gradient in zip(player.parameters, gradients, strict=True):
        parameter.grad = gradient
    return {**terms, f"{role}_gradient_norm": norm}


def _move_critic(state: TrainState) -> None:
    assert state.critic is not None
    state.critic.move(state.step + 1, state.method.steps)
    state.project()


def _move_generator(state: TrainState) -> None:
    state.generator.move(state.step + 1, state.method.steps)
