"""What shows a finding of the doctor: a small plot, a line of blocks, a page of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wgan.diagnostics.examination import Examination
from wgan.diagnostics.rules import Diagnosis, Finding
from wgan.diagnostics.signs import Series, blocks
from wgan.reports import page
from wgan.reports.inputs import words
from wgan.reports.style import MUTED, SERIES, literal, new_axes, png, svg, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ESTIMATE = "estimate"  # stands for the run's own
_BLOCKS = "▁▂▃▄▅▆▇█"
_CELLS = 40


@dataclass(frozen=True)
class _Curves:
    """Terms of the records, the first of each group that there is; on a log axis; and a limit."""

    groups: tuple[tuple[str, ...], ...]
    log: bool = False
    limit: float | None = None


_EXCESS = _Curves((("audit.excess",), ("audit.excess_high",)))
_OWN = _Curves(((_ESTIMATE,),), limit=0.0)
_NORMS = _Curves(
    (("critic_gradient_norm", "critic_loss"), ("generator_gradient_norm", "generator_loss")),
    log=True,
)
_SLOPE = _Curves((("audit.slope_median", "slope"),), log=True, limit=1.0)
_CURVES: dict[str, _Curves] = {
    "diverged": _NORMS,
    "divergence-ahead": _NORMS,
    "learning-rate-too-low": _EXCESS,
    "learning-rate-too-high": _Curves(
        (("audit.critic_stride",), ("audit.generator_stride",)), log=True, limit=0.01
    ),
    "momentum-harmful": _OWN,
    "batch-too-small": _OWN,
    "clip-bound-too-small": _Curves((("generator_gradient_norm",),), log=True, limit=1e-4),
    "clip-bound-too-large": _SLOPE,
    "constraint-not-enforced": _SLOPE,
    "constraint-over-enforced": _SLOPE,
    "penalty-dominates": _Curves((("gradient_penalty", "dragan_penalty"), (_ESTIMATE,)), log=True),
    "critic-saturated": _Curves((("js_estimate",),), limit=float(np.log(2))),
    "critic-under-trained": _OWN,
    "critic-exploited": _EXCESS,
    "vanishing-gradient": _Curves((("generator_gradient_norm",),), log=True, limit=1e-4),
    "generator-stands-still": _Curves((("generator_gradient_norm",),)),
    "exploding-gradient": _Curves((("critic_gradient_norm",),), log=True, limit=1e4),
    "mode-collapse": _Curves((("audit.recall",), ("audit.coverage",))),
    "oscillation": _OWN,
    "too-early": _OWN,
    "far-from-data": _EXCESS,
    "still-improving": _EXCESS,
    "plateaued": _EXCESS,
}


def evidence_plot(name: str, x: Examination) -> Figure | None:
    """What shows a finding: bars where it is told by a few numbers, else terms of the records.

    Args:
        name: Of the finding.
        x: What it was found in; may hold records alone.

    Returns:
        None where there is nothing to draw.
    """
    if bars := _bars(name, x):
        return _bar_plot(bars, log=name == "vanishing-gradient")
    curves = _chosen(name, x)
    if not curves:
        return None
    said = _CURVES[name]
    figure, axes = new_axes(4.2, 2.3)
    lowest = min(float(values.min()) for _, values in curves.values())
    for i, (key, (steps, values)) in enumerate(curves.items()):
        at, middle = blocks(steps, values)
        axes.plot(at, middle, color=SERIES[i], lw=1.5, label=literal(words(key)))
    if said.log and lowest > 0:
        axes.set_yscale("log")
    if said.limit is not None:
        axes.axhline(said.limit, color=MUTED, lw=1, ls="--", label=f"{said.limit:.3g}")
    axes.set_xlabel("step")
    axes.legend(frameon=False, fontsize=8)
    return figure


def spark(name: str, x: Examination) -> str:
    """The term that shows a finding best as a line of blocks, with its ends; may be empty."""
    curves = _chosen(name, x)
    if not curves:
        return ""
    key, (steps, values) = next(iter(curves.items()))
    _, middle = blocks(steps, values, _CELLS)
    scale = np.log(middle) if _CURVES[name].log and middle.min() > 0 else middle
    spread = float(np.ptp(scale))
    level = (scale - scale.min()) / spread if spread > 0 else np.zeros(len(scale))
    line = "".join(_BLOCKS[int(v)] for v in np.minimum(level * len(_BLOCKS), len(_BLOCKS) - 1))
    return (
        f"{line}  {words(key)}, step {steps[0]:,.0f} to {steps[-1]:,.0f}: "
        f"{middle[0]:.3g} to {middle[-1]:.3g}"
    )


def draw_evidence(folder: Path, title: str, diagnosis: Diagnosis, x: Examination) -> Path:
    """Write `NAME.png` for each finding that has a picture, and `doctor.html` with all of it.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for finding in diagnosis.findings:
        if (plot := evidence_plot(finding.name, x)) is not None:
            write_whole(folder / f"{finding.name}.png", png(plot))
    head = f"<header><h1>{escape(title)}: {diagnosis.verdict}</h1></header>"
    rest = page.paragraph(f"Not looked at: {diagnosis.missing}", "note") * bool(diagnosis.missing)
    place = folder / "doctor.html"
    markup = "\n".join([head, *(_told(finding, x) for finding in diagnosis.findings), rest])
    write_whole(place, page.page(title, markup).encode())
    return place


def warned(warnings: Sequence[Mapping[str, object]], x: Examination) -> str:
    """A report's section on what was said while the run went on; empty where nothing was."""
    parts = []
    for said in warnings:
        step, done = said["step"], str(said.get("done") or "")
        name = str(said["name"])
        parts.append(f"<h3>{escape(f'{name}, at step {step:,}')}</h3>")
        parts.append(page.paragraph(f"{said['evidence']}. {said['cause']}"))
        parts.append(page.paragraph(f"To do: {said['advice']}."))
        if done:
            parts.append(page.paragraph(f"Done by --heed: {done}."))
        if (plot := evidence_plot(name, x)) is not None:
            parts.append(page.figures([page.figure(svg(plot, name), "")]))
    return page.section("Warnings on the way", *parts) if parts else ""


def _told(finding: Finding, x: Examination) -> str:
    plot = evidence_plot(finding.name, x)
    return page.section(
        f"{finding.name} ({finding.confidence:.0%} sure)",
        page.paragraph(finding.evidence),
        page.paragraph(finding.cause),
        page.paragraph(f"To do: {finding.advice}"),
        "" if plot is None else page.figures([page.figure(svg(plot, finding.name), "")]),
    )


def _chosen(name: str, x: Examination) -> dict[str, tuple[Series, Series]]:
    found = {}
    for group in _CURVES[name].groups if name in _CURVES else ():
        for key in group:
            own = x.estimate if key == _ESTIMATE else key
            if own is not None and own in x.curves:
                found[own] = x.curves[own]
                break
    return found


Bars = dict[str, tuple[float, float | None]]
"""Name to value, and what it is held against."""


def _bars(name: str, x: Examination) -> Bars:
    judged, data, networks = x.judged, x.data, x.networks
    if name in ("mode-collapse", "memorisation"):
        keys = {
            "mode-collapse": ("recall", "coverage", "precision", "duplicates"),
            "memorisation": ("memorisation", "copies"),
        }[name]
        return {key: (judged[key].value, judged[key].floor) for key in keys if key in judged}
    if name == "vanishing-gradient" and networks is not None:
        layers: Bars = {f"layer {i}": (n.gradient, None) for i, n in enumerate(networks.critic, 1)}
        sizes = [size for size, _ in layers.values() if size > 0]
        return layers if len(sizes) > 2 and min(sizes) < 1e-2 * max(sizes) else {}
    if name == "learning-rate-too-high" and networks is not None:
        return {
            "the critic's update": (networks.critic_step, 0.01),
            "the generator's update": (networks.generator_step, 0.01),
            "a rate at the start": (networks.first_step, 0.06),
        }
    if name == "dead-units" and networks is not None:
        return {"units that fire": (1 - networks.dead, 1.0), "dead": (networks.dead, 0.0)}
    if name == "constant-column" and data is not None:
        return {"numbers of a sample": (data.numbers, None), "constant": (len(data.constant), 0.0)}
    if name == "duplicate-rows" and data is not None:
        return {"rows seen once": (1 - data.duplicates, 1.0), "copies": (data.duplicates, 0.0)}
    if name == "few-samples" and data is not None and data.size is not None:
        return {"training samples": (data.size * (1 - data.duplicates), 30.0)}
    if name == "outliers" and data is not None:
        return {f"{data.furthest}, ranges away": (data.reach, 20.0)}
    if name == "time-lost":
        keys = ("step_seconds", "audit_seconds", "data_seconds")
        return {words(key): (float(x.series(key).sum()), None) for key in keys if key in x.curves}
    return {}


def _bar_plot(bars: Bars, *, log: bool) -> Figure:
    figure, axes = new_axes(4.2, 0.8 + 0.3 * len(bars))
    at = np.arange(len(bars))[::-1]
    values = [value for value, _ in bars.values()]
    axes.barh(at, values, height=0.6, color=SERIES[0])
    for y, (value, other) in zip(at, bars.values(), strict=True):
        if other is not None:
            axes.plot([other, other], [y - 0.4, y + 0.4], color=SERIES[1], lw=2)
        axes.annotate(
            f"{value:.3g}", (value, y), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_yticks(at, [literal(name) for name in bars])
    axes.margins(x=0.15)
    if log and min(values) > 0:
        axes.set_xscale("log")
    if any(other is not None for _, other in bars.values()):
        axes.set_xlabel("bar: here; line: what to expect")
    return figure
