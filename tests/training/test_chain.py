"""The critic written out by hand gives what autograd gives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from wgan.constraints.base import input_gradient
from wgan.networks import CriticNetwork, NetworkSpec, Shapes, make_critic, make_generator
from wgan.training.chain import Chain
from wgan.training.losses import bind_critic
from wgan.training.sampling import synthesize
from wgan.types import Scores

CASES: dict[str, tuple[str, Shapes, int | None]] = {
    "mlp": ("mlp", Shapes((3,)), None),
    "mlp, features": ("mlp", Shapes((3,)), 5),
    "mlp, condition": ("mlp", Shapes((3,), condition=2), None),
    "mlp, pictures": ("mlp", Shapes((1, 4, 4), condition=2), None),
    "dcgan": ("dcgan", Shapes((2, 12, 8)), None),
    "dcgan, features and condition": ("dcgan", Shapes((1, 8, 8), condition=3), 4),
    "dcgan, series": ("dcgan", Shapes((2, 16)), None),
    "dcgan, volumes": ("dcgan", Shapes((1, 8, 8, 8)), None),
}


def made(case: str) -> tuple[CriticNetwork, Shapes]:
    name, shapes, features = CASES[case]
    critic = make_critic(name, NetworkSpec(6, 2), shapes, 0, features).double()
    assert isinstance(critic, CriticNetwork)
    with torch.no_grad():  # DCGAN's own scores are too small to tell right from wrong
        for parameter in critic.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return critic, shapes


def gradients(loss: Tensor, critic: nn.Module) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g
        for p, g in zip(critic.parameters(), found, strict=True)
    ]


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "all": lambda score, features, slope: (
        score.square().sum()
        + features.sin().sum()
        + (slope.flatten(1).norm(dim=1) - 1).pow(2).sum()
    ),
    "scores": lambda score, features, slope: score.exp().sum(),
    "slopes": lambda score, features, slope: slope.pow(3).sum(),
    "features": lambda score, features, slope: features.pow(3).sum(),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_a_chain_is_its_critic(case: str, loss: str) -> None:
    critic, shapes = made(case)
    torch.manual_seed(1)
    values, points = (torch.randn(n, *shapes.shape).double() for n in (6, 3))
    condition = torch.randn(3, shapes.condition).double() if shapes.condition else None
    chain = Chain.of(critic)
    assert chain is not None
    scores, slope = chain.judge(values, points, condition)
    bound = bind_critic(critic, condition)
    expected, expected_slope = bound(values), input_gradient(bound, points)

    torch.testing.assert_close(scores.score, expected.score, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(scores.features, expected.features, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope, expected_slope, rtol=1e-12, atol=1e-12)
    assert scores.features is not None
    assert expected.features is not None
    got = gradients(LOSSES[loss](scores.score, scores.features, slope), critic)
    right = gradients(LOSSES[loss](expected.score, expected.features, expected_slope), critic)
    assert any(g.abs().max() > 1e-3 for g in right)
    for one, other in zip(got, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)

    def weigh(scores: Scores, slopes: Tensor) -> tuple[Tensor, Tensor]:
        assert scores.features is not None
        found = LOSSES[loss](scores.score, scores.features, slopes)
        return found, found.detach()

    straight, value = chain.differentiate(values, points, condition, weigh)
    wanted = LOSSES[loss](expected.score, expected.features, expected_slope)
    torch.testing.assert_close(value, wanted.detach(), rtol=1e-12, atol=1e-12)
    of_parameter = dict(zip(map(id, chain.parameters), straight, strict=True))
    for parameter, other in zip(critic.parameters(), right, strict=True):
        torch.testing.assert_close(of_parameter[id(parameter)], other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("conditions", [0, 2])
@pytest.mark.parametrize("shape", [(3,), (1, 4, 4)])
def test_a_generator_under_a_critic_has_autograds_gradient(
    shape: tuple[int, ...], conditions: int
) -> None:
    shapes = Shapes(shape, latent=5, condition=conditions)
    generator = make_generator("mlp", NetworkSpec(6, 2), shapes, 1).double()
    critic = make_critic("mlp", NetworkSpec(6, 2), shapes, 0, 4).double()
    torch.manual_seed(1)
    latent = torch.randn(6, 5).double()
    condition = torch.randn(3, conditions).double() if conditions else None
    both = None if condition is None else condition.repeat(2, 1)
    chain, judge = Chain.of(generator), Chain.of(critic)
    assert chain is not None
    assert judge is not None

    def weigh(fakes: Tensor, scores: Scores) -> tuple[Tensor, Tensor]:
        assert scores.features is not None
        loss = scores.score.exp().sum() + scores.features.sin().sum() + fakes.pow(3).sum()
        return loss, loss.detach()

    got, _ = chain.differentiate_under(judge, latent, condition, weigh)
    fakes = generator(latent) if both is None else generator(latent, both)
    loss, _ = weigh(fakes, bind_critic(critic, condition)(fakes))
    right = torch.autograd.grad(loss, chain.parameters)
    assert all(g.abs().max() > 1e-3 for g in right)
    for one, other in zip(got, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_a_chain_held_fixed_differentiates_its_values(case: str) -> None:
    critic, shapes = made(case)
    values = torch.randn(6, *shapes.shape).double().requires_grad_()
    condition = torch.randn(3, shapes.condition).double() if shapes.condition else None
    chain = Chain.of(critic)
    assert chain is not None
    found = []
    for scores in (
        chain.judge(values, None, condition, fixed=True)[0],
        bind_critic(critic, condition)(values),
    ):
        assert scores.features is not None
        loss = scores.score.square().sum() + scores.features.sin().sum()
        found.append(torch.autograd.grad(loss, values)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


def test_a_generator_that_is_a_chain() -> None:
    shapes = Shapes((1, 4, 4), 3, condition=2, bounded=True)
    generator = make_generator("mlp", NetworkSpec(6, 2), shapes, 0).double()
    latent, condition = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    chain = Chain.of(generator)
    assert chain is not None
    fakes, expected = chain.generate(latent, condition), generator(latent, condition)
    torch.testing.assert_close(fakes, expected, rtol=1e-12, atol=1e-12)
    for got, right in zip(
        gradients(fakes.exp().sum(), generator),
        gradients(expected.exp().sum(), generator),
        strict=True,
    ):
        torch.testing.assert_close(got, right, rtol=1e-10, atol=1e-10)


def test_what_is_no_chain() -> None:
    shapes = Shapes((2, 8, 8))
    assert Chain.of(nn.Linear(2, 1)) is None
    assert Chain.of(make_critic("mlp", NetworkSpec(4, 2, "layer"), shapes, 0)) is None
    assert Chain.of(make_critic("mlp", NetworkSpec(4, 2, dropout=0.5), shapes, 0)) is None
    pictures = Shapes((2, 16, 16))
    assert Chain.of(make_critic("dcgan", NetworkSpec(4, norm="batch"), pictures, 0)) is None
    assert Chain.of(make_critic("autoencoder", NetworkSpec(4), shapes, 0)) is None
    critic = make_critic("dcgan", NetworkSpec(4), shapes, 0)
    chain = Chain.of(critic)
    assert chain is not None
    assert chain.free
    with critic.register_forward_hook(lambda *seen: None):
        assert not chain.free


@pytest.mark.parametrize("case", ["mlp", "dcgan", "dcgan, features and condition"])
def test_a_chain_in_half_precision_is_close(case: str) -> None:
    critic, shapes = made(case)
    critic.float()
    torch.manual_seed(1)
    values, points = (torch.randn(n, *shapes.shape) for n in (6, 3))
    condition = torch.randn(3, shapes.condition) if shapes.condition else None
    chain = Chain.of(critic)
    assert chain is not None
    found, all_gradients = [], []
    for half in (False, True):
        scores, slope = chain.judge(values, points, condition, half=half)
        assert scores.score.dtype == slope.dtype == torch.float32
        found.append((scores.score, slope))
        loss = scores.score.sum() + slope.flatten(1).norm(dim=1).sum()
        all_gradients.append(gradients(loss, critic))
    for exact, rough in (*zip(*found, strict=True), *zip(*all_gradients, strict=True)):
        assert rough.dtype == torch.float32
        error = (rough - exact).norm() / exact.norm().clamp_min(1e-6)
        assert error < 0.1  # units near 0 change their sign
    assert not torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_samples_are_the_generators(network: str) -> None:
    shapes = Shapes((1, 8, 8), 3, bounded=True)
    norm = "none" if network == "mlp" else "batch"
    generator = make_generator(network, NetworkSpec(6, 2, norm), shapes, 0)
    assert (Chain.of(generator) is not None) == (network == "mlp")
    latent = torch.randn(300, 3)  # more than are generated at a time
    samples = synthesize(generator, latent, None, latent)
    assert generator.training
    torch.testing.assert_close(samples, generator.eval()(latent).detach(), rtol=1e-5, atol=1e-6)
