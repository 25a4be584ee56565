"""What is wrong with the data."""

from __future__ import annotations

from wgan.diagnostics.examination import Examination
from wgan.diagnostics.rules.base import (
    Told,
    rule,
    setting,
    sure,
    told,
)


@rule(
    "constant-column",
    "A number of the samples never changes.",
    "Its standard deviation over the training data is 0; of pictures, whole regions are.",
    live="data",
)
def _constant(x: Examination) -> Told | None:
    if x.data is None or not x.data.constant:
        return None
    names = x.data.constant
    share = len(names) / x.data.numbers
    pictures = isinstance(setting(x, "objective"), dict) and share < 0.5 and x.data.reach == 0.0
    if pictures:  # borders are black in most pictures
        return None
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return told(
        f"{len(names)} of {x.data.numbers} numbers are the same in all {x.data.rows:,} samples: "
        f"{shown}",
        "A generator can only miss it, and a critic that finds the least noise there tells the two "
        "apart by it alone.",
        "leave it out (--columns of a table), and put it back after sampling",
        0.95,
    )


@rule(
    "duplicate-rows",
    "Many training samples are copies of others.",
    "Over 5% of the training data are equal to an earlier one.",
    live="data",
)
def _duplicates(x: Examination) -> Told | None:
    if x.data is None or x.data.duplicates < 0.05:
        return None
    return told(
        f"{x.data.duplicates:.0%} of {x.data.rows:,} training samples are copies of others",
        "Copies weigh as much as they are many, and lie on both sides of the split, so that "
        "held-out numbers look better than they are.",
        "remove them before training, unless their number means something",
        sure(x.data.duplicates, 0.05, low=0.7),
    )


@rule(
    "few-samples",
    "There is hardly anything to learn from.",
    "Under 30 different training samples.",
    live="data",
)
def _few(x: Examination) -> Told | None:
    if x.data is None or x.data.size is None:
        return None
    different = round(x.data.size * (1 - x.data.duplicates))
    if different >= 30:
        return None
    return told(
        f"{different} different training sample{'s' * (different != 1)}",
        "A generator of so few can only learn to repeat them, and none can be spared to judge by.",
        "more data",
        0.9,
    )


@rule(
    "outliers",
    "A few samples lie very far from the rest.",
    "A number lies over 20 interquartile ranges from its median.",
    live="data",
)
def _outliers(x: Examination) -> Told | None:
    if x.data is None or x.data.reach < 20 or x.data.beyond > 0.05:
        return None
    return told(
        f"{x.data.furthest} lies up to {x.data.reach:.0f} interquartile ranges from its median, in "
        f"{x.data.beyond:.2%} of the samples",
        "The scale of the column is theirs: what remains for all others is a thin line, and the "
        "critic looks at little else.",
        "cut or transform the column (a logarithm, ranks), or check the values: they may be codes "
        "for 'missing'",
        sure(x.data.reach, 20, low=0.75),
    )
