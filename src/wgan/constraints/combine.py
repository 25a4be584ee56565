"""Which constraints go together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from wgan.constraints.base import Constraint
from wgan.constraints.dragan import Dragan
from wgan.constraints.gradient_penalty import GradientPenalty
from wgan.constraints.slopes import SlopePenalty
from wgan.constraints.zero_centred import R1
from wgan.errors import UserError

_CLASHES = {
    frozenset({"weight-clipping", "orthogonal"}): (
        "clipping would move the free tensors that the orthogonal weights are computed from, and "
        "bounds nothing then"
    ),
    frozenset({"weight-clipping", "spectral-normalisation"}): (
        "each weight is divided by its norm, so clipping it first changes directions and bounds "
        "nothing"
    ),
    frozenset({"spectral-normalisation", "orthogonal"}): (
        "both parametrise the same weights, and orthogonal ones have norm 1 already"
    ),
    frozenset({"orthogonal-regularisation", "orthogonal"}): (
        "orthogonal weights have nothing left to penalise"
    ),
    frozenset({"consistency", "orthogonal"}): (
        "consistency needs dropout, which scales what it keeps and breaks the bound"
    ),
}


def check_constraints(constraints: Sequence[Constraint]) -> None:
    """Refuse constraints that cannot work together.

    Raises:
        UserError: Names the two and says why.
    """
    for one, other in combinations(constraints, 2):
        if one.name == other.name:
            raise UserError(f"constraint `{one.name}` is given twice; give it once")
        reason = (
            _CLASHES.get(frozenset({one.name, other.name}))
            or _idle_or_impossible(one, other)
            or _idle_or_impossible(other, one)
            or _pull_apart(one, other)
            or _pull_apart(other, one)
            or _needs_equal_passes(one, other)
            or _needs_equal_passes(other, one)
        )
        if reason:
            raise UserError(
                f"constraints `{one.name}` and `{other.name}` do not go together: {reason}"
            )


def _idle_or_impossible(one: Constraint, other: Constraint) -> str | None:
    """A slope that an orthogonal critic has by construction, or can never have."""
    if other.name != "orthogonal" or not isinstance(one, GradientPenalty) or one.norm != 2:
        return None
    if one.one_sided and one.target >= 1:
        return "no slope of an orthogonal critic exceeds 1, so the one-sided penalty is always 0"
    if not one.one_sided and one.target > 1:
        return f"an orthogonal critic cannot have the slope {one.target:g}"
    return None


def _pull_apart(one: Constraint, other: Constraint) -> str | None:
    """Two targets for one slope."""
    two_sided = isinstance(one, Dragan) or (isinstance(one, GradientPenalty) and not one.one_sided)
    if two_sided and isinstance(other, R1):
        return (
            f"`{one.name}` asks for one slope and `{other.name}` for none; choose one of them, or "
            "a one-sided gradient-penalty"
        )
    return None


def _needs_equal_passes(one: Constraint, other: Constraint) -> str | None:
    if not isinstance(one, SlopePenalty) or one.method != "finite-difference":
        return None
    if other.name == "consistency":
        return (
            "method=finite-difference compares two passes, which the dropout that consistency "
            "needs makes differ"
        )
    return None
