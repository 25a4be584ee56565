"""What the two-step objectives share: exact potentials as targets, and the critic's slope."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgan.transport import exact
from wgan.types import Critic


class Targets(NamedTuple):
    """The exact transport between two batches, as a critic would see it.

    Attributes:
        phi: ``[batch]``, potential at the real samples, in the cost's unit.
        psi: ``[batch]``, potential at the fake ones: ``phi_i - psi_j <= c_ij``, with equality on
            the plan, and the sum of both means is 0.
        partner: ``[batch, *shape]``, for each fake sample the real one it exchanges most mass with.
        cost: Scalar, the plan's cost.
    """

    phi: Tensor
    psi: Tensor
    partner: Tensor
    cost: Tensor


def transport_targets(real: Tensor, fake: Tensor, cost: Literal["l1", "sqeuclidean"]) -> Targets:
    """Solve the transport between two batches exactly, on the CPU in float64."""
    x, y = (batch.detach().flatten(1).double().cpu().numpy() for batch in (real, fake))
    plan = exact(x, y, cost=cost)
    partner = torch.from_numpy(plan.dense().argmax(0)).to(real.device)

    def tensor(value: object) -> Tensor:
        return torch.as_tensor(value, dtype=real.dtype, device=real.device)

    return Targets(tensor(plan.phi), tensor(plan.psi), real.detach()[partner], tensor(plan.primal))


def score_and_slope(critic: Critic, points: Tensor) -> tuple[Tensor, Tensor]:
    """Each score ``[batch]``, and its gradient ``[batch, *shape]`` in its own sample."""
    points = points.detach().requires_grad_(True)
    score = critic(points).score
    (slope,) = torch.autograd.grad(score.sum(), points, create_graph=True)
    return score, slope
