"""What stands on either side of a distance: data by any name, or fresh samples of a run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wgan.bounds import FEWEST, Scaled, certify
from wgan.bounds.lipschitz import float64_copy
from wgan.data import DataOptions, open_source
from wgan.data.base import Source, spread_rows
from wgan.data.codec import Codec
from wgan.errors import UserError
from wgan.metrics.features import FeatureSpace, feature_space
from wgan.trained import Data, Trained

Operand = Data | Trained
"""Data as for training, the path of a run, or a run."""

MOST = 20_000
"""Samples of each that are taken where there are more and nothing else is asked for."""

_LEAST = 1_000  # however short the time
_NUMBERS = 500_000  # that can be read and compared in a second

_UNLIMITED = 10_000  # of a run or a synthetic source: each costs a pass or memory


@dataclass(frozen=True)
class Side:
    """Samples on one side.

    Attributes:
        name: What to call them.
        samples: ``[n, *own_shape]`` in own units.
        bounds: What every number is between, by the data's type; None where that is not known.
        unit: Of the numbers.
        said: What a reader should know of how they were taken.
    """

    name: str
    samples: NDArray[Any]
    bounds: tuple[float, float] | None
    unit: str
    said: tuple[str, ...] = ()


def gather(
    a: Operand,
    b: Operand,
    *,
    n: int | None = None,
    seed: int = 0,
    seconds: float | None = None,
    options: DataOptions | None = None,
) -> tuple[Side, Side]:
    """Samples of both sides, independent of one another.

    A run beside the data that it was trained on is compared with the part it has not seen. Two
    sides of one unlimited source get different samples of it.

    Args:
        a, b: What to compare.
        n: Samples of each; None: what there is, at most `MOST`, and no more than `seconds` allow.
        seed: Of what is drawn.
        seconds: For all that is to be done with them; None: no matter.
        options: How what is neither a run nor an array is read; None: as the run on the other side
            was told to, if it was trained on it.

    Raises:
        UserError: Whatever is wrong with one of them, or shapes that differ.
    """
    if n is not None and n < 1:
        raise UserError(f"`n` must be >= 1, got {n}")
    runs = _run(a), _run(b)
    first = runs[0] or _opened(a, runs[1], options)
    second = runs[1] or _opened(b, runs[0], options)
    most = MOST
    if seconds is not None:
        widest = max(_dim(first), _dim(second))
        most = int(min(MOST, max(_LEAST, _NUMBERS * seconds / widest)))
    sides = (
        _taken(first, second, n, most, 2 * seed, _said(a, "a")),
        _taken(second, first, n, most, 2 * seed + 1, _said(b, "b")),
    )
    shapes = [side.samples.shape[1:] for side in sides]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{sides[0].name} has samples of shape {list(shapes[0])} and {sides[1].name} of "
            f"{list(shapes[1])}; they cannot be compared"
        )
    return sides


def common_bounds(a: Side, b: Side) -> tuple[float, float] | None:
    """The range that holds for both by their types, or None."""
    if a.bounds is None or b.bounds is None:
        return None
    return min(a.bounds[0], b.bounds[0]), max(a.bounds[1], b.bounds[1])


def features_of(
    features: Callable[[NDArray[Any]], Any] | str, a: Side, b: Side
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sides' features ``[n, k]``, by a function or by what `wgan evaluate --features` names.

    Raises:
        UserError: A map that is fitted to samples, whose own randomness no bound here allows for;
            one that is not known, or does not give a finite row for every sample.
    """
    if callable(features):
        space = FeatureSpace("of your own", "", features)
    elif features.startswith("pca"):
        raise UserError(
            f"features {features} are fitted to the samples, and a bound must not depend on how; "
            "give MODULE:FUNCTION, FILE.py:FUNCTION or a weights file FILE.npz"
        )
    else:
        low, high = common_bounds(a, b) or (None, None)
        space = feature_space(features, b.samples, low=low, high=high)
    return space(a.samples), space(b.samples)


def _said(operand: Operand, name: str) -> str:
    return str(operand) if isinstance(operand, (str, os.PathLike)) else f"`{name}`"


def _run(operand: Operand) -> Trained | None:
    if isinstance(operand, Trained):
        return operand
    if isinstance(operand, (str, os.PathLike)) and (Path(operand) / "card.json").is_file():
        from wgan.run import Run

        return Trained(Run.open(operand), None, None)
    return None


def _opened(
    operand: Operand, other: Trained | None, options: DataOptions | None
) -> Source | NDArray[Any]:
    assert not isinstance(operand, Trained)
    if isinstance(operand, torch.Tensor):
        operand = operand.detach().cpu().numpy()
    if isinstance(operand, np.ndarray):
        return operand  # as it is: sources refuse what training cannot use, NaN is refused below
    if options is None and other is not None and str(operand) == other.config.data:
        options = other.config.options
    return open_source(operand, options or DataOptions())


def _taken(
    one: Source | Trained | NDArray[Any],
    other: Source | Trained | NDArray[Any],
    n: int | None,
    most: int,
    seed: int,
    name: str,
) -> Side:
    if isinstance(one, np.ndarray):
        if one.ndim == 0:
            raise UserError(f"{name} must hold samples [n, *shape], got a single number")
        bounds = (0.0, 255.0) if one.dtype == np.uint8 else None
        unit = "levels of 0 to 255" if one.dtype == np.uint8 else "the data's units"
        return Side(name, _spread(one, n or most), bounds, unit)
    if isinstance(one, Trained):
        count = n or min(most, _UNLIMITED if not isinstance(other, Source) else _match(other))
        return Side(name, one.sample(count, seed=seed), *_of_codec(one.codec))
    said: tuple[str, ...] = ()
    if isinstance(other, Trained) and one.fingerprint == other.run.card["data"]["fingerprint"]:
        _, held = one.split(other.config.holdout, other.config.split_seed)
        if held.size is None or held.size >= FEWEST:
            one, name = held, f"{name} (held out)"
        else:
            said = (f"{name} is compared in full: the run left out only {held.size} samples",)
    if one.size is None:
        rows = torch.arange(n or min(most, _UNLIMITED)) + seed * 10**9
        samples = one.codec.decode(one.batch(rows).values)
    else:
        rows = spread_rows(one.size, n or most)
        parts = [one.codec.decode(one.batch(part).values) for part in torch.split(rows, 1024)]
        samples = np.concatenate(parts)
    return Side(name, samples, *_of_codec(one.codec), said)


def _dim(one: Source | Trained | NDArray[Any]) -> int:
    """Numbers in a sample."""
    shape = one.shape[1:] if isinstance(one, np.ndarray) else one.codec.own_shape
    return max(1, int(np.prod(shape)))


def _match(source: Source) -> int:
    return _UNLIMITED if source.size is None else min(max(source.size, 1_000), MOST)


def _spread(array: NDArray[Any], most: int) -> NDArray[Any]:
    return array if len(array) <= most else array[spread_rows(len(array), most).numpy()]


def _of_codec(codec: Codec) -> tuple[tuple[float, float] | None, str]:
    typed = codec.kind != "rows" and codec.low is not None and codec.high is not None
    unit = "levels of 0 to 255" if codec.dtype == "uint8" and codec.high == 255 else None
    bounds = (float(codec.low), float(codec.high)) if typed else None  # type: ignore[arg-type]
    return bounds, unit or "the data's units"


def critic_of(run: str | os.PathLike[str] | Trained, name: str = "the run's critic") -> Scaled:
    """A run's critic on flat samples in own units, divided by its certified constant.

    Raises:
        UserError: It has no critic, is conditional, or is made of what cannot be certified.
    """
    if not isinstance(run, Trained):
        from wgan.run import Run

        run = Trained(Run.open(run), None, None)
    if run.critic is None:
        raise UserError(f"{run.run.path} has no critic: recipe `{run.config.recipe}` needs none")
    if run.codec.condition:
        raise UserError(
            f"{run.run.path} has a critic of samples and conditions, which bounds no distance "
            "between samples alone"
        )
    constant = certify(run.critic, run.codec.shape).constant
    steepest = 1 / min(run.codec.values.scale)
    reader = _FromOwnUnits(float64_copy(run.critic), run.codec)
    dim = int(np.prod(run.codec.own_shape))
    return Scaled(
        reader, run.codec.own_shape, max(constant, 1e-300) * steepest, np.zeros(dim), 1.0, name
    )


class _FromOwnUnits(torch.nn.Module):
    """A critic of training units as one of own units, in float64."""

    def __init__(self, critic: torch.nn.Module, codec: Codec) -> None:
        super().__init__()
        self.critic = critic
        self.codec = codec

    def forward(self, own: torch.Tensor) -> Any:
        codec = self.codec
        if codec.layout == "channels-last":
            own = own.movedim(-1, 1)
        values = own.reshape(len(own), *codec.shape)
        offset, scale = (torch.tensor(part).double() for part in dataclasses.astuple(codec.values))
        return self.critic((values - offset) / scale)
