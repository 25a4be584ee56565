"""The page of reproduced figures: pictures, verdicts, numbers, and what differs from the source."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from wgan.errors import UserError
from wgan.experiments.reproduction.base import Checked, Experiment, Result, picture
from wgan.reports.style import write_whole

_IMAGES = Path("images") / "reproduction"
_COLOURS = 128  # of a palette: a third of the size, and no difference to be seen

_INTRODUCTION = """\
# The papers' figures, run again

<!-- Written by `wgan reproduce all`; edit src/wgan/experiments/reproduction instead. -->

`wgan reproduce` lists the figures and claims of the sources that can be run here, `wgan reproduce
NAME` runs one, and `wgan reproduce all` runs those without a result and writes this page. Every
claim is a number and a threshold that stood in the experiment's file before it was run. It *holds*
if every seed meets the threshold, *does not hold here* if most seeds miss it, and is *not decided
at this budget* otherwise, or if too few seeds were finished. Where a statistic or a threshold was
settled after a trial run, the trial had other seeds than those reported here; settings of
`parallel-lines` were also mended after its first reported seed crashed, its thresholds were not.

<!-- not run: the listing is shown by the command itself, and a run takes up to minutes -->
```bash
wgan reproduce                                   # names, sources, times, last verdicts
wgan reproduce sliding-gaussians                 # the picture, the verdict, the numbers
wgan reproduce parallel-lines --seconds 60       # as many seeds as the time allows
wgan reproduce all                               # those without a result, then this page
```

MNIST, its classifier and the text are looked for in `$WGAN_DATA`, or in `../shared/data`. Without
them the 8 x 8 digits that come with the package stand in for MNIST, which the result says, and
`text` is left out. The results behind this page are kept: `wgan reproduce all --out
benchmarks/results/reproduction` writes it again from them.
"""


def write_gallery(
    place: Path,
    found: Sequence[tuple[Experiment, Result]],
    out: Path,
    left: Sequence[Experiment] = (),
) -> None:
    """Write the page, and its pictures beside it under ``images/reproduction/``.

    Those `left` without a result are named in its table.

    A picture that is not in `out`, as with results that were kept without theirs, stays as it is.

    Raises:
        UserError: The page cannot be written, or a picture is in neither place.
    """
    images = place.parent / _IMAGES
    try:
        images.mkdir(parents=True, exist_ok=True)
        for experiment, result in found:
            made, shown = picture(experiment, out), images / f"{experiment.name}.png"
            if result.seeds and made.is_file():
                write_whole(shown, _small(made))
            elif result.seeds and not shown.is_file():
                raise UserError(
                    f"there is no picture {made}; remove {made.with_suffix('')} to run it again"
                )
        write_whole(place, page(found, left).encode())
    except OSError as error:
        raise UserError(f"cannot write {error.filename or place}: {error.strerror}") from None


def page(found: Sequence[tuple[Experiment, Result]], left: Sequence[Experiment] = ()) -> str:
    """The results in Markdown: a summary, then each with its picture and numbers."""
    lines = ["| figure or claim | source | verdict |", "|---|---|---|"]
    lines += [
        f"| [{one.title}](#{one.name}) | {one.source} | {result.verdict} |" for one, result in found
    ]
    lines += [f"| `{one.name}`: {one.title} | {one.source} | not run |" for one in left]
    sections = [_section(experiment, result) for experiment, result in found]
    return "\n".join([_INTRODUCTION, *lines, "", *sections]).rstrip() + "\n"


def _section(experiment: Experiment, result: Result) -> str:
    if result.seeds == 1 == experiment.seeds:
        how = "seconds; nothing is random"
    else:
        seeds = f"{result.seeds} seed{'s' * (result.seeds != 1)} from {result.seed}"
        how = f"{seeds}, {result.seconds:.0f} s on one core of a shared machine"
    seed = f" --seed {result.seed}" if result.seed else ""
    run = f"`wgan reproduce {experiment.name}{seed}`"
    parts = [
        f"## {experiment.name}\n",
        f"{experiment.title}: **{result.verdict}**.\n",
        f"Source: {experiment.source}. {run}: {how}.\n",
    ]
    if result.seeds:
        parts.append(f"![{experiment.title}]({_IMAGES / experiment.name}.png)\n")
    parts.append("| claim | number | least to greatest | threshold | verdict |")
    parts.append("|---|---|---:|---:|---|")
    parts += [_row(one) for one in result.claims]
    parts.append(f"\nData: {result.data}. {result.differs}\n")
    return "\n".join(parts)


def _row(one: Checked) -> str:
    claim = one.claim
    cells = (claim.says, claim.statistic, spread(one.values), threshold(one), one.verdict)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def threshold(one: Checked) -> str:
    """Sign and number."""
    return f"{one.claim.sign} {one.claim.threshold:g}"


def spread(values: Sequence[float]) -> str:
    """The least and the greatest of the seeds' numbers."""
    if not values:
        return "-"
    low, high = (f"{end:.3g}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _small(path: Path) -> bytes:
    """A picture in a palette."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(
            buffer, "PNG", optimize=True
        )
    return buffer.getvalue()
