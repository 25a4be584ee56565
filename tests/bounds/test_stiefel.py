"""Training on the Stiefel manifold: weights stay on it, the quick sorts are the sorts."""

import pytest
import torch

from wgan.bounds.fitting import orthogonal_network
from wgan.bounds.stiefel import StiefelMomentum, polar, scores


@pytest.mark.parametrize(("group", "share"), [(None, 1.0), (2, 1.0), (4, 1.0), (None, 0.4)])
def test_quick_sorts_give_scores_and_gradients_of_the_layers(
    group: int | None, share: float
) -> None:
    rng = torch.Generator().manual_seed(0)
    network = orthogonal_network(5, rng, width=16, group=group, share=share)
    values = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
    theirs, ours = network(values), scores(network, values)
    assert torch.equal(theirs, ours)
    parameters = list(network.parameters())
    slopes = torch.autograd.grad(theirs.square().sum(), parameters)
    for slope, quick in zip(
        slopes, torch.autograd.grad(ours.square().sum(), parameters), strict=True
    ):
        torch.testing.assert_close(quick, slope)


@pytest.mark.parametrize("shape", [(16, 16), (16, 4), (4, 16), (1, 16)])
def test_weights_stay_on_the_manifold_and_descend(shape: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    tall = torch.linalg.qr(torch.randn(max(shape), min(shape), generator=rng)).Q
    weight = (tall if shape[0] >= shape[1] else tall.mT).contiguous().requires_grad_()
    goal = torch.linalg.qr(torch.randn(max(shape), min(shape), generator=rng)).Q
    goal = goal if shape[0] >= shape[1] else goal.mT
    if shape[0] == shape[1] and torch.det(goal) * torch.det(weight.detach()) < 0:
        goal = torch.cat([-goal[:1], goal[1:]])  # on the same of the two sheets
    turning = StiefelMomentum([weight])
    for step in range(300):
        loss = -(weight * goal).sum()
        (weight.grad,) = torch.autograd.grad(loss, [weight])
        turning.step(0.1 * (1 - step / 300))
    found = weight.detach()
    singular = torch.linalg.svdvals(found)
    torch.testing.assert_close(singular, torch.ones_like(singular), rtol=0, atol=1e-5)
    assert float((found * goal).sum()) > 0.97 * min(shape)


def test_polar_is_the_nearest_orthonormal_matrix() -> None:
    rng = torch.Generator().manual_seed(0)
    near = torch.linalg.qr(torch.randn(8, 5, generator=rng)).Q + 0.01 * torch.randn(
        8, 5, generator=rng
    )
    u, _, v = torch.linalg.svd(near, full_matrices=False)
    torch.testing.assert_close(polar(near), u @ v, rtol=0, atol=1e-5)
