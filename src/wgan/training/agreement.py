"""Whether a loss may be shared out: checked once, before a run on several processes or in parts."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from wgan.data.base import Source
from wgan.errors import UserError
from wgan.layers.dropout import bind_rng
from wgan.shares import Share, sharing
from wgan.training import ranks
from wgan.training.player import Player
from wgan.training.state import TrainState
from wgan.training.step import measured_critic_loss, measured_generator_loss

_ROWS = 2  # of a share: enough for objectives that need pairs
_RELATIVE, _ABSOLUTE = 1e-8, 1e-10  # in fp64, where rounding is smaller by far


def require_agreement(state: TrainState, source: Source) -> None:
    """Hold both losses on a small batch against the means over its shares, in fp64.

    A loss that compares samples without asking for all of them (:func:`wgan.shares.whole`) is not
    the same on shares. The state is left as it was.

    Raises:
        UserError: They differ, or what is trained looks at a whole batch and comes in parts.
    """
    of = ranks.world() * state.method.accumulate
    if of == 1:
        return
    shared, alone = _losses(state, source, of, shared=True), _losses(state, source, of)
    for name, one in alone.items():
        other = shared[name]
        if not torch.isclose(other, one, _RELATIVE, _ABSOLUTE, equal_nan=True):
            raise UserError(
                f"the {name}'s loss on a batch is {float(one):.9g}, and on its {of} shares "
                f"{float(other):.9g} in the mean: objective `{state.method.objective.name}` or a "
                "constraint compares samples; there take rows from `wgan.whole`, or train with one "
                "process and without `accumulate`"
            )


def _losses(
    state: TrainState, source: Source, of: int, *, shared: bool = False
) -> dict[str, Tensor]:
    """Both losses of a copy of the state on the next `of` times two samples."""
    twin, count = copy(state), _ROWS * of
    twin.method = replace(state.method, precision="fp64")
    twin.compiled = None
    twin.rng = torch.Generator()
    twin.rng.set_state(state.rng.get_state())
    twin.generator = _doubled(state.generator)
    if state.critic is not None:
        twin.critic = _doubled(state.critic)
        bind_rng(twin.critic.module, twin.rng)
    if not shared:
        twin.method = replace(twin.method, accumulate=1)
    twin.generator.module.train()
    found: dict[str, Tensor] = {}
    with sharing(ranks.share() if shared else Share()):
        if twin.critic is not None:
            found["critic"] = measured_critic_loss(twin, twin.next_batch(source, count))
        found["generator"] = measured_generator_loss(twin, twin.next_batch(source, count))
    return found


def _doubled(player: Player) -> Player:
    return Player(deepcopy(player.module).double(), player.optimizer, player.spec)
