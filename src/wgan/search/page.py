"""The page of a sweep: what won and how sure that is, every trial, what mattered."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import yaml

from wgan.errors import RunFailedError
from wgan.reports import page
from wgan.reports.style import GRID, INK, MUTED, REAL, SERIES, literal, new_axes, svg, write_whole
from wgan.run import Run
from wgan.search.results import FEWEST_FOR_IMPORTANCE, Sweep, TrialResult, shown
from wgan.search.space import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PICTURE_BYTES = 900_000
_PRUNED = REAL
_MOST_DIMENSIONS = 8  # of pictures, one for each setting


def write_page(found: Sweep, winner: Run) -> None:
    """Write ``report.html`` and ``best.yaml`` into the sweep's directory.

    Raises:
        RunFailedError: The disk is full or not writable.
    """
    title = f"{found.planned} trials on {found.data}"
    parts = [
        _head(found, title),
        _samples(found, winner),
        _trials(found),
        _importances(found),
        _table(found),
        _settings(found),
    ]
    document = page.page(f"Sweep: {title}", "\n".join(part for part in parts if part))
    try:
        write_whole(found.path / "report.html", document.encode())
        write_whole(found.path / "best.yaml", _best(found, winner))
    except OSError as error:
        raise RunFailedError(
            f"cannot write to {found.path}: {error.strerror}; the same command goes on"
        ) from None


_OF_A_TRIAL = ("device", "compile", "checkpoint_every", "sample_every", "audit_every")
"""What suits a short trial on this machine, and is decided anew for a longer run."""


def _best(found: Sweep, winner: Run) -> bytes:
    best = found.best
    said = [
        f"# Trial {best.number} of {found.path}: {best.describe()}.",
        f"# wgan train --config {found.path / 'best.yaml'}",
    ]
    kept = {name: value for name, value in winner.config.items() if name not in _OF_A_TRIAL}
    content = yaml.safe_dump(kept, sort_keys=False)
    return ("\n".join(said) + "\n" + content).encode()


def _head(found: Sweep, title: str) -> str:
    best, default = found.best, found.default
    parts = [
        f"<h1>{escape(title)}</h1>",
        page.paragraph(
            f"Trial {best.number} has the smallest audited excess: {best.describe()}.", "lead"
        ),
        page.paragraph(f"{found.counts()}; {found.rule}; pruner: {found.pruner}.", "note"),
    ]
    numbers = [("excess that chose it", page.number(best.excess or 0.0, 3))]
    if best.reported:
        low, high = (page.number(best.reported[end], 3) for end in ("low", "high"))
        numbers.append(("on data that chose nothing", page.number(best.reported["excess"], 3)))
        numbers.append(("95% interval of that", f"{low} to {high}"))
    parts.append(page.tiles(numbers))
    parts.append(
        page.paragraph(
            f"The excess, in {found.unit} ({found.space}), is how much further samples are from "
            "held-out data than other held-out data are; 0 is what the data itself would get. Each "
            "trial's value is the smallest of its audits on "
            f"{found.held:,} held-out samples. The best of many looks better than it is: report "
            "the number on the further part, by which no trial and no step was chosen. It is of "
            "one seed; train the winner with others before building on it."
        )
    )
    if default is not None and default.number != best.number and default.reported:
        low, high = (page.number(default.reported[end], 3) for end in ("low", "high"))
        parts.append(
            page.paragraph(
                f"The recipe's own settings (trial {default.number}) have "
                f"{page.number(default.reported['excess'], 3)} ({low} to {high}) on that part. "
                f"Whether the two can be told apart: `wgan compare {best.path} {default.path} "
                "--best`."
            )
        )
    return "<header>\n" + "\n".join(parts) + "\n</header>"


def _samples(found: Sweep, winner: Run) -> str:
    each = []
    for name, title in (("samples.png", "The winner's, at its last step"), ("real.png", "Data")):
        path = winner.path / (name if name == "samples.png" else f"samples/{name}")
        codec = winner.card.get("codec") or {}
        if name == "real.png" and codec.get("kind") == "rows":
            continue  # the sheets of rows show the real ones, too
        if path.is_file():
            markup = page.picture(path, title, most_bytes=_PICTURE_BYTES)
            each.append(page.figure(markup, title))
    return page.section("Samples", page.figures(each))


def _trials(found: Sweep) -> str:
    """The curves of all audits, and the best so far over the trials."""
    each = [
        page.figure(
            svg(_curves(found), "Audited excess over steps, by trial"),
            "Audited excess over steps",
            "Grey: pruned. Thick: the winner. Dashed: the recipe's own settings.",
        ),
        page.figure(
            svg(_over_trials(found), "Excess of each trial"),
            "Smallest excess of each trial",
            "Line: the best so far. Diamond: the winner. Square: the recipe's own settings. Grey: "
            "pruned. Crosses at the top: failed.",
        ),
    ]
    return page.section("Trials", page.figures(each))


def _curves(found: Sweep) -> Figure:
    figure, axes = new_axes()
    best = found.best
    ends = []
    for trial in found.trials:
        if not trial.curve:
            continue
        steps, values = zip(*trial.curve, strict=True)
        ends += [max(values[len(values) // 3 :])]
        win = trial.number == best.number
        colour = _PRUNED if trial.state != "complete" else SERIES[0 if win else 5]
        axes.plot(
            steps,
            values,
            color=SERIES[1] if trial.default and not win else colour,
            lw=2.4 if win else 1.1,
            alpha=1.0 if win or trial.default else 0.6,
            linestyle="--" if trial.default and not win else "-",
            marker="o" if len(steps) == 1 else "",
            ms=3,
            zorder=3 if win else 2,
            label=literal(f"trial {trial.number}") if win else "_",
        )
    axes.set(xlabel="step", ylabel=f"excess, {found.unit}")
    _bound(axes, [value for trial in found.trials for _, value in trial.curve], ends)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _over_trials(found: Sweep) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_axes()
    for trial in found.trials:
        if trial.excess is None:
            continue
        _dot(axes, trial, trial.number, trial.excess, found.best.number)
    so_far: list[tuple[int, float]] = []
    for trial in found.trials:
        if trial.state == "complete" and trial.excess is not None:
            low = min(trial.excess, so_far[-1][1] if so_far else trial.excess)
            so_far.append((trial.number, low))
    so_far.append((found.trials[-1].number, so_far[-1][1]))
    axes.step(*zip(*so_far, strict=True), where="post", color=SERIES[0], lw=1.4, zorder=1)
    axes.set(xlabel="trial", ylabel=f"excess, {found.unit}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    values = [trial.excess for trial in found.trials if trial.excess is not None]
    _bound(axes, values, values)
    for trial in found.trials:
        if trial.state == "failed":
            axes.plot(
                trial.number, 0.97, "x", color=SERIES[1], transform=axes.get_xaxis_transform()
            )
    return figure


def _importances(found: Sweep) -> str:
    """How much each setting explains, and the excess over its values."""
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.values))
    if found.importances:
        ordered = list(found.importances)
        names = ordered + [name for name in names if name not in ordered]
    count = sum(t.state in ("complete", "pruned") for t in found.trials)
    said = (
        "How much of the variance of the excess each setting explains over the range searched, by "
        f"itself (fANOVA, Hutter et al. 2014): of the smallest excess up to step "
        f"{found.importance_step:,}, which all {count} trials that did not fail have reached. Of "
        "so few it is a hint, and it does not say which value is good: the pictures do."
        if found.importances
        else f"Importances need two settings and {FEWEST_FOR_IMPORTANCE} trials that did not fail: "
        "of fewer they are chance."
    )
    said += " Diamond: the winner. Square: the recipe's own settings. Grey: pruned."
    parts = [page.paragraph(said, "note")]
    if found.importances:
        figure, axes = new_axes(5.6, 0.9 + 0.34 * len(found.importances))
        for i, (_, share) in enumerate(found.importances.items()):
            axes.barh(i, share, color=SERIES[0], height=0.6)
            axes.text(share + 0.01, i, f"{share:.0%}", va="center", fontsize=9, color=INK)
        axes.set_yticks(range(len(found.importances)), [literal(n) for n in found.importances])
        axes.invert_yaxis()
        axes.set(xlabel="share of what they explain", xlim=(0, 1.12))
        axes.grid(visible=False, axis="y")
        bars = svg(figure, "Importance of each setting")
        parts.append(page.figures([page.figure(bars, "Importance")]))
    each = [
        page.figure(svg(_over_values(found, name), f"Excess over {name}"), name)
        for name in names[:_MOST_DIMENSIONS]
    ]
    parts.append(page.figures(each))
    return page.section("What mattered", *parts)


def _over_values(found: Sweep, name: str) -> Figure:
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_axes(4.4, 3.0)
    trials = [t for t in found.trials if t.excess is not None and name in t.values]
    values = [trial.values[name] for trial in trials]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    places: dict[Value, float] = {}
    if not numeric:
        places = {value: i for i, value in enumerate(sorted(set(values), key=str))}
        axes.set_xticks(range(len(places)), [literal(shown(v)) for v in places], fontsize=9)
    for trial in trials:
        value = trial.values[name]
        assert trial.excess is not None
        x = places[value] if places else float(value)  # type: ignore[arg-type]
        _dot(axes, trial, x, trial.excess, found.best.number)
    numbers = [float(v) for v in values] if numeric else []  # type: ignore[arg-type]
    if numbers and min(numbers) > 0 and max(numbers) > 20 * min(numbers):
        axes.set_xscale("log")
    elif numeric and all(isinstance(value, int) for value in values):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=literal(name), ylabel=f"excess, {found.unit}")
    excesses = [trial.excess for trial in trials if trial.excess is not None]
    _bound(axes, excesses, excesses)
    return figure


def _dot(axes: Axes, trial: TrialResult, x: float, y: float, winner: int) -> None:
    colour = _PRUNED if trial.state != "complete" else SERIES[5]
    win = trial.number == winner
    axes.plot(
        x,
        y,
        "D" if win else "s" if trial.default else "o",
        color=SERIES[0] if win else SERIES[1] if trial.default else colour,
        ms=7 if win else 5,
        zorder=3 if win else 2,
    )


def _bound(axes: Axes, values: list[float], bulk: list[float]) -> None:
    """Show the bulk of the values: a trial that went far astray must not flatten the others."""
    if not values:
        return
    middle = sorted(bulk)[len(bulk) // 2]
    low = min(values)
    reach = max(3 * (middle - low), 1e-12)
    if low < 0 < max(values):
        axes.axhline(0, color=MUTED, lw=0.8, zorder=1)
    top = middle + reach
    if max(values) <= top:
        return
    outside = sum(value > top for value in values)
    axes.set_ylim(low - 0.08 * (top - low), top)
    axes.text(
        1, 1.01, f"{outside} of {len(values)} values lie above", ha="right", va="bottom",
        transform=axes.transAxes, fontsize=8, color=MUTED,
    )  # fmt: skip
    axes.grid(color=GRID)


def _table(found: Sweep) -> str:
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.values))
    order = sorted(
        found.trials,
        key=lambda t: (t.state != "complete", t.excess is None, t.excess or 0.0, t.number),
    )
    rows = []
    for trial in order:
        reported = trial.reported or {}
        span = ""
        if reported:
            low, high = (page.number(reported[end], 3) for end in ("low", "high"))
            span = f"{page.number(reported['excess'], 3)} ({low} to {high})"
        said = trial.reason or ("the recipe's own settings" if trial.default else "")
        values = [shown(trial.values[name]) if name in trial.values else None for name in names]
        excess = None if trial.excess is None else float(f"{trial.excess:.4g}")
        rows.append(
            [
                f"{trial.number:04d}", trial.state, *values, excess, trial.step, span,
                trial.steps, page.duration(trial.seconds), said,
            ]
        )  # fmt: skip
    header = ["trial", "", *names, "excess", "at step", "on data that chose nothing", "steps"]
    winner = next(i for i, trial in enumerate(order) if trial.number == found.best.number)
    note = (
        "The excess on data that chose nothing is shown for every trial that did not fail, so that "
        "the winner's can be judged. It must choose nothing: the smallest of these is again the "
        f"best of many. Each trial is a run: `wgan report {found.best.path}` writes its page, and "
        "`wgan doctor`, `wgan sample` and `wgan compare` take it, too."
    )
    table = page.table([*header, "time", "why"], rows, [winner])
    return page.section("All trials", page.paragraph(note, "note"), table)


def _settings(found: Sweep) -> str:
    said = (
        f"`{found.path / 'best.yaml'}` holds them, but for those of a short trial on this machine "
        f"(how often it is audited and saved, the device): `wgan train --config "
        f"{found.path / 'best.yaml'}` repeats the winner, with more `--steps` or another `--seed` "
        "if you like."
    )
    rows = [[name, value] for name, value in found.settings.items()]
    return page.section(
        "The winner's settings",
        page.paragraph(said),
        page.folded("All of them", page.table(["setting", "value"], rows)),
    )
