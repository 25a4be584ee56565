"""What samples cover, and what they copy."""

from __future__ import annotations

from wgan.diagnostics.examination import Examination
from wgan.diagnostics.rules.base import (
    Told,
    collapsed,
    rule,
    setting,
    sure,
    told,
)


@rule(
    "mode-collapse",
    "Samples cover a part of the data and miss the rest.",
    "Recall and coverage are far below their floor while the samples lie among the data or on top "
    "of one another.",
    live="stuck",
)
def _collapse(x: Examination) -> Told | None:
    missing = collapsed(x)
    if missing < 0.25:
        return None
    if "recall" in x.judged:
        recall, coverage, copies = (x.judged[k] for k in ("recall", "coverage", "duplicates"))
        modes = x.judged.get("modes")
        said = (
            f"recall {recall.value:.2f} where data have {recall.floor:.2f}, coverage "
            f"{coverage.value:.2f} where they have {coverage.floor:.2f}"
            + (f", {modes.value:g} of {modes.floor:g} modes" if modes else "")
            + f"; {copies.value:.0%} of the samples are nearly equal to another"
        )
    else:
        said = (
            f"by the last audits recall is {1 - missing:.2f} and coverage "
            f"{x.late('audit.coverage'):.2f}, where data have nearly 1; "
            f"{x.late('audit.precision'):.0%} of the samples lie among the data"
        )
    return told(
        said,
        "The critic judges one sample at a time, and a generator that puts all of its mass on a "
        "few places can please it.",
        ("" if setting(x, "recipe") in ("wgan-gp", "wgan-lp") else "--recipe wgan-gp or wgan-lp; ")
        + "a lower --generator-lr; with a small critic more --n-critic or a larger --width",
        sure(missing, 0.25, low=0.75),
    )


@rule(
    "memorisation",
    "Samples are copies of training data.",
    "They are nearer to the training data than held-out data are in 9 of 10 comparisons, by a rank "
    "test, and have not gathered in the middle of the data.",
)
def _memorised(x: Examination) -> Told | None:
    close, copies = x.judged.get("memorisation"), x.judged.get("copies")
    if close is None or copies is None:
        return None
    p = 1.0 if close.p_value is None else close.p_value
    recall = x.judged.get("recall")
    gathered = recall is not None and recall.value < 0.5 * recall.floor  # a collapse is near too
    if not (close.value > 0.9 and p < 1e-4) or (gathered and copies.value < 0.02):
        return None
    return told(
        f"{close.value:.0%} of the time a sample is nearer to the training data than a held-out "
        f"one (p = {p:.1e}); {copies.value:.0%} are near copies, of held-out data "
        f"{copies.floor:.0%}",
        "The data are few for a network of this size and this many steps: it has learnt them by "
        "heart.",
        "stop earlier (--patience 5), more data, or a smaller --width",
        sure(close.value - 0.5, 0.3, low=0.8),
    )
