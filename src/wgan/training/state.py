"""Everything that training reads and changes, and how it becomes tensors and plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from wgan.constraints import Constraint
from wgan.data.base import Order, Source
from wgan.errors import UserError
from wgan.layers.dropout import bind_rng
from wgan.objectives import Objective
from wgan.training.optimizers import OptimizerSpec
from wgan.types import Batch, State

_WARMUP_STEPS, _WARMUP_EVERY, _WARMUP_UPDATES = 25, 500, 100


@dataclass(frozen=True)
class Method:
    """How the two players are trained: the part of a recipe that is not a network.

    Attributes:
        objective: The two losses.
        generator_optimizer, critic_optimizer: One each.
        constraints: What keeps the critic Lipschitz, in the order applied.
        batch_size: Real samples in a critic update, over all processes.
        generator_batch_size: Fake samples in a generator update.
        latent: Length of a latent vector.
        n_critic: Batches that the critic sees per step.
        critic_passes: Updates that it makes on each.
        warmup: 100 critic batches in the first 25 steps and in every 500th, as the code released
            with Arjovsky et al. 2017 does.
        average: Decay of the generator's running average per step; 0 for none. Early on the decay
            is at most ``(1 + step) / (10 + step)``, so that the start is forgotten.
        clip_norm: Largest norm of a player's gradient, or None.
        steps: Length of the run, for schedules; None where it is not known.
        seed: Seed of the order of the data and of every draw.
    """

    objective: Objective
    generator_optimizer: OptimizerSpec
    critic_optimizer: OptimizerSpec
    constraints: tuple[Constraint, ...] = ()
    batch_size: int = 64
    generator_batch_size: int = 64
    latent: int = 64
    n_critic: int = 5
    critic_passes: int = 1
    warmup: bool = False
    average: float = 0.999
    clip_norm: float | None = None
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "generator_batch_size", "latent", "critic_passes"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"`{name}` must be >= 1, got {value}")
        least = 1 if self.objective.uses_critic else 0
        if self.n_critic < least:
            raise UserError(f"`n_critic` must be >= {least}, got {self.n_critic}")
        if not 0 <= self.average < 1:
            raise UserError(f"`average` must be in [0, 1), got {self.average}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UserError(f"`clip_norm` must be > 0, got {self.clip_norm}")

    def critic_batches(self, step: int) -> int:
        """Batches that the critic sees in this step (from 1)."""
        if not self.objective.uses_critic:
            return 0
        if self.warmup and (step <= _WARMUP_STEPS or (step - 1) % _WARMUP_EVERY == 0):
            return _WARMUP_UPDATES
        return self.n_critic


@dataclass
class Player:
    """A network and the optimizer that moves it."""

    module: nn.Module
    optimizer: Optimizer
    spec: OptimizerSpec
    parameters: list[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]

    @classmethod
    def of(cls, module: nn.Module, spec: OptimizerSpec) -> Player:
        """A player with a fresh optimizer."""
        return cls(module, spec.build(p for p in module.parameters() if p.requires_grad), spec)

    def set_rate(self, step: int, steps: int | None) -> None:
        """Set the learning rate that the schedule has for this step."""
        if self.spec.schedule != "constant":
            for group in self.optimizer.param_groups:
                group["lr"] = self.spec.rate(step, steps)


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

    @classmethod
    def create(
        cls,
        method: Method,
        generator: nn.Module,
        critic: nn.Module | None,
        source: Source,
    ) -> TrainState:
        """The state before the first step.

        Args:
            method: How to train.
            generator: Latents (and conditions) to samples.
            critic: Values (and conditions) to scores; None only where the objective uses none.
            source: The real samples that the run will train on.

        Raises:
            UserError: The critic is missing, or a constraint refuses it.
        """
        if method.objective.uses_critic and critic is None:
            raise UserError(f"objective `{method.objective.name}` needs a critic, got None")
        rng = torch.Generator().manual_seed(method.seed)
        player = None
        if method.objective.uses_critic and critic is not None:
            for constraint in method.constraints:
                critic = constraint.prepare(critic)
            player = Player.of(critic, method.critic_optimizer)
            bind_rng(critic, rng)
        average = deepcopy(generator).requires_grad_(False) if method.average else generator
        return cls(
            method=method,
            generator=Player.of(generator, method.generator_optimizer),
            critic=player,
            average=average,
            objective=method.objective.init(),
            rng=rng,
            order=Order(source.size, method.seed),
        )

    @property
    def like(self) -> Tensor:
        """A tensor on the device and in the type that training uses."""
        return self.generator.parameters[0]

    def next_batch(self, source: Source, count: int) -> Batch:
        """The next `count` real samples, on the device and in the type of training."""
        values, condition = source.batch(self.order.take(self.drawn, count))
        self.drawn += count
        return Batch(
            values.to(self.like), condition.to(self.like) if condition is not None else None
        )

    def latents(self, count: int) -> Tensor:
        """Standard normal latents ``[count, latent]`` from the state's own generator."""
        return torch.randn(count, self.method.latent, generator=self.rng).to(self.like)

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
            found |= _prefixed(f"{role}.module", player.module.state_dict())
            for index, slots in player.optimizer.state_dict()["state"].items():
                found |= _prefixed(f"{role}.optimizer.{index}", slots)
        if self.method.average:
            found |= _prefixed("average", self.average.state_dict())
        return found | _prefixed("objective", self.objective)

    def plain(self) -> dict[str, Any]:
        """Everything else, as plain data."""
        groups = {role: player.optimizer.param_groups for role, player in self._players()}
        return {
            "step": self.step,
            "drawn": self.drawn,
            "optimizers": {
                role: [{k: v for k, v in group.items() if k != "params"} for group in parts]
                for role, parts in groups.items()
            },
        }

    def load(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Continue from what :meth:`tensors` and :meth:`plain` gave, to the bit."""
        self.rng.set_state(tensors["rng"].cpu())
        for role, player in self._players():
            player.module.load_state_dict(_under(tensors, f"{role}.module"))
            slots: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _under(tensors, f"{role}.optimizer").items():
                index, slot = name.split(".", 1)
                slots.setdefault(int(index), {})[slot] = tensor
            current = player.optimizer.state_dict()
            for group, saved in zip(
                current["param_groups"], plain["optimizers"][role], strict=True
            ):
                group.update({k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})
            player.optimizer.load_state_dict({**current, "state": slots})
        if self.method.average:
            self.average.load_state_dict(_under(tensors, "average"))
        self.objective = {
            name: tensor.to(self.like.device)
            for name, tensor in _under(tensors, "objective").items()
        }
        self.step, self.drawn = plain["step"], plain["drawn"]

    def _players(self) -> Iterator[tuple[str, Player]]:
        yield "generator", self.generator
        if self.critic is not None:
            yield "critic", self.critic


def _floating(module: nn.Module) -> list[Tensor]:
    return [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]


def _prefixed(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": t for name, t in tensors.items() if isinstance(t, Tensor)}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    prefix += "."
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
