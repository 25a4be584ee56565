import itertools

import pytest
import torch
from torch import nn

from wgan.bounds import certify
from wgan.errors import UnknownNameError, UserError
from wgan.networks import NORMS, NetworkSpec, Shapes, make_critic, make_generator
from wgan.networks.autoencoder import AutoencodingCritic
from wgan.networks.resnet import Residual

SHAPES = [(1, 8, 8), (3, 28, 28), (3, 100, 60), (1, 24, 24, 25), (2, 64)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("network", ["mlp", "dcgan", "dcgan-constant", "resnet"])
def test_any_shape_norm_and_condition(network: str, shape: tuple[int, ...]) -> None:
    for norm, condition in itertools.product(NORMS, (0, 2)):
        shapes, spec = Shapes(shape, 5, condition, bounded=True), NetworkSpec(4, 2, norm)
        given = torch.randn(3, condition) if condition else None
        samples = make_generator(network, spec, shapes, 0)(torch.randn(3, 5), given)
        assert samples.shape == (3, *shape)
        assert samples.abs().max() <= 1
        scores = make_critic(network, spec, shapes, 0, features=7)(samples, given)
        assert scores.score.shape == (3,)
        assert scores.features.shape == (3, 7)


def test_condition_reaches_both_players() -> None:
    shapes, spec = Shapes((1, 8, 8), 5, 1), NetworkSpec(8, 2)
    latent, values = torch.randn(1, 5), torch.randn(1, 1, 8, 8)
    for network in ("mlp", "dcgan", "resnet"):
        generator = make_generator(network, spec, shapes, 0)
        critic = make_critic(network, spec, shapes, 0)
        low, high = torch.zeros(1, 1), torch.ones(1, 1)
        assert not torch.equal(generator(latent, low), generator(latent, high))
        assert not torch.equal(critic(values, low).score, critic(values, high).score)


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    shapes, spec = Shapes((2,), 4), NetworkSpec(8, 2)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (make_generator("mlp", spec, shapes, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [next(iter(module.parameters())) for module in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_dcgan_has_the_published_layers_at_64() -> None:
    """martinarjovsky/WassersteinGAN: 512, 256, 128, 64 filters, four doublings from 4 x 4."""
    shapes = Shapes((3, 64, 64), 100, bounded=True)
    generator = make_generator("dcgan", NetworkSpec(64, norm="batch"), shapes, 0)
    layers = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [m.in_channels for m in layers] == [512, 256, 128, 64]
    assert [m.out_channels for m in layers] == [256, 128, 64, 3]
    constant = make_critic("dcgan-constant", NetworkSpec(64), shapes, 0)
    assert [m.out_channels for m in constant.modules() if isinstance(m, nn.Conv2d)] == [64] * 4


def test_a_resnet_of_33_blocks_has_101_layers_and_gradients_of_one_size() -> None:
    shapes, spec = Shapes((1, 8, 8), 5), NetworkSpec(6, 33)
    for made in (make_generator("resnet", spec, shapes, 0), make_critic("resnet", spec, shapes, 0)):
        layers = [m for m in made.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        assert len(layers) == 101
    entered: list[torch.Tensor] = []
    for block in made.modules():
        if isinstance(block, Residual):
            block.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    score = made(torch.randn(8, 1, 8, 8)).score
    norms = [float(g.square().sum().sqrt()) for g in torch.autograd.grad(score.sum(), entered)]
    assert len(norms) == 33
    assert max(norms) < 10 * min(norms)


def test_a_resnet_is_certified_without_a_norm_and_refused_with_one() -> None:
    shapes, values = Shapes((2, 8, 6)), torch.randn(4, 2, 8, 6)
    critic = make_critic("resnet", NetworkSpec(4, 2), shapes, 0)
    bound = certify(critic, shapes.shape).constant
    shift = 1e-2 * torch.randn_like(values)
    slopes = (critic(values + shift).score - critic(values).score).abs() / shift.flatten(1).norm(
        dim=1
    )
    assert 0 < slopes.max() <= bound < 1e3
    for norm, reason in (("layer", "group_norm"), ("batch", None)):
        critic = make_critic("resnet", NetworkSpec(4, 2, norm), shapes, 0)
        if reason is None:
            assert certify(critic, shapes.shape).constant > 0
        else:
            with pytest.raises(UserError, match=reason):
                certify(critic, shapes.shape)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="use --network mlp"):
        make_critic("dcgan", NetworkSpec(), Shapes((4,)), 0)
    with pytest.raises(UserError, match="`resnet` needs sides of at least 4"):
        make_generator("resnet", NetworkSpec(), Shapes((1, 3, 3)), 0)
    with pytest.raises(UnknownNameError, match="Did you mean 'dcgan'"):
        make_generator("dcgam", NetworkSpec(), Shapes((1, 8, 8)), 0)
    with pytest.raises(UserError, match="`width` must be >= 1, got 0"):
        NetworkSpec(0)


@pytest.mark.parametrize(("network", "power"), [("autoencoder", 1), ("autoencoder-l2", 2)])
@pytest.mark.parametrize("shape", [(3,), (1, 16, 20)], ids=str)
def test_an_autoencoding_critic_scores_the_error_of_its_own_reconstruction(
    network: str, power: int, shape: tuple[int, ...]
) -> None:
    critic = make_critic(network, NetworkSpec(4, 1), Shapes(shape), 0, features=5)
    assert isinstance(critic, AutoencodingCritic)
    values = torch.randn(6, *shape)
    score, code = critic(values)
    assert code.shape == (6, 5)
    error = (values - critic.decoder(code)).abs().pow(power)
    torch.testing.assert_close(score, error.flatten(1).mean(1))
