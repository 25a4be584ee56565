"""The updates of a step. Everything random is drawn before the first loss.

Each player's share is in three parts: its loss, the gradient of it, the move. An ordinary update
is the three in a row; extragradient puts both players' gradients before both moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from wgan.constraints.slopes import SlopePenalty, dual_norm
from wgan.errors import NonFiniteError, UserError
from wgan.networks import Generator
from wgan.objectives import Objective
from wgan.training.method import Method
from wgan.training.player import Player
from wgan.training.state import TrainState
from wgan.types import Batch, Critic, Draw, Loss, Scores, State

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


def critic_updates(state: TrainState, batches: Sequence[Batch]) -> Terms:
    """Move the critic once or more (`critic_passes`) on each batch; the last one's losses.

    What is random is drawn for all of them first, and the fakes are generated, in one pass if the
    generator allows it.
    """
    assert state.critic is not None
    drawn = [draw_update(state, b) for b in batches for _ in range(state.method.critic_passes)]
    terms: Terms = {}
    for update, fakes in zip(drawn, draw_fakes(state, drawn), strict=True):
        terms = _differentiate(state, state.critic, *_critic_loss(state, update, fakes), "critic")
        _move_critic(state)
    return terms


def critic_update(state: TrainState, batch: Batch) -> Terms:
    """Move the critic on one batch; its losses apart as detached scalars."""
    return critic_updates(state, [batch])


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


def draw_update(state: TrainState, batch: Batch) -> Drawn:
    """Everything random that a critic update on this batch needs, dropout's masks apart."""
    method, shape = state.method, tuple(batch.values.shape)
    return Drawn(
        batch,
        [state.latents(shape[0]) for _ in range(method.objective.n_fakes)],
        method.objective.draw(state.rng, shape).to(state.like),
        [c.draw(state.rng, shape).to(state.like) for c in method.constraints],
    )


@torch.no_grad()
def draw_fakes(state: TrainState, drawn: Sequence[Drawn]) -> list[list[Tensor]]:
    """The fakes of some critic updates: in one pass, where the generator knows no batches."""
    player = state.generator
    asked = [(z, each.batch.condition) for each in drawn for z in each.latents]
    with precisely(state.method, state.like):
        fakes = _all_fakes(player, asked)
    per_update = state.method.objective.n_fakes
    return [fakes[i : i + per_update] for i in range(0, len(fakes), per_update)]


def _all_fakes(player: Player, asked: list[tuple[Tensor, Tensor | None]]) -> list[Tensor]:
    if len(asked) > 1 and _treats_samples_alone(player.module):
        conditions = [condition for _, condition in asked if condition is not None]
        joined = _fakes(
            player,
            torch.cat([z for z, _ in asked]),
            torch.cat(conditions) if conditions else None,
        )
        return list(joined.split_with_sizes([len(z) for z, _ in asked]))
    return [_fakes(player, z, condition) for z, condition in asked]


def _fakes(player: Player, latent: Tensor, condition: Tensor | None) -> Tensor:
    chain = player.chain
    if chain is not None and chain.free and not _halved(latent):
        return chain.generate(latent, condition)
    return generate(player.module, latent, condition)


def _halved(like: Tensor) -> bool:
    """Whether this is within :func:`precisely`'s autocast."""
    return torch.is_autocast_enabled(like.device.type)


def _treats_samples_alone(module: nn.Module) -> bool:
    """Whether only the network's own layers are in it, and none sees more than one sample."""
    return type(module) is Generator and all(type(m) in _ALONE for m in module.body.modules())


_ALONE = (nn.Sequential, nn.Linear, nn.ReLU, nn.LayerNorm)


def critic_loss(state: TrainState, batch: Batch) -> tuple[Tensor, Terms]:
    """What the critic minimises, constraints included, and its parts as detached scalars."""
    drawn = draw_update(state, batch)
    return _critic_loss(state, drawn, draw_fakes(state, [drawn])[0])


def _critic_loss(state: TrainState, drawn: Drawn, fakes: Sequence[Tensor]) -> tuple[Tensor, Terms]:
    assert state.critic is not None
    share = state.method.penalty_share(state.progress)
    if state.compiled is not None and "critic" not in state.compiled.refused:
        found = state.compiled(
            "critic",
            partial(_critic_alone, state.method, state.critic.module),
            *(drawn, fakes, state.objective, None if share == 1 else torch.tensor(share)),
        )
    else:
        with precisely(state.method, state.like), cached():  # parametrised weights: found once
            asked = _ask(state, drawn, fakes)
            found = _weigh_critic(
                *(state.method, state.critic.module, *asked),
                drawn=drawn,
                fakes=fakes,
                remembered=state.objective,
                share=None if share == 1 else share,
                step=state.step + 1,
            )
    total, terms, state.objective = found
    return total, terms


def _critic_alone(
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
        return _weigh_critic(method, module, critic, {}, drawn, fakes, remembered, share, 2)


def _weigh_critic(
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


def _ask(
    state: TrainState, drawn: Drawn, fakes: Sequence[Tensor]
) -> tuple[Critic, dict[str, Tensor]]:
    """The critic; and where it is a chain, its slopes by constraint, all found in one pass.

    The one pass has the scores of real samples and fakes too, which the critic then gives when it
    is asked for them.
    """
    method, player = state.method, state.critic
    assert player is not None
    real, condition = drawn.batch
    plain = bind_critic(player.module, condition)
    chain = player.chain
    if chain is None or not chain.free:
        return plain, {}
    points = {}
    if type(method.objective).witness is Objective.witness:
        points = {
            c.name: c.points(real, fakes[0], draw)
            for c, draw in zip(method.constraints, drawn.penalty_draws, strict=True)
            if isinstance(c, SlopePenalty) and c.method == "exact" and c.due(state.step + 1)
        }
    batches = (real, *fakes)
    at = torch.cat([*points.values()]) if points else None
    scores, slopes = chain.judge(torch.cat(batches), at, condition, half=_halved(real))
    sizes = [len(batch) for batch in batches]
    assert scores.features is not None
    parts = zip(*(part.split_with_sizes(sizes) for part in scores if part is not None), strict=True)
    known = list(zip(batches, (Scores(*part) for part in parts), strict=True))

    def critic(values: Tensor) -> Scores:
        return next((found for batch, found in known if batch is values), None) or plain(values)

    of_each = slopes.split_with_sizes([len(each) for each in points.values()])
    return critic, dict(zip(points, of_each, strict=True))


def generator_loss(state: TrainState, batch: Batch) -> tuple[Tensor, Terms]:
    """What the generator minimises, constraints included, and its parts as detached scalars."""
    method, count = state.method, len(batch.values)
    latents = [state.latents(count) for _ in range(method.objective.n_fakes)]
    draw = method.objective.draw(state.rng, tuple(batch.values.shape)).to(state.like)
    drawn = Drawn(batch, latents, draw, [])
    module, critic = state.generator.module, state.critic
    if state.compiled is not None and "generator" not in state.compiled.refused:
        found = state.compiled(
            "generator",
            partial(_generator_alone, method, module, critic.module if critic else None),
            *(drawn, state.objective),
        )
    else:
        with precisely(method, state.like), cached():
            fakes = [_fakes(state.generator, z, batch.condition) for z in latents]
            judge = _held(critic, batch.condition) if critic else _identity_critic
            rest = (drawn, fakes, state.objective, state.step + 1)
            found = _weigh_generator(method, module, judge, *rest)
    total, terms, state.objective = found
    return total, terms


def _generator_alone(
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
        judge = bind_critic(critic, condition) if critic else _identity_critic
        return _weigh_generator(method, module, judge, drawn, fakes, remembered, 2)


def _weigh_generator(
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


def _held(player: Player, condition: Tensor | None) -> Critic:
    """The critic as the generator sees it: only what it scores is differentiable, where it can."""
    chain = player.chain
    if chain is None or not chain.free:
        return bind_critic(player.module, condition)
    return lambda values: chain.judge(values, None, condition, fixed=True, half=_halved(values))[0]


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
    state.critic.move(state.progress)
    state.project()


def _move_generator(state: TrainState) -> None:
    state.generator.move(state.progress)
