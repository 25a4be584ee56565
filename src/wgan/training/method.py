"""How two players are trained: the part of a recipe that is not a network."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wgan.constraints import Constraint
from wgan.errors import UnknownNameError, UserError
from wgan.objectives import Objective
from wgan.training.optimizers import OptimizerSpec

PRECISIONS = ("fp64", "fp32", "tf32", "bf16")

_WARMUP_STEPS, _WARMUP_EVERY, _WARMUP_UPDATES = 25, 500, 100


@dataclass(frozen=True)
class Method:
    """How the two players are trained.

    Attributes:
        objective: The two losses.
        generator_optimizer, critic_optimizer: One each.
        constraints: What keeps the critic Lipschitz, in the order applied.
        generator_constraints: What holds for the generator's weights: of each constraint, how it
            prepares a network and its penalty on weights.
        batch_size: Real samples in a critic update, over all processes.
        generator_batch_size: Fake samples in a generator update.
        latent: Length of a latent vector.
        n_critic: Batches that the critic sees per step.
        n_critic_max: Batches that it sees at most, while a probe says that it still gains (see
            :class:`wgan.training.probe.Probe`); None: always `n_critic`.
        critic_passes: Updates that it makes on each.
        warmup: 100 critic batches in the first 25 steps and in every 500th, as the code released
            with Arjovsky et al. 2017 does.
        extrapolate: The last critic update and the generator's are one of extragradient (see
            :func:`wgan.training.step.extragradient_update`).
        lookahead_every: Steps after which both players go back to their slow weights
            ``slow += lookahead_share (fast - slow)`` (Chavdarova et al. 2021, algorithm 1); None:
            never.
        lookahead_share: In (0, 1].
        final_penalty_share: What the critic's schedule leaves of the constraints' penalties at the
            end, > 0: they go along the curve of its rate. The records have them in full.
        precision: Of the networks' passes: fp64, fp32, tf32 or bf16, where weights, penalties
            and sums stay in fp32.
        accumulate: Parts that each batch is split into, one in memory at a time; the gradient is
            the mean of theirs.
        compile: Whether both losses are compiled (see :mod:`wgan.training.compiled`).
        average: Decay of the generator's running average per step; 0 for none. Early on the decay
            is at most ``(1 + step) / (10 + step)``, so that the start is forgotten.
        clip_norm: Largest norm of a player's gradient, or None.
        steps: Length of the run, for schedules; None: as long as `TrainState.plan` says.
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
    generator_constraints: tuple[Constraint, ...] = ()
    n_critic_max: int | None = None
    extrapolate: bool = False
    lookahead_every: int | None = None
    lookahead_share: float = 0.5
    final_penalty_share: float = 1.0
    precision: str = "fp32"
    compile: bool = False
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        for name in (
            *("batch_size", "generator_batch_size", "latent", "critic_passes", "accumulate"),
        ):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"`{name}` must be >= 1, got {value}")
        least = 1 if self.objective.uses_critic else 0
        if self.n_critic < least:
            raise UserError(f"`n_critic` must be >= {least}, got {self.n_critic}")
        if not 0 <= self.average < 1:
            raise UserError(f"`average` must be in [0, 1), got {self.average}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UserError(f"`clip_norm` must be > 0, got {self.clip_norm}")
        if self.lookahead_every is not None and self.lookahead_every < 1:
            raise UserError(f"`lookahead_every` must be >= 1, got {self.lookahead_every}")
        if not 0 < self.final_penalty_share < math.inf:
            raise UserError(f"`final_penalty_share` must be > 0, got {self.final_penalty_share}")
        if not 0 < self.lookahead_share <= 1:
            raise UserError(f"`lookahead_share` must be in (0, 1], got {self.lookahead_share}")
        if not self.objective.uses_critic and (self.extrapolate or self.n_critic_max is not None):
            raise UserError(
                f"objective `{self.objective.name}` has no critic; leave out `extrapolate` and "
                "`n_critic_max`"
            )
        if self.n_critic_max is not None and self.n_critic_max < self.n_critic:
            raise UserError(
                f"`n_critic_max` must be at least `n_critic`, {self.n_critic}, "
                f"got {self.n_critic_max}"
            )
        if self.extrapolate and self.n_critic_max is not None:
            raise UserError(
                "`extrapolate` moves both players together and `n_critic_max` trains the critic "
                "ahead; give one of them"
            )
        if self.extrapolate and self.critic_passes > 1:
            raise UserError(
                "`extrapolate` takes fresh batches for each gradient, so `critic_passes` must be "
                f"1, got {self.critic_passes}"
            )

    def penalty_share(self, progress: float) -> float:
        """What is left of the penalties' weights when this share of the run is over."""
        left = self.critic_optimizer.left(progress)
        return self.final_penalty_share + (1 - self.final_penalty_share) * left

    def critic_batches(self, step: int) -> int:
        """Batches that the critic sees in this step (from 1); where adaptive, at least."""
        if not self.objective.uses_critic:
            return 0
        if self.warmup and (step <= _WARMUP_STEPS or (step - 1) % _WARMUP_EVERY == 0):
            return _WARMUP_UPDATES
        return self.n_critic
