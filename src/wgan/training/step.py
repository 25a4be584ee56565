"""The updates of a step. Everything random is drawn before the first loss.

Each player's share is in three parts: its loss, the gradient of it, the move. An ordinary update
is the three in a row; extragradient puts both players' gradients before both moves.

Where a batch is shared out (:mod:`wgan.shares`), this process's losses see its rows alone, a part
at a time; their gradients and terms meet in one flat buffer before the move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from wgan.constraints import Constraint
from wgan.errors import NonFiniteError
from wgan.networks import Generator
from wgan.shares import current, sharing
from wgan.training import ranks
from wgan.training.losses import (
    LOSS,
    Drawn,
    Gradients,
    Terms,
    UnknownScoresError,
    answers,
    asked_of_critic,
    bind_critic,
    critic_alone,
    critic_by_hand,
    generate,
    generator_alone,
    generator_by_hand,
    identity_critic,
    precisely,
    weigh_critic,
    weigh_generator,
)
from wgan.training.player import Player
from wgan.training.state import TrainState
from wgan.types import Batch, Critic, State

Result = TypeVar("Result")


def critic_updates(state: TrainState, batches: Sequence[Batch]) -> Terms:
    """Move the critic once or more (`critic_passes`) on each batch; the last one's losses.

    What is random is drawn for all of them first, and the fakes are generated, in one pass if the
    generator allows it.
    """
    assert state.critic is not None
    drawn = [draw_update(state, b) for b in batches for _ in range(state.method.critic_passes)]
    gradients = _of_critic(state, drawn, _critic_gradients)
    terms: Terms = {}
    for i in range(len(drawn)):
        terms = _differentiate(state, state.critic, "critic", partial(gradients, i))
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


def draw_update(state: TrainState, batch: Batch) -> Drawn:
    """Everything random that a critic update on this batch needs, dropout's masks apart."""
    return _draw(state, batch, state.method.constraints)


def _draw(state: TrainState, batch: Batch, constraints: Iterable[Constraint]) -> Drawn:
    """Drawn for the whole batch, so that the shares together have what one process has."""
    share, objective = current(), state.method.objective
    shape = share.whole(tuple(batch.values.shape))
    rows = share.rows(shape[0])
    return Drawn(
        batch,
        [state.latents(len(batch.values)) for _ in range(objective.n_fakes)],
        objective.draw(state.rng, shape).take(rows).to(state.like),
        [c.draw(state.rng, shape).take(rows).to(state.like) for c in constraints],
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
    """What the critic minimises, constraints included, and its parts as detached scalars.

    On all the rows of this process at once.
    """
    drawn = draw_update(state, batch)
    return _critic_loss(state, drawn, draw_fakes(state, [drawn])[0])


def measured_critic_loss(state: TrainState, batch: Batch) -> Tensor:
    """What the critic minimises, detached, over all shares of a batch."""
    losses = _of_critic(state, [draw_update(state, batch)], _critic_loss)
    return _mean(_in_parts(state, lambda k: losses(0, k)[0].detach()))


def measured_generator_loss(state: TrainState, batch: Batch) -> Tensor:
    """What the generator minimises, detached, over all shares of a batch."""
    drawn, of = _draw(state, batch, ()), state.method.accumulate
    parts = _in_parts(state, lambda k: _generator_loss(state, drawn.part(k, of))[0].detach())
    return _mean(parts)


def _mean(parts: Sequence[Tensor]) -> Tensor:
    """The mean of a number over all shares, from this process's."""
    of = len(parts) * current().ranks
    if of == 1:
        return parts[0]
    total = torch.stack([*parts]).sum(0)
    if current().ranks > 1:
        ranks.add(total)
    return total / of


def _of_critic(
    state: TrainState,
    drawn: Sequence[Drawn],
    function: Callable[[TrainState, Drawn, Sequence[Tensor]], Result],
) -> Callable[[int, int], Result]:
    """A function of an update, by its number, on a part of its batch; the fakes are there."""
    of = state.method.accumulate
    parts = [[each.part(k, of) for each in drawn] for k in range(of)]
    fakes = _in_parts(state, lambda k: draw_fakes(state, parts[k]))
    return lambda i, k: function(state, parts[k][i], fakes[k][i])


def _in_parts(state: TrainState, function: Callable[[int], Result]) -> list[Result]:
    """What a function gives for each part of a batch, in turn.

    Each part finds the random numbers, and what the networks remember of their passes (the vectors
    of spectral norms), as the first one did: they are those of one pass over the whole batch.
    """
    of = state.method.accumulate
    if of == 1:
        return [function(0)]
    rng = state.rng.get_state()
    players = [state.generator] if state.critic is None else [state.generator, state.critic]
    buffers = [buffer for player in players for buffer in player.module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    found = []
    for k in range(of):
        if k:
            state.rng.set_state(rng)
            with torch.no_grad():
                for buffer, value in zip(buffers, before, strict=True):
                    buffer.copy_(value)
        with sharing(current().part(k, of)):
            found.append(function(k))
    return found


def _critic_loss(state: TrainState, drawn: Drawn, fakes: Sequence[Tensor]) -> tuple[Tensor, Terms]:
    assert state.critic is not None
    compiled = state.compiled
    if compiled and not _by_hand(state, drawn, fakes) and "critic" not in compiled.refused:
        function = partial(critic_alone, state.method, state.critic.module)
        found = compiled("critic", function, *_arguments(state, drawn, fakes))
    else:
        with precisely(state.method, state.like), cached():  # parametrised weights: found once
            asked = _ask(state, drawn, fakes)
            found = weigh_critic(
                *(state.method, state.critic.module, *asked),
                drawn=drawn,
                fakes=fakes,
                remembered=state.objective,
                share=_share(state),
                step=state.step + 1,
            )
    total, terms, state.objective = found
    return total, terms


def _share(state: TrainState) -> float | None:
    """The share of the penalties that counts at this point of the run; None: all of it."""
    share = state.method.penalty_share(state.progress)
    return None if share == 1 else share


def _arguments(
    state: TrainState, drawn: Drawn, fakes: Sequence[Tensor]
) -> tuple[Drawn, Sequence[Tensor], State, Tensor | None]:
    """Those of a compiled function of the critic; a share is a tensor, as numbers are built in."""
    share = _share(state)
    return drawn, fakes, state.objective, None if share is None else torch.tensor(share)


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
    batches, points, at = asked_of_critic(method, drawn, fakes, state.step + 1)
    scores, slopes = chain.judge(torch.cat(batches), at, condition, half=_halved(real))
    return answers(batches, points, scores, slopes, plain)


def _critic_gradients(state: TrainState, drawn: Drawn, fakes: Sequence[Tensor]) -> Gradients:
    """The gradient in the critic's parameters of its loss, and the terms with the loss."""
    player, compiled = state.critic, state.compiled
    assert player is not None
    if not compiled or not _by_hand(state, drawn, fakes) or "critic" in compiled.refused:
        return _by_autograd(player, *_critic_loss(state, drawn, fakes))
    assert player.chain is not None
    function = partial(critic_by_hand, state.method, player.module, player.chain)
    found, terms, state.objective = compiled("critic", function, *_arguments(state, drawn, fakes))
    return _in_order(player, found), terms


def _in_order(player: Player, gradients: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Gradients of a chain in the order of the player's parameters."""
    assert player.chain is not None
    by_parameter = dict(zip(map(id, player.chain.parameters), gradients, strict=True))
    return tuple(by_parameter.get(id(p)) for p in player.parameters)


def _by_autograd(player: Player, value: Tensor, terms: Terms) -> Gradients:
    gradients = torch.autograd.grad(value, player.parameters, allow_unused=True)
    return gradients, {**terms, LOSS: value.detach()}


def _by_hand(state: TrainState, drawn: Drawn, fakes: Sequence[Tensor]) -> bool:
    """Whether both gradients can be had by hand: both are chains, whose weights nothing else sees.

    Found once, by trying.
    """
    method, compiled = state.method, state.compiled
    generator, critic = state.generator, state.critic
    assert compiled is not None
    if compiled.by_hand is not None:
        return compiled.by_hand
    compiled.by_hand = False
    assert critic is not None
    made, judge = generator.chain, critic.chain
    if made is None or judge is None or not (made.free and judge.free):
        return False
    if any(c.weight_penalty(critic.module, 2) is not None for c in method.constraints):
        return False
    if any(c.weight_penalty(generator.module, 2) is not None for c in method.generator_constraints):
        return False
    try:
        arguments = _arguments(state, drawn, fakes)
        critic_by_hand(method, critic.module, judge, *arguments)
        generator_by_hand(method, generator.module, made, judge, drawn, state.objective)
    except (
        UnknownScoresError,
        RuntimeError,
    ):  # the latter: what torch cannot take a gradient through
        return False
    compiled.by_hand = True
    return True


def generator_loss(state: TrainState, batch: Batch) -> tuple[Tensor, Terms]:
    """What the generator minimises, constraints included, and its parts as detached scalars."""
    return _generator_loss(state, _draw(state, batch, ()))


def _generator_loss(state: TrainState, drawn: Drawn) -> tuple[Tensor, Terms]:
    method, (batch, latents, _, _) = state.method, drawn
    module, critic = state.generator.module, state.critic
    compiled = state.compiled
    if compiled and not compiled.by_hand and "generator" not in compiled.refused:
        found = compiled(
            "generator",
            partial(generator_alone, method, module, critic.module if critic else None),
            *(drawn, state.objective),
        )
    else:
        with precisely(method, state.like), cached():
            fakes = [_fakes(state.generator, z, batch.condition) for z in latents]
            judge = _held(critic, batch.condition) if critic else identity_critic
            rest = (drawn, fakes, state.objective, state.step + 1)
            found = weigh_generator(method, module, judge, *rest)
    total, terms, state.objective = found
    return total, terms


def _generator_gradients(state: TrainState, drawn: Drawn) -> Gradients:
    """The gradient in the generator's parameters of its loss, and the terms with the loss."""
    player, critic, compiled = state.generator, state.critic, state.compiled
    if compiled is None or not compiled.by_hand or "generator" in compiled.refused:
        return _by_autograd(player, *_generator_loss(state, drawn))
    assert player.chain is not None
    assert critic is not None
    assert critic.chain is not None
    function = partial(generator_by_hand, state.method, player.module, player.chain, critic.chain)
    found, terms, state.objective = compiled("generator", function, drawn, state.objective)
    return _in_order(player, found), terms


def _held(player: Player, condition: Tensor | None) -> Critic:
    """The critic as the generator sees it: only what it scores is differentiable, where it can."""
    chain = player.chain
    if chain is None or not chain.free:
        return bind_critic(player.module, condition)
    return lambda values: chain.judge(values, None, condition, fixed=True, half=_halved(values))[0]


def _critic_gradient(state: TrainState, batch: Batch) -> Terms:
    assert state.critic is not None
    gradients = _of_critic(state, [draw_update(state, batch)], _critic_gradients)
    return _differentiate(state, state.critic, "critic", partial(gradients, 0))


def _generator_gradient(state: TrainState, batch: Batch) -> Terms:
    drawn, of = _draw(state, batch, ()), state.method.accumulate
    return _differentiate(
        *(state, state.generator, "generator"),
        lambda k: _generator_gradients(state, drawn.part(k, of)),
    )


def _differentiate(
    state: TrainState, player: Player, role: str, gradients_of: Callable[[int], Gradients]
) -> Terms:
    """Set the player's gradients, clipped; the terms with the norm that they had before.

    Args:
        state: Whose step it is.
        player: Whose weights move.
        role: Its name.
        gradients_of: The gradients, and the terms with the loss, on each part of the batch.

    Raises:
        NonFiniteError: A term or the gradient is not finite; nothing has moved then.
    """
    found = _Mean(player.parameters, state.method.accumulate * current().ranks)
    _in_parts(state, lambda part: found.add(*gradients_of(part)))
    gradients, terms = found.finish()
    value = terms.pop(LOSS)
    norm = torch.nn.utils.get_total_norm([g for g in gradients if g is not None])
    if not torch.isfinite(norm + value):
        bad = [name for name, value in terms.items() if not torch.isfinite(value)]
        raise NonFiniteError(bad[0] if bad else f"{role}_gradient_norm", state.step + 1)
    if (limit := state.method.clip_norm) is not None:
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        # Not in place: autograd may give two parameters the same tensor, or an expanded one.
        gradients = tuple(g if g is None else g * scale for g in gradients)
    for parameter, gradient in zip(player.parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else _laid_out(gradient, parameter)
    return {**terms, f"{role}_gradient_norm": norm}


def _laid_out(gradient: Tensor, like: Tensor) -> Tensor:
    """The gradient in the memory order of what it is of.

    Fused optimizers go through both as they lie, whatever their strides, and `autograd.grad` gives
    what the last operation made: a convolution's gradient may be in any order.
    """
    if gradient.stride() == like.stride():
        return gradient
    return torch.empty_like(like, memory_format=torch.preserve_format).copy_(gradient)


class _Mean:
    """The mean of gradients and terms over all shares of a batch, in one flat buffer.

    Args:
        parameters: What the gradients are of.
        of: How many shares there are; of one alone nothing is copied.
    """

    def __init__(self, parameters: Sequence[Tensor], of: int) -> None:
        self._parameters, self._of = parameters, of
        self._only: tuple[tuple[Tensor | None, ...], Terms] | None = None
        self._flat: Tensor | None = None
        self._used: list[bool] = []
        self._names: list[str] = []

    def add(self, gradients: tuple[Tensor | None, ...], terms: Terms) -> None:
        """Take in one share."""
        if self._of == 1:
            self._only = gradients, terms
            return
        kind = torch.float32
        for parameter in self._parameters:
            kind = torch.promote_types(kind, parameter.dtype)
        numbers = [*(g for g in gradients if g is not None), *terms.values()]
        device = self._parameters[0].device
        flat = torch.cat([n.detach().reshape(-1).to(device, kind) for n in numbers])
        self._flat = flat if self._flat is None else self._flat.add_(flat)
        self._used, self._names = [g is not None for g in gradients], list(terms)

    def finish(self) -> tuple[tuple[Tensor | None, ...], Terms]:
        """The means, once every share of this process is in; the others' are added here."""
        if self._only is not None:
            return self._only
        assert self._flat is not None
        if current().ranks > 1:
            ranks.add(self._flat)
        self._flat /= self._of
        gradients: list[Tensor | None] = []
        at = 0
        for parameter, used in zip(self._parameters, self._used, strict=True):
            if not used:
                gradients.append(None)
                continue
            gradients.append(self._flat[at : at + parameter.numel()].view(parameter.shape))
            at += parameter.numel()
        return tuple(gradients), dict(zip(self._names, self._flat[at:].clone(), strict=True))


def _move_critic(state: TrainState) -> None:
    assert state.critic is not None
    state.critic.move(state.progress)
    state.project()


def _move_generator(state: TrainState) -> None:
    state.generator.move(state.progress)
