"""Synthetic sources with known answers: unlimited points of the plane.

Sample i of a source is a function of (seed, i) alone: counter i of the Philox generator (Salmon et
al. 2011, "Parallel random numbers: as easy as 1, 2, 3") gives four uniform numbers, of which a
sample takes what it needs. Any process can therefore read any samples, in any order.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from torch import Tensor

from wgan.data.codec import Codec
from wgan.errors import UserError
from wgan.types import Batch

Points = NDArray[np.float64]


class Synthetic:
    """Points ``[n, 2]`` of a known distribution, with equally probable modes.

    Attributes:
        centres: Where the modes are, ``[modes, 2]``.
        standard_deviation: How far the samples of a mode lie from its centre, per axis.
        what: One line on what it is.
        citation: Where it comes from.
    """

    name: str
    what: ClassVar[str]
    citation: ClassVar[str]
    centres: Points
    standard_deviation: float

    size: int | None = None
    codec = Codec(kind="rows", shape=(2,), dtype="float32")

    def __init__(self, seed: int = 0, stream: int = 0) -> None:
        """Args:
        seed: In [0, 2**64).
        stream: Which of the independent streams of this seed; :meth:`split` picks others.
        """
        self.seed = seed
        self.stream = stream

    def points(self, uniform: Points) -> Points:
        """Points ``[n, 2]`` from independent uniform numbers ``[n, 4]`` in (0, 1)."""
        raise NotImplementedError

    def modes(self, points: NDArray[Any]) -> NDArray[np.int64]:
        """The mode of each point ``[n, 2]``, ``[n]``: the one with the nearest centre."""
        from scipy.spatial import cKDTree

        return np.asarray(cKDTree(self.centres).query(np.asarray(points))[1], dtype=np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(2,)``."""
        return self.codec.shape

    @property
    def fingerprint(self) -> str:
        """A hash of the name, the seed and the stream."""
        return hashlib.sha256(f"{self.name}/1/{self.seed}/{self.stream}".encode()).hexdigest()

    def batch(self, indices: Tensor) -> Batch:
        """The samples with these numbers; runs of consecutive numbers are drawn in one go."""
        points = self.points(self._uniform(indices.numpy()))
        return Batch(torch.from_numpy(points.astype(np.float32)))

    def describe(self) -> dict[str, Any]:
        """What it is, in plain data."""
        return {
            "name": self.name,
            "what": self.what,
            "shape": list(self.shape),
            "size": None,
            "modes": len(self.centres),
            "standard_deviation": self.standard_deviation,
            "seed": self.seed,
            "source": self.citation,
            "fingerprint": self.fingerprint,
        }

    def split(self, holdout: float, seed: int) -> tuple[Synthetic, Synthetic]:
        """Two independent streams, as a function of the seed; both are unlimited."""
        if not 0 <= holdout < 1:
            raise UserError(f"`holdout` must be in [0, 1), got {holdout}")
        train, held = (
            int.from_bytes(hashlib.sha256(f"{self.stream}/{seed}/{part}".encode()).digest()[:8])
            for part in ("train", "held out")
        )
        return type(self)(self.seed, train), type(self)(self.seed, held)

    def _uniform(self, indices: NDArray[np.int64]) -> Points:
        """Four numbers in (0, 1) per sample, ``[n, 4]``: one count of Philox makes just four."""
        uniform = np.empty((len(indices), 4))
        ends = [*(np.flatnonzero(np.diff(indices) != 1) + 1).tolist(), len(indices)]
        key = np.array([self.seed, self.stream], dtype=np.uint64)
        start = 0
        for end in ends if len(indices) else []:
            rng = Generator(Philox(key=key, counter=int(indices[start])))
            uniform[start:end] = rng.random((end - start, 4))
            start = end
        return np.maximum(uniform, 2.0**-54)  # 0 has no normal quantile


class Gaussians(Synthetic):
    """An equal mixture of isotropic Gaussians: the centre from u0, the offset from u1 and u2."""

    def points(self, uniform: Points) -> Points:
        """Quantiles of the normal distribution around a centre."""
        from scipy.special import ndtri

        centre = (uniform[:, 0] * len(self.centres)).astype(np.int64)
        noise: Points = ndtri(uniform[:, 1:3])
        return self.centres[centre] + self.standard_deviation * noise


class Gaussians8(Gaussians):
    """Eight Gaussians on a circle of radius 2 with standard deviation .02, all over 1.414."""

    name = "gaussians8"
    what = "8 Gaussians on a circle of radius 2, standard deviation .02, scaled by 1/1.414"
    citation = "Gulrajani et al. 2017, figure 1"
    _angles = np.arange(8) * math.pi / 4
    centres = 2 / 1.414 * np.stack([np.cos(_angles), np.sin(_angles)], axis=1)
    standard_deviation = 0.02 / 1.414


class Gaussians25(Gaussians):
    """Twenty-five Gaussians on the grid {-4, -2, 0, 2, 4}^2 with deviation .05, all over 2.828."""

    name = "gaussians25"
    what = "25 Gaussians on a 5 x 5 grid of step 2, standard deviation .05, scaled by 1/2.828"
    citation = "Gulrajani et al. 2017, figure 1"
    _ticks = np.arange(-4.0, 5.0, 2.0) / 2.828
    centres = np.stack(np.meshgrid(_ticks, _ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    standard_deviation = 0.05 / 2.828


class SwissRoll(Synthetic):
    """A spiral, (t cos t, t sin t) / 7.5 with t ~ U[1.5 pi, 4.5 pi], and Gaussian noise .25 / 7.5.

    Its modes are 100 equally probable stretches of the arm, in order from the inside. They are so
    short (at most .18 long) that a sample is rarely further than four standard deviations of the
    noise from the nearest centre.
    """

    name = "swissroll"
    what = "a spiral with 1.5 turns and noise, scaled by 1/7.5; modes are 100 stretches of its arm"
    citation = "Gulrajani et al. 2017, figure 1; scikit-learn's make_swiss_roll from above"
    standard_deviation = 0.25 / 7.5

    @staticmethod
    def arm(position: Points) -> Points:
        """Points of the noiseless arm ``[n, 2]`` at positions ``[n]`` from 0 (inside) to 1."""
        t = 1.5 * math.pi * (1 + 2 * position)
        return np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / 7.5

    def points(self, uniform: Points) -> Points:
        """A place on the arm from u0, an offset from u1 and u2."""
        from scipy.special import ndtri

        noise: Points = ndtri(uniform[:, 1:3])
        return self.arm(uniform[:, 0]) + self.standard_deviation * noise


SwissRoll.centres = SwissRoll.arm((np.arange(100) + 0.5) / 100)


class ParallelLines(Synthetic):
    """The real half of the paper's Example 1: (0, Z) with Z ~ U[0, 1].

    A generator (theta, Z) is at W1 = abs(theta) from it, at Jensen-Shannon divergence log 2 unless
    theta is 0. Its modes are ten equal segments of the line; `standard_deviation` is that of a
    uniform number in a segment, .1 / sqrt(12).
    """

    name = "parallel-lines"
    what = "(0, Z) with Z ~ U[0, 1]; modes are 10 segments; (theta, Z) is at W1 = |theta|"
    citation = "Arjovsky et al. 2017, example 1"
    centres = np.stack([np.zeros(10), (np.arange(10) + 0.5) / 10], axis=1)
    standard_deviation = 0.1 / math.sqrt(12)

    def points(self, uniform: Points) -> Points:
        """Z is u0."""
        return np.stack([np.zeros(len(uniform)), uniform[:, 0]], axis=1)


SYNTHETIC: dict[str, type[Synthetic]] = {
    kind.name: kind for kind in (Gaussians8, Gaussians25, SwissRoll, ParallelLines)
}
