"""What is searched: ``lr=loguniform(1e-5,1e-2)``, from text to settings. Nothing is evaluated."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from wgan.config import KNOWN_SETTINGS
from wgan.constraints import CONSTRAINTS
from wgan.data.base import Source
from wgan.data.options import DataOptions
from wgan.errors import UnknownNameError, UserError
from wgan.objectives import OBJECTIVES
from wgan.recipes import Settings, get_recipe

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = bool | int | float | str | None
Point = Mapping[str, Value]
"""One value for each setting that is searched."""

_SAME_DATA = "trials on different data, or judged by different samples, do not compare"
_SAME_LENGTH = "trials of different lengths do not compare"
_SAME_AUDIT = "trials are compared by their audits, which must be the same"
_NOT_LEARNED = "it does not change what is learned"
_FIXED = {
    **dict.fromkeys((f.name for f in dataclasses.fields(DataOptions)), _SAME_DATA),
    **dict.fromkeys(("data", "holdout", "split_seed"), _SAME_DATA),
    **dict.fromkeys(("steps", "seconds", "stop_when", "patience"), _SAME_LENGTH),
    **dict.fromkeys(("audit_every", "audit_features"), _SAME_AUDIT),
    **dict.fromkeys(("device", "compile", "checkpoint_every", "sample_every"), _NOT_LEARNED),
    **dict.fromkeys(("plugins", "on_divergence", "max_rollbacks"), _NOT_LEARNED),
    "seed": "the best of several seeds is luck; give one, and repeat the winner with others",
    "objective": "search one of its fields: objective.FIELD=...",
    "constraints": "search a field of one, as in gradient-penalty.weight=...",
}
"""Settings that are the same in all trials, and why."""

_FORMS = "loguniform(lo,hi), uniform(lo,hi), a..b, {x,y,z} or x|y|z"
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(([^()]*)\)")
_WHOLE = re.compile(r"\s*([-+]?\d{1,18})\s*\.\.\s*([-+]?\d{1,18})\s*")
_INTEGER = re.compile(r"[-+]?\d{1,18}")
_WORDS: dict[str, Value] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both of which can occur.

    Attributes:
        low, high: The ends; low < high.
        log: Drawn evenly by the logarithm; low > 0.
        whole: Whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        if self.whole and not self.log:
            return f"{int(self.low)}..{int(self.high)}"
        low, high = (str(int(end)) if self.whole else repr(end) for end in (self.low, self.high))
        return f"{'log' * self.log}uniform({low},{high})"

    def __contains__(self, value: object) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high  # type: ignore[operator]

    def suggest(self, trial: Trial, name: str) -> Value:
        """The value that a trial has, or takes now."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that must be allowed for all to be."""
        if self.whole:
            return int(self.low), int(self.high)
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Attributes:
        values: Two or more, all different.
    """

    values: tuple[Value, ...]

    def __str__(self) -> str:
        shown = ("none" if value is None else str(value) for value in self.values)
        words = (text.lower() if text in ("True", "False") else text for text in shown)
        return "|".join(words)

    def __contains__(self, value: object) -> bool:
        return any(type(value) is type(own) and value == own for own in self.values)

    def suggest(self, trial: Trial, name: str) -> Value:
        """The value that a trial has, or takes now."""
        found: Value = trial.suggest_categorical(name, list(self.values))
        return found

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that must be allowed for all to be."""
        return self.values


Dimension = Range | Choice
Space = Mapping[str, Dimension]


def parse_dimension(text: str) -> tuple[str, Dimension]:
    """``NAME=WHAT`` to the name and the values.

    >>> parse_dimension("lr=loguniform(1e-5,1e-2)")
    ('lr', Range(low=1e-05, high=0.01, log=True, whole=False))

    Raises:
        UserError: It has no such form, or no such setting may be searched.
    """
    name, equals, spec = (part.strip() for part in text.partition("="))
    if not (name and equals and spec):
        raise UserError(f"search {text!r} must be NAME=VALUES, with values {_FORMS}")
    name = _known(name)
    found = _values(name, spec)
    kind = _kind(name)
    if isinstance(found, Range):
        if kind in ("str", "bool"):
            what = "true or false" if kind == "bool" else "a name"
            raise UserError(f"`{name}` is {what}, not a number: write {name}=x|y, got {spec!r}")
        if kind == "int" and not found.whole:
            if not (found.low.is_integer() and found.high.is_integer()):
                raise UserError(f"`{name}` is a whole number, got {spec!r}: write {name}=a..b")
            found = dataclasses.replace(found, whole=True)
    return name, found


def parse_space(search: Sequence[str] | Mapping[str, str]) -> dict[str, Dimension]:
    """Several of :func:`parse_dimension`, a recipe first.

    Raises:
        UserError: There is none, or one is given twice.
    """
    lines = [f"{k}={v}" for k, v in search.items()] if isinstance(search, Mapping) else search
    space: dict[str, Dimension] = {}
    for text in lines:
        name, dimension = parse_dimension(text)
        if name in space:
            raise UserError(f"`{name}` is searched twice")
        space[name] = dimension
    if not space:
        raise UserError(f"say what to search: --search NAME=VALUES, with values {_FORMS}")
    for short, fields in (
        ("lr", ("generator_lr", "critic_lr")),
        ("network", ("generator_network", "critic_network")),
    ):
        if short in space and set(fields) & set(space):
            raise UserError(f"`{short}` stands for both players; search it, or each player's")
    return dict(sorted(space.items(), key=lambda item: item[0] != "recipe"))


def settings_at(given: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """The settings of a trial: what was given, and the point's values."""
    settings = dict(given)
    for name, value in point.items():
        part, dot, field = name.partition(".")
        if not dot:
            settings[name] = value
        elif part == "objective":
            settings["objective"] = {**(settings.get("objective") or {}), field: value}
        else:
            held = dict(settings.get("constraints") or {})
            held[part] = {**(held.get(part) or {}), field: value}
            settings["constraints"] = held
    return settings


def applies(name: str, given: Mapping[str, Any], point: Point, source: Source) -> bool:
    """Whether a searched setting means something beside the values so far.

    Where the recipe is searched too, a field of a constraint or an objective belongs to the
    recipes that have it.
    """
    part, dot, field = name.partition(".")
    if not dot or "recipe" not in point:
        return True
    recipe = get_recipe(str(point["recipe"])).on(source.codec.kind, source.codec.shape)
    if part == "objective":
        return field in {f.name for f in dataclasses.fields(recipe.objective)}  # type: ignore[arg-type]
    held = {constraint.name for constraint in recipe.constraints}
    return part in held | set(given.get("constraints") or {})


def _known(name: str) -> str:
    """The setting's own name, if it may be searched."""
    part, dot, field = name.partition(".")
    if not dot:
        setting = name.replace("-", "_")
        if setting in _FIXED:
            raise UserError(f"`{setting}` cannot be searched: {_FIXED[setting]}")
        if setting in KNOWN_SETTINGS:
            return setting
        raise UnknownNameError("setting to search", name, _searchable())
    if part == "objective":
        if field not in (fields := _objective_fields()):
            raise UnknownNameError("field of an objective", field, fields)
        return name
    if part not in CONSTRAINTS:
        raise UnknownNameError("constraint", part, CONSTRAINTS)
    fields = [f.name for f in dataclasses.fields(CONSTRAINTS[part])]  # type: ignore[arg-type]
    if field not in fields:
        raise UnknownNameError(f"field of constraint `{part}`", field, fields)
    return name


def _searchable() -> Iterable[str]:
    own = (
        f"{name}.{field.name}"
        for name, kind in CONSTRAINTS.items()
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
    )
    return (*(name for name in KNOWN_SETTINGS if name not in _FIXED), *own)


def _objective_fields() -> list[str]:
    return sorted({f.name for kind in OBJECTIVES.values() for f in dataclasses.fields(kind)})  # type: ignore[arg-type]


def _kind(name: str) -> str:
    """int, float, bool or str; empty where the recipe says."""
    part, dot, field = name.partition(".")
    if not dot:
        types = {f.name: str(f.type).split(" ")[0] for f in dataclasses.fields(Settings)}
        return {**types, "lr": "float"}.get(name, "str")
    if part == "objective":
        return ""
    wanted = get_type_hints(CONSTRAINTS[part])[field]
    return wanted.__name__ if wanted in (int, float, bool) else "str"


def _values(name: str, spec: str) -> Dimension:
    if match := _CALL.fullmatch(spec):
        function, inside = match.groups()
        if function not in ("uniform", "loguniform"):
            raise UnknownNameError("distribution", function, ("uniform", "loguniform"))
        ends = [_number(part) for part in inside.split(",")]
        if len(ends) != 2 or None in ends:
            raise UserError(f"`{name}`: {function} needs two numbers (lo,hi), got {spec!r}")
        low, high = ends
        assert low is not None
        assert high is not None
        if function == "loguniform" and low <= 0:
            raise UserError(f"`{name}`: a logarithm needs numbers > 0, got {spec!r}")
        return _ordered(name, Range(low, high, log=function == "loguniform"))
    if match := _WHOLE.fullmatch(spec):
        return _ordered(name, Range(int(match[1]), int(match[2]), whole=True))
    braces = spec.startswith("{") and spec.endswith("}")
    parts = spec[1:-1].split(",") if braces else spec.split("|")
    values = tuple(_value(part) for part in parts)
    if any(not part.strip() for part in parts) or set("(){}") & set(spec.strip("{}")):
        raise UserError(f"`{name}`: cannot read {spec!r}; write {_FORMS}")
    if len(values) < 2:
        raise UserError(
            f"`{name}` has the one value {spec!r}: give it as a setting, or more values, as "
            f"{_FORMS} (in quotes: a shell takes braces, bars and brackets for itself)"
        )
    if len({(isinstance(v, bool), v) for v in values}) < len(values):
        raise UserError(f"`{name}`: {spec!r} has a value twice")
    return Choice(values)


def _ordered(name: str, found: Range) -> Range:
    if not found.low < found.high:
        raise UserError(f"`{name}`: {found} has its ends in the wrong order, or no width")
    return found


def _value(text: str) -> Value:
    """Text as the number, truth value, none or name that it is."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None
