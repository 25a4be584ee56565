"""A language model over characters by WGAN-GP, and by a standard GAN.

Generator and critic are one-dimensional residual networks over windows of 32 characters. The
generator ends in a softmax over the characters at each place, which goes to the critic as it is,
beside the one-hot characters of the text; only to read a sample is a character drawn at each place.
A standard GAN of the same networks has a discriminator that can tell one-hot from anything else,
which leaves its generator with little to learn from.

The n-grams of the samples are compared with those of held-out text by the Jensen-Shannon
divergence, in nats, at most log 2. Its floor is that of another part of the held-out text, as long
as the samples.

Unlike the paper's: the text (novels of 30 characters, windows from anywhere), the size (3 blocks of
32 filters, not 5 of 512), batches of 32, a rate of 1e-3, 3 critic updates a step, not 10, and 3,000
steps; samples are drawn from the softmax, not its likeliest characters. These settings are not
tuned: trials from seed 100 changed nothing.

Source: Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017, section 5.
"""

from __future__ import annotations

import gzip
import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import one_hot

from wgan.constraints import Constraint, GradientPenalty
from wgan.data.arrays import ArraySource
from wgan.data.codec import Codec
from wgan.errors import NonFiniteError
from wgan.experiments.reproduction.base import (
    Budget,
    Claim,
    Experiment,
    MissingDataError,
    Outcome,
)
from wgan.experiments.reproduction.drawing import label, legend, panels
from wgan.experiments.reproduction.pictures import data_folder
from wgan.networks.resnet import Residual
from wgan.objectives import Objective, Standard, Wasserstein
from wgan.reports.style import INK, MUTED, SERIES
from wgan.training import Method, OptimizerSpec, TrainState, synthesize, train
from wgan.types import Batch, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Symbols = NDArray[np.uint8]
Counts = tuple[NDArray[np.int64], NDArray[np.float64]]

FILE = "text/novels_12mb.txt.gz"
ALPHABET = " abcdefghijklmnopqrstuvwxyz.,'"
LENGTH = 32
ORDERS = (1, 2, 3, 4, 5, 6)
METHODS: dict[str, tuple[Objective, tuple[Constraint, ...], int]] = {
    "WGAN-GP": (Wasserstein(), (GradientPenalty(10.0),), 3),
    "GAN": (Standard("non-saturating"), (), 1),
}
"""Objective, constraints, and critic updates a step."""

_SHORT, _SOME, _ALL = 2, 4, 6  # orders of n-grams, from 1

CLAIMS = (
    Claim(
        "short_come_closer",
        "the n-grams of WGAN-GP's samples come closer to the text's",
        "JS at the end less its floor, over the same before training, greatest of n = 1, 2",
        "<=",
        0.5,
    ),
    Claim(
        "all_come_closer",
        "up to the longest",
        "the same, greatest of n = 1 to 6",
        "<=",
        0.95,
    ),
    Claim(
        "gan_behind",
        "the standard GAN's stay behind",
        "JS at the end less its floor, mean of n = 1 to 4, GAN over WGAN-GP",
        ">=",
        1.2,
    ),
)


@dataclass(frozen=True)
class Settings:
    """The same for both methods."""

    steps: int = 3000
    looks: int = 10
    judged: int = 2000
    shown: int = 8
    width: int = 32
    blocks: int = 3
    latent: int = 64
    batch_size: int = 32
    lr: float = 1e-3
    seeds: int = 3


class Windows(ArraySource):
    """Windows of a text, ``[n, LENGTH]`` of symbols; ``[symbols, LENGTH]`` one-hot for training."""

    def __init__(self, symbols: Symbols) -> None:
        codec = Codec(kind="rows", shape=(LENGTH,), dtype="uint8")
        super().__init__("text", symbols, codec, "", {})

    @property
    def shape(self) -> tuple[int, ...]:
        """Symbols and places."""
        return (len(ALPHABET), LENGTH)

    def batch(self, indices: Tensor) -> Batch:
        """One-hot windows ``[batch, symbols, LENGTH]``."""
        places = super().batch(indices).values.long()
        return Batch(one_hot(places, len(ALPHABET)).mT.float().contiguous())


@dataclass(frozen=True, eq=False)
class Text:
    """A text in three parts: to train on, to judge by, and for the floor."""

    training: Windows
    reference: Symbols
    floor: Symbols

    @classmethod
    def of(cls, raw: bytes, judged: int) -> Text:
        """A tenth of the text is held out, in stretches of 100 windows; of that half for the floor.

        Args:
            raw: Latin letters in ASCII.
            judged: Windows that make up the floor.
        """
        windows = read(raw)
        stretch = np.arange(len(windows)) // 100
        rest = windows[stretch % 20 == 19]
        chosen = np.random.default_rng(0).permutation(len(rest))[:judged]
        return cls(
            Windows(windows[stretch % 10 != 9]), windows[stretch % 20 == 9], rest[np.sort(chosen)]
        )


def read(raw: bytes) -> Symbols:
    """Windows of symbols ``[n, LENGTH]``, with case, line ends and rarer marks folded away."""
    plain = raw.lower().translate(bytes.maketrans(b"\n-;:!?", b"  ,,.."))
    plain = re.sub(rb"[^a-z.,' ]", b"", plain)
    plain = re.sub(b" +", b" ", plain)
    table = np.zeros(256, dtype=np.uint8)
    table[np.frombuffer(ALPHABET.encode(), np.uint8)] = np.arange(len(ALPHABET))
    symbols = table[np.frombuffer(plain, np.uint8)]
    return symbols[: len(symbols) // LENGTH * LENGTH].reshape(-1, LENGTH)


def write(symbols: Symbols) -> list[str]:
    """Windows of symbols to strings."""
    return ["".join(ALPHABET[s] for s in row) for row in symbols]


def grams(symbols: Symbols, order: int) -> Counts:
    """The n-grams within the windows, as ascending numbers, and the share of each."""
    base = len(ALPHABET)
    places = LENGTH - order + 1
    numbers = np.zeros((len(symbols), places), dtype=np.int64)
    for k in range(order):
        numbers = numbers * base + symbols[:, k : k + places]
    found, counts = np.unique(numbers, return_counts=True)
    return found, counts / counts.sum()


def js(p: Counts, q: Counts) -> float:
    """The Jensen-Shannon divergence of two tables, in nats."""
    from scipy.special import rel_entr

    names = np.union1d(p[0], q[0])
    one, other = np.zeros(len(names)), np.zeros(len(names))
    one[np.searchsorted(names, p[0])] = p[1]
    other[np.searchsorted(names, q[0])] = q[1]
    middle = (one + other) / 2
    return float(rel_entr(one, middle).sum() + rel_entr(other, middle).sum()) / 2


def _blocks(width: int, count: int) -> list[nn.Module]:
    """As the released code has them: two convolutions, 5 wide; .3 of them is added."""
    return [
        Residual(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv1d(width, width, 5, padding=2),
                nn.ReLU(),
                nn.Conv1d(width, width, 5, padding=2),
            ),
            0.3,
        )
        for _ in range(count)
    ]


class Writer(nn.Module):
    """Latents ``[batch, latent]`` to probabilities ``[batch, symbols, LENGTH]``."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.body = nn.Sequential(
            nn.Linear(settings.latent, width * LENGTH),
            nn.Unflatten(1, (width, LENGTH)),
            *_blocks(width, settings.blocks),
            nn.Conv1d(width, len(ALPHABET), 1),
        )

    def forward(self, latent: Tensor) -> Tensor:
        logits: Tensor = self.body(latent)
        return logits.softmax(1)


class Reader(nn.Module):
    """Windows ``[batch, symbols, LENGTH]`` to scores."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.body = nn.Sequential(
            nn.Conv1d(len(ALPHABET), width, 1),
            *_blocks(width, settings.blocks),
            nn.Flatten(),
            nn.Linear(width * LENGTH, 1),
        )

    def forward(self, values: Tensor) -> Scores:
        return Scores(self.body(values).squeeze(1))


def drawn(probabilities: Tensor, uniform: Tensor) -> Symbols:
    """A symbol at each place, from ``[n, symbols, LENGTH]`` and uniform numbers ``[n, LENGTH]``."""
    passed = probabilities.double().cumsum(1) < uniform[:, None]
    symbols: Symbols = passed.sum(1).clamp(max=len(ALPHABET) - 1).to(torch.uint8).numpy()
    return symbols


@dataclass(frozen=True, eq=False)
class Course:
    """One run: divergences ``[looks, orders]`` in nats at some steps, and samples at the last."""

    at: tuple[int, ...]
    js: NDArray[np.float64]
    samples: tuple[str, ...]

    def left(self, floor: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is left of the divergence above its floor, of what there was at first, by order."""
        left: NDArray[np.float64] = (self.js[-1] - floor) / (self.js[0] - floor)
        return left


def follow(
    name: str,
    seed: int,
    text: Text,
    tables: dict[int, Counts],
    settings: Settings,
    budget: Budget,
) -> Course:
    """Train on windows, and count the samples' n-grams on the way, before the first step too.

    Args:
        name: Of the method.
        tables: The reference's n-grams by their order.
    """
    objective, constraints, n_critic = METHODS[name]
    optimizer = OptimizerSpec("adam", settings.lr, 0.5, 0.9)
    method = Method(
        objective,
        optimizer,
        optimizer,
        constraints,
        batch_size=settings.batch_size,
        generator_batch_size=settings.batch_size,
        latent=settings.latent,
        n_critic=n_critic,
        average=0,
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, critic = Writer(settings), Reader(settings)
    state = TrainState.create(method, generator, critic, text.training)
    rng = torch.Generator().manual_seed(seed)
    latent = torch.randn(settings.judged, settings.latent, generator=rng)
    uniform = torch.rand(settings.judged, LENGTH, generator=rng)
    at = [round(k * settings.steps / settings.looks) for k in range(settings.looks + 1)]
    found: list[list[float]] = []
    symbols = np.empty((0, LENGTH), dtype=np.uint8)
    for step in at:
        try:
            for _ in train(state, text.training, until=budget.until(step)):
                pass
        except NonFiniteError:
            break
        symbols = drawn(synthesize(generator, latent, None, state.like), uniform)
        found.append([js(grams(symbols, order), tables[order]) for order in ORDERS])
    return Course(tuple(at[: len(found)]), np.array(found), tuple(write(symbols[: settings.shown])))


def open_text(judged: int) -> Text:
    """The novels.

    Raises:
        MissingDataError: They are not at hand.
    """
    path = data_folder() / FILE
    if not path.is_file():
        raise MissingDataError(
            f"`text` needs {FILE} in {data_folder()}, and there is none; set WGAN_DATA to a folder "
            "that has it"
        )
    with gzip.open(path) as file:
        return Text.of(file.read(), judged)


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """Both methods from every seed."""
    text = open_text(settings.judged)
    tables = {order: grams(text.reference, order) for order in ORDERS}
    floor = np.array([js(grams(text.floor, order), tables[order]) for order in ORDERS])
    found = budget.trials(
        lambda seed: {name: follow(name, seed, text, tables, settings, budget) for name in METHODS},
        settings.seeds,
    )

    left = [one["WGAN-GP"].left(floor) for one in found]
    return Outcome(
        statistics={
            "short_come_closer": [float(one[:_SHORT].max()) for one in left],
            "all_come_closer": [float(one[:_ALL].max()) for one in left],
            "gan_behind": [
                float((one["GAN"].js[-1] - floor)[:_SOME].mean())
                / float((one["WGAN-GP"].js[-1] - floor)[:_SOME].mean())
                for one in found
            ],
        },
        settings=asdict(settings),
        figure=_draw(found[0], floor),
        notes={
            "floor": floor.round(4).tolist(),
            **{
                name: [
                    {
                        "steps": list(one[name].at),
                        "js": one[name].js.round(4).tolist(),
                        "samples": list(one[name].samples),
                    }
                    for one in found
                ]
                for name in METHODS
            },
        },
    )


def _draw(one: dict[str, Course], floor: NDArray[np.float64]) -> Figure:
    figure, axes = panels(3, 11.4, 5.6, down=2)
    for i, (panel, order) in enumerate(zip(axes[:3], (1, 2, 4), strict=True)):
        for k, (name, course) in enumerate(one.items()):
            panel.plot(course.at, course.js[:, order - 1], "o-", color=SERIES[k], ms=3, label=name)
        panel.axhline(floor[order - 1], color=MUTED, lw=1, ls="--", label="other text")
        panel.axhline(math.log(2), color="k", lw=0.7, ls=":")
        panel.set_ylim(0, 0.75)
        label(panel, f"{order}-grams", "step", "" if i else "JS from held-out text, nats")
    legend(axes[0])
    for k, (name, course) in enumerate(one.items()):
        axes[3].plot(ORDERS, course.js[-1], "o-", color=SERIES[k], ms=3, label=name)
    axes[3].plot(ORDERS, floor, "o--", color=MUTED, ms=3)
    axes[3].set_ylim(0, 0.75)
    label(axes[3], "at the end", "n", "JS from held-out text, nats")
    for panel, (name, course) in zip(axes[4:], one.items(), strict=True):
        panel.set_axis_off()
        panel.set_title(f"samples, {name}", fontsize=10, color=INK)
        lines = "\n".join(f"|{line}|" for line in course.samples)
        panel.text(0.5, 0.94, lines, family="monospace", fontsize=8.5, color=INK, ha="center",
                   va="top", transform=panel.transAxes)  # fmt: skip
    return figure


EXPERIMENT = Experiment(
    name="text",
    title="A language model over characters by WGAN-GP, beside a standard GAN",
    source="Gulrajani et al. 2017, section 5",
    claims=CLAIMS,
    data="15 novels in 32-character windows; a tenth is held out",
    differs="Novels, folded to 30 characters, instead of the Billion Word data set; windows from "
    "anywhere instead of the beginnings of sentences; 3 residual blocks of 32 filters instead of 5 "
    "of 512, batches of 32, a rate of 1e-3, 3 critic updates a step instead of 10, 3,000 "
    "steps. Characters are drawn from the softmax; the paper takes the likeliest. In the charts, "
    "dashed: other held-out text; dotted: log 2.",
    seconds=720,
    seeds=3,
    needed=3,
    run=run,
)
