"""Everything that training reads and changes, and how it becomes tensors and plain data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from wgan.data.base import Order, Source, blocks_of
from wgan.errors import UserError
from wgan.layers.dropout import bind_rng
from wgan.layers.norms import share_batch_norm
from wgan.shares import current
from wgan.training.compiled import Compiled
from wgan.training.method import Method
from wgan.training.player import Player, prefixed, under
from wgan.types import Batch, State


@dataclass
class TrainState:
    """Where a run stands. Everything that the next step depends on is here or in the source.

    Attributes:
        method: How to go on.
        generator: The generator and its optimizer.
        critic: The critic and its optimizer, or None for an objective that needs none.
        average: Running average of the generator, for sampling; the generator itself where
            ``method.average`` is 0.
        objective: What the objective remembers.
        rng: The one generator of all random numbers of training, on the CPU so that every device
            sees the same numbers.
        step: Generator updates made.
        drawn: Real samples drawn.
        rollbacks: How often the run has diverged and gone back.
        rollback_step: The step that it last went back to, or None.
        planned: The step at which a run without a given length is expected to end, or None.
        bend: The step at which that was last expected anew, and the schedules' progress there.
        compiled: What compiles the losses, or None.
    """

    method: Method
    generator: Player
    critic: Player | None
    average: nn.Module
    objective: State
    rng: torch.Generator
    order: Order
    step: int = 0
    drawn: int = 0
    rollbacks: int = 0
    rollback_step: int | None = None
    planned: int | None = None
    bend: tuple[int, float] = (0, 0.0)
    compiled: Compiled | None = None

    @classmethod
    def create(
        cls,
        method: Method,
        generator: nn.Module,
        critic: nn.Module | None,
        source: Source,
        processes: int = 1,
    ) -> TrainState:
        """The state before the first step.

        Args:
            method: How to train.
            generator: Latents (and conditions) to samples.
            critic: Values (and conditions) to scores; None only where the objective uses none.
            source: The real samples that the run will train on.
            processes: How many share out each batch; batch norm then goes over all of it.

        Raises:
            UserError: The critic is missing, a constraint refuses a network, or a batch cannot be
                shared out.
        """
        if method.objective.uses_critic and critic is None:
            raise UserError(f"objective `{method.objective.name}` needs a critic, got None")
        _require_shares(method, processes, generator, critic)
        if processes > 1:
            generator, critic = share_batch_norm(generator), critic and share_batch_norm(critic)
        rng = torch.Generator().manual_seed(method.seed)
        lookahead = method.lookahead_every is not None
        player = None
        if method.objective.uses_critic and critic is not None:
            for constraint in method.constraints:
                critic = constraint.prepare(critic)
            player = Player.of(critic, method.critic_optimizer, lookahead=lookahead)
            bind_rng(critic, rng)
        for constraint in method.generator_constraints:
            generator = constraint.prepare(generator)
        average = deepcopy(generator).requires_grad_(False) if method.average else generator
        return cls(
            method=method,
            generator=Player.of(generator, method.generator_optimizer, lookahead=lookahead),
            critic=player,
            average=average,
            objective=method.objective.init(),
            rng=rng,
            order=Order(source.size, method.seed, blocks_of(source)),
            compiled=Compiled(method) if method.compile else None,
        )

    @property
    def like(self) -> Tensor:
        """A tensor on the device and in the type that training uses."""
        return self.generator.parameters[0]

    def next_batch(self, source: Source, count: int) -> Batch:
        """This share of the next `count` samples, on the device and in the type of training."""
        rows = self.order.take(self.drawn, count)[current().rows(count)]
        values, condition = source.batch(rows)
        self.drawn += count
        return Batch(
            values.to(self.like), condition.to(self.like) if condition is not None else None
        )

    def latents(self, count: int) -> Tensor:
        """Standard normal latents ``[count, latent]`` from the state's own generator.

        Of a share as many; they are its rows of what is drawn for the whole batch.
        """
        share = current()
        drawn = torch.randn(count * share.of, self.method.latent, generator=self.rng)
        return drawn[share.rows(len(drawn))].to(self.like)

    def look_back(self) -> None:
        """Bring both players back to their slow weights where it is time; called once a step."""
        every = self.method.lookahead_every
        if every is not None and self.step % every == 0:
            for _, player in self._players():
                player.look_back(self.method.lookahead_share)
            self.project()

    @property
    def progress(self) -> float:
        """The share of the run that is over before the next step, in [0, 1], for schedules.

        ``t = t_b + (1 - t_b) (step - b) / (length - b)``, of which b is 0 where the length was
        given, and else the step of the last :meth:`plan`. 0 as long as there is no plan.
        """
        length = self.method.steps or self.planned
        if length is None:
            return 0.0
        since, share = (0, 0.0) if self.method.steps else self.bend
        return min(1.0, share + (1 - share) * (self.step - since) / max(1, length - since))

    def plan(self, length: int) -> None:
        """Expect the run to end at a step: what the schedules have yet to go is spread till then.

        It is a part of the state, so that whoever continues from a checkpoint has the same plan.
        """
        self.bend, self.planned = (self.step, self.progress), max(length, self.step + 1)

    @property
    def lr_scale(self) -> float:
        """What is left of both players' learning rates: half for each rollback."""
        return 0.5**self.rollbacks

    def roll_back(self, rollbacks: int) -> None:
        """Go on from here otherwise than before: a new draw, and half the learning rates.

        A function of the seed and of `rollbacks` alone, so that a resumed run repeats it. The real
        samples come in the same order.

        Args:
            rollbacks: How many there have been, this one included.
        """
        self.rollbacks, self.rollback_step = rollbacks, self.step
        digest = hashlib.sha256(f"rollback {rollbacks} of seed {self.method.seed}".encode())
        self.rng.manual_seed(int.from_bytes(digest.digest()[:7], "big"))
        self._scale_rates()
        for _, player in self._players():
            for group in player.optimizer.param_groups:
                group["lr"] = player.spec.lr

    def set_n_critic(self, n_critic: int) -> None:
        """Let the critic see so many batches a step from here on, and at most no fewer."""
        most = self.method.n_critic_max
        if most is not None:
            most = max(most, n_critic)
        if n_critic != self.method.n_critic:
            self.method = replace(self.method, n_critic=n_critic, n_critic_max=most)

    def _scale_rates(self) -> None:
        method = self.method
        for player, own in (
            (self.generator, method.generator_optimizer),
            (self.critic, method.critic_optimizer),
        ):
            if player is not None:
                player.spec = replace(own, lr=own.lr * self.lr_scale)

    def project(self) -> None:
        """Move the critic's weights back into the set that the constraints allow."""
        if self.critic is not None:
            for constraint in self.method.constraints:
                constraint.project(self.critic.module)

    def update_average(self) -> None:
        """Move the running average towards the generator; called once a step."""
        if not self.method.average:
            return
        decay = min(self.method.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            kept, new = _floating(self.average), _floating(self.generator.module)
            torch._foreach_lerp_(kept, new, 1 - decay)
            own = dict(self.generator.module.named_buffers())
            for name, buffer in self.average.named_buffers():
                if not buffer.is_floating_point():
                    buffer.copy_(own[name])

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name, for a checkpoint."""
        found = {"rng": self.rng.get_state()}
        for role, player in self._players():
            found |= prefixed(role, player.tensors())
        if self.method.average:
            found |= prefixed("average", self.average.state_dict())
        return found | prefixed("objective", self.objective)

    def plain(self) -> dict[str, Any]:
        """Everything else, as plain data."""
        return {
            "step": self.step,
            "drawn": self.drawn,
            "rollbacks": self.rollbacks,
            "rollback_step": self.rollback_step,
            "planned": self.planned,
            "bend": list(self.bend),
            "optimizers": {role: player.plain() for role, player in self._players()},
        }

    def load(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Continue from what :meth:`tensors` and :meth:`plain` gave, to the bit.

        Raises:
            UserError: They are of another run, or nobody's.
        """
        try:
            self._load(tensors, plain)
        except (
            *(AttributeError, IndexError, KeyError, OverflowError),
            *(RuntimeError, TypeError, ValueError),
        ) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(
                f"the checkpoint does not fit the run's networks and optimizers: {reason[-1]}"
            ) from error

    def _load(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        self.rng.set_state(tensors["rng"].cpu())
        for role, player in self._players():
            player.load(under(tensors, role), plain["optimizers"][role])
        if self.method.average:
            self.average.load_state_dict(under(tensors, "average"))
        self.objective = {
            name: tensor.to(self.like.device)
            for name, tensor in under(tensors, "objective").items()
        }
        counts = [plain["step"], plain["drawn"], plain.get("rollbacks", 0)]
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"step, samples drawn and rollbacks are {counts}")
        self.step, self.drawn, self.rollbacks = counts
        self.rollback_step = plain.get("rollback_step")
        planned, (since, share) = plain.get("planned"), plain.get("bend", (0, 0.0))
        if not (planned is None or type(planned) is int) or type(since) is not int:
            raise ValueError(f"the run is expected to end at {planned!r}, since {since!r}")
        if not 0 <= share <= 1:
            raise ValueError(f"the schedules' progress is {share!r}")
        self.planned, self.bend = planned, (since, share)
        self._scale_rates()

    def _players(self) -> Iterator[tuple[str, Player]]:
        yield "generator", self.generator
        if self.critic is not None:
            yield "critic", self.critic


def _require_shares(
    method: Method, processes: int, generator: nn.Module, critic: nn.Module | None
) -> None:
    """Raise `UserError` unless every batch can be shared out evenly, and its parts stand alone."""
    of = processes * method.accumulate
    sizes = ("batch_size", "generator_batch_size")
    for name in sizes if method.objective.uses_critic else sizes[1:]:
        size = getattr(method, name)
        if size % of:
            low = size // of * of
            near = f"{low} or {low + of}" if low else f"{of}"
            raise UserError(
                f"`{name}` is {size} and does not share out evenly into {of} (processes: "
                f"{processes}, parts of `accumulate`: {method.accumulate}); take {near}"
            )
    if method.accumulate == 1:
        return
    for role, network in (("generator", generator), ("critic", critic)):
        for name, layer in network.named_modules() if network is not None else ():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                raise UserError(
                    f"`accumulate` trains on a part of a batch at a time, and the {role}'s layer "
                    f"`{name or type(layer).__name__}` normalises over all of it; use {role}_norm "
                    "`none` or `layer`"
                )


def _floating(module: nn.Module) -> list[Tensor]:
    return [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
