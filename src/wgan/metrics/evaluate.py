"""Judge samples against data by numbers that do not come from the critic."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wgan.errors import UserError
from wgan.metrics.evaluation import Better, Evaluation, Measurement
from wgan.metrics.features import FeatureSpace, feature_space
from wgan.metrics.frechet import frechet_distance
from wgan.metrics.kernel import KernelDistance, kernel_distance
from wgan.metrics.modes import KnownModes, mode_coverage
from wgan.metrics.neighbours import (
    manifold,
    memorisation,
    nearest_neighbour_accuracy,
    nearest_other,
)
from wgan.metrics.two_sample import Distances, Sizes, Triple, compare, nearest, plan_sizes, pooled
from wgan.transport import (
    as_points,
    energy_statistic,
    exact_from_cost,
    permutation_test,
    random_directions,
    sliced_wasserstein,
)

Points = NDArray[np.float64]

_NEIGHBOUR = 5
_FEWEST = 2 * (_NEIGHBOUR + 1)  # halves of it still have a fifth neighbour
# Multiplications that one matrix of distances, and one search among training samples, may cost:
# about a second each on two cores.
_MATRIX_WORK = 3e10
_SEARCH_WORK = 3e10


def evaluate(
    samples: Any,
    reference: Any,
    *,
    train: Any | None = None,
    heldout: Any | None = None,
    more_real: Any | None = None,
    reference_name: str = "reference",
    unit: str = "the data's units",
    scale: Any | None = None,
    features: FeatureSpace | str | None = None,
    bounds: tuple[float, float] | None = None,
    modes: KnownModes | None = None,
    seed: int = 0,
    n_exact: int = 2000,
    n_features: int = 2000,
    permutations: int = 500,
    directions: int = 500,
) -> Evaluation:
    """Judge samples against real ones, with the same numbers for real against real beside.

    Arrays are ``[n, *shape]`` in the data's own units and are flattened. Samples are drawn from
    them without replacement where there are more than a measure uses; what was used is in the
    result. In more than 7,500 dimensions fewer than `n_exact` are (64x64x3: 1,562), so that a
    matrix of distances takes seconds.

    The floor of each number is that of the reference against other real samples: against
    `more_real`, or its own other half. Where there are too few for the full size the floor is that
    at half of what there is, and the samples' number at that size is given with it.

    Args:
        samples: What is judged, at least 12.
        reference: Real samples to judge by, at least 12.
        train: What the generator was trained on. With `heldout` it shows memorisation.
        heldout: Real samples that had no part in training.
        more_real: Real samples that are not in `reference`, for the floor.
        reference_name: What to call the reference: "held-out digits", say.
        unit: The unit of the samples: "pixel levels", say.
        scale: The unit of each column, ``[dim]`` > 0, by which samples are divided for every
            measure except `w1` and `sliced_w1`; `w1_scaled` is added. None: own units throughout. A
            table whose columns differ in width is else judged by the widest alone.
        features: Where Frechet, kernel, precision, recall, density and coverage are taken: a space,
            or what :func:`feature_space` makes of a name. None: the (scaled) samples up to 256
            numbers each, else their 64 leading principal components.
        bounds: What is black and white in pictures, for features that must know; None: 0 and 255 if
            they are uint8.
        modes: Known modes, of a synthetic source.
        seed: Seed of subsets, directions and permutations.
        n_exact: The most samples on each side for measures that need all distances.
        n_features: The most for Frechet and kernel distances, at least what other measures use.
        permutations: For the p-value of the energy distance.
        directions: Of the sliced W1.

    Raises:
        UserError: Shapes that differ, too few samples, values that are not finite.
    """
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    samples, reference = _array(samples, "samples"), _array(reference, "reference")
    shape = samples.shape[1:]
    extra = reference[:0] if more_real is None else _array(more_real, "more_real")
    for name, array in (("reference", reference), ("more_real", extra)):
        _same_shape(name, array, shape)
    for name, array in (("samples", samples), ("reference", reference)):
        if len(array) < _FEWEST:
            raise UserError(f"`{name}` must be at least {_FEWEST} to be judged, got {len(array)}")
    dim = math.prod(shape)
    widths = None if scale is None else _widths(scale, dim)

    limit = max(_FEWEST, min(n_exact, int(math.sqrt(_MATRIX_WORK / dim))))
    sizes = plan_sizes(len(samples), len(reference), len(extra), limit)
    feature_sizes = plan_sizes(len(samples), len(reference), len(extra), max(n_features, limit))
    drawn = _draw(rng, samples, feature_sizes.size)
    real = np.concatenate(
        [_draw(rng, reference, feature_sizes.real), _draw(rng, extra, feature_sizes.real)]
    )[: feature_sizes.real]

    x, y = as_points(drawn[: sizes.size], "samples"), as_points(real[: sizes.real], "reference")
    own = Distances.between(x, y, sizes)
    results = _in_own_units(x, y, own, directions, seed)
    if widths is None:
        scaled = own
    else:
        scaled = Distances.between(x / widths, y / widths, sizes)
        meaning = "exact transport distance with every column in units of its own scale"
        results.append(_measurement("w1_scaled", scaled.compare(_w1), sizes, "lower", meaning))
    if isinstance(features, FeatureSpace):
        space = features
    else:
        fitted = reference if train is None else _array(train, "train")
        low, high = bounds or (None, None)
        space = feature_space(features, fitted, scale=widths, low=low, high=high)
    results += _by_distances(scaled, permutations, seed)
    results += _by_features(space, drawn, real, sizes, feature_sizes, seed)
    if train is not None and heldout is not None:
        train, heldout = _array(train, "train"), _array(heldout, "heldout")
        _same_shape("train", train, shape)
        _same_shape("heldout", heldout, shape)
        results += _by_memory(drawn, train, _draw(rng, heldout, len(heldout)), widths)
    if modes is not None:
        results += _by_modes(samples, _draw(rng, reference, len(samples)), modes)
    compared = {
        "reference": reference_name,
        "samples": len(samples),
        "reference_samples": len(reference),
        "size": sizes.size,
        "floor_size": sizes.floor_size,
        "feature_size": feature_sizes.size,
        "feature_floor_size": feature_sizes.floor_size,
        "train_samples": None if train is None else len(train),
        "heldout_samples": None if heldout is None else len(heldout),
        "unit": unit,
        "scale": None if widths is None else widths.tolist(),
        "features": space.name,
        "features_fingerprint": space.fingerprint,
        "seed": seed,
    }
    return Evaluation(tuple(results), compared, time.perf_counter() - start)


def _array(values: Any, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise UserError(f"`{name}` must be an array of numbers [n, *shape], got {array.dtype}")
    return array[:, None] if array.ndim == 1 else array


def _same_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape[1:] != shape:
        raise UserError(
            f"`{name}` must have the shape of the samples, {list(shape)} each, "
            f"got {list(array.shape[1:])}"
        )


def _widths(scale: Any, dim: int) -> NDArray[np.float64]:
    widths = np.asarray(scale, dtype=np.float64).reshape(-1)
    if widths.shape != (dim,) or not np.isfinite(widths).all() or (widths <= 0).any():
        raise UserError(f"`scale` must be {dim} finite numbers > 0, one per column")
    return widths


def _draw(rng: np.random.Generator, array: NDArray[Any], count: int) -> NDArray[Any]:
    """Up to `count` rows in random order."""
    return array[rng.permutation(len(array))[:count]]


def _measurement(
    name: str, triple: Triple, sizes: Sizes, better: Better, meaning: str, **detail: Any
) -> Measurement:
    detail = {"size": sizes.size, "floor_size": sizes.floor_size, **detail}
    if not sizes.fair:
        detail["value_at_floor_size"] = triple.at_floor_size
    return Measurement(name, triple.value, triple.floor, better, detail, meaning)


def _in_own_units(
    x: Points, y: Points, own: Distances, directions: int, seed: int
) -> list[Measurement]:
    lines = random_directions(torch.Generator().manual_seed(seed), directions, x.shape[1]).double()

    def sliced(u: Points, v: Points) -> float:
        return float(sliced_wasserstein(torch.tensor(u), torch.tensor(v), lines))

    return [
        _measurement(
            "w1",
            own.compare(_w1),
            own.sizes,
            "lower",
            "exact transport distance between the samples, in own units",
        ),
        _measurement(
            "sliced_w1",
            compare(sliced, x, y, own.sizes),
            own.sizes,
            "lower",
            "mean transport distance along random lines, in own units",
            directions=directions,
        ),
    ]


def _w1(xx: Points, yy: Points, xy: Points) -> float:
    return exact_from_cost(xy).value


def _by_distances(scaled: Distances, permutations: int, seed: int) -> list[Measurement]:
    test = permutation_test(
        pooled(*scaled.of(scaled.sizes.size)),
        scaled.sizes.size,
        permutations=permutations,
        seed=seed,
    )

    def energy(xx: Points, yy: Points, xy: Points) -> float:
        return energy_statistic(pooled(xx, yy, xy), len(xx))

    def duplicates(xx: Points, yy: Points, xy: Points) -> float:
        return float(np.mean(nearest_other(xx) <= np.median(nearest_other(yy)) / 10))

    return [
        _measurement(
            "energy",
            scaled.compare(energy),
            scaled.sizes,
            "lower",
            f"energy distance; as large by chance with p = {test.p_value:.2g}",
            p_value=test.p_value,
            permutations=permutations,
        ),
        _measurement(
            "nn_accuracy",
            scaled.compare(nearest_neighbour_accuracy),
            scaled.sizes,
            "0.5",
            "how often the nearest neighbour tells samples from data",
        ),
        _measurement(
            "duplicates",
            scaled.compare(duplicates),
            scaled.sizes,
            "lower",
            "share of samples with a near copy among the samples",
        ),
    ]


def _by_features(
    space: FeatureSpace,
    drawn: NDArray[Any],
    real: NDArray[Any],
    sizes: Sizes,
    feature_sizes: Sizes,
    seed: int,
) -> list[Measurement]:
    x, y = space(drawn), space(real)
    where = {"features": space.name, "features_fingerprint": space.fingerprint}
    # The polynomial kernel means nothing for features in any unit: it gets them about the data's
    # mean and in units of the data's spread.
    centre = y.mean(axis=0)
    spread = float(np.sqrt(np.mean(np.square(y - centre)))) or 1.0

    def kernel_result(u: Points, v: Points) -> KernelDistance:
        return kernel_distance((u - centre) / spread, (v - centre) / spread, seed=seed)

    def kernel(u: Points, v: Points) -> float:
        return kernel_result(u, v).value

    full = kernel_result(x[: feature_sizes.size], y[: feature_sizes.size])

    results = [
        _measurement(
            "frechet",
            compare(frechet_distance, x, y, feature_sizes),
            feature_sizes,
            "lower",
            "Frechet distance of the features' means and covariances",
            **where,
        ),
        _measurement(
            "kernel",
            compare(kernel, x, y, feature_sizes),
            feature_sizes,
            "lower",
            "kernel distance (unbiased MMD^2) of the features, in units of the data's spread",
            spread=spread,
            deviation=full.deviation,
            subsets=full.subsets,
            subset_size=full.subset_size,
            **where,
        ),
    ]
    distances = Distances.between(x, y, sizes)
    for name, meaning in (
        ("precision", "share of samples that lie among the data"),
        ("recall", "share of the data that lie among the samples"),
        ("density", "how densely the data surround the samples; 1 is like data"),
        ("coverage", "share of data neighbourhoods that hold a sample"),
    ):

        def part(xx: Points, yy: Points, xy: Points, name: str = name) -> float:
            return float(getattr(manifold(xx, yy, xy, _NEIGHBOUR), name))

        triple = distances.compare(part)
        results.append(_measurement(name, triple, sizes, "higher", meaning, k=_NEIGHBOUR, **where))
    return results


def _by_memory(
    drawn: NDArray[Any], train: NDArray[Any], heldout: NDArray[Any], widths: Points | None
) -> list[Measurement]:
    dim = math.prod(drawn.shape[1:])
    most = max(200, int(_SEARCH_WORK / (len(train) * max(dim, 32))))
    near = []
    for array, name in ((drawn, "samples"), (heldout, "heldout")):
        points = as_points(array[:most], name)
        near.append(nearest(points if widths is None else points / widths, train, widths))
    result = memorisation(*near)
    detail = {"samples": len(near[0]), "heldout": len(near[1]), "train": len(train)}
    return [
        Measurement(
            "memorisation",
            result.closeness,
            0.5,
            "0.5",
            {**detail, "p_value": result.p_value},
            "chance that a sample is nearer to training data than unseen data are; "
            f"p = {result.p_value:.2g} for nearer",
        ),
        Measurement(
            "copies",
            result.copies,
            result.heldout_copies,
            "lower",
            {**detail, "threshold": result.threshold},
            "share of samples that are near copies of training data",
        ),
    ]


def _by_modes(samples: NDArray[Any], real: NDArray[Any], modes: KnownModes) -> list[Measurement]:
    judged, floor = mode_coverage(samples, modes), mode_coverage(real, modes)
    detail = {"size": len(samples), "floor_size": len(real), "of": judged.total}
    return [
        Measurement(
            "modes",
            judged.found,
            floor.found,
            "higher",
            {**detail, "min_share": judged.min_share, "radius": judged.radius},
            f"modes found of {judged.total}",
        ),
        Measurement(
            "near_modes",
            judged.near,
            floor.near,
            "higher",
            {**detail, "deviations": judged.deviations, "shares": judged.shares},
            f"share of samples within {judged.deviations:g} standard deviations of a mode",
        ),
    ]
