"""What holds for every objective: one table, and the shared tests that read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor

from wgan.errors import UserError
from wgan.objectives import (
    OBJECTIVES,
    BoundaryEquilibrium,
    Cramer,
    Energy,
    GaussianMmd,
    Hinge,
    LeastSquares,
    MaxSliced,
    Objective,
    QuadraticCost,
    RationalQuadraticMmd,
    Relativistic,
    Sinkhorn,
    Sliced,
    Standard,
    TwoStep,
    Wasserstein,
)
from wgan.types import Draw, Loss, Scores

N_FEATURES = 3

TABLE: list[Objective] = [
    Wasserstein(),
    Standard(),
    Standard("non-saturating"),
    LeastSquares(),
    LeastSquares(-1, 1, 0),
    Hinge(),
    Relativistic(),
    BoundaryEquilibrium(),
    Cramer(),
    GaussianMmd(),
    RationalQuadraticMmd(),
    Energy(),
    Sliced(p=1, n_directions=7),
    Sliced(p=2, on="features", n_features=N_FEATURES, n_directions=7),
    MaxSliced(p=2, n_directions=4, iterations=200),
    MaxSliced(p=1, on="features", n_features=N_FEATURES, n_directions=4, iterations=5),
    Sinkhorn(blur=0.5, iterations=150),
    Sinkhorn(blur=0.5, p=1, reach=2.0, on="features", iterations=150),
    TwoStep(),
    QuadraticCost(),
]
NEED_PAIRS = {"cramer", "mmd", "mmd-rq", "energy"}
NEED_FEATURES = {"cramer", "mmd", "mmd-rq"}


class Network:
    """A small smooth critic on flattened samples: a score >= 0, and features before it."""

    def __init__(self, dim: int, dtype: torch.dtype) -> None:
        rng = torch.Generator().manual_seed(7)
        self.first = torch.randn(dim, N_FEATURES, generator=rng).to(dtype).requires_grad_()
        self.last = torch.rand(N_FEATURES, generator=rng).to(dtype).requires_grad_()

    @property
    def weights(self) -> list[Tensor]:
        return [self.first, self.last]

    def __call__(self, values: Tensor) -> Scores:
        features = (values.flatten(1) @ self.first).tanh()
        return Scores(features.square() @ self.last, features)


def untouchable(values: Tensor) -> Scores:
    raise AssertionError("this objective has no critic")


Data = tuple[Tensor, list[Tensor]]


def gaussian(objective: Objective, shape: tuple[int, ...], dtype: torch.dtype, n: int = 5) -> Data:
    rng = torch.Generator().manual_seed(3)
    real, *fakes = (
        torch.randn(n, *shape, generator=rng).to(dtype) for _ in range(1 + objective.n_fakes)
    )
    return real, [fake + 1 for fake in fakes]


def constant(objective: Objective) -> Data:
    return torch.ones(4, 2), [torch.ones(4, 2) for _ in range(objective.n_fakes)]


def zeros(objective: Objective) -> Data:
    return torch.zeros(4, 2), [torch.zeros(4, 2) for _ in range(objective.n_fakes)]


def one_hot(objective: Objective) -> Data:
    codes = torch.eye(3)[torch.tensor([[0, 1], [2, 2], [0, 0], [1, 2]])]  # [4, 2, 3]
    return codes, [codes.flip(0).roll(i, 0) for i in range(objective.n_fakes)]


def pair(objective: Objective) -> Data:
    return gaussian(objective, (3, 2, 2), torch.float32, n=2)


def far(objective: Objective) -> Data:
    real, fakes = gaussian(objective, (2,), torch.float32)
    return real, [fake + 1_000 for fake in fakes]


def drawn(objective: Objective, real: Tensor) -> Draw:
    return objective.draw(torch.Generator().manual_seed(5), tuple(real.shape)).to(real)


def losses(
    objective: Objective, network: Network, real: Tensor, fakes: Sequence[Tensor]
) -> dict[str, tuple[Loss, Mapping[str, Tensor]]]:
    draw, state = drawn(objective, real), objective.init()
    critic = network if objective.uses_critic else untouchable
    found = {"generator": objective.generator_loss(critic, real, fakes, draw, state, 1)}
    if objective.uses_critic:
        detached = [fake.detach() for fake in fakes]
        found["critic"] = objective.critic_loss(critic, real, detached, draw, state, 1)
    return found


def network_for(real: Tensor) -> Network:
    return Network(real[0].numel(), real.dtype)


def test_the_table_has_every_objective() -> None:
    assert {objective.name for objective in TABLE} == set(OBJECTIVES)
    assert all(OBJECTIVES[objective.name] is type(objective) for objective in TABLE)


every = pytest.mark.parametrize("objective", TABLE, ids=str)


@every
@pytest.mark.parametrize("make", [constant, zeros, one_hot, pair, far])
def test_finite_on_awkward_batches(objective: Objective, make: Callable[[Objective], Data]) -> None:
    real, fakes = make(objective)
    fakes = [fake.requires_grad_() for fake in fakes]
    network = network_for(real)
    for side, (loss, _) in losses(objective, network, real, fakes).items():
        inputs = fakes if side == "generator" else network.weights
        gradients = torch.autograd.grad(loss.value, inputs, allow_unused=True)
        assert loss.value.shape == ()
        assert loss.value.dtype == torch.float32
        for tensor in (loss.value, *loss.terms.values(), *(g for g in gradients if g is not None)):
            assert torch.isfinite(tensor).all(), (side, loss)


@every
def test_gradients_reach_every_fake(objective: Objective) -> None:
    real, fakes = gaussian(objective, (2, 3), torch.float64)
    fakes = [fake.requires_grad_() for fake in fakes]
    loss, _ = losses(objective, network_for(real), real, fakes)["generator"]
    for gradient in torch.autograd.grad(loss.value, fakes):
        assert (gradient.flatten(1).norm(dim=1) > 0).all()


@every
def test_terms_are_detached_scalars_and_hold_the_estimate(objective: Objective) -> None:
    real, fakes = gaussian(objective, (2,), torch.float64)
    found = losses(objective, network_for(real), real, [fake.requires_grad_() for fake in fakes])
    terms = {name: term for loss, _ in found.values() for name, term in loss.terms.items()}
    for term in terms.values():
        assert term.shape == ()
        assert not term.requires_grad
    assert objective.estimate is not None
    assert objective.estimate in terms
    assert objective.meaning != Objective.meaning


@every
def test_same_in_same_out_and_nothing_is_changed(objective: Objective) -> None:
    real, fakes = gaussian(objective, (2,), torch.float32)
    network, copies = network_for(real), [real.clone(), *(fake.clone() for fake in fakes)]
    first = losses(objective, network, real, fakes)
    torch.manual_seed(1)  # the global generator has no say
    second = losses(objective, network, real, fakes)
    for side, (loss, state) in first.items():
        again, state_again = second[side]
        assert loss.value.item() == again.value.item()
        assert {k: v.item() for k, v in loss.terms.items()} == {
            k: v.item() for k, v in again.terms.items()
        }
        assert state.keys() == state_again.keys() == objective.init().keys()
    for before, after in zip(copies, [real, *fakes], strict=True):
        assert torch.equal(before, after)


@every
def test_rank_does_not_matter(objective: Objective) -> None:
    flat, flat_fakes = gaussian(objective, (12,), torch.float64)
    network = network_for(flat)
    images = losses(
        objective, network, flat.view(-1, 3, 2, 2), [fake.view(-1, 3, 2, 2) for fake in flat_fakes]
    )
    for side, (loss, _) in losses(objective, network, flat, flat_fakes).items():
        assert loss.value.item() == pytest.approx(images[side][0].value.item(), abs=1e-12)


@every
def test_single_and_double_precision_agree(objective: Objective) -> None:
    real, fakes = gaussian(objective, (2,), torch.float64)
    single = losses(objective, network_for(real.float()), real.float(), [f.float() for f in fakes])
    for side, (loss, _) in losses(objective, network_for(real), real, fakes).items():
        assert loss.value.dtype == torch.float64
        assert single[side][0].value.item() == pytest.approx(loss.value.item(), rel=1e-4, abs=1e-5)


@every
def test_gradcheck(objective: Objective) -> None:
    real, fakes = gaussian(objective, (2,), torch.float64, n=4)
    if objective.name == "mmd":  # clipped at 0, with a kink, where samples are near
        fakes = [fake + 3 for fake in fakes]
    network, draw, state = network_for(real), drawn(objective, real), objective.init()
    # The gradient of a maximum along its argument is as good as the ascent that found it.
    tolerance = 1e-3 if objective.name == "max-sliced" else 1e-6

    def generator(*fakes: Tensor) -> Tensor:
        return objective.generator_loss(network, real, fakes, draw, state, 1)[0].value

    def critic(first: Tensor, last: Tensor) -> Tensor:
        moved = Network(2, torch.float64)
        moved.first, moved.last = first, last
        return objective.critic_loss(moved, real, fakes, draw, state, 1)[0].value

    inputs = [fake.clone().requires_grad_() for fake in fakes]
    assert torch.autograd.gradcheck(generator, inputs, atol=tolerance)
    if objective.uses_critic:
        assert torch.autograd.gradcheck(critic, network.weights, atol=tolerance)


@every
def test_witness_can_be_penalised(objective: Objective) -> None:
    real, fakes = gaussian(objective, (2, 2), torch.float64)
    network = network_for(real)
    witness = objective.witness(network, real, fakes, drawn(objective, real))
    points = torch.lerp(real, fakes[0], 0.3).requires_grad_()
    score = witness(points).score
    assert score.shape == (5,)
    (slope,) = torch.autograd.grad(score.sum(), points, create_graph=True)
    (gradient,) = torch.autograd.grad(slope.square().sum(), network.first)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    assert torch.autograd.gradgradcheck(lambda points: witness(points).score.sum(), points)
    # one sample's score is its own: the rest of the batch of points does not enter
    assert torch.allclose(witness(points[:2]).score, score[:2], rtol=0, atol=1e-12)


@every
def test_a_batch_of_one_is_used_or_refused(objective: Objective) -> None:
    real, fakes = gaussian(objective, (2,), torch.float64, n=1)
    network = network_for(real)
    if objective.name in NEED_PAIRS:
        with pytest.raises(UserError, match=f"`{objective.name}`.*at least 2, got 1"):
            losses(objective, network, real, fakes)
        return
    for loss, _ in losses(objective, network, real, fakes).values():
        assert torch.isfinite(loss.value)


@pytest.mark.parametrize(
    "objective",
    [o for o in TABLE if o.name in NEED_FEATURES or getattr(o, "on", None) == "features"],
    ids=str,
)
def test_missing_features_are_named(objective: Objective) -> None:
    real, fakes = gaussian(objective, (2,), torch.float64)
    with pytest.raises(UserError, match=f"`{objective.name}` compares critic features"):
        objective.generator_loss(
            lambda values: Scores(values.sum(1)), real, fakes, drawn(objective, real), {}, 1
        )


@pytest.mark.parametrize(
    "objective",
    [o for o in TABLE if o.name in {"sliced", "max-sliced", "sinkhorn", "two-step"}],
    ids=str,
)
def test_equal_samples_are_at_distance_zero(objective: Objective) -> None:
    real, _ = gaussian(objective, (2,), torch.float64)
    fake = real.flip(0)
    found = losses(objective, network_for(real), real, [fake])
    side = "critic" if objective.name == "two-step" else "generator"
    key = "transport_cost" if objective.name == "two-step" else objective.estimate
    assert key is not None
    assert found[side][0].terms[key].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("objective", [Cramer(), RationalQuadraticMmd()], ids=str)
def test_half_precision_features_are_compared_in_single(objective: Objective) -> None:
    real, fakes = gaussian(objective, (2,), torch.float32)
    network = network_for(real)

    def halved(values: Tensor) -> Scores:
        scores = network(values)
        assert scores.features is not None
        return Scores(scores.score, scores.features.bfloat16())

    loss, _ = objective.critic_loss(halved, real, fakes, Draw(), {}, 1)
    assert loss.value.dtype == torch.float32
