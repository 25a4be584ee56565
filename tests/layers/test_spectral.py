from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wgan.errors import UserError
from wgan.layers import SpectralMode, SpectralNorm, orthogonalise, spectral_normalise

Explicit = Callable[[nn.Module, tuple[int, ...]], Tensor]

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 9), (6,)),
    "conv1d": (nn.Conv1d(2, 5, 3), (2, 9)),
    "conv2d": (nn.Conv2d(3, 4, 4, 2, 1), (3, 12, 12)),
    "conv3d": (nn.Conv3d(2, 3, 3, padding=1), (2, 7, 7, 7)),
    "transposed1d": (nn.ConvTranspose1d(3, 4, 4, 2), (3, 5)),
    "transposed2d": (nn.ConvTranspose2d(3, 4, 4, 2, 1), (3, 6, 6)),
    "transposed3d": (nn.ConvTranspose3d(2, 3, 2), (2, 6, 6, 6)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (4, 8, 8)),
}


def plain(name: str) -> nn.Module:
    layer = deepcopy(LAYERS[name][0])
    torch.manual_seed(0)
    layer.reset_parameters()  # type: ignore[operator]
    return layer


def made(name: str, mode: SpectralMode = "reshaped") -> tuple[nn.Module, tuple[int, ...]]:
    return spectral_normalise(plain(name), mode), LAYERS[name][1]


def parts(layer: nn.Module) -> tuple[SpectralNorm, Tensor, Tensor]:
    """The parametrization, the raw weight and the normalised one."""
    holder = layer.get_submodule("parametrizations.weight")
    assert isinstance(holder, parametrize.ParametrizationList)
    parametrization, weight = holder[0], layer.weight
    assert isinstance(parametrization, SpectralNorm)
    assert isinstance(weight, Tensor)
    return parametrization, holder.original, weight


def forwards(layer: nn.Module, inputs: Tensor, count: int) -> None:
    with torch.no_grad():
        for _ in range(count):
            layer(inputs)


@pytest.mark.parametrize("name", LAYERS)
def test_reshaped_kernel_has_norm_one(name: str) -> None:
    weight = plain(name).weight
    assert isinstance(weight, Tensor)
    layer, shape = made(name)
    forwards(layer, torch.zeros(1, *shape), 200)
    out_first = weight.transpose(0, 1) if "transposed" in name else weight
    sigma = torch.linalg.matrix_norm(out_first.detach().flatten(1), 2)
    torch.testing.assert_close(layer.weight, weight / sigma, rtol=1e-4, atol=1e-6)


def test_embedding() -> None:
    layer = spectral_normalise(nn.Embedding(7, 4))
    forwards(layer, torch.zeros(2, dtype=torch.long), 200)
    assert isinstance(layer.weight, Tensor)
    assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_operator_mode_against_the_explicit_matrix(name: str, explicit: Explicit) -> None:
    layer, shape = made(name, "operator")
    forwards(layer, torch.zeros(1, *shape), 300)
    norm = float(torch.linalg.matrix_norm(explicit(layer, shape), 2))
    assert 0.75 < norm <= 1 + 1e-4  # below 1: the picture is small, and 1.04 per axis for the grid


def test_operator_mode_covers_what_lies_between_its_frequencies(explicit: Explicit) -> None:
    layer = nn.Conv1d(2, 2, 2)
    angle = torch.tensor(torch.pi / 8)  # the norm |I + e^{iw} R| peaks at w = angle, off the grid
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.eye(2), turn], 2))
    spectral_normalise(layer, "operator")
    forwards(layer, torch.zeros(1, 2, 4), 50)
    assert 0.97 < float(torch.linalg.matrix_norm(explicit(layer, (2, 80)), 2)) <= 1


def test_reshaped_mode_does_not_bound_a_convolution(explicit: Explicit) -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    spectral_normalise(layer)
    assert float(torch.linalg.matrix_norm(explicit(layer, (1, 12, 12)), 2)) > 2.5


def test_one_iteration_for_each_training_forward_and_none_for_reading() -> None:
    layer, _ = made("linear")
    parametrization, raw, _ = parts(layer)
    original, u = raw.detach(), parametrization.u.clone()
    v = torch.nn.functional.normalize(u @ original)
    expected = torch.nn.functional.normalize(v @ original.mT)
    _ = layer.weight, layer.weight
    layer(torch.zeros(1, 6))
    torch.testing.assert_close(parametrization.u, expected)
    layer.eval()
    before = deepcopy(layer.state_dict())
    layer(torch.zeros(1, 6))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_no_gradient_flows_through_u_and_v() -> None:
    layer, _ = made("linear")
    layer.double().eval()
    parametrization, original, weight = parts(layer)
    cotangent = torch.randn(9, 6, dtype=torch.float64)
    (actual,) = torch.autograd.grad(weight, original, cotangent)
    u, v = parametrization.u, parametrization.v
    sigma = (u @ original.detach() @ v.mT).item()
    inner = (cotangent * original.detach()).sum()
    expected = cotangent / sigma - inner / sigma**2 * u.mT @ v  # Miyato et al. 2018, equation 10
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("mode", ["reshaped", "operator"])
def test_several_forwards_before_one_backward(mode: SpectralMode) -> None:
    layer, shape = made("conv2d", mode)
    inputs = torch.randn(2, *shape)
    gradients = []
    for together in (True, False):
        copy = deepcopy(layer)
        total = torch.zeros(())
        for sign in (1.0, -2.0):
            loss = sign * copy(inputs).square().sum()
            total = total + loss
            if not together:
                torch.autograd.backward(loss)
        if together:
            torch.autograd.backward(total)
        gradients.append([p.grad for p in copy.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_checkpoint_holds_the_iteration() -> None:
    one, shape = made("conv2d")
    forwards(one, torch.zeros(1, *shape), 3)
    with torch.no_grad():
        parts(one)[1].mul_(2).add_(0.1)
    other, _ = made("conv2d")
    other.load_state_dict(one.state_dict())
    inputs = torch.randn(2, *shape)
    for _ in range(2):
        assert torch.equal(one(inputs), other(inputs))


def test_equal_networks_stay_equal_and_the_global_generator_is_left_alone() -> None:
    one, other = plain("linear"), plain("linear")
    before = torch.random.get_rng_state()
    spectral_normalise(one)
    spectral_normalise(other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(parts(one)[2], parts(other)[2])


def test_a_running_average_of_the_vectors_does_no_harm() -> None:
    layer, _ = made("linear")
    parametrization, _, expected = parts(layer)
    parametrization.u.mul_(0.3)
    torch.testing.assert_close(parts(layer)[2], expected)


def test_a_weight_born_zero_stays_finite_and_can_grow() -> None:
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    spectral_normalise(layer)
    assert torch.equal(layer(torch.ones(1, 3)), layer.bias.expand(1, 2))
    with torch.no_grad():
        parts(layer)[1].copy_(torch.randn(2, 3))
    forwards(layer, torch.zeros(1, 3), 100)
    assert float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) == pytest.approx(1, abs=1e-3)


def test_gradcheck_of_a_network() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 1)).double()
    spectral_normalise(network, "operator").eval()
    inputs = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, inputs)
    assert torch.autograd.gradgradcheck(network, inputs)


def test_half_precision_autocast_leaves_the_norm_alone() -> None:
    layer, _ = made("linear")
    expected = parts(layer)[2]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(parts(layer)[2], expected)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2)), "`1` \\(LSTM\\)"),
        (nn.Sequential(nn.MultiheadAttention(2, 1)), "`0` \\(MultiheadAttention\\)"),
        (spectral_normalise(nn.Linear(2, 2)), "parametrised weight already"),
        (orthogonalise(nn.Linear(2, 2)), "parametrised weight already"),
        (nn.ReLU(), "found no layer"),
    ],
)
def test_refusals(network: nn.Module, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        spectral_normalise(network)


def test_operator_mode_refuses_reflections_and_unknown_modes() -> None:
    reflecting = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")
    with pytest.raises(UserError, match="'reflect'"):
        spectral_normalise(reflecting, "operator")
    with pytest.raises(UserError, match="Did you mean 'operator'"):
        spectral_normalise(nn.Linear(1, 1), "operater")  # type: ignore[arg-type]
