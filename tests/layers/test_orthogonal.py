from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wgan.errors import UserError
from wgan.layers import GroupSort, orthogonalise

Explicit = Callable[[nn.Module, tuple[int, ...]], Tensor]

DENSE = [(5, 5), (8, 3), (3, 8), (1, 9), (9, 1), (7, 6), (64, 64), (128, 40)]
CIRCULAR: list[tuple[type[nn.Module], dict[str, Any], tuple[int, ...]]] = [
    (nn.Conv1d, {"in_channels": 4, "kernel_size": 5, "padding": 2}, (4, 11)),
    (nn.Conv2d, {"in_channels": 3, "kernel_size": 3, "padding": 1}, (3, 6, 5)),
    (nn.Conv2d, {"in_channels": 2, "kernel_size": 3, "padding": 2, "dilation": 2}, (2, 8, 8)),
    (nn.Conv3d, {"in_channels": 2, "kernel_size": 3, "padding": 1}, (2, 4, 3, 3)),
]
ZERO_PADDED: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv1d(1, 1, 3, padding=1), (1, 9)),
    (nn.Conv2d(3, 8, 4, 2, 1), (3, 8, 8)),
    (nn.Conv2d(8, 3, 4, 2, 1), (8, 7, 7)),
    (nn.Conv2d(4, 4, 3, 2, 1), (4, 9, 9)),
    (nn.Conv2d(4, 5, 3, padding=5), (4, 5, 5)),
    (nn.Conv2d(4, 6, 1, stride=2), (4, 6, 6)),
    (nn.Conv2d(2, 3, (3, 5), stride=(1, 2), padding=(1, 0)), (2, 6, 9)),
    (nn.Conv2d(6, 1, 4), (6, 6, 6)),
    (nn.Conv3d(2, 3, 4, 2, 1), (2, 5, 4, 4)),
    (nn.ConvTranspose1d(3, 2, 5, 2, 1, output_padding=1), (3, 8)),
    (nn.ConvTranspose2d(4, 3, 4, 2, 1), (4, 5, 5)),
]


def made(layer: nn.Module, spread: float = 0.5, seed: int = 0) -> nn.Module:
    """An orthogonal copy, away from where it starts."""
    rng = torch.Generator().manual_seed(seed)
    layer = orthogonalise(deepcopy(layer))
    with torch.no_grad():
        for name, free in layer.named_parameters():
            if name.startswith("parametrizations"):
                free.add_(spread * torch.randn(free.shape, generator=rng))
    return layer


def weight_of(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight.detach()


def singular_values(layer: nn.Module) -> Tensor:
    values: Tensor = torch.linalg.svdvals(weight_of(layer).double())
    return values


def parametrization_of(layer: nn.Module) -> nn.Module:
    return layer.get_submodule("parametrizations.weight.0")


@pytest.mark.parametrize("spread", [0.0, 0.5, 10.0, 100.0])
@pytest.mark.parametrize(("outs", "ins"), DENSE)
def test_dense_singular_values_are_one(outs: int, ins: int, spread: float) -> None:
    values = singular_values(made(nn.Linear(ins, outs), spread))
    assert float((values - 1).abs().max()) < 1e-5


def test_dense_starts_at_the_q_factor_of_the_given_weight() -> None:
    for outs, ins in DENSE:
        layer = nn.Linear(ins, outs)
        tall = layer.weight.detach() if outs >= ins else layer.weight.detach().mT
        expected = torch.linalg.qr(tall).Q
        expected = expected if outs >= ins else expected.mT
        torch.testing.assert_close(weight_of(made(layer, 0.0)), expected, atol=1e-5, rtol=0)


def test_dense_follows_cayleys_formula() -> None:
    layer = made(nn.Linear(4, 4))
    free = layer.get_parameter("parametrizations.weight.original").detach().double()
    base = parametrization_of(layer).get_buffer("base").double()
    skew, eye = free - free.mT, torch.eye(4, dtype=torch.float64)
    expected = base @ (eye - skew) @ torch.linalg.inv(eye + skew)
    torch.testing.assert_close(weight_of(layer), expected.float())


@pytest.mark.parametrize(("kind", "fields", "shape"), CIRCULAR)
def test_circular_square_convolutions_have_all_singular_values_one(
    kind: type[nn.Module], fields: dict[str, Any], shape: tuple[int, ...], explicit: Explicit
) -> None:
    layer = made(kind(out_channels=shape[0], padding_mode="circular", **fields))
    values = torch.linalg.svdvals(explicit(layer, shape))
    assert float((values - 1).abs().max()) < 1e-5


@pytest.mark.parametrize(("layer", "shape"), ZERO_PADDED)
def test_any_stride_and_zero_padding_stays_below_one(
    layer: nn.Module, shape: tuple[int, ...], explicit: Explicit
) -> None:
    values = torch.linalg.svdvals(explicit(made(layer), shape))
    assert 0.7 < float(values[0]) <= 1 + 1e-5


def test_a_whole_kernel_is_used() -> None:
    weight = weight_of(made(nn.Conv2d(4, 4, 3, padding=1)))
    assert float(weight.abs().amin()) > 0


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Linear(1, 9), nn.Conv2d(2, 3, 3)])
def test_gradcheck_of_the_weight(layer: nn.Module) -> None:
    layer = made(layer.double())
    parametrization = parametrization_of(layer)
    free = [p for n, p in layer.named_parameters() if n.startswith("parametrizations")]
    assert torch.autograd.gradcheck(lambda *tensors: parametrization(*tensors), free)


def critic() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        orthogonalise(nn.Conv2d(1, 6, 4, 2, 1)),
        GroupSort(),
        orthogonalise(nn.Conv2d(6, 9, 3, padding=1)),
        GroupSort(3),
        nn.Flatten(),
        orthogonalise(nn.Linear(144, 20)),
        GroupSort(None),
        orthogonalise(nn.Linear(20, 1)),
    )


def steepest_slope(network: nn.Module, rng: torch.Generator) -> float:
    """The largest slope over random pairs, and over pairs moved to where it is largest."""
    with torch.no_grad():
        a, b = (torch.randn(64, 1, 8, 8, generator=rng) for _ in range(2))
        rise = (network(a) - network(b)).abs().flatten()
        random = rise / (a - b).flatten(1).norm(dim=1)
    b = a + 1e-2 * (b - a)
    for _ in range(20):
        b = b.detach().requires_grad_(True)
        slope = (network(b) - network(a)).flatten() / (b - a).flatten(1).norm(dim=1)
        (gradient,) = torch.autograd.grad(slope.sum(), b)
        b = b + 0.1 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    with torch.no_grad():
        double = deepcopy(network).double()
        a, b = a.double(), b.detach().double()
        slope = (double(b) - double(a)).flatten() / (b - a).flatten(1).norm(dim=1)
    return max(float(random.max()), float(slope.max()))


def test_slopes_stay_below_one_in_training_and_come_close_to_it(explicit: Explicit) -> None:
    network, rng = critic(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    pattern = torch.randn(1, 1, 8, 8, generator=rng)
    for _ in range(30):
        real = torch.randn(32, 1, 8, 8, generator=rng) + pattern
        fake = torch.randn(32, 1, 8, 8, generator=rng)
        loss = network(fake).mean() - network(real).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for layer, shape in ((network[0], (1, 8, 8)), (network[2], (6, 4, 4))):
        assert float(torch.linalg.matrix_norm(explicit(layer, shape), 2)) <= 1 + 1e-5
    for layer in (network[5], network[7]):
        assert float((singular_values(layer) - 1).abs().max()) < 1e-5
    assert 0.8 < steepest_slope(network, rng) <= 1 + 1e-5


def test_cached_weights_give_the_same_gradients() -> None:
    network = critic()
    values = torch.randn(4, 1, 8, 8)

    def gradients() -> list[Tensor]:
        network.zero_grad()
        (network(values).sum() - 2 * network(values.flip(0)).square().sum()).backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    plain = gradients()
    with parametrize.cached():
        cached = gradients()
    for one, other in zip(plain, cached, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_half_precision_autocast_leaves_the_weight_orthogonal() -> None:
    for layer in (made(nn.Linear(8, 8)), made(nn.Conv2d(2, 3, 3))):
        expected = weight_of(layer)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(weight_of(layer), expected)


def test_state_survives_a_checkpoint_and_a_deep_copy() -> None:
    one, other = critic(), critic()
    with torch.no_grad():
        for p in one.parameters():
            p.add_(0.1)
    other.load_state_dict(one.state_dict())
    values = torch.randn(2, 1, 8, 8)
    assert torch.equal(one(values), other(values))
    assert torch.equal(one(values), deepcopy(one)(values))


def test_a_large_last_layer_stays_small() -> None:
    layer = orthogonalise(nn.Linear(4096, 1))
    assert sum(t.numel() for t in layer.state_dict().values()) < 3 * 4096


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.BatchNorm1d(3), "cannot make BatchNorm1d orthogonal"),
        (nn.Conv2d(4, 4, 3, groups=2), "groups=2"),
        (nn.Conv2d(4, 4, 3, stride=2, dilation=2), "both above 1"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate"), "'replicate'"),
        (orthogonalise(nn.Linear(2, 2)), "parametrised already"),
    ],
)
def test_refusals(layer: nn.Module, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        orthogonalise(layer)
