"""The audit: it changes nothing, repeats itself, and says what is true where that is known."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wgan.build import build_state
from wgan.config import resolve
from wgan.data import open_source
from wgan.data.base import Source
from wgan.diagnostics import AUDIT_TERMS, Audit, HeldOut, Sizes
from wgan.recipes import RECIPES
from wgan.training import TrainState, train

SMALL: dict[str, Any] = {
    "width": 16, "depth": 2, "batch_size": 16, "generator_batch_size": 16, "latent": 4,
    "warmup": False,
}  # fmt: skip


POINTS = open_source("gaussians8").batch(torch.arange(400)).values.numpy()


def made(data: Any = POINTS, features: str = "auto", **given: Any) -> tuple[TrainState, Audit]:
    source = open_source(data)
    config, _ = resolve({**SMALL, **given}, source, "data")
    training, heldout = source.split(0.3, 0)
    audit = audit_of(training, heldout, config.hyper.latent, features)
    state = build_state(config, training)
    for _ in train(state, training, until=2):
        pass
    return state, audit


def audit_of(training: Source, heldout: Source, latent: int, features: str = "auto") -> Audit:
    held = HeldOut.of(heldout, features)
    assert held is not None
    return Audit(training, held, seed=0, latent=latent)


def frozen(state: TrainState) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.tensors().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


NEEDS_MLP = [name for name, r in RECIPES.items() if r.settings.critic_network != "dcgan"]


@pytest.mark.parametrize("recipe", NEEDS_MLP)
def test_every_recipe_is_audited_and_left_as_it_was(recipe: str) -> None:
    state, audit = made(recipe=recipe)
    before, plain, objective = frozen(state), str(state.plain()), dict(state.objective)
    modes = [m.training for m in state.critic.module.modules()] if state.critic else []
    chance = torch.get_rng_state()
    record = audit(state)
    assert equal(before, frozen(state))
    assert str(state.plain()) == plain
    assert objective.keys() == state.objective.keys()
    assert all(torch.equal(objective[k], state.objective[k]) for k in objective)
    assert modes == ([m.training for m in state.critic.module.modules()] if state.critic else [])
    assert torch.equal(chance, torch.get_rng_state())
    clipped = any(c.name == "weight-clipping" for c in state.method.constraints)
    assert set(audit.terms(critic=state.critic is not None, clipped=clipped)) == {
        name for name in record if name != "audit_seconds"
    }
    assert set(AUDIT_TERMS) >= set(record) - {"audit_seconds"}
    assert all(math.isfinite(float(str(value))) for value in record.values())


@pytest.mark.parametrize("recipe", ["wgan-gp", "wgan-ct", "wgan-sn"])
def test_training_goes_on_as_if_there_had_been_no_audit(recipe: str) -> None:
    plain, _ = made(recipe=recipe)
    audited, audit = made(recipe=recipe)
    audit(audited)
    source = open_source(POINTS).split(0.3, 0)[0]
    for state in (plain, audited):
        for _ in train(state, source, until=5):
            pass
    assert equal(frozen(plain), frozen(audited))


def test_an_audit_is_a_function_of_the_state_and_of_those_before() -> None:
    def told(audit: Audit, state: TrainState) -> dict[str, Any]:
        return {k: v for k, v in audit(state).items() if not k.endswith("_seconds")}

    state, first = made()
    _, second = made()
    one = told(first, state)
    assert told(second, state) == one
    state.step += 1  # another audit, of the same weights: its critics have trained on
    assert told(first, state) == told(second, state)
    # One that goes on from a checkpoint repeats the next.
    _, third = made()
    third.load(first.tensors())
    state.step += 1
    assert told(third, state) == told(first, state)


class Moved(nn.Module):
    """A generator that has the distribution of the data but for a shift."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, latent: Tensor) -> Tensor:
        return latent + self.shift


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_a_generator_whose_distance_is_known(shift: float) -> None:
    data = np.random.default_rng(0).normal(size=(6000, 2))
    source = open_source(data)
    config, _ = resolve({**SMALL, "latent": 2, "average": 0.0}, source, "data")
    training, heldout = source.split(0.5, 0)
    audit = audit_of(training, heldout, 2)
    state = build_state(config, training, Moved(shift))
    for _ in range(6):
        record = audit(state)
    distance = math.sqrt(2) * shift
    excess, low, high, lower = (
        float(str(record[f"audit.{name}"]))
        for name in ("excess", "excess_low", "excess_high", "lower")
    )
    floor = audit.held.select.yardstick.between.value  # on average W1 - floor <= excess <= W1
    assert distance - floor - 0.05 <= excess <= distance + 0.05
    assert low <= excess <= high
    assert lower <= distance
    if shift:
        assert lower > 0.85 * distance
    reported = audit.report(state.average, state.like)
    assert reported is not None
    assert distance - floor - 0.05 <= reported.value <= distance + 0.05
    assert reported.value != excess  # other samples


def test_held_out_data_that_chose_and_that_report_are_apart() -> None:
    values = np.arange(600, dtype=np.float32).reshape(300, 2)
    source = open_source(values)
    training, heldout = source.split(0.5, 0)
    audit = audit_of(training, heldout, 2)
    held = audit.held
    assert held.report is not None
    select, report = (part.batch.values[:, 0] for part in (held.select, held.report))
    train_values = training.batch(torch.arange(150)).values[:, 0]
    assert (len(select), len(report)) == (100, 50)
    assert not set(select.tolist()) & set(report.tolist())
    assert not set(train_values.tolist()) & {*select.tolist(), *report.tolist()}


def test_sizes_follow_the_held_out_data() -> None:
    assert Sizes.of(None, 2) == Sizes(500, 500)
    assert Sizes.of(179, 64) == Sizes(59, 30)
    assert Sizes.of(29, 2) is None
    assert Sizes.of(30, 2) == Sizes(10, 0)  # enough to audit, too few to report on
    assert Sizes.of(10_000, 3 * 128 * 128) == Sizes(85, 85)


def test_conditions_are_part_of_what_is_compared() -> None:
    # Samples have the right distribution and the wrong conditions.
    rng = np.random.default_rng(0)
    condition = rng.choice([-1.0, 1.0], size=2000)
    values = (condition + 0.1 * rng.normal(size=2000))[:, None].astype(np.float32)

    class Blind(nn.Module):
        def __init__(self, sign: float) -> None:
            super().__init__()
            self.sign = nn.Parameter(torch.tensor(sign))

        def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
            return self.sign * condition + 0.1 * latent

    source = open_source(values, condition=condition)
    config, _ = resolve({**SMALL, "latent": 1, "average": 0.0}, source, "data")
    training, heldout = source.split(0.3, 0)
    found = []
    for sign in (1.0, -1.0):
        audit = audit_of(training, heldout, 1)
        found.append(float(str(audit(build_state(config, training, Blind(sign)))["audit.excess"])))
    assert found[0] < 0.2
    assert found[1] > 1


@pytest.mark.parametrize("features", ["raw", "slices", "pca:2"])
def test_the_space_can_be_chosen(features: str) -> None:
    state, audit = made("digits", features, network="mlp")
    assert audit.describe()["space"] == features
    assert math.isfinite(float(str(audit(state)["audit.excess"])))


def test_the_optimality_gap_is_that_of_training_on() -> None:
    state, audit = made(recipe="wgan-gp", critic_lr=1e-3)
    record = audit(state)
    assert float(str(record["audit.optimality_gap"])) > 0.05  # a critic of two steps still learns
    still = replace(state.method.critic_optimizer, lr=1e-12)
    assert state.critic is not None
    state.critic.spec = still
    for group in state.critic.optimizer.param_groups:
        group["lr"] = 1e-12
    assert abs(float(str(audit(state)["audit.optimality_gap"]))) < 1e-6


def test_an_orthogonal_critic_has_no_slope_above_1() -> None:
    state, audit = made(recipe="wgan-orthogonal")
    record = audit(state)
    assert float(str(record["audit.slope_high"])) <= 1 + 1e-5
