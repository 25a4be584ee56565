"""Constraints by name, from text and from plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from wgan.constraints.base import Constraint
from wgan.constraints.clipping import WeightClipping
from wgan.constraints.consistency import Consistency
from wgan.constraints.dragan import Dragan
from wgan.constraints.drift import Drift
from wgan.constraints.gradient_penalty import GradientPenalty
from wgan.constraints.orthogonal import Orthogonal
from wgan.constraints.regularisation import OrthogonalRegularisation
from wgan.constraints.spectral import SpectralNormalisation
from wgan.constraints.zero_centred import R1, R2
from wgan.errors import UnknownNameError, UserError

CONSTRAINTS: dict[str, type[Constraint]] = {
    kind.name: kind
    for kind in (
        WeightClipping,
        GradientPenalty,
        Dragan,
        R1,
        R2,
        Drift,
        Consistency,
        SpectralNormalisation,
        Orthogonal,
        OrthogonalRegularisation,
    )
}

_BOOLEANS = {"true": True, "false": False}


def parse_constraint(text: str) -> tuple[str, dict[str, str]]:
    """``NAME[:field=value,...]`` to the name and the fields, as text.

    >>> parse_constraint("gradient-penalty:weight=10,one_sided=true")
    ('gradient-penalty', {'weight': '10', 'one_sided': 'true'})

    Raises:
        UserError: The text does not have this form, or gives a field twice.
    """
    name, colon, rest = text.partition(":")
    given: dict[str, str] = {}
    for part in rest.split(",") if colon else []:
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if not (field and equals and value):
            raise UserError(
                f"constraint {text!r}: {part!r} is not field=value; write NAME:field=value,..."
            )
        if field in given:
            raise UserError(f"constraint {text!r} gives `{field}` twice")
        given[field] = value
    if not name.strip():
        raise UserError(f"constraint {text!r} has no name; write NAME[:field=value,...]")
    return name.strip(), given


def make_constraint(name: str, values: Mapping[str, Any] | None = None) -> Constraint:
    """The constraint with this name and these fields.

    Args:
        name: A key of `CONSTRAINTS`.
        values: Fields by name, as text or as the values that `dataclasses.asdict` gives.

    Raises:
        UnknownNameError: No such constraint, or no such field of it.
        UserError: A value that is not of the field's type, or out of its range.
    """
    if name not in CONSTRAINTS:
        raise UnknownNameError("constraint", name, CONSTRAINTS)
    kind = CONSTRAINTS[name]
    types = get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    given = {}
    for field, value in (values or {}).items():
        if field not in known:
            raise UnknownNameError(f"field of constraint `{name}`", field, known)
        given[field] = _coerce(name, field, value, types[field])
    return kind(**given)


def _coerce(name: str, field: str, value: Any, wanted: Any) -> Any:
    """A value as the field's annotation wants it."""
    if get_origin(wanted) is Literal:
        choices = {str(choice): choice for choice in get_args(wanted)}
        if str(value) in choices:
            return choices[str(value)]
        raise UserError(
            f"{name}: `{field}` must be one of {', '.join(choices)}, got {str(value)!r}"
        )
    if wanted is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in _BOOLEANS:
            return _BOOLEANS[str(value).lower()]
        raise UserError(f"{name}: `{field}` must be true or false, got {str(value)!r}")
    what = {int: "a whole number", float: "a number"}.get(wanted, wanted)
    try:
        if isinstance(value, bool) or (wanted is int and isinstance(value, float) and value % 1):
            raise ValueError
        return wanted(value)
    except (TypeError, ValueError):
        raise UserError(f"{name}: `{field}` must be {what}, got {str(value)!r}") from None
