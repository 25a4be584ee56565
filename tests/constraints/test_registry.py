from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from wgan.constraints import (
    CONSTRAINTS,
    R1,
    Constraint,
    GradientPenalty,
    check_constraints,
    make_constraint,
    parse_constraint,
)
from wgan.errors import UnknownNameError, UserError


def test_grammar() -> None:
    assert parse_constraint("drift") == ("drift", {})
    assert parse_constraint(" r1 : gamma = 2 ,interval=16") == (
        "r1",
        {"gamma": "2", "interval": "16"},
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("r1:", "is not field=value"),
        ("r1:gamma", "'gamma' is not field=value"),
        ("r1:gamma=", "is not field=value"),
        ("r1:gamma=1,", "is not field=value"),
        ("r1:gamma=1,gamma=2", "gives `gamma` twice"),
        (":gamma=1", "has no name"),
        ("", "has no name"),
    ],
)
def test_what_is_not_grammar_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        parse_constraint(text)


def test_text_becomes_the_types_of_the_fields() -> None:
    text = "gradient-penalty:weight=1e1,one_sided=True,norm=1,interval=4,method=finite-difference"
    expected = GradientPenalty(
        weight=10.0, one_sided=True, norm=1, interval=4, method="finite-difference"
    )
    assert make_constraint(*parse_constraint(text)) == expected
    made = make_constraint("gradient-penalty", {"weight": 3, "norm": "inf"})
    assert made == GradientPenalty(weight=3.0, norm="inf")


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("r1", {"gamma": "ten"}, "r1: `gamma` must be a number, got 'ten'"),
        ("r1", {"gamma": True}, "r1: `gamma` must be a number, got 'True'"),
        ("r1", {"interval": "1.5"}, "r1: `interval` must be a whole number, got '1.5'"),
        ("r1", {"interval": 1.5}, "r1: `interval` must be a whole number, got '1.5'"),
        ("r1", {"norm": "3"}, "r1: `norm` must be one of 1, 2, inf, got '3'"),
        ("r1", {"gamma": None}, "r1: `gamma` must be a number, got 'None'"),
        ("gradient-penalty", {"one_sided": "perhaps"}, "must be true or false, got 'perhaps'"),
        ("r1", {"gamma": "-1"}, "r1: `gamma` must be >= 0, got -1.0"),
    ],
)
def test_values_that_do_not_fit_are_refused(name: str, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        make_constraint(name, values)


def test_unknown_names_list_the_known_and_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'gradient-penalty'.*weight-clipping"):
        make_constraint("gradient-penalti")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'weight'.* Known: .*one_sided"):
        make_constraint("gradient-penalty", {"wieght": 1})


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_every_constraint_survives_a_trip_through_json(name: str) -> None:
    kind = CONSTRAINTS[name]
    assert kind.name == name
    made = make_constraint(name)
    plain = json.loads(json.dumps(dataclasses.asdict(made)))  # type: ignore[call-overload]
    assert make_constraint(name, plain) == made
    assert kind.__doc__
    assert "Source:" in kind.__doc__


def made(*texts: str) -> list[Constraint]:
    return [make_constraint(*parse_constraint(text)) for text in texts]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["r1", "r1:gamma=2"], "`r1` is given twice"),
        (["gradient-penalty", "gradient-penalty:one_sided=true"], "given twice"),
        (["weight-clipping", "orthogonal"], "free tensors"),
        (["weight-clipping", "spectral-normalisation"], "bounds nothing"),
        (["spectral-normalisation", "orthogonal"], "both parametrise"),
        (["orthogonal", "orthogonal-regularisation"], "nothing left"),
        (["orthogonal", "consistency"], "dropout"),
        (["gradient-penalty:one_sided=true", "orthogonal"], "always 0"),
        (["orthogonal", "gradient-penalty:target=2"], "cannot have the slope 2"),
        (["gradient-penalty", "r1"], "asks for one slope and `r1` for none"),
        (["r2", "dragan"], "asks for one slope and `r2` for none"),
        (["consistency", "r1:method=finite-difference"], "two passes"),
    ],
)
def test_nonsense_is_refused_with_the_reason_in_either_order(texts: list[str], reason: str) -> None:
    for order in (texts, texts[::-1]):
        with pytest.raises(UserError, match=reason):
            check_constraints(made("drift", *order))


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["gradient-penalty", "drift", "consistency"],
        ["r1", "r2"],
        ["gradient-penalty:one_sided=true", "r1"],
        ["gradient-penalty", "orthogonal"],
        ["gradient-penalty", "dragan", "spectral-normalisation", "orthogonal-regularisation"],
    ],
)
def test_sensible_combinations_pass(texts: list[str]) -> None:
    check_constraints(made(*texts))


def test_combined_terms_have_names_of_their_own() -> None:
    terms = [
        getattr(kind, field)
        for kind in CONSTRAINTS.values()
        for field in ("term", "slope_term")
        if hasattr(kind, field)
    ]
    assert len(terms) == len(set(terms)) >= 8
    assert R1.term == "r1_penalty"
