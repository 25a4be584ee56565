"""The loop on tiny networks: what it computes, what it refuses, and that it resumes to the bit."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wgan.constraints import (
    GradientPenalty,
    OrthogonalRegularisation,
    SpectralNormalisation,
    WeightClipping,
)
from wgan.data import open_source
from wgan.data.base import Source
from wgan.data.synthetic import Gaussians8
from wgan.errors import NonFiniteError, UserError
from wgan.networks import NetworkSpec, Shapes, make_critic, make_generator
from wgan.objectives import Standard, Wasserstein
from wgan.training import OPTIMIZERS, Method, OptimizerSpec, TrainState, train
from wgan.training.step import critic_loss, critic_update
from wgan.types import Batch, Record

ADAM = OptimizerSpec("adam", 1e-3, 0.5, 0.9)
METHOD = Method(
    Wasserstein(), ADAM, ADAM, (GradientPenalty(1.0),), 16, 16, latent=2, n_critic=2, average=0.9
)


def make_state(method: Method, source: Source, norm: str = "none") -> TrainState:
    shapes, spec = Shapes((2,), method.latent), NetworkSpec(8, 2, norm)
    return TrainState.create(
        method,
        make_generator("mlp", spec, shapes, 1),
        make_critic("mlp", NetworkSpec(8, 2), shapes, 2),
        source,
    )


@pytest.fixture
def source() -> Source:
    return Gaussians8(0)


def untimed(records: list[Record]) -> list[Record]:
    return [{k: v for k, v in r.items() if not k.endswith("_seconds")} for r in records]


WAYS: dict[str, dict[str, Any]] = {
    **{name: {"optimizer": name} for name in OPTIMIZERS},
    "adaptive": {"n_critic_max": 6},
    "extragradient": {"extrapolate": True},
    "lookahead": {"lookahead_every": 3},
    "spectral": {"generator_constraints": (SpectralNormalisation(),)},
    "orthogonal": {"generator_constraints": (OrthogonalRegularisation(0.1),)},
    "clipped": {"clip_norm": 0.1},
}


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_networks_with_channels_last_resume_from_files(optimizer: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    source = open_source(pictures)
    spec = OptimizerSpec(optimizer, 1e-2, 0.5)
    method = replace(METHOD, generator_optimizer=spec, critic_optimizer=spec)

    def fresh() -> TrainState:
        shapes, net = Shapes(source.shape, 2), NetworkSpec(4)
        made = make_generator("dcgan", net, shapes, 1), make_critic("dcgan", net, shapes, 2)
        for network in made:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return TrainState.create(method, *made, source)

    state = fresh()
    for _ in train(state, source, until=2):
        pass
    # As a checkpoint holds them: no file keeps the order of a tensor in memory.
    tensors = {name: t.clone().contiguous() for name, t in state.tensors().items()}
    plain = deepcopy(state.plain())
    straight = untimed(list(train(state, source, until=4)))
    again = fresh()
    again.load(tensors, plain)
    assert untimed(list(train(again, source, until=4))) == straight


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("way", WAYS)
def test_resume_is_bitwise(source: Source, norm: str, way: str) -> None:
    changes = dict(WAYS[way])
    name = changes.pop("optimizer", "adam")
    end = 0.99 if "adam" in name else None
    spec = OptimizerSpec(name, 1e-3, 0.5, 0.9, schedule="cosine", final_beta2=end)
    changes |= {"generator_optimizer": spec, "critic_optimizer": spec, "steps": 8}
    method = replace(METHOD, **changes)
    whole = make_state(method, source, norm)
    records = list(train(whole, source, until=8))

    first = make_state(method, source, norm)
    head = list(train(first, source, until=4))
    saved = {name: tensor.clone() for name, tensor in first.tensors().items()}, first.plain()
    second = make_state(method, source, norm)
    second.load(*saved)
    tail = list(train(second, source, until=8))

    assert untimed(head + tail) == untimed(records)
    expected, got = whole.tensors(), second.tensors()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_one_clipped_step_by_hand(source: Source) -> None:
    """A linear critic and SGD: Algorithm 1's update is w + lr (mean x - mean y), clipped."""
    sgd = OptimizerSpec("sgd", 0.1)
    method = replace(
        METHOD,
        generator_optimizer=sgd,
        critic_optimizer=sgd,
        constraints=(WeightClipping(0.05),),
        n_critic=1,
        average=0.0,
    )
    critic = nn.Linear(2, 1, bias=False)
    nn.init.constant_(critic.weight, 0.01)
    generator = nn.Linear(2, 2, bias=False)
    nn.init.eye_(generator.weight)
    state = TrainState.create(method, generator, critic, source)
    latent = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    real = source.batch(torch.arange(16)).values
    (record,) = train(state, source, until=1)
    moved = 0.01 + 0.1 * (real.mean(0) - latent.mean(0))
    torch.testing.assert_close(critic.weight.detach()[0], moved.clamp(-0.05, 0.05))
    gap = (0.01 * (real.mean(0) - latent.mean(0))).sum()
    assert record["wasserstein_estimate"] == pytest.approx(float(gap), rel=1e-4)
    assert record["critic_loss"] == pytest.approx(-float(gap), rel=1e-4)


class Turned(nn.Module):
    """A linear map whose weight, or its gradient, lies in memory by columns."""

    def __init__(self, inputs: int, outputs: int, *, by_columns: bool) -> None:
        super().__init__()
        rows = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(inputs))
        self.weight = nn.Parameter(rows.mT.contiguous().mT if by_columns else rows)

    def forward(self, values: Tensor) -> Tensor:
        return (values[:, None] * self.weight).sum(2)


CRITICS: dict[str, Callable[[], nn.Module]] = {
    "by rows": lambda: nn.Sequential(Turned(24, 5, by_columns=False), nn.ReLU(), nn.Linear(5, 1)),
    "by columns": lambda: nn.Sequential(Turned(24, 5, by_columns=True), nn.ReLU(), nn.Linear(5, 1)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 8)), nn.Conv1d(3, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(25, 1)
    ),
    "channels last": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3, 4)), nn.Conv2d(2, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(30, 1)
    ).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
}


@pytest.mark.parametrize("name", ["adam", "sgd"])
@pytest.mark.parametrize("kind", CRITICS)
def test_a_gradient_meets_its_weights_in_any_order_of_memory(kind: str, name: str) -> None:
    """Fused updates go by memory's order; they are those of an optimizer that does not."""
    rows = np.random.default_rng(0).normal(size=(40, 24)).astype(np.float32)
    source, spec = open_source(rows), OptimizerSpec(name, 1e-2, 0.5, 0.9)
    method = replace(METHOD, generator_optimizer=spec, critic_optimizer=spec, n_critic=1)
    torch.manual_seed(0)
    critic, generator = CRITICS[kind](), nn.Linear(2, 24)
    state = TrainState.create(method, generator, critic, source)
    batch = state.next_batch(source, 16)
    drawn = state.rng.get_state()
    loss, _ = critic_loss(state, batch)
    gradients = torch.autograd.grad(loss, list(critic.parameters()))
    state.rng.set_state(drawn)
    by_hand = [nn.Parameter(p.detach().clone(memory_format=torch.contiguous_format))
               for p in critic.parameters()]  # fmt: skip
    for parameter, gradient in zip(by_hand, gradients, strict=True):
        parameter.grad = gradient.contiguous()
    if name == "adam":
        torch.optim.Adam(by_hand, 1e-2, (0.5, 0.9), fused=False, foreach=False).step()
    else:
        torch.optim.SGD(by_hand, 1e-2, 0.5, fused=False, foreach=False).step()
    critic_update(state, batch)
    for moved, expected in zip(critic.parameters(), by_hand, strict=True):
        torch.testing.assert_close(moved, expected)


def test_the_average_follows_the_generator(source: Source) -> None:
    state = make_state(replace(METHOD, average=0.5), source)
    before = next(state.average.parameters()).clone()
    list(train(state, source, until=1))
    now = next(state.generator.module.parameters()).detach()
    decay = (1 + 1) / (10 + 1)  # the early decay is smaller than 0.5
    torch.testing.assert_close(next(state.average.parameters()), decay * before + (1 - decay) * now)


def test_training_approaches_a_displaced_gaussian() -> None:
    """A linear generator must learn the mean (1, -1) of a Gaussian; from 1.41 away to below 0.2."""

    class Displaced(Gaussians8):
        def batch(self, indices: Tensor) -> Batch:
            noise = torch.randn(
                len(indices), 2, generator=torch.Generator().manual_seed(int(indices[0]))
            )
            return Batch(noise * 0.5 + torch.tensor([1.0, -1.0]))

    source = Displaced(0)
    method = replace(METHOD, batch_size=64, generator_batch_size=64, n_critic=3)
    fast = OptimizerSpec("adam", 5e-3, 0.0, 0.9)
    state = make_state(replace(method, generator_optimizer=fast, critic_optimizer=fast), source)
    list(train(state, source, until=300))
    with torch.no_grad():
        mean = state.average(torch.randn(4000, 2, generator=state.rng)).mean(0)
    assert float((mean - torch.tensor([1.0, -1.0])).norm()) < 0.2


def test_warmup_of_the_released_code(source: Source) -> None:
    method = replace(METHOD, warmup=True, n_critic=5)
    assert [method.critic_batches(s) for s in (1, 25, 26, 500, 501, 502)] == [
        *(100, 100, 5, 5, 100, 5)
    ]


def test_a_term_that_is_not_finite_stops_before_the_update(source: Source) -> None:
    class Broken(Gaussians8):
        def batch(self, indices: Tensor) -> Batch:
            values = super().batch(indices).values
            return Batch(values * (float("nan") if int(indices[0]) >= 48 * 3 else 1.0))

    broken = Broken(0)
    state = make_state(METHOD, broken)
    seen = []
    good: dict[str, Tensor] = {}

    def run() -> None:
        for record in train(state, broken, until=10):
            seen.append(record)
            assert state.critic is not None
            good.update({k: v.clone() for k, v in state.critic.module.state_dict().items()})

    with pytest.raises(NonFiniteError, match=r"`critic_loss` is not finite at step 4") as caught:
        run()
    assert (len(seen), caught.value.step) == (3, 4)
    assert state.critic is not None
    assert all(torch.equal(v, good[k]) for k, v in state.critic.module.state_dict().items())


def test_the_schedule_reaches_the_optimizer(source: Source) -> None:
    spec = replace(ADAM, schedule="linear", final_lr_share=0.5, final_beta2=0.98)
    state = make_state(replace(METHOD, generator_optimizer=spec, steps=4), source)
    (group,) = state.generator.optimizer.param_groups
    seen = [(group["lr"] / ADAM.lr, group["betas"]) for _ in train(state, source, until=4)]
    assert [rate for rate, _ in seen] == pytest.approx([1, 0.875, 0.75, 0.625])
    assert [betas[1] for _, betas in seen] == pytest.approx([0.9, 0.92, 0.94, 0.96])


def test_a_plan_bends_the_schedule_and_survives_a_checkpoint(source: Source) -> None:
    spec = replace(ADAM, schedule="linear")
    method = replace(METHOD, generator_optimizer=spec, critic_optimizer=spec, steps=None)
    state, again = (make_state(method, source) for _ in range(2))
    (group,) = state.generator.optimizer.param_groups
    rates = []

    def go_on(steps: int) -> None:
        for _ in train(state, source, until=state.step + steps):
            rates.append(group["lr"] / ADAM.lr)

    go_on(2)  # nobody knows yet how long the run will be
    state.plan(6)
    go_on(2)
    state.plan(8)  # it was faster than expected: half of the way is left, for 4 steps
    again.load({k: v.clone() for k, v in state.tensors().items()}, state.plain())
    go_on(5)
    assert rates == pytest.approx([1, 1, 1, 0.75, 0.5, 0.375, 0.25, 0.125, 0])
    for _ in train(again, source, until=9):
        pass
    assert all(torch.equal(t, again.tensors()[name]) for name, t in state.tensors().items())


def test_the_schedule_reaches_the_penalties(source: Source) -> None:
    spec = replace(ADAM, schedule="linear", final_lr_share=1.0)
    method = replace(METHOD, critic_optimizer=spec, final_penalty_share=0.5, steps=4)
    state = make_state(method, source)
    batch = state.next_batch(source, 16)
    shares = []
    for state.step in range(4):
        state.rng.manual_seed(0)
        total, terms = critic_loss(state, batch)
        penalty = total.detach() - terms["critic_loss"]
        shares.append(float(penalty / terms["gradient_penalty"]))
    assert shares == pytest.approx([1, 0.875, 0.75, 0.625], rel=1e-4)


def test_the_generators_weights_are_held_too(source: Source) -> None:
    """Spectral norms start near 1; the overlap of two equal rows (1, 0) is 2, its gradient 4."""
    state = make_state(
        replace(METHOD, generator_constraints=(SpectralNormalisation(),), average=0.5), source
    )
    list(train(state, source, until=30))
    for network in (state.generator.module, state.average):
        layers = [m for m in network.eval().modules() if isinstance(m, nn.Linear)]
        norms = [float(torch.linalg.matrix_norm(m.weight.detach(), 2)) for m in layers]
        assert norms == pytest.approx([1.0] * len(layers), rel=0.02)

    generator, critic = nn.Linear(2, 2, bias=False), nn.Linear(2, 1)
    generator.weight.data = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    nn.init.zeros_(critic.weight)
    method = replace(
        METHOD,
        constraints=(),
        generator_constraints=(OrthogonalRegularisation(0.1),),
        generator_optimizer=OptimizerSpec("sgd", 1.0),
        critic_optimizer=OptimizerSpec("sgd", 1e-30),
    )
    state = TrainState.create(method, generator, critic, source)
    (record,) = train(state, source, until=1)
    assert record["generator_orthogonal_penalty"] == pytest.approx(0.2)
    moved = torch.tensor([[0.6, 0.0], [0.6, 0.0]])
    torch.testing.assert_close(generator.weight.detach(), moved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_critic": 0}, "`n_critic` must be >= 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be >= 1, got 0"),
        ({"average": 1.0}, r"`average` must be in \[0, 1\), got 1.0"),
        ({"clip_norm": 0.0}, "`clip_norm` must be > 0"),
    ],
)
def test_ranges(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(METHOD, **change)


def test_batch_norm_under_a_per_sample_penalty_is_refused(source: Source) -> None:
    critic = make_critic("mlp", NetworkSpec(8, 2, "batch"), Shapes((2,)), 0)
    generator = make_generator("mlp", NetworkSpec(8, 2), Shapes((2,), 2), 0)
    with pytest.raises(UserError, match=r"body\.2.*normalises over the batch"):
        TrainState.create(METHOD, generator, critic, source)


def test_the_standard_gan_records_its_js_estimate(source: Source) -> None:
    state = make_state(replace(METHOD, objective=Standard(), constraints=()), source)
    (record,) = train(state, source, until=1)
    js, loss = record["js_estimate"], record["critic_loss"]
    assert isinstance(loss, float)
    assert js == pytest.approx(0.6931472 - loss / 2, abs=1e-6)
