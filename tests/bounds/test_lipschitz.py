from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from wgan.bounds import empirical_slope, rules
from wgan.bounds.lipschitz import certify, float64_copy
from wgan.constraints import Orthogonal
from wgan.errors import UserError
from wgan.layers import Dropout, GroupSort, PixelNorm, orthogonalise, spectral_normalise
from wgan.networks import NetworkSpec, Shapes, make_critic
from wgan.types import Scores

Function = Callable[[Tensor], Tensor]
Shape = tuple[int, ...]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


class Length(nn.Module):
    """``|f(x)|``: as steep as f is."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.function(values).flatten(1).norm(dim=1)
        return out


class Calling(nn.Module):
    """A dense layer, and any forward."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Any], size: int = 4) -> None:
        super().__init__()
        self.line = nn.Linear(size, 1)
        self.call = forward

    def forward(self, values: Tensor) -> Any:
        return self.call(self.line, values)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def jacobian_norm(function: Function, shape: Shape) -> float:
    """The largest norm of the explicit Jacobian at some random points."""
    if isinstance(function, nn.Module):
        function = deepcopy(function).double().requires_grad_(False)
    largest = 0.0
    for _ in range(4):
        point = random(1, *shape)
        jacobian = torch.func.jacrev(lambda x: function(x).flatten())(point)
        matrix = jacobian.reshape(-1, point.numel())
        largest = max(largest, float(torch.linalg.matrix_norm(matrix, 2)))
    return largest


def spectral(layer: Any) -> float:
    return float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))


# Whole critics


def test_a_dense_layer_of_known_norm() -> None:
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0]]))
    certificate = certify(layer, (2,))
    assert certificate.constant == pytest.approx(5, rel=1e-12)
    assert certificate.constant >= 5
    ((name, bound),) = certificate.layers
    assert name == "Linear"
    assert bound == pytest.approx(5, rel=1e-12)
    assert "exceeds 5" in certificate.explain()
    assert "`Linear` 5" in certificate.explain()


def test_a_chain_multiplies_and_names_its_steps() -> None:
    a, b = nn.Linear(5, 7), nn.Linear(7, 1)
    certificate = certify(nn.Sequential(a, nn.Sigmoid(), nn.Sequential(b)), (5,))
    assert [name for name, _ in certificate.layers] == ["0", "1", "2.0"]
    assert [bound for _, bound in certificate.layers] == [
        pytest.approx(spectral(a)),
        0.25,
        pytest.approx(spectral(b)),
    ]
    product = math.prod(bound for _, bound in certificate.layers)
    assert certificate.constant == pytest.approx(product * (1 + certificate.margin), rel=1e-14)
    assert 0 < certificate.margin < 1e-12


def test_branches_add_and_joints_take_the_root_of_squares() -> None:
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    residual = certify(Length(lambda x: x + 2 * a(x)), (4,)).constant
    assert residual == pytest.approx(1 + 2 * spectral(a))
    difference = certify(Length(lambda x: torch.sub(a(x), b(x), alpha=3)), (4,)).constant
    assert difference == pytest.approx(spectral(a) + 3 * spectral(b))
    joined = certify(Length(lambda x: torch.cat([a(x), b(x), torch.ones(len(x), 2)], 1)), (4,))
    assert joined.constant == pytest.approx(math.hypot(spectral(a), spectral(b)))
    stacked = certify(Length(lambda x: torch.stack([a(x), b(x)], 2)), (4,)).constant
    assert stacked == pytest.approx(math.hypot(spectral(a), spectral(b)))
    larger = certify(Length(lambda x: torch.maximum(a(x), b(x))), (4,)).constant
    assert larger == pytest.approx(math.hypot(spectral(a), spectral(b)))


def test_a_residual_critic_in_the_usual_style() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
            )

        def forward(self, values: Tensor) -> Tensor:
            out = self.body(values)
            out += values
            return F.avg_pool2d(out, 2)

    critic = nn.Sequential(
        nn.Conv2d(1, 4, 1), Block(), Block(), nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0)
    )
    # `nn.Flatten(0)` would read [batch, 1] as [batch]; any other way to [batch] is as good.
    constant = certify(critic, (1, 8, 8)).constant
    x, y = torch.randn(2, 16, 1, 8, 8)
    assert 0 < empirical_slope(critic, x, y, steps=10) <= constant


def test_a_critic_that_ignores_its_sample_is_flat() -> None:
    certificate = certify(Calling(lambda line, x: torch.ones(len(x))), (4,))
    assert certificate.constant == 0
    assert certificate.layers == ()
    assert "exceeds 0" in certificate.explain()


@pytest.mark.parametrize("condition", [0, 2])
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        ("mlp", (3,)),
        ("mlp", (1, 4, 4)),
        ("dcgan", (2, 16)),
        ("dcgan", (3, 17, 12)),
        ("dcgan-constant", (1, 8, 8, 8)),
        ("autoencoder", (1, 16, 16)),
    ],
)
def test_every_critic_of_the_package(network: str, shape: Shape, norm: str, condition: int) -> None:
    critic = make_critic(
        network, NetworkSpec(4, 2, norm, dropout=0.1), Shapes(shape, 4, condition), 0, features=3
    )
    given_ = torch.randn(3, condition) if condition else None
    constant = certify(critic, shape, given_).constant
    x, y = torch.randn(2, 8, *shape)
    rows = None if given_ is None else given_[torch.arange(8) % 3]
    slope = empirical_slope(critic, x, y, condition=rows, steps=5)
    assert 0 < slope <= constant < 1e4


def test_a_condition_is_constant() -> None:
    class Conditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(5, 1)

        def forward(self, values: Tensor, condition: Tensor) -> Scores:
            scaled = values * condition[:, :1]
            return Scores(self.line(torch.cat([scaled, condition], 1)))

    critic = Conditional()
    norm = spectral(critic.line)
    condition = torch.tensor([[1.0, 9.0], [-3.0, 1e3]])
    assert certify(critic, (3,), condition).constant == pytest.approx(3 * norm)
    assert certify(critic, (3,), condition[0]).constant == pytest.approx(norm)
    with pytest.raises(UserError, match=r"`condition` must be \[k\] or \[n, k\]"):
        certify(critic, (3,), torch.ones(1, 1, 2))


# Single steps against the explicit Jacobian

S1, S2, S3 = (3, 11), (2, 9, 8), (2, 5, 6, 4)

TIGHT: dict[str, tuple[Function, Shape]] = {
    "average": (lambda x: F.avg_pool2d(x, 3, 2, 1), S2),
    "average, overlapping": (lambda x: F.avg_pool2d(x, 3, 1), S2),
    "average, real entries": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), S2),
    "average, ceil": (lambda x: F.avg_pool2d(x, 3, (3, 2), ceil_mode=True), S2),
    "average, divisor": (lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=2), S2),
    "average, 1d": (lambda x: F.avg_pool1d(x, 4, 3, 2), S1),
    "average, 3d": (lambda x: F.avg_pool3d(x, 2, 1), S3),
    "adaptive average": (lambda x: F.adaptive_avg_pool2d(x, (4, None)), S2),
    "global average": (lambda x: F.adaptive_avg_pool2d(x, 1), S2),
    "max": (lambda x: F.max_pool2d(x, 2), S2),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), S2),
    "nearest, uneven": (lambda x: F.interpolate(x, size=(13, 5)), S2),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), S2),
    "corners": (lambda x: F.interpolate(x, (5, 17), mode="bilinear", align_corners=True), S2),
    "trilinear": (lambda x: F.interpolate(x, scale_factor=(1.5, 2, 0.5), mode="trilinear"), S3),
    "area": (lambda x: F.interpolate(x, size=(4, 3), mode="area"), S2),
    "reflection": (lambda x: F.pad(x, (2, 1, 1, 0), mode="reflect"), S2),
    "circular padding": (lambda x: F.pad(x, (2, 1, 3, 0), mode="circular"), S2),
    "padding and crop": (lambda x: F.pad(x, (2, -1, 3, 0), value=7.0), S2),
    "unshuffle": (lambda x: F.pixel_unshuffle(x[:, :, 1:], 2), S2),
    "unfold": (lambda x: F.unfold(x, 3, padding=1), S2),
    "permute": (lambda x: x.permute(0, 3, 1, 2).flip(2).roll(1, 3).reshape(len(x), -1), S2),
    "index": (lambda x: x[:, [0, 0, 1], 2:], S2),
    "narrow": (lambda x: x.narrow(2, 1, 3).squeeze(1), S2),
    "repeat": (lambda x: x.repeat(1, 2, 1, 3), S2),
    "expand": (lambda x: x[:, :, :, None].expand(-1, -1, -1, 5, -1), S2),
    "sum": (lambda x: x.sum((2, 3)), S2),
    "mean": (lambda x: x.mean([1, 3], keepdim=True), S2),
    "Euclidean norm": (lambda x: x.norm(dim=1), S2),
    "1-norm": (lambda x: torch.linalg.vector_norm(x, 1, dim=1), S2),
    "maximum along": (lambda x: x.max(2).values, S2),
    "amin": (lambda x: x.amin((1, 2)), S2),
    "sort": (lambda x: x.sort(2, descending=True).values, S2),
    "topk": (lambda x: x.topk(2, 2)[0], S2),
    "scale": (lambda x: x * torch.arange(8.0, dtype=torch.float64), S2),
    "scale, broadcast": (lambda x: x[:, :, :1] * torch.ones(3, 8, dtype=torch.float64), S2),
    "add, broadcast": (lambda x: x[:, :1] + torch.zeros(4, 1, 1, dtype=torch.float64), S2),
    "divide": (lambda x: 1 - x / torch.tensor([[2.0], [-4.0]]).view(2, 1, 1), S2),
    "difference": (lambda x: torch.sub(x, -x, alpha=3), S2),
    "matrix": (lambda x: x @ torch.ones(8, 3, dtype=torch.float64), S2),
    "matrix from the left": (lambda x: torch.ones(4, 9, dtype=torch.float64) @ x, S2),
    "vector": (lambda x: x @ torch.arange(8.0, dtype=torch.float64), S2),
}


@pytest.mark.parametrize("name", TIGHT)
def test_a_step_has_the_norm_of_its_explicit_matrix(name: str) -> None:
    function, shape = TIGHT[name]
    norm = jacobian_norm(function, shape)
    constant = certify(Length(function), shape).constant
    assert norm * (1 - 1e-12) <= constant <= norm * (1 + 1e-9)


LOOSE: dict[str, tuple[Function, Shape]] = {
    "max, overlapping": (lambda x: F.max_pool2d(x, 3, 2, 1), S2),
    "max, dilated": (lambda x: F.max_pool2d(x, 2, 2, 1, dilation=2, ceil_mode=True), S2),
    "max, adaptive": (lambda x: F.adaptive_max_pool2d(x, (4, 3)), S2),
    "halves": (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), S2),
    "MaxMin": (lambda x: torch.maximum(*x.chunk(2, 1)) + torch.minimum(*x.chunk(2, 1)), S2),
    "soft maximum": (lambda x: x.logsumexp((1, 2)), S2),
    "difference from itself": (lambda x: torch.rsub(x, x / 2), S2),
}


@pytest.mark.parametrize("name", LOOSE)
def test_a_relaxed_step_is_above_it(name: str) -> None:
    function, shape = LOOSE[name]
    norm = jacobian_norm(function, shape)
    assert norm * (1 - 1e-12) <= certify(Length(function), shape).constant <= 4 * norm


def test_max_pooling_is_as_steep_as_one_entry_in_all_its_windows() -> None:
    constant = certify(Length(lambda x: F.max_pool2d(x, 3, 2)), (1, 7, 7)).constant
    peak = torch.zeros(1, 1, 7, 7)
    peak[0, 0, 2, 2] = 1
    assert constant == pytest.approx(float(F.max_pool2d(peak, 3, 2).norm()))


def test_a_long_axis_is_pooled_without_its_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    critic = Length(lambda x: F.avg_pool1d(F.interpolate(x, scale_factor=2.0), 3, 2))
    explicit = certify(critic, (1, 40)).constant
    monkeypatch.setattr(rules, "_LONGEST", 0)
    assert explicit <= certify(critic, (1, 40)).constant <= 1.2 * explicit


CONVOLUTIONS: list[tuple[Any, Shape]] = [
    (nn.Conv1d(3, 4, 5, stride=2, padding=2, dilation=2), (3, 30)),
    (nn.Conv2d(2, 4, 4, stride=2, padding=1), (2, 12, 11)),
    (nn.Conv2d(2, 3, 3, padding="same"), (2, 9, 9)),
    (nn.Conv2d(4, 2, 3, stride=(2, 1), groups=2), (4, 10, 9)),
    (nn.Conv2d(3, 2, 1, stride=2), (3, 5, 5)),
    (nn.Conv3d(1, 2, 3, padding=1), (1, 6, 5, 6)),
    (nn.ConvTranspose1d(2, 4, 3, stride=2, groups=2), (2, 12)),
    (nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (3, 6, 7)),
    (nn.ConvTranspose2d(2, 2, 3, stride=2, dilation=2, output_padding=1), (2, 8, 8)),
]


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS)
def test_convolutions_against_the_explicit_matrix(
    layer: Any, shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.reset_parameters()  # by the test's own seed
    norm = jacobian_norm(layer, shape)
    assert certify(Length(layer), shape).constant == pytest.approx(norm, rel=1e-10)
    monkeypatch.setattr(rules, "_EXPLICIT", 0)
    assert norm <= certify(Length(layer), shape).constant <= 1.5 * norm


def test_a_convolution_to_one_number_has_the_length_of_its_kernel() -> None:
    layer = nn.Conv2d(64, 1, 8)
    constant = certify(nn.Sequential(layer, nn.Flatten()), (64, 8, 8)).constant
    assert constant == pytest.approx(float(layer.weight.detach().double().norm()))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
def test_convolutions_that_repeat_samples(mode: Any, stride: int) -> None:
    layer = nn.Conv2d(2, 3, 3, stride=stride, padding=1, padding_mode=mode)
    norm = jacobian_norm(layer, (2, 6, 6))
    constant = certify(Length(layer), (2, 6, 6)).constant
    on_the_torus = mode == "circular" and stride == 1
    assert norm <= constant <= (1.01 if on_the_torus else 3) * norm


def test_batch_norm_is_an_affine_map_in_eval_mode() -> None:
    norm = nn.BatchNorm1d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -8.0, 2.0]))
        norm.running_var.copy_(torch.tensor([0.01, 4.0, 1.0]))  # type: ignore[union-attr]
    state = deepcopy(norm.state_dict())
    constant = certify(Length(norm), (3,)).constant
    assert constant == pytest.approx(1 / math.sqrt(0.01 + norm.eps), rel=1e-6)
    assert norm.training
    assert all(torch.equal(value, state[name]) for name, value in norm.state_dict().items())
    tracked = nn.InstanceNorm2d(2, track_running_stats=True)
    assert certify(Length(tracked), (2, 3, 3)).constant == pytest.approx(1, rel=1e-4)


ACTIVATIONS: list[nn.Module] = [
    *(nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.LeakyReLU(-1.5), nn.PReLU(init=2.0)),
    *(nn.RReLU(), nn.Tanh(), nn.Sigmoid(), nn.LogSigmoid(), nn.Softplus(), nn.Softplus(3.0)),
    *(nn.ELU(), nn.ELU(2.0), nn.SELU(), nn.CELU(0.5), nn.GELU(), nn.GELU("tanh"), nn.SiLU()),
    *(nn.Mish(), nn.Hardswish(), nn.Hardtanh(-2, 2), nn.Hardsigmoid(), nn.Softsign()),
    *(nn.Tanhshrink(), nn.Softshrink(), nn.Threshold(0.3, 0.3), nn.Dropout(), Dropout()),
]


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
def test_activations_have_their_largest_slope(layer: nn.Module) -> None:
    grid = torch.linspace(-12, 12, 1_200_001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        values = deepcopy(layer).double().eval()(grid)
    steepest = float((values.diff(dim=0) / grid.diff(dim=0)).abs().max())
    assert steepest - 1e-9 <= certify(layer, (1,)).constant <= steepest * (1 + 1e-4)


@pytest.mark.parametrize("size", [2, 3, None])
def test_group_sort(size: int | None) -> None:
    assert certify(Length(GroupSort(size)), (7, 2)).constant == pytest.approx(1, abs=1e-12)


# Weights that are computed


def test_spectral_and_orthogonal_critics() -> None:
    shapes, spec = Shapes((3, 8, 8)), NetworkSpec(4, 2)
    for network in ("mlp", "dcgan"):
        critic = Orthogonal().prepare(make_critic(network, spec, shapes, 0))
        assert certify(critic, (3, 8, 8)).constant == pytest.approx(1, abs=1e-5)
        critic = spectral_normalise(make_critic(network, spec, shapes, 0), "operator")
        for _ in range(100):
            critic(torch.randn(2, 3, 8, 8))
        assert certify(critic, (3, 8, 8)).constant <= 1 + 1e-3
    # One power iteration is no certificate: the norm is above 1, and the bound says so.
    layer = nn.Linear(64, 64)
    normalised = parametrizations.spectral_norm(layer, n_power_iterations=1)
    constant = certify(Length(normalised), (64,)).constant
    assert constant == pytest.approx(spectral(normalised.eval()), rel=1e-6)
    assert constant > 1 + 1e-4


def test_the_weight_is_taken_as_it_stands() -> None:
    critic = spectral_normalise(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)))
    assert isinstance(critic, nn.Sequential)
    critic.append(orthogonalise(nn.Linear(1, 1)))
    state = deepcopy(critic.state_dict())
    copy = float64_copy(critic)
    certify(critic, (8,))
    for name, value in critic.state_dict().items():
        assert torch.equal(value, state[name])
    assert critic.training
    assert parametrize.is_parametrized(critic[0])
    assert not any(parametrize.is_parametrized(module) for module in copy.modules())
    values = torch.randn(5, 8)
    torch.testing.assert_close(
        copy(values.double()).float(), critic.eval()(values), rtol=1e-5, atol=1e-6
    )


def test_the_older_hooks_of_torch() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.utils.weight_norm(nn.Linear(4, 1))
    critic = nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 4)), nn.ReLU(), layer)
    critic(torch.randn(2, 4))
    critic.eval()(torch.randn(2, 4))
    expected = spectral(critic[0]) * spectral(layer)
    assert certify(critic, (4,)).constant == pytest.approx(expected, rel=1e-6)


# In place


def test_writing_in_place() -> None:
    def alias(line: nn.Module, x: Tensor) -> Any:
        h = x
        h += x
        h *= 2
        return line(h + x)  # 8 x, for h is x

    critic = Calling(alias)
    assert certify(critic, (4,)).constant == pytest.approx(8 * spectral(critic.line))
    x, y = torch.randn(2, 3, 4)
    slope = empirical_slope(critic, x, y, steps=0)
    assert slope == pytest.approx(8 * spectral(critic.line), rel=1e-6)

    def view(line: nn.Module, x: Tensor) -> Any:
        x.view(-1, 2, 2).mul_(3)
        return line(x)

    with pytest.raises(UserError, match="shares its memory was changed in place"):
        certify(Calling(view), (4,))


# Refusals


def wrapped(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 1))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.LayerNorm(4), r"layer `1` \(LayerNorm\) calls `layer_norm`, which divides a sample"),
        (nn.GroupNorm(2, 4), r"`1` \(GroupNorm\).*use norm `none` or `batch`"),
        (nn.RMSNorm(4), r"`1` \(RMSNorm\)"),
        (PixelNorm(), r"`1` \(PixelNorm\) calls `square`"),
        (nn.BatchNorm1d(4, track_running_stats=False), "also in eval mode.*`track_running_stats"),
        (nn.LSTM(4, 4), r"`1` \(LSTM\) is recurrent"),
        (nn.MultiheadAttention(4, 1), r"`1` \(MultiheadAttention\) is attention"),
        (nn.Softmax(1), "`softmax`, which multiplies two values"),
        (nn.Hardshrink(), "`hardshrink`, which jumps"),
        (nn.Threshold(0.5, 0.0), "no finite bound with these settings"),
        (nn.CELU(-1.0), "no finite bound with these settings"),
        (nn.Softplus(1, 1), "no finite bound with these settings"),
        (nn.CosineSimilarity(), "cannot follow"),
    ],
)
def test_layers_without_a_bound_are_named(layer: nn.Module, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        certify(wrapped(layer), (4,))


def stateful(line: nn.Module, x: Tensor) -> Any:
    try:
        return line(x) if bool(x[0, 0] > 0) else 2 * line(x)
    except Exception:
        return line(x)


REFUSED: dict[str, tuple[Callable[[nn.Module, Tensor], Any], str]] = {
    "branch": (lambda line, x: line(x) if (x > 0).all() else x, "`gt`, which jumps"),
    "branch on bool": (lambda line, x: line(x) if x.norm(dim=1) else x, "`__bool__`, which reads"),
    "read": (lambda line, x: line(x) * x[:, :1].abs().tolist()[0], "`tolist`, which reads"),
    "numpy": (lambda line, x: line(torch.from_numpy(x.numpy())), "`numpy`, which reads"),
    "tensor": (lambda line, x: line(torch.tensor(x)), "`tensor`, which is unknown"),
    "plain": (lambda line, x: line(x.as_subclass(Tensor)), "no function or method of torch"),
    "plain result": (lambda line, x: x[:, 0].as_subclass(Tensor), "no function or method"),
    "caught": (stateful, "__getitem__.*mixes"),
    "product": (lambda line, x: line(x * x), "`mul`, which multiplies two values"),
    "square": (lambda line, x: line(x**2), "`pow`, which has no bound on its slope"),
    "reciprocal": (lambda line, x: line(1 / x), "has no bound on its slope"),
    "normalised": (lambda line, x: line(F.normalize(x)), "`normalize`, which divides a sample"),
    "divided": (lambda line, x: line(x / x.norm(dim=1, keepdim=True)), "`div`, which multiplies"),
    "zero divisor": (lambda line, x: line(x / 0), "no finite bound"),
    "positions": (lambda line, x: line(x) + x.max(1, keepdim=True).indices, "positions of a sort"),
    "lookup": (lambda line, x: line(torch.eye(4)[x.long()[:, 0]]), "`long`, which jumps"),
    "batch mean": (lambda line, x: line(x - x.mean(0)), "`mean`, which mixes the samples"),
    "batch product": (lambda line, x: line(x) + line(x).squeeze(1), "`add`, which mixes"),
    "batch reshape": (lambda line, x: line(x.reshape(2 * len(x), 2)), "`reshape`, which mixes"),
    "transposed": (lambda line, x: line(x[:4].mT), "`__getitem__`, which mixes"),
    "batch sort": (lambda line, x: line(x.sort(0).values), "`sort`, which mixes the samples"),
    "batch layer": (lambda line, x: F.linear(x[:, 0], torch.eye(len(x))), "`linear`, which mixes"),
    "batch matrix": (lambda line, x: line(torch.eye(len(x)) @ x), "`matmul`, which mixes"),
    "batch as channels": (
        lambda line, x: line(F.conv1d(x, torch.ones(len(x), len(x), 1))),
        "`conv1d`, which mixes",
    ),
    "batch moments": (
        lambda line, x: line(F.batch_norm(x, torch.zeros(4), torch.ones(4), training=True)),
        "moments from the batch",
    ),
    "own moments": (
        lambda line, x: F.instance_norm(x[:, :, None].expand(-1, -1, 2)).sum((1, 2)),
        "`instance_norm`, which divides a sample",
    ),
    "flipped batch": (lambda line, x: line(x.flip(0)), "`flip`, which mixes the samples"),
    "random": (lambda line, x: line(x * torch.rand(4)), "draws random numbers"),
    "dropout": (lambda line, x: line(F.dropout(x)), "`dropout`, which draws random numbers"),
    "own generator": (
        lambda line, x: line(x + torch.rand(4, generator=torch.Generator())),
        "`rand`, which draws random numbers",
    ),
    "written into": (
        lambda line, x: line(torch.zeros(len(x), 4).copy_(x)),
        "`copy_`, which writes into a tensor",
    ),
    "weights from the sample": (lambda line, x: F.linear(x, x), "`linear`, which multiplies"),
    "unknown": (lambda line, x: line(x.cumsum(1)), "`cumsum`, which is unknown"),
    "unknown setting": (lambda line, x: line(x.sum(1, True, dtype=x.dtype)), "with these argum"),
    "half": (lambda line, x: line(x.half()), "`half`, which jumps"),
    "bicubic": (lambda line, x: F.interpolate(x[..., None], (4, 2), mode="bicubic"), "cannot"),
    "result": (lambda line, x: x, r"must return `Scores`, or one number.*got \(5, 4\)"),
    "no tensor": (lambda line, x: (line(x), x), "got tuple"),
    "shapes": (lambda line, x: line(x[:, :3]), r"cannot follow.*samples of shape \(4,\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_bounded_is_refused(name: str) -> None:
    forward, reason = REFUSED[name]
    with pytest.raises(UserError, match=reason):
        certify(Calling(forward), (4,))


def test_a_subclass_of_a_layer_is_what_its_forward_does() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return 2 * super().forward(input)

    for layer in (Doubled(4, 1), orthogonalise(Doubled(4, 1))):
        assert certify(layer, (4,)).constant == pytest.approx(2 * spectral(layer), rel=1e-6)


def test_a_layer_that_stays_in_training_mode_is_refused() -> None:
    class Stubborn(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> Stubborn:
            return super().train(True)

    with pytest.raises(UserError, match="layer `1` stays in training mode after `eval"):
        certify(wrapped(Stubborn(4)), (4,))


def test_broken_weights_and_shapes_are_refused() -> None:
    critic = wrapped(nn.ReLU())
    with pytest.raises(UserError, match=r"`shape` must be the sizes of one sample.*\(0,\)"):
        certify(critic, (0,))
    with torch.no_grad():
        critic.get_parameter("2.bias").fill_(math.nan)
    with pytest.raises(UserError, match=r"`2\.bias` is not finite"):
        certify(critic, (4,))
