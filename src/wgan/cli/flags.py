"""The flags that set settings, grouped as `--help` shows them. None: not given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

Plugins = Annotated[list[Path] | None, Parameter(name="--plugin", negative="")]
"""Files whose code is executed for the parts that it registers."""

_DATA = Group("Data", sort_key=2)
_METHOD = Group("Method", sort_key=3)
_NETWORKS = Group("Networks", sort_key=4)
_AUDIT = Group("Audit", sort_key=5)


@Parameter(name="*", group=_DATA)
@dataclass(frozen=True)
class DataFlags:
    """How the data is read."""

    size: int | None = None
    """Height and width of pictures: a multiple of 4, from 8 up [64]."""
    holdout: float | None = None
    """Share never trained on, for judging [0.1]."""
    split_seed: int | None = None
    """Of which samples those are; runs that are compared share it [0]."""
    key: str | None = None
    """Which array of an .npz or HDF5 file."""
    layout: str | None = None
    """How to read an array: rows, images, images-last, volumes, volumes-last."""
    columns: str | None = None
    """Columns of a table, separated by commas."""
    condition: str | None = None
    """What to condition on: columns of a table, or arrays of the same file, by commas."""
    drop_missing: Annotated[bool | None, Parameter(negative="")] = None
    """Leave out the rows of a table that miss a value."""
    skip_bad: Annotated[bool | None, Parameter(negative="")] = None
    """Leave out pictures that cannot be read."""


@Parameter(name="*", group=_METHOD)
@dataclass(frozen=True)
class MethodFlags:
    """How the players are trained; `wgan recipes --json` has every recipe's values."""

    batch_size: int | None = None
    """Real samples in a critic update, over all processes."""
    generator_batch_size: int | None = None
    """Fake samples in a generator update."""
    n_critic: int | None = None
    """Batches that the critic sees per step."""
    n_critic_max: int | None = None
    """Batches that it sees at most, while a probe says that it still gains."""
    critic_passes: int | None = None
    """Updates that the critic makes on each batch."""
    warmup: bool | None = None
    """100 critic batches in each of the first 25 steps and every 500th."""
    extrapolate: bool | None = None
    """Extragradient: both players look a step ahead before they move."""
    lookahead_every: int | None = None
    """Steps after which both players go back towards where they were."""
    lookahead_share: float | None = None
    """How much of the way they then keep [0.5]."""
    lr: float | None = None
    """Learning rate of both players."""
    generator_lr: float | None = None
    """Learning rate of the generator."""
    critic_lr: float | None = None
    """Learning rate of the critic."""
    optimizer: str | None = None
    """adam, adamw, optimistic-adam, rmsprop or sgd."""
    beta1: float | None = None
    """Adam's averaging of the gradient; SGD's momentum."""
    beta2: float | None = None
    """Adam's averaging of the squared gradient."""
    alpha: float | None = None
    """RMSProp's averaging of the squared gradient."""
    schedule: str | None = None
    """Of the learning rates: constant, linear or cosine."""
    final_lr_share: float | None = None
    """What a schedule leaves of the rates at the end [0]."""
    final_beta2: float | None = None
    """Where a schedule has taken beta2 at the end."""
    final_penalty_share: float | None = None
    """What a schedule leaves of the constraints' penalties at the end [1]."""
    clip_norm: float | None = None
    """Largest norm of a gradient."""
    precision: str | None = None
    """Of the networks' passes: fp64, fp32, tf32, bf16, or auto: bf16 for convolutions [auto]."""
    compile: str | None = None
    """Compile the losses: on, off or auto: where a long run may gain by it [off]."""
    accumulate: int | None = None
    """Parts that each batch is split into, one in memory at a time [1]."""
    average: float | None = None
    """Decay of the generator's running average; 0 for none."""
    constraint: Annotated[list[str] | None, Parameter(negative="")] = None
    """NAME[:field=value,...]; overrides the recipe's own, or adds one. Repeatable."""
    objective: str | None = None
    """Fields of the recipe's objective: field=value,..."""


@Parameter(name="*", group=_NETWORKS)
@dataclass(frozen=True)
class NetworkFlags:
    """What the players are."""

    network: str | None = None
    """Both networks: mlp, dcgan, dcgan-constant or resnet."""
    generator_network: str | None = None
    """The generator's network."""
    critic_network: str | None = None
    """The critic's network."""
    width: int | None = None
    """Units of a hidden layer (mlp) or filters (dcgan, resnet)."""
    depth: int | None = None
    """Hidden layers of an mlp, or residual blocks of a resnet."""
    latent: int | None = None
    """Length of a latent vector [64]."""
    generator_norm: str | None = None
    """none, layer or batch."""
    generator_spectral: bool | None = None
    """Normalise the generator's weights spectrally."""
    generator_orthogonal: float | None = None
    """Weight of orthogonal regularisation of the generator [0]."""
    critic_norm: str | None = None
    """none, layer or batch."""
    dropout: float | None = None
    """Share of hidden units that the critic drops."""
    features: int | None = None
    """Features that the critic gives before its score."""


@Parameter(name="*", group=_AUDIT)
@dataclass(frozen=True)
class AuditFlags:
    """How a run is judged on the way, on data that it never trains on."""

    audit_every: int | None = None
    """Steps between audits; 0 for none [as many as take 5% of the time]."""
    audit_features: str | None = None
    """Where the excess is taken: raw, slices, pca:K, a weights file, MODULE:FUNCTION [auto]."""
    stop_when: str | None = None
    """End the run once a term of its records satisfies this: "audit.excess < 0.05"."""
    patience: int | None = None
    """End it after so many audits without a smaller excess."""


def load_plugins(plugins: Sequence[Path] | None) -> str:
    """Load the plugins that were named; the flags that name them again, to be printed."""
    if not plugins:
        return ""
    import shlex

    from wgan.plugins import load_plugins

    load_plugins(plugins)
    return "".join(f" --plugin {shlex.quote(str(path))}" for path in plugins)


def checkpoint_of(text: str) -> str | int:
    """The checkpoint that a flag names: a step where it is a number."""
    return int(text) if text.isdigit() else text


def settings_from(
    *parts: DataFlags | MethodFlags | NetworkFlags | AuditFlags,
    config: Path | None = None,
    **others: Any,
) -> dict[str, Any]:
    """The settings that flags and a configuration file give; flags win."""
    from wgan.config import read_config
    from wgan.constraints import parse_constraint

    flags: dict[str, Any] = dict(others)
    for part in parts:
        flags |= asdict(part)
    for name in ("columns", "condition"):
        if flags.get(name) is not None:
            flags[name] = tuple(item.strip() for item in flags[name].split(","))
    given: dict[str, Any] = read_config(config) if config else {}
    constraints = flags.pop("constraint", None)
    if constraints:
        merged = {name: dict(fields or {}) for name, fields in given.get("constraints", {}).items()}
        for text in constraints:
            name, fields = parse_constraint(text)
            merged[name] = {**merged.get(name, {}), **fields}
        given["constraints"] = merged
    objective = flags.pop("objective", None)
    if objective:
        _, fields = parse_constraint(f"objective:{objective}")
        given["objective"] = {**_mapping(given.get("objective")), **fields}
    return {**given, **{name: value for name, value in flags.items() if value is not None}}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
