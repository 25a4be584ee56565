"""From what a user said to a complete configuration, in two hops.

A *setting* has one name: the flag (with dashes), the key of a configuration file and the field of
:class:`Config`. What the user gave wins over the recipe; what nobody gave comes from the recipe,
published or auto. The result is complete, so that its file repeats the run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wgan.auto import Departure, Facts, auto, published, small_pictures
from wgan.constraints import (
    Constraint,
    OrthogonalRegularisation,
    SpectralNormalisation,
    check_constraints,
    make_constraint,
)
from wgan.data.base import Source
from wgan.data.options import DataOptions
from wgan.errors import UnknownNameError, UserError
from wgan.files import memory_bytes, parse_yaml, read_whole
from wgan.networks import CRITICS, GENERATORS, NORMS, NetworkSpec, Shapes
from wgan.objectives import Objective
from wgan.plugins import recorded_plugins, used
from wgan.recipes import NETWORK_DEFAULTS, Settings, fits, get_recipe
from wgan.training import PRECISIONS, Method, OptimizerSpec

_BOTH = {
    "lr": ("generator_lr", "critic_lr"),
    "network": ("generator_network", "critic_network"),
}
"""Settings that stand for the same setting of both players."""

_ADAM_FIELDS = {"beta1": 0.0, "beta2": 0.9, "final_beta2": None}
_OPTIMIZER_FIELDS: dict[str, dict[str, float | None]] = {
    "adam": _ADAM_FIELDS,
    "adamw": _ADAM_FIELDS,
    "optimistic-adam": _ADAM_FIELDS,
    "rmsprop": {"alpha": 0.99},
    "sgd": {"beta1": 0.0},
}
_FIXED_DEPTH = {"autoencoder", "autoencoder-l2"} | {
    name for name, defaults in NETWORK_DEFAULTS.items() if defaults["depth"] is None
}
_CRITIC_FIELDS = (
    "n_critic",
    "n_critic_max",
    "extrapolate",
    "critic_passes",
    "warmup",
    "critic_lr",
    "critic_network",
    "critic_norm",
)


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on.

    Attributes:
        data: A name, a path, or "array" for data that was in memory.
        recipe: Name of the recipe.
        settings: published or auto: where the values not given came from.
        options: How the data is read.
        holdout: Share of the data never trained on, in [0, 1).
        split_seed: Of which samples those are. Runs that are compared share it.
        seed: Of the networks, the order of the data and every draw.
        steps: Generator updates after which the run is done; None: until `seconds`.
        seconds: Bound on the whole command; None: none.
        hyper: The recipe's settings, complete.
        objective: What the players minimise.
        constraints: What keeps the critic Lipschitz.
        device: cpu or cuda.
        checkpoint_every, sample_every: In steps.
        audit_every: Steps between audits; 0: none; None: not decided yet, see
            :func:`wgan.planning.plan_audits`.
        audit_features: Where an audit takes its excess.
        stop_when: A rule on the records that ends the run, ``name < number``.
        patience: Audits without a smaller excess after which the run ends.
        on_divergence: What happens when a loss or gradient is not finite: `stop`, or `rollback` to
            the last good checkpoint with a new draw and half the learning rates.
        max_rollbacks: How often at most, >= 0.
        heed: Whether the run acts on what the doctor's rules find on the way.
        precision: Of the networks' passes while training: fp64, fp32, tf32 or bf16.
        compile: on, off, or auto: not decided yet, see :func:`wgan.planning.worth_compiling`.
        accumulate: Parts that each batch is split into, one in memory at a time, >= 1.
        plugins: What the parts that are not the package's own came from: fingerprints by name.
    """

    data: str
    recipe: str
    settings: str
    options: DataOptions
    holdout: float
    split_seed: int
    seed: int
    steps: int | None
    seconds: float | None
    hyper: Settings
    objective: Objective
    constraints: tuple[Constraint, ...]
    device: str
    checkpoint_every: int
    sample_every: int
    audit_every: int | None = None
    audit_features: str = "auto"
    stop_when: str | None = None
    patience: int | None = None
    on_divergence: str = "stop"
    max_rollbacks: int = 3
    heed: bool = False
    precision: str = "fp32"
    compile: str = "off"
    accumulate: int = 1
    plugins: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Flat plain data, as `config.yaml` holds it."""
        options = dataclasses.asdict(self.options)
        for name in ("cache", "seed"):  # the cache is this machine's; the seed is the run's
            del options[name]
        hyper = dataclasses.asdict(self.hyper)
        del hyper["steps"]
        flat = {
            "data": self.data,
            "recipe": self.recipe,
            "settings": self.settings,
            "steps": self.steps,
            "seconds": self.seconds,
            "seed": self.seed,
            "holdout": self.holdout,
            "split_seed": self.split_seed,
            **options,
            **hyper,
            "objective": dataclasses.asdict(self.objective),  # type: ignore[call-overload]
            "constraints": {
                c.name: dataclasses.asdict(c)  # type: ignore[call-overload]
                for c in self.constraints
            },
            "device": self.device,
            "checkpoint_every": self.checkpoint_every,
            "sample_every": self.sample_every,
            "audit_every": self.audit_every,
            "audit_features": self.audit_features,
            "stop_when": self.stop_when,
            "patience": self.patience,
            "on_divergence": self.on_divergence,
            "max_rollbacks": self.max_rollbacks,
            "heed": self.heed,
            "precision": self.precision,
            "compile": self.compile,
            "accumulate": self.accumulate,
        }
        if self.plugins:
            flat["plugins"] = dict(self.plugins)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in flat.items()}

    def method(self) -> Method:
        """How the players are trained."""
        h = self.hyper
        assert h.generator_batch_size is not None

        def optimizer(lr: float) -> OptimizerSpec:
            names = ("beta1", "beta2", "alpha", "final_beta2")
            given = {name: v for name in names if (v := getattr(h, name)) is not None}
            return OptimizerSpec(
                h.optimizer, lr, schedule=h.schedule, final_lr_share=h.final_lr_share, **given
            )

        held: list[Constraint] = []
        if h.generator_spectral:
            held.append(SpectralNormalisation())
        if h.generator_orthogonal:
            held.append(OrthogonalRegularisation(h.generator_orthogonal))

        return Method(
            objective=self.objective,
            generator_optimizer=optimizer(h.generator_lr),
            critic_optimizer=optimizer(h.critic_lr),
            constraints=self.constraints,
            batch_size=h.batch_size,
            generator_batch_size=h.generator_batch_size,
            latent=h.latent,
            n_critic=h.n_critic if self.objective.uses_critic else 0,
            critic_passes=h.critic_passes,
            warmup=h.warmup,
            average=h.average,
            clip_norm=h.clip_norm,
            steps=self.steps,
            seed=self.seed,
            generator_constraints=tuple(held),
            n_critic_max=h.n_critic_max,
            extrapolate=h.extrapolate,
            lookahead_every=h.lookahead_every,
            lookahead_share=h.lookahead_share,
            final_penalty_share=h.final_penalty_share,
            precision=self.precision,
            compile=self.compile == "on",
            accumulate=self.accumulate,
        )

    def network_spec(self, role: str) -> NetworkSpec:
        """The hyperparameters of the generator's or the critic's network."""
        norm = self.hyper.generator_norm if role == "generator" else self.hyper.critic_norm
        h = self.hyper
        return NetworkSpec(h.width or 0, h.depth or 1, norm or "none", h.dropout or 0.0)

    def shapes(self, source: Source) -> Shapes:
        """What the networks must fit."""
        codec = source.codec
        return Shapes(codec.shape, self.hyper.latent, len(codec.condition), codec.bounded)


_OPTION_FIELDS = tuple(
    f.name for f in dataclasses.fields(DataOptions) if f.name not in ("seed", "cache")
)
_HYPER_FIELDS = tuple(f.name for f in dataclasses.fields(Settings) if f.name != "steps")
_RUN_FIELDS = (
    *("data", "recipe", "settings", "steps", "seconds", "seed", "holdout", "split_seed"),
    *("objective", "constraints", "device", "checkpoint_every", "sample_every", "plugins"),
    *("audit_every", "audit_features", "stop_when", "patience"),
    *("on_divergence", "max_rollbacks", "heed", "precision", "compile", "accumulate"),
)
KNOWN_SETTINGS = (*_RUN_FIELDS, *_OPTION_FIELDS, *_HYPER_FIELDS, *_BOTH)
"""Every name that a configuration file may use."""


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, dashes or underscores alike.

    Raises:
        UserError: It cannot be read, is no mapping, or has a setting that does not exist.
    """
    try:
        plain = parse_yaml(read_whole(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(plain, dict) or not all(isinstance(key, str) for key in plain):
        raise UserError(f"{path} must hold settings, `name: value` on each line")
    given = {key.replace("-", "_"): value for key, value in plain.items()}
    for key in given:
        if key not in KNOWN_SETTINGS:
            raise UnknownNameError("setting", key, KNOWN_SETTINGS)
    return given


def data_options(given: Mapping[str, Any]) -> DataOptions:
    """The part of the settings that says how data is read.

    The run's seed is not among it: two seeds of one recipe train on the same data, from which the
    seed picks the split (and a synthetic source's stream), so that their runs compare.
    """
    return DataOptions(
        **{name: given[name] for name in _OPTION_FIELDS if given.get(name) is not None}
    )


def resolve(
    given: Mapping[str, Any], source: Source, data: str
) -> tuple[Config, tuple[Departure, ...]]:
    """The complete configuration of a run, and where `auto` departed from the published one.

    Args:
        given: What the user said, by setting; None counts as not said.
        source: The data, already open.
        data: What the data was called.

    Raises:
        UserError: A value out of its range, or a setting that the recipe does not have.
    """
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if key not in KNOWN_SETTINGS:
            raise UnknownNameError("setting", key, KNOWN_SETTINGS)
    recorded_plugins(given)  # for its form alone: which they are now is found below
    if "constraints" in given:
        given["constraints"] = _constraint_fields(given["constraints"])
    recipe = get_recipe(str(given.get("recipe", "wgan-gp"))).on(
        source.codec.kind, source.codec.shape
    )
    for short, fields in _BOTH.items():
        if short in given:
            value = given.pop(short)
            players = fields if recipe.objective.uses_critic else fields[:1]
            given = {**dict.fromkeys(players, value), **given}
    mode = str(given.get("settings", "auto"))
    if mode not in ("auto", "published"):
        raise UnknownNameError("settings", mode, ("auto", "published"))
    network = str(
        given.get("critic_network")
        or recipe.settings.critic_network
        or fits(source.codec.kind, source.codec.shape)
    )
    if network not in CRITICS:
        raise UnknownNameError("network", network, CRITICS)
    device = find_device(str(given.get("device", "auto")))
    holdout = _number("holdout", given.get("holdout", 0.1), 0.0, 1.0)
    size = None if source.size is None else source.size - int(holdout * source.size)
    facts = Facts(source.codec.kind, source.codec.shape, size, network, device)

    settings = published(recipe, facts)
    departures: tuple[Departure, ...] = ()
    parts: dict[str, dict[str, Any]] = {"objective": {}}  # fields of the objective and constraints
    if mode == "auto":
        departures = tuple(
            d
            for d in auto(recipe, facts)
            if not _given(d.field, given)
            and (recipe.objective.uses_critic or d.field not in _CRITIC_FIELDS)
        )
        plain = {d.field: d.value for d in departures if "." not in d.field}
        settings = dataclasses.replace(settings, **plain)
        for departure in departures:
            name, dot, field = departure.field.partition(".")
            if dot:
                parts.setdefault(name, {})[field] = departure.value
    if isinstance(fields_of := given.get("objective"), Mapping):
        parts["objective"] |= fields_of
    objective = _override(recipe.objective, parts.pop("objective"))
    hyper = _hyper(settings, objective, given)
    for name, fields in (given.get("constraints") or {}).items():
        parts[name] = {**parts.get(name, {}), **(fields or {})}
    constraints = _constraints(recipe.constraints, parts)
    if hyper.generator_network not in GENERATORS:
        raise UnknownNameError("network", str(hyper.generator_network), GENERATORS)
    if not objective.uses_critic and constraints:
        raise UserError(f"recipe `{recipe.name}` has no critic, so no constraint applies to it")
    if size is not None and size < hyper.batch_size:
        raise UserError(
            f"`batch_size` is {hyper.batch_size} and there are {size} samples to train on; use "
            f"--batch-size {size} or less, or a smaller --holdout"
        )

    numbers = math.prod(source.shape) + hyper.latent
    for name in ("batch_size", "generator_batch_size"):
        taken = 4 * numbers * (getattr(hyper, name) or 0)
        if taken > memory_bytes():
            raise UserError(
                f"`{name}` is {getattr(hyper, name)}: such a batch takes {taken / 2**30:.3g} GiB, "
                f"and this machine has {memory_bytes() / 2**30:.3g}"
            )

    steps = given.get("steps")
    seconds = given.get("seconds")
    if steps is None and seconds is None:
        steps = settings.steps
    elif steps is None:
        departures = tuple(d for d in departures if d.field != "steps")
    heed = given.get("heed", False)
    if not isinstance(heed, bool):
        raise UserError(f"`heed` must be true or false, got {heed!r}")
    on_divergence = str(given.get("on_divergence", "rollback" if heed else "stop"))
    quick = network == "mlp" or small_pictures(source.codec.kind, source.codec.shape)
    every = 500 if quick else 100  # steps
    precision, why = find_precision(
        str(given.get("precision", "auto" if mode == "auto" else "fp32")),
        device,
        {str(hyper.generator_network), str(hyper.critic_network)},
    )
    if why:
        departures += (Departure("precision", "fp32", precision, why),)
    if on_divergence not in ("stop", "rollback"):
        raise UnknownNameError("on_divergence", on_divergence, ("stop", "rollback"))
    if "max_rollbacks" in given and "on_divergence" not in given and not heed:
        raise UserError("`max_rollbacks` bounds rollbacks; give `on_divergence` rollback too")
    config = Config(
        data=data,
        recipe=recipe.name,
        settings=mode,
        options=data_options(given),
        holdout=holdout,
        split_seed=_seed(given.get("split_seed", 0), "split_seed"),
        seed=_seed(given.get("seed", 0)),
        steps=None if steps is None else _integer("steps", steps, 1),
        seconds=None if seconds is None else _number("seconds", seconds, 1e-9, math.inf),
        hyper=hyper,
        objective=objective,
        constraints=constraints,
        device=device,
        checkpoint_every=_integer("checkpoint_every", given.get("checkpoint_every", every), 1),
        sample_every=_integer("sample_every", given.get("sample_every", every), 1),
        audit_every=_optional_integer("audit_every", given.get("audit_every"), 0),
        audit_features=str(given.get("audit_features", "auto")),
        stop_when=None if "stop_when" not in given else str(given["stop_when"]),
        patience=_optional_integer("patience", given.get("patience"), 1),
        on_divergence=on_divergence,
        max_rollbacks=_integer("max_rollbacks", given.get("max_rollbacks", 3), 0),
        heed=heed,
        precision=precision,
        compile=_one_of("compile", given.get("compile", "off"), ("auto", "on", "off")),
        accumulate=_integer("accumulate", given.get("accumulate", 1), 1),
        plugins=used(
            [
                ("recipe", recipe.name),
                ("objective", objective.name),
                *(("constraint", constraint.name) for constraint in constraints),
                ("generator", str(hyper.generator_network)),
                ("critic", str(hyper.critic_network)),
                ("source", data),
            ]
        ),
    )
    config.method()  # every range that training states is checked here, before anything is written
    return config, departures


def _constraint_fields(given: Any) -> dict[str, Mapping[str, Any] | None]:
    """What was said of constraints, in a form that can be gone through."""
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and (fields is None or isinstance(fields, Mapping))
        for name, fields in given.items()
    ):
        raise UserError(
            "`constraints` must hold a name and its fields on each line, as in "
            f"`gradient-penalty: {{weight: 10}}`, got {given!r}"
        )
    return dict(given)


def find_device(name: str) -> str:
    """The device called `name`; auto is cuda where there is one.

    Raises:
        UserError: It is not on this machine.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise UnknownNameError("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device `cuda` is not on this machine; use --device cpu")
    return name


def find_precision(name: str, device: str, networks: set[str]) -> tuple[str, str]:
    """The precision called `name`, and why, where it was `auto` and there was something to choose.

    `auto` is bf16 for convolutions where the machine is fast at it.

    Raises:
        UserError: The device does not have it.
    """
    import torch

    if name == "auto":
        if not networks & {"dcgan", "dcgan-constant"}:
            return "fp32", ""
        if device == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        if not fast:
            return "fp32", ""
        return "bf16", "this machine's convolutions are faster so, and samples as good"
    if name not in PRECISIONS:
        raise UnknownNameError("precision", name, ("auto", *PRECISIONS))
    if name == "tf32" and device != "cuda":
        raise UserError("precision `tf32` is a GPU's; on this device use fp32 or bf16")
    return name, ""


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if isinstance(value, bool):  # YAML reads on and off as booleans
        value = "on" if value else "off"
    if value not in choices:
        raise UnknownNameError(name, str(value), choices)
    return str(value)


def _given(name: str, given: Mapping[str, Any]) -> bool:
    """Whether the user said what a setting, ``objective.field`` or ``constraint.field`` is."""
    part, dot, field = name.partition(".")
    if not dot:
        return name in given
    if part == "objective":
        return field in (given.get("objective") or {})
    return field in ((given.get("constraints") or {}).get(part) or {})


def _hyper(settings: Settings, objective: Objective, given: Mapping[str, Any]) -> Settings:
    """The settings with what the user gave; what the recipe does not have is refused."""
    values = {name: given[name] for name in _HYPER_FIELDS if name in given}
    current = dataclasses.asdict(settings)
    optimizer = str(values.get("optimizer", settings.optimizer))
    fields = _OPTIMIZER_FIELDS.get(optimizer, {})
    for name in ("beta1", "beta2", "alpha", "final_beta2"):
        if name not in fields:
            current[name] = None
            if name in values:
                raise UserError(
                    f"`{name}` is not a setting of optimizer `{optimizer}`; it has: "
                    f"{', '.join(fields)}"
                )
        elif current[name] is None:
            current[name] = fields[name]
    if not objective.uses_critic:
        for name in _CRITIC_FIELDS:
            if name in values and values[name] != current[name]:
                raise UserError(f"`{name}` is not a setting of this recipe: it has no critic")
    if values.get("schedule", settings.schedule) == "constant":
        for name, unset in (
            ("final_lr_share", 0.0),
            ("final_beta2", None),
            ("final_penalty_share", 1.0),
        ):
            if values.get(name, unset) != unset:
                raise UserError(
                    f"`{name}` is where a schedule ends; give schedule linear or cosine"
                )
            current[name] = unset
    share = current["lookahead_share"]
    without = values.get("lookahead_every", current["lookahead_every"]) is None
    if without and values.get("lookahead_share", share) != share:
        raise UserError("`lookahead_share` is a part of lookahead; give `lookahead_every` too")
    generator, critic = (
        values.get(role) or current[role] for role in ("generator_network", "critic_network")
    )
    if "depth" in values and {generator, critic} <= _FIXED_DEPTH:
        raise UserError(
            "`depth` is of networks `mlp` and `resnet`; a dcgan's follows from its size"
        )
    if generator != settings.generator_network or critic != settings.critic_network:
        for name, value in NETWORK_DEFAULTS.get(str(generator), {}).items():
            if name == "generator_norm" or current[name] is None:
                current[name] = value
        if generator == "mlp" or critic == "mlp":
            current["depth"] = current["depth"] or NETWORK_DEFAULTS["mlp"]["depth"]
    if "batch_size" in values and "generator_batch_size" not in values:
        ratio = (settings.generator_batch_size or settings.batch_size) / settings.batch_size
        current["generator_batch_size"] = int(values["batch_size"] * ratio)
    for field in dataclasses.fields(Settings):
        if field.name in values:
            current[field.name] = _coerce(field.name, str(field.type), values[field.name])
    for name in ("generator_norm", "critic_norm"):
        if current[name] is not None and current[name] not in NORMS:
            raise UnknownNameError("norm", str(current[name]), NORMS)
    return Settings(**current)


def _constraints(
    own: tuple[Constraint, ...], given: Mapping[str, Mapping[str, Any]]
) -> tuple[Constraint, ...]:
    """The recipe's constraints with fields overridden and others added."""
    found = {constraint.name: constraint for constraint in own}
    for name, fields in given.items():
        if name in found:
            fields = {**dataclasses.asdict(found[name]), **fields}  # type: ignore[call-overload]
        found[name] = make_constraint(name, fields)
    check_constraints(tuple(found.values()))
    return tuple(found.values())


def _override(objective: Objective, given: Mapping[str, Any]) -> Objective:
    known = {f.name: f for f in dataclasses.fields(objective)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise UnknownNameError(f"field of objective `{objective.name}`", name, known)
    values = {
        name: type(current)(value)
        if isinstance(current := getattr(objective, name), (int, float, str))
        and not isinstance(current, bool)
        else value
        for name, value in given.items()
    }
    return dataclasses.replace(objective, **values)  # type: ignore[type-var]


def _coerce(name: str, annotation: str, value: Any) -> Any:
    """A value from a file or a flag as the type its field has."""
    kind = annotation.split(" ")[0]
    if kind == "int":
        return _integer(name, value, -(2**63))
    if kind == "float":
        return _number(name, value, -math.inf, math.inf)
    if kind == "bool":
        if not isinstance(value, bool):
            raise UserError(f"`{name}` must be true or false, got {value!r}")
        return value
    return str(value)


def _optional_integer(name: str, value: Any, least: int) -> int | None:
    return None if value is None else _integer(name, value, least)


def _integer(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"`{name}` must be a whole number, got {value!r}")
    if value < least:
        raise UserError(f"`{name}` must be >= {least}, got {value}")
    return value


def _seed(value: Any, name: str = "seed") -> int:
    seed = _integer(name, value, 0)
    if seed >= 2**62:  # the networks' seeds are twice as large
        raise UserError(f"`{name}` must be < 2**62, got {seed}")
    return seed


def _number(name: str, value: Any, least: float, below: float) -> float:
    if isinstance(value, str):  # YAML reads 1e-4 as text
        try:
            value = float(value)
        except ValueError:
            raise UserError(f"`{name}` must be a number, got {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise UserError(f"`{name}` must be a number, got {value!r}")
    if not least <= value < below and not (value == below == math.inf and least == -math.inf):
        raise UserError(f"`{name}` must be in [{least:g}, {below:g}), got {value}")
    return float(value)
