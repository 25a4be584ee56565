"""The report's sections with curves, each a piece of markup or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wgan.reports import page
from wgan.reports.inputs import EXCESS, ReportInput, Runs, words
from wgan.reports.plots import Curve, over_steps, plane_plot
from wgan.reports.style import svg


@dataclass(frozen=True)
class _Term:
    """How one key of the records is drawn."""

    title: str
    unit: str
    note: str = ""
    log: bool = False
    floor: float | None = None


_TERMS = {
    "critic_loss": _Term("Critic's loss", "loss", "Without the penalties, which are drawn apart."),
    "generator_loss": _Term(
        "Generator's loss",
        "loss",
        "Its level means nothing by itself: where the critic may add any constant to its scores, "
        "so does this loss.",
    ),
    "gradient_penalty": _Term("Gradient penalty", "penalty, weight included", log=True),
    "slope": _Term(
        "Critic's slope",
        "score per unit of data",
        "Mean length of the critic's gradient where the penalty is taken.",
    ),
    "clip_share": _Term(
        "Weights at the clip bounds",
        "share of weights",
        "Near 1, the critic is little more than the signs of its weights.",
        floor=0.0,
    ),
    "critic_gradient_norm": _Term("Critic", "norm of the gradient", log=True),
    "generator_gradient_norm": _Term("Generator", "norm of the gradient", log=True),
}
_LOSSES = ("critic_loss", "generator_loss")
_CONSTRAINTS = ("slope", "clip_share")
_ELSEWHERE = ("step", "critic_updates", "data_seconds", "step_seconds", "audit_seconds")

_READING = {
    "wasserstein_estimate": (
        "Drawn is the critic's mean score of real samples minus that of generated ones: positive "
        "when real samples score higher, and falling as the generator gets closer. Its unit is the "
        "critic's own scale, so read its course within one run, and do not compare its level with "
        "that of another network, constraint or setting."
    ),
}


def estimates(runs: Runs) -> str:
    """The critic's estimate; runs with another one have axes of their own."""
    parts: list[str] = []
    each: list[str] = []
    groups: dict[str, dict[str, ReportInput]] = {}
    for name, item in runs.items():
        if item.estimate is not None:
            groups.setdefault(item.estimate, {})[name] = item
    for key, group in groups.items():
        title = _title(key)
        meaning = next(iter(group.values())).run.card.get("meaning")
        said = [f"{title}: {meaning}." if meaning else "", _READING.get(key, "")]
        parts.append(page.paragraph(" ".join(part for part in said if part)))
        if not _recorded(group, key):
            continue
        curves = _curves(group, key)
        filtered = any(curve.window > 1 for curve in curves.values())
        note = "Thin: each step. Thick: the median filter of the paper's figures." * filtered
        plot = over_steps(curves, words(key), zero=True)
        each.append(page.figure(svg(plot, f"{title} over steps"), title, note))
    if not groups:
        parts.append(
            page.paragraph(
                "This method records no estimate of a distance: judge it by its samples, and with "
                "`wgan evaluate`."
            )
        )
    return page.section("What the critic says", *parts, page.figures(each))


def audits(runs: Runs) -> str:
    """What the audits found on data that is never trained on, in the data's own units."""
    audited = {name: item for name, item in runs.items() if EXCESS in item.curves}
    if not audited:
        return ""
    said = []
    for name, item in audited.items():
        card = item.run.card.get("audit") or {}
        unit, space = card.get("unit", "the data's units"), card.get("space", "raw")
        held = card.get("samples")
        where = f"{name}: " * (len(audited) > 1)
        said.append(
            f"{where}{held} held-out samples, excess in {space}, {unit}; two halves of them are "
            f"{page.number(card.get('floor', 0.0), 3)} apart."
        )
    parts = [
        page.paragraph(
            "None of these numbers depends on the scale of the critic that is trained, so they may "
            "be compared between runs on the same data. " + " ".join(said)
        )
    ]
    each = []
    title = "Excess"
    bands = {
        name: (item.curve(f"{EXCESS}_low"), item.curve(f"{EXCESS}_high"))
        for name, item in audited.items()
    }
    plot = over_steps(_curves(audited, EXCESS), "excess", zero=True, marks=True, bands=bands)
    note = (
        "How much further samples are from held-out data than other held-out data are, with its "
        "95% interval. 0 is what the data itself would get; it is no bound on anything."
    )
    each.append(page.figure(svg(plot, f"{title} over steps"), title, note))
    title = "W1, certified from below"
    lower = _curves(audited, "audit.lower")
    if len(audited) == 1:
        item = next(iter(audited.values()))
        lower = {
            "at least, 95%": item.curve("audit.lower"),
            "of equal samples": item.curve("audit.w1"),
            "of held-out data": item.curve("audit.w1_floor"),
        }
    plot = over_steps(lower, "W1", floor=0.0, marks=True)
    note = (
        "A bound of the populations' W1 that holds with 95% confidence, each by itself. It only "
        "rejects: 0 says that no critic told samples from data here, not that they are close."
    )
    each.append(page.figure(svg(plot, f"{title} over steps"), title, note))
    gap = _curves(audited, "audit.optimality_gap")
    if any(len(curve) for curve in gap.values()):
        title = "Is the critic trained enough?"
        before = _curves(audited, "audit.critic_estimate")
        curves = gap if len(audited) > 1 else {"rises by": _only(gap), "estimate": _only(before)}
        plot = over_steps(curves, "critic's scale", zero=True, marks=True)
        note = (
            "How much the critic's estimate on held-out data still rises when it trains on alone "
            "for a bounded number of updates. Small against the estimate, the critic keeps up."
        )
        each.append(page.figure(svg(plot, f"{title} Over steps"), title, note))
    slopes = _curves(audited, "audit.slope_median")
    if any(len(curve) for curve in slopes.values()):
        title = "The critic's slopes between real and fake"
        bands = {
            name: (item.curve("audit.slope_low"), item.curve("audit.slope_high"))
            for name, item in audited.items()
        }
        plot = over_steps(slopes, "score per unit", floor=0.0, marks=True, bands=bands)
        note = "Median, and where 90% of them lie. A 1-Lipschitz critic has none above 1."
        each.append(page.figure(svg(plot, f"{title} over steps"), title, note))
    return page.section("Audited on held-out data", *parts, page.figures(each))


def _only(curves: dict[str, Curve]) -> Curve:
    (curve,) = curves.values()
    return curve


def plane(runs: Runs) -> str:
    """Samples over data with the critic's level lines."""
    each = []
    for name, item in runs.items():
        if item.plane is None:
            continue
        columns = [str(name) for name in (item.run.card.get("codec") or {}).get("columns", ())]
        names = (columns[0], columns[1]) if len(columns) == 2 else None
        title = name if len(runs) > 1 else "Samples over data"
        markup = f'<div class="paper">{svg(plane_plot(item.plane, names), title)}</div>'
        each.append(page.figure(markup, title))
    note = (
        "The lines join points that the critic scores alike; a deeper tint is a higher score. The "
        "generator moves its samples across them, uphill."
    )
    return (
        page.section("The critic over the plane", page.paragraph(note), page.figures(each))
        if each
        else ""
    )


def losses(runs: Runs) -> str:
    """The losses of both players, and whatever else is called a loss."""
    others = _keys(runs, lambda key: key.endswith("_loss") and key not in _LOSSES)
    keys = [key for key in _LOSSES if _recorded(runs, key)]
    return page.section("Losses", _drawn(runs, keys + others))


def constraints(runs: Runs) -> str:
    """Penalties, and whether the constraints bind."""
    keys = _keys(runs, lambda key: key.endswith("_penalty") or key in _CONSTRAINTS)
    return page.section("Is the critic held?", _drawn(runs, keys))


def gradients(runs: Runs) -> str:
    """Norms of both players' gradients."""
    keys = _keys(runs, lambda key: key.endswith("_gradient_norm"))
    note = page.paragraph("Of each player's whole gradient, before any clipping.", "note")
    return page.section("Gradient norms", note, _drawn(runs, keys)) if keys else ""


def other_terms(runs: Runs) -> str:
    """Every number that has no section of its own."""
    shown = {item.estimate for item in runs.values()} | set(_TERMS) | set(_ELSEWHERE)
    named = ("_loss", "_penalty", "_gradient_norm")
    keys = _keys(
        runs,
        lambda key: key not in shown and not key.endswith(named) and not key.startswith("audit."),
    )
    return page.section("Other terms", _drawn(runs, keys))


def times(runs: Runs) -> str:
    """Time per step, and the share of it that waits for data."""
    if not _recorded(runs, "step_seconds"):
        return ""
    said = []
    for name, item in runs.items():
        if item.seconds > 0:
            share = float(item.curve("data_seconds").values.sum()) / item.seconds
            said.append(f"{name}: {share:.1%}" if len(runs) > 1 else f"{share:.1%}")
    note = f"Waiting for data, of the time of all steps: {'; '.join(said)}." if said else ""
    milliseconds = {name: c.scaled(1e3) for name, c in _curves(runs, "step_seconds").items()}
    plot = over_steps(milliseconds, "milliseconds per step", floor=0.0)
    markup = page.figure(svg(plot, "Time per step over steps"), "Time per step", note)
    return page.section("Time", page.figures([markup]))


def _curves(runs: Runs, key: str) -> dict[str, Curve]:
    return {name: item.curve(key) for name, item in runs.items()}


def _recorded(runs: Runs, key: str) -> bool:
    return any(key in item.curves for item in runs.values())


def _keys(runs: Runs, wanted: Callable[[str], bool]) -> list[str]:
    """Keys of numbers that some run recorded, in order of appearance."""
    keys = dict.fromkeys(key for item in runs.values() for key in item.curves)
    return [key for key in keys if wanted(key)]


def _drawn(runs: Runs, keys: Sequence[str]) -> str:
    """One figure per key, on axes that the runs share."""
    each = []
    for key in keys:
        term = _TERMS.get(key) or _Term(_title(key), words(key))
        plot = over_steps(_curves(runs, key), term.unit, log=term.log, floor=term.floor)
        each.append(page.figure(svg(plot, f"{term.title} over steps"), term.title, term.note))
    return page.figures(each)


def _title(key: str) -> str:
    said = words(key)
    return said[:1].upper() + said[1:]
