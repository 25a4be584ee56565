"""The grammar of a search: what is read, what is refused, and what it becomes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgan.data import open_source
from wgan.errors import UserError
from wgan.search import Choice, Range, parse_dimension, parse_space
from wgan.search.space import applies, settings_at

numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.from_regex(r"[a-z][a-z-]{0,8}", fullmatch=True).filter(
    lambda word: word not in ("true", "false", "none", "nan", "inf", "infinity")
)
values = st.one_of(st.booleans(), st.none(), st.integers(-(10**12), 10**12), numbers, words)


@given(numbers, numbers)
def test_what_a_uniform_range_says_is_read_again(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if not low < high:
        return
    found = Range(low, high)
    assert parse_dimension(f"lr={found}") == ("lr", found)
    if low > 0:
        steep = Range(low, high, log=True)
        assert parse_dimension(f"lr = {steep}") == ("lr", steep)


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_what_a_range_of_whole_numbers_says_is_read_again(low: int, width: int) -> None:
    found = Range(low, low + width, whole=True)
    assert parse_dimension(f"n_critic={found}") == ("n_critic", found)


@given(st.lists(values, min_size=2, max_size=5, unique_by=lambda v: (isinstance(v, bool), v)))
def test_what_a_choice_says_is_read_again_in_both_forms(options: list[object]) -> None:
    found = Choice(tuple(options))  # type: ignore[arg-type]
    for text in (str(found), "{" + str(found).replace("|", ",") + "}"):
        name, again = parse_dimension(f"optimizer={text}")
        assert (name, again) == ("optimizer", found)
        assert isinstance(again, Choice)
        assert [type(v) for v in again.values] == [type(v) for v in options]


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for line in (text, f"lr={text}"):
        try:
            _, found = parse_dimension(line)
        except UserError:
            continue
        assert len(found.ends) >= 2
        assert all(not isinstance(end, float) or math.isfinite(end) for end in found.ends)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr", "must be NAME=VALUES"),
        ("lr=1e-3", "has the one value '1e-3': give it as a setting"),
        ("lr=normal(0,1)", "unknown distribution 'normal'"),
        ("lr=__import__('os').system('x')", "cannot read"),
        ("lr=loguniform(0,1)", "a logarithm needs numbers > 0"),
        ("lr=uniform(1)", "needs two numbers"),
        ("lr=uniform(2,1)", "wrong order"),
        ("n_critic=5..1", "wrong order"),
        ("n_critic=uniform(0.5,2)", "is a whole number"),
        ("optimizer=1..3", "`optimizer` is a name, not a number"),
        ("warmup=1..3", "`warmup` is true or false, not a number"),
        ("lr={1,1}", "has a value twice"),
        ("lr=1||2", "cannot read"),
        ("n_citric=1..5", "Did you mean 'n_critic'?"),
        ("gradient-penalty.wieght=1|2", "Did you mean 'weight'?"),
        ("gradient-penlty.weight=1|2", "Did you mean 'gradient-penalty'?"),
        ("objective.what=1|2", "unknown field of an objective 'what'"),
        ("seed=0..9", "`seed` cannot be searched: the best of several seeds is luck"),
        ("holdout=uniform(0.1,0.5)", "do not compare"),
        ("steps=10..20", "trials of different lengths do not compare"),
        ("audit_every=10..20", "must be the same"),
    ],
)
def test_what_cannot_be_searched_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_dimension(text)
    assert said in str(raised.value)


def test_a_space_has_its_recipe_first_and_nothing_twice() -> None:
    space = parse_space(["lr=loguniform(1e-5,1e-2)", "n-critic=1..5", "recipe=wgan|wgan-gp"])
    assert list(space) == ["recipe", "lr", "n_critic"]
    assert parse_space({"width": "loguniform(8,64)"}) == {"width": Range(8, 64, True, True)}
    with pytest.raises(UserError, match="searched twice"):
        parse_space(["n_critic=1..5", "n-critic=1..2"])
    with pytest.raises(UserError, match="stands for both players"):
        parse_space(["lr=1|2", "critic_lr=1|2"])
    with pytest.raises(UserError, match="say what to search"):
        parse_space([])


def test_a_point_becomes_settings_beside_what_was_given() -> None:
    given = {"lr": 1.0, "constraints": {"gradient-penalty": {"one_sided": True}}}
    point = {"n_critic": 3, "gradient-penalty.weight": 2.0, "objective.p": 2}
    assert settings_at(given, point) == {
        "lr": 1.0,
        "n_critic": 3,
        "constraints": {"gradient-penalty": {"one_sided": True, "weight": 2.0}},
        "objective": {"p": 2},
    }
    assert given["constraints"] == {"gradient-penalty": {"one_sided": True}}


def test_a_constraints_field_belongs_to_the_recipes_that_have_it() -> None:
    source, name = open_source("gaussians8"), "gradient-penalty.weight"
    assert applies(name, {}, {"recipe": "wgan-gp"}, source)
    assert not applies(name, {}, {"recipe": "wgan"}, source)
    assert applies(name, {"constraints": {"gradient-penalty": {}}}, {"recipe": "wgan"}, source)
    assert applies(name, {}, {}, source)
