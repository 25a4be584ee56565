"""What the two-step objectives share: exact potentials as targets, and the critic's slope."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgan.shares import current, whole
from wgan.transport import exact
from wgan.types import Critic


class Targets(NamedTuple):
    """The exact transport between two whole batches, as a critic would see its share of them.

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


def transport_targets(
    real: Tensor, fake: Tensor, cost: Literal["l1", "sqeuclidean"], name: str = "transport"
) -> Targets:
    """Solve the transport between two whole batches exactly, on the CPU in float64.

    `name` is that of the objective.
    """
    real, fake = (whole(batch.detach(), name) for batch in (real, fake))
    rows = current().rows(len(real))
    x, y = (batch.flatten(1).double().cpu().numpy() for batch in (real, fake))
    plan = exact(x, y, cost=cost)
    partner = torch.from_numpy(plan.dense().argmax(0)).to(real.device)

    def tensor(value: object) -> Tensor:
        return torch.as_tensor(value, dtype=real.dtype, device=real.device)

    return Targets(
        *(tensor(plan.phi)[rows], tensor(plan.psi)[rows], real[partner[rows]]), tensor(plan.primal)
    )


def score_and_slope(critic: Critic, points: Tensor) -> tuple[Tensor, Tensor]:
    """Each score ``[batch]``, and its gradient ``[batch, *shape]`` in its own sample."""
    points = points.detach().requires_grad_(True)
    score = critic(points).score
    (slope,) = torch.autograd.grad(score.sum(), points, create_graph=True)
    return score, slope
