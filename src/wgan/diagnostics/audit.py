"""The audit: what is true of a run at a step, on data that it never trains on.

An audit draws fresh samples of the averaged generator and compares them with held-out data; it
asks the critic about data that it has not seen; and it leaves the run as it was, to the bit. Two
thirds of the held-out data serve every audit, and so choose checkpoints and stop runs; the last
third has no part in that, and what was chosen is reported on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from wgan.bounds import LipschitzCritic, population_gap
from wgan.constraints import WeightClipping
from wgan.data.base import Source
from wgan.diagnostics.excess import FEWEST, Excess, Points, Space, Yardstick, raw
from wgan.diagnostics.heldout import MOST_NUMBERS, HeldOut, Part, read, rows_of
from wgan.diagnostics.probes import critic_estimate, optimality_gap, slopes_between, strides
from wgan.diagnostics.watcher import Watcher
from wgan.errors import NonFiniteError, UserError
from wgan.metrics.neighbours import manifold
from wgan.training import TrainState, synthesize
from wgan.transport import random_directions, sliced_wasserstein
from wgan.types import Batch, Record

LEVEL = 0.95
"""Of the certified lower bound, one-sided."""

PROBE_UPDATES = 25
"""Of the critic, in its optimality probe."""

_FIT = 512  # of each, for finding critics
_CHOOSE = 1 / 4  # of those, for choosing a critic; the bound is measured on the rest
_DIRECTIONS = 64  # of the sliced W1
_COMPARED = 2**26  # numbers that telling who covers whom goes through, at most
_NEIGHBOUR = 5  # whose distance is a ball's radius
_CHUNKS = 4  # batches behind the critic's estimate

AUDIT_TERMS: dict[str, str] = {
    "audit.excess": "how much further samples are from held-out data than other held-out data are",
    "audit.excess_low": "lower end of its 95% interval",
    "audit.excess_high": "upper end of its 95% interval",
    "audit.w1": "exact W1 between equal-size samples of the generator and of held-out data",
    "audit.w1_floor": "the same between two disjoint held-out samples",
    "audit.sliced_w1": "sliced W1 of the same samples",
    "audit.lower": "certified lower bound of the populations' W1, at 95% confidence",
    "audit.lower_estimate": "what the critic behind it separates, without the allowance for chance",
    "audit.precision": "share of samples among the held-out data, in balls to the 5th neighbour",
    "audit.recall": "share of held-out data among the samples, in such balls",
    "audit.coverage": "share of the held-out data's balls that hold a sample; of data 0.97",
    "audit.generator_stride": "how far the generator's next update moves it, in shares of its norm",
    "audit.critic_estimate": "the run's own critic on held-out data, in its own scale",
    "audit.optimality_gap": "how much that rises when the critic trains on alone",
    "audit.slope_low": "5% quantile of the critic's slopes between real and fake samples",
    "audit.slope_median": "their median",
    "audit.slope_high": "their 95% quantile",
    "audit.slope_above_one": "share of them above 1",
    "audit.critic_stride": "how far the critic's next update moves it, in shares of its norm",
    "audit.at_bounds": "share of the critic's weights at the clip bounds",
}
"""What an audit records, by name; without a critic only the first twelve."""

_OF_THE_CRITIC = tuple(AUDIT_TERMS)[12:]


class Audit:
    """Judges the state of one run, at any of its steps.

    Args:
        training: What the run trains on; critics may be found on it.
        held: What it never trains on.
        seed: Of the latents of all samples, the same at every audit.
        latent: Length of a latent.

    Attributes:
        held: The two parts of the held-out data.
    """

    def __init__(self, training: Source, held: HeldOut, *, seed: int, latent: int) -> None:
        self.held = held
        self._training = training
        self._seed = seed
        self._latent = latent
        self._points = held.units(*held.select.batch)
        dim = self._points.shape[1]
        self._w1 = Yardstick(self._points, Space("raw", "", raw))
        lines = random_directions(torch.Generator().manual_seed(0), _DIRECTIONS, dim)
        self._lines = lines.double()
        self._watcher = Watcher(dim, self._points, seed)

    def terms(self, *, critic: bool, clipped: bool) -> list[str]:
        """The names that a record of this audit has."""
        names = [name for name in AUDIT_TERMS if critic or name not in _OF_THE_CRITIC]
        return [name for name in names if clipped or name != "audit.at_bounds"]

    def describe(self) -> dict[str, Any]:
        """What the numbers are, in plain data for the card."""
        held = self.held
        return {
            "space": held.space.name,
            "why": held.space.reason,
            "unit": held.unit,
            "samples": len(held.select),
            "reporting_samples": 0 if held.report is None else len(held.report),
            "floor": held.select.yardstick.between.value,
            "w1_floor": self._w1.between.value,
            "level": LEVEL,
            "critic_updates": PROBE_UPDATES,
        }

    # -- one audit -------------------------------------------------------------------------------

    def __call__(self, state: TrainState) -> Record:
        """The audit's record of the state, which is left as it was.

        Distances are in the data's own unit, what the critic says is in its own scale. Terms are
        listed in `AUDIT_TERMS`; ``audit_seconds`` is what it took.

        Raises:
            NonFiniteError: The generator's samples are not finite.
        """
        began = perf_counter()
        rng = self._rng(3 + state.step)
        part = self.held.select
        fakes = self._synthesize(state.average, state.like, part, salt=1)
        if not fakes.isfinite().all():  # weights that have blown up before any loss has
            raise NonFiniteError("audit.excess", state.step)
        fake, held = self.held.units(fakes, part.batch.condition), self._points
        excess = part.excess(fakes)
        w1 = excess if part.space.name == "raw" else self._w1(fake)
        record: Record = {
            "audit.excess": excess.value,
            "audit.excess_low": excess.low,
            "audit.excess_high": excess.high,
            "audit.w1": w1.distance,
            "audit.w1_floor": w1.floor,
            "audit.sliced_w1": float(
                sliced_wasserstein(torch.from_numpy(fake), torch.from_numpy(held), self._lines)
            ),
        }
        record |= self._covered(held, fake)
        record |= self._bound(state, held, fake, rng)
        record |= self._stride(state)
        if state.critic is not None:
            record |= self._ask(state, fakes)
            for constraint in state.method.constraints:
                if isinstance(constraint, WeightClipping):
                    share = constraint.measure(state.critic.module)["clip_share"]
                    record["audit.at_bounds"] = float(share)
        record["audit_seconds"] = perf_counter() - began
        return record

    def report(self, generator: nn.Module, like: Tensor) -> Excess | None:
        """The excess of a generator on the held-out data that no audit has seen."""
        part = self.held.report
        if part is None:
            return None
        return part.excess(self._synthesize(generator, like, part, salt=2))

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold for the next audit to be the same."""
        return self._watcher.tensors()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`tensors` gave.

        Raises:
            UserError: They are of another audit, or nobody's.
        """
        try:
            self._watcher.load(tensors)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"the checkpoint does not fit the run's audit: {reason[-1]}") from error

    # -- within ----------------------------------------------------------------------------------

    def _bound(self, state: TrainState, held: Points, fake: Points, rng: torch.Generator) -> Record:
        """Critics found on training data; one chosen on a quarter, measured on the rest."""
        count = min(_FIT, max(4 * FEWEST, MOST_NUMBERS // held.shape[1]))
        if self._training.size is None:
            rows = torch.randint(2**40, (1,), generator=rng) + torch.arange(count)
        else:
            rows = torch.randint(self._training.size, (count,), generator=rng)
        real = read(self._training, rows)
        latent = torch.randn(count, self._latent, generator=rng)
        other = synthesize(state.average, latent, real.condition, state.like)
        units = self.held.units
        critics = self._watcher.critics(units(*real), units(other, real.condition), rng)
        # The halves are in random order, so that any stretch of them is a random part.
        first = max(2, int(_CHOOSE * len(held)))
        best = max(critics, key=lambda critic: _separated(critic, held[:first], fake[:first]))
        gap = population_gap(best(held[first:]), best(fake[first:]), level=LEVEL)
        return {"audit.lower": max(0.0, gap.lower), "audit.lower_estimate": gap.estimate}

    def _covered(self, held: Points, fake: Points) -> Record:
        """How samples and held-out data cover each other."""
        count = max(2 * FEWEST, min(len(held), math.isqrt(_COMPARED // held.shape[1])))
        first, second = fake[:count], held[:count]
        found = manifold(
            cdist(first, first), cdist(second, second), cdist(first, second), k=_NEIGHBOUR
        )
        return {
            "audit.precision": found.precision,
            "audit.recall": found.recall,
            "audit.coverage": found.coverage,
        }

    def _stride(self, state: TrainState) -> Record:
        """How far the next updates would go; they are taken back."""
        tensors = {name: tensor.clone() for name, tensor in state.tensors().items()}
        plain = deepcopy(state.plain())
        try:
            critic, generator = strides(state, self._training)
        except NonFiniteError:  # the run itself will say so
            return {}
        finally:
            state.load(tensors, plain)
        record: Record = {"audit.generator_stride": generator}
        return record if state.critic is None else record | {"audit.critic_stride": critic}

    def _ask(self, state: TrainState, fakes: Tensor) -> Record:
        method = state.method
        count = len(self._points)
        size = min(method.batch_size, count // 2)
        chunks = []
        for k in range(min(_CHUNKS, count // size)):
            rows = slice(k * size, (k + 1) * size)
            values, condition = rows_of(self.held.select.batch, rows)
            batch = Batch(
                values.to(state.like), None if condition is None else condition.to(state.like)
            )
            # A second batch of fakes, where the objective needs one, comes from the other end.
            parts = [fakes[rows], fakes.flip(0)[rows]][: method.objective.n_fakes]
            chunks.append((batch, [part.to(state.like) for part in parts]))

        def estimate() -> float:
            found = [critic_estimate(state, *chunk, seed=k) for k, chunk in enumerate(chunks)]
            return float(np.mean(found))

        source = self._training
        before, after = optimality_gap(
            state, lambda count: state.next_batch(source, count), estimate, PROBE_UPDATES
        )
        slopes = torch.cat(
            [slopes_between(state, *chunk, seed=k) for k, chunk in enumerate(chunks)]
        )
        low, median, high = slopes.double().quantile(
            torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64, device=slopes.device)
        )
        record: Record = {"audit.critic_estimate": before}
        if math.isfinite(after):
            record["audit.optimality_gap"] = after - before
        return record | {
            "audit.slope_low": float(low),
            "audit.slope_median": float(median),
            "audit.slope_high": float(high),
            "audit.slope_above_one": float((slopes > 1).double().mean()),
        }

    def _synthesize(self, generator: nn.Module, like: Tensor, part: Part, salt: int) -> Tensor:
        latent = torch.randn(len(part), self._latent, generator=self._rng(salt))
        return synthesize(generator, latent, part.batch.condition, like)

    def _rng(self, salt: int) -> torch.Generator:
        return torch.Generator().manual_seed((self._seed * 1_000_003 + salt) % 2**63)


def _separated(critic: LipschitzCritic, real: Points, fake: Points) -> float:
    return float(critic(real).mean() - critic(fake).mean())
