"""Spaces in which Frechet and kernel distances compare samples, each with a fingerprint."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wgan.errors import UserError
from wgan.files import npz_arrays, npz_headers, refuse_special
from wgan.metrics.classifiers import read_pictures, recognise
from wgan.transport import as_points

_DAMAGE = (
    *(OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)
_BATCH = 500
_PCA_SAMPLES = 2000
# Beyond this many numbers per sample neighbours in the raw space tell little, and slowly.
_RAW_LIMIT = 256


@dataclass(frozen=True)
class FeatureSpace:
    """A fixed map from samples in the data's own units to features.

    Attributes:
        name: What it is, for a person.
        fingerprint: 16 hexadecimal digits of a hash of everything that determines the features:
            numbers compare only where it is equal.
        extract: ``[n, *shape]`` to ``[n, k]``.
    """

    name: str
    fingerprint: str
    extract: Callable[[NDArray[Any]], Any]

    def __call__(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        """The features ``[n, k]`` in float64.

        Raises:
            UserError: The map does not give one finite row per sample.
        """
        parts = []
        for start in range(0, len(samples), _BATCH):
            batch = samples[start : start + _BATCH]
            part = np.asarray(self.extract(batch))
            if part.ndim != 2 or len(part) != len(batch):
                raise UserError(
                    f"features `{self.name}` must be one row per sample, [{len(batch)}, k], "
                    f"got shape {list(part.shape)}"
                )
            parts.append(as_points(part, f"features {self.name}"))
        return np.concatenate(parts)


def feature_space(
    spec: str | None,
    real: NDArray[Any],
    *,
    scale: NDArray[np.float64] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> FeatureSpace:
    """The feature space that `spec` names.

    - ``raw``: the samples themselves, flattened.
    - ``pca:K``: the K leading principal components of the real samples (of 2,000 drawn of them).
    - ``FILE.npz``: the last hidden layer of a known classifier, recognised by its arrays: LeNet-5
      (grey, 84 features) or the CIFAR ResNet-20 (colour, 64 features).
    - ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``: a function of the samples in their own units
      ``[n, *shape]`` that gives ``[n, k]``, called with up to 500 at a time. The file or module is
      run.
    - None: ``raw`` up to 256 numbers a sample, else ``pca:64``.

    Args:
        spec: As above.
        real: Real samples ``[n, *shape]`` in their own units, for ``pca`` and to check the shape.
        scale: Unit of each number of a flattened sample, ``[dim]``, by which ``raw`` and ``pca``
            divide; None: their own units. For tables, whose widest column would else rule.
        low: What is black in pictures; with `high` needed by a classifier unless they are uint8.
        high: What is white.

    Raises:
        UserError: A spec that is none of these, or one that does not fit the samples.
    """
    real = np.asarray(real)
    dim = int(np.prod(real.shape[1:]))
    if spec is None:
        spec = "raw" if dim <= _RAW_LIMIT else f"pca:{min(64, dim, len(real))}"
    if spec == "raw":
        return FeatureSpace("raw", _fingerprint("raw", scale), lambda v: _scaled(v, scale))
    if spec.startswith("pca"):
        return _pca(spec, real, scale)
    if spec.endswith(".npz"):
        return _classifier(Path(spec), real, low, high)
    if ":" in spec:
        return _own(spec)
    raise UserError(
        f"unknown features {spec!r}. Known: raw, pca:K, a weights file FILE.npz, "
        "or your own function as FILE.py:FUNCTION or MODULE:FUNCTION."
    )


def _fingerprint(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            part = np.ascontiguousarray(part).tobytes()
        content = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:16]


def _scaled(values: NDArray[Any], scale: NDArray[np.float64] | None) -> NDArray[np.float64]:
    points = as_points(values)
    return points if scale is None else points / scale


def _pca(spec: str, real: NDArray[Any], scale: NDArray[np.float64] | None) -> FeatureSpace:
    match = re.fullmatch(r"pca:(\d+)", spec)
    # Drawn, for data come sorted; in their own order, for memory maps.
    rows = np.sort(np.random.default_rng(0).permutation(len(real))[:_PCA_SAMPLES])
    chosen = real[rows]
    fitted = _scaled(chosen, scale)
    most = min(fitted.shape)
    if match is None or not 1 <= int(match[1]) <= most:
        raise UserError(f"features `pca:K` take K from 1 to {most} for these samples, got {spec!r}")
    from sklearn.decomposition import PCA

    pca = PCA(int(match[1]), random_state=0, iterated_power=3).fit(fitted)
    mean, components = pca.mean_, pca.components_
    return FeatureSpace(
        spec,
        # Of the data and not of the components, whose last bits depend on the machine.
        _fingerprint(spec, scale, chosen),
        lambda values: (_scaled(values, scale) - mean) @ components.T,
    )


def _classifier(
    path: Path, real: NDArray[Any], low: float | None, high: float | None
) -> FeatureSpace:
    try:
        refuse_special(path)
        headers = npz_headers(path)
        bad = [name for name, (_, dtype) in headers.items() if dtype.kind != "f"]
        if bad:
            raise ValueError(f"array `{bad[0]}` holds {headers[bad[0]][1]}, not weights")
        arrays = npz_arrays(path, list(headers))
        if bad := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
            raise ValueError(f"array `{bad[0]}` holds weights that are not finite")
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read the weights file {path}: {reason}") from None
    weights = {name: torch.from_numpy(value.astype(np.float32)) for name, value in arrays.items()}
    classifier = recognise(weights)
    if classifier is None:
        raise UserError(
            f"{path} does not hold the weights of a known classifier (lenet5, resnet20); for "
            "another network give your own function as FILE.py:FUNCTION"
        )
    if low is None or high is None:
        if real.dtype != np.uint8:
            raise UserError(
                f"features from {path.name} need the range of pictures of dtype {real.dtype}: "
                "give `low` and `high`"
            )
        low, high = 0.0, 255.0
    if not low < high:
        raise UserError(f"`low` must be below `high`, got {low} and {high}")
    first, span = low, high - low
    _as_pictures(real[:1])

    @torch.no_grad()
    def extract(values: NDArray[Any]) -> NDArray[Any]:
        pictures = (_as_pictures(values).float() - first) / span
        return classifier.forward(weights, read_pictures(classifier, pictures))[0].numpy()

    content = [part for name in sorted(arrays) for part in (name, arrays[name])]
    fingerprint = _fingerprint(classifier.name, "32x32 bilinear", first, span, *content)
    return FeatureSpace(f"{classifier.name} ({path.name})", fingerprint, extract)


def _as_pictures(values: NDArray[Any]) -> Tensor:
    """Arrays ``[n, h, w]``, ``[n, h, w, c]`` or ``[n, c, h, w]`` to a tensor ``[n, c, h, w]``."""
    tensor = torch.tensor(np.asarray(values))  # a copy: memory maps are read-only
    if tensor.ndim == 3:
        return tensor[:, None]
    if tensor.ndim == 4 and tensor.shape[3] in (1, 3):
        return tensor.movedim(3, 1)
    if tensor.ndim == 4 and tensor.shape[1] in (1, 3):
        return tensor
    raise UserError(
        "a classifier's features need pictures [n, h, w], or with an axis of 1 or 3 channels, "
        f"got shape {list(values.shape)}"
    )


def _own(spec: str) -> FeatureSpace:
    where, _, name = spec.rpartition(":")
    try:
        if where.endswith(".py"):
            found = importlib.util.spec_from_file_location(Path(where).stem, where)
            assert found is not None
            assert found.loader is not None
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        raise UserError(f"cannot load features {spec!r}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"features {spec!r}: {where} has no function `{name}`")
    file = inspect.getsourcefile(module)
    content = Path(file).read_bytes() if file else b""
    return FeatureSpace(spec, _fingerprint("own", name, content), function)
