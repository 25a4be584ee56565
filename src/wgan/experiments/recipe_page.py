"""Write up the benchmark of recipes: which to use when, and the tables behind it.

Every statement is made from the numbers by the code below; none is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

GOOD_W1 = 0.10  # on gaussians8: at most the noise floor and a little
_LEFT_BEHIND = 5  # one in so many recipes may not reach the number of passes that is compared
_RESTLESS = 0.25  # share of latents that change their mode between two looks
_WORSE = 1.5  # times the median distance, from which a recipe is named as failing
_MEASURES = {"w1": "W1", "frechet": "Frechet distance"}

_TITLES = {
    "gaussians8": "Eight Gaussians on a circle",
    "gaussians25": "Twenty-five Gaussians on a grid",
    "swissroll": "A spiral",
    "digits": "Handwritten digits, 8 by 8",
}


@dataclass(frozen=True)
class Row:
    """A recipe's results on one data set, over the seeds.

    Attributes:
        recipe: By name.
        results: One for each seed, as `run_trial` gives them.
    """

    recipe: str
    results: tuple[Mapping[str, Any], ...]

    @property
    def judged(self) -> list[Mapping[str, Any]]:
        """The results that have measures; a trial that died has none."""
        return [result for result in self.results if "end" in result]

    @property
    def failures(self) -> list[str]:
        """Why trials stopped early."""
        return [str(result["failed"]) for result in self.results if result["failed"]]

    @property
    def measure(self) -> str:
        """By what it is ranked: W1 in the plane, the Frechet distance of pictures.

        In many dimensions the W1 of two samples is nearly as small for a generator that blurs.
        """
        return "w1" if any("modes" in result["end"] for result in self.judged) else "frechet"

    @property
    def distance(self) -> float:
        """The mean of that at the end; infinite where a trial has no measures."""
        if len(self.judged) < len(self.results):
            return float("inf")
        return fmean(self.values(self.measure))

    @property
    def complete(self) -> bool:
        """Whether every seed found every mode."""
        ends = [result["end"] for result in self.judged]
        return len(ends) == len(self.results) and all(
            end.get("modes") == end.get("of") for end in ends
        )

    @property
    def lost(self) -> bool:
        """Whether a seed lost more than a tenth of the modes."""
        ends = [result["end"] for result in self.judged]
        return any("of" in end and end["modes"] < 0.9 * end["of"] for end in ends)

    @property
    def good(self) -> bool:
        """All modes in every seed and a small mean W1."""
        return not self.failures and self.complete and self.distance <= GOOD_W1

    def values(self, name: str) -> list[float]:
        """A measure at the end, one for each seed that has it."""
        return [result["end"][name] for result in self.judged]

    def after_passes(self, passes: int) -> list[Mapping[str, float]]:
        """The reading after so many critic passes, of each seed that came so far."""
        return [
            next(reading for reading in result["by_passes"] if reading["critic_passes"] >= passes)
            for result in self.judged
            if result["by_passes"] and result["by_passes"][-1]["critic_passes"] >= passes
        ]


def page(results: Iterable[Mapping[str, Any]]) -> str:
    """The page in Markdown, from the results of trials in any order; data sets in their order."""
    results = list(results)
    rows = _ranked(result for result in results if not _published(result))
    published = _ranked(result for result in results if _published(result))
    pairs = {data: _pairs(ranked, rows.get(data, ())) for data, ranked in published.items()}
    parts = [_introduction(rows), "## Which to use when\n", *_advice(rows, pairs)]
    for data, ranked in rows.items():
        parts += _section(data, ranked)
        if pairs.get(data):
            parts += _published_section(data, pairs[data])
    return "\n".join(parts).rstrip() + "\n"


def _published(result: Mapping[str, Any]) -> bool:
    return bool(result["trial"].get("settings") == "published")


def _ranked(results: Iterable[Mapping[str, Any]]) -> dict[str, list[Row]]:
    """Rows by data set, nearest first."""
    tables: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for result in results:
        trial = result["trial"]
        tables.setdefault(trial["data"], {}).setdefault(trial["recipe"], []).append(result)
    return {
        data: sorted(
            (Row(recipe, tuple(found)) for recipe, found in tables[data].items()),
            key=lambda row: (row.distance, row.recipe),
        )
        for data in sorted(tables, key=_place)
    }


def _pairs(published: Sequence[Row], auto: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Each recipe's published row beside its auto row of the same seeds."""
    by_name = {row.recipe: row for row in auto}
    pairs = []
    for row in published:
        seeds = {result["trial"]["seed"] for result in row.results}
        if row.recipe in by_name:
            same = tuple(r for r in by_name[row.recipe].results if r["trial"]["seed"] in seeds)
            if len(same) == len(row.results):
                pairs.append((row, Row(row.recipe, same)))
    return pairs


# -- words -----------------------------------------------------------------------------------------


def _introduction(rows: Mapping[str, Sequence[Row]]) -> str:
    some = next(row.results[0] for ranked in rows.values() for row in ranked)
    seconds = some["trial"]["seconds"]
    versions: Mapping[str, str] = next(
        (r["versions"] for ranked in rows.values() for row in ranked for r in row.judged), {}
    )
    return f"""\
# Choosing a recipe

<!-- Written by `wgan bench-recipes --page docs/recipes.md`; edit src/wgan/experiments instead. -->

Every recipe with its `auto` settings, on eight Gaussians also with its published ones, trained for
{seconds:g} s on small data with known answers and judged by numbers that do not come from its
critic. `wgan bench-recipes` repeats it, and this page is written by that command: the sentences
below follow from the tables.

The {seconds:g} s are processor seconds of the training loop on one core (a machine that does other
things too does not distort them). Samples come from the averaged generator. *W1* is the exact
transport distance to as many fresh samples, in the data's own units; *1-NN* is how often the
nearest neighbour tells samples from data: 0.5 is best, 1 is worst. *Floor* is the same for data
against data: nobody gets reliably below it. A *critic pass* is one batch that the critic scores, in
penalties and the generator's loss too; recipes without a critic have none.

Small data in {seconds:g} s on a CPU says which recipes are quick and safe. It does not say which
makes the best pictures after a day on a GPU.
{_of_versions(versions)}"""


def _of_versions(versions: Mapping[str, str]) -> str:
    if not versions:
        return ""
    return "\nMeasured with " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".\n"


def _advice(
    rows: Mapping[str, Sequence[Row]], pairs: Mapping[str, Sequence[tuple[Row, Row]]]
) -> list[str]:
    said = [_all_round(rows), _without_critic(rows)]
    if "gaussians8" in rows:
        ranked = rows["gaussians8"]
        said += [_good_ones(ranked), _cheapest_in_passes(ranked), _frugal(ranked)]
    if "digits" in rows:
        said.append(_best_of("digits", rows["digits"], "For pictures of digits"))
    said.append(_failing(rows))
    if "gaussians8" in pairs:
        said.append(_rescued(pairs["gaussians8"]))
    said.append(_gan(rows))
    return [f"- {sentence}" for sentence in said if sentence] + [""]


def _all_round(rows: Mapping[str, Sequence[Row]]) -> str:
    """The recipe whose worst distance, in units of the floor, is smallest."""
    worst = {
        recipe: max(_over_floor(row) for row in found)
        for recipe, found in _by_recipe(rows).items()
        if len(found) == len(rows) and not any(row.failures for row in found)
    }
    if not worst:
        return ""
    first, *others = sorted(worst, key=lambda recipe: worst[recipe])
    said = (
        f"**To begin with: `{first}`.** On the data set that suits it least it ends at "
        f"{worst[first]:.1f} times the floor, which no other recipe beats."
    )
    if others:
        close = " and ".join(f"`{name}` ({worst[name]:.1f})" for name in others[:2])
        said += f" {close} come next."
    if "wgan-gp" in worst and first != "wgan-gp":
        said += f" The default, `wgan-gp`, is at {worst['wgan-gp']:.1f}."
    return said


def _without_critic(rows: Mapping[str, Sequence[Row]]) -> str:
    """How the recipes without a critic do, in the plane and on pictures."""
    said = []
    for data, ranked in rows.items():
        free = [i for i, row in enumerate(ranked) if _critic_free(row)]
        if free:
            best = ranked[free[0]]
            said.append(f"`{best.recipe}` is number {free[0] + 1} of {len(ranked)} on {data}")
    if not said:
        return ""
    return f"**Without a critic** there is nothing to balance: {'; '.join(said)}."


def _good_ones(ranked: Sequence[Row]) -> str:
    good = [row for row in ranked if row.good]
    floor = _floor(ranked, "w1")
    return (
        f"**Safe on separate clusters:** {len(good)} of {len(ranked)} recipes find all 8 Gaussians "
        f"from every seed with a mean W1 of at most {GOOD_W1:.2f} (floor {floor}): "
        f"{_names(row.recipe for row in good) or 'none'}."
    )


def _cheapest_in_passes(ranked: Sequence[Row]) -> str:
    """Which is best where the critic is what costs: a large one on a GPU."""
    passes = _compared_passes(ranked)
    if passes is None:
        return ""
    at = {
        row.recipe: fmean(reading["w1"] for reading in readings)
        for row in ranked
        if len(readings := row.after_passes(passes)) == len(row.results)
    }
    best = sorted(at, key=lambda recipe: at[recipe])[:3]
    named = ", ".join(f"`{name}` ({at[name]:.3f})" for name in best)
    return (
        f"**Where the critic is what costs** (a large network), compare after equal passes: after "
        f"{passes:,} on gaussians8 the nearest to the data are {named}."
    )


def _frugal(ranked: Sequence[Row]) -> str:
    rates = {row.recipe: fmean(_rates(row)) for row in ranked if row.judged}
    if len(rates) < 2:
        return ""
    fast, slow = max(rates, key=rates.__getitem__), min(rates, key=rates.__getitem__)
    return (
        f"**A step costs** least with `{fast}` ({rates[fast]:.0f} a second on gaussians8) and most "
        f"with `{slow}` ({rates[slow]:.1f})."
    )


def _best_of(data: str, ranked: Sequence[Row], lead: str) -> str:
    able = [row for row in ranked if not row.failures][:3]
    if not able:
        return ""
    measure = able[0].measure
    named = ", ".join(f"`{row.recipe}` ({_mean(row.values(measure))})" for row in able)
    return (
        f"**{lead}** the nearest are, by their {_MEASURES[measure]}, {named}; the floor is "
        f"{_floor(ranked, measure)}."
    )


def _failing(rows: Mapping[str, Sequence[Row]]) -> str:
    """Those that died, lost modes, or ended much farther away than most."""
    bad: dict[str, list[str]] = {}
    for data, ranked in rows.items():
        middle = median(row.distance for row in ranked)
        for row in ranked:
            if row.failures:
                how = "stopped early" if row.judged else "no result"
                bad.setdefault(row.recipe, []).append(f"{data}: {how}")
            elif row.lost:
                found, total = min(row.values("modes")), row.judged[0]["end"]["of"]
                bad.setdefault(row.recipe, []).append(f"{data}: {found:g} of {total} modes")
            elif row.distance > _WORSE * middle:
                how = f"{_MEASURES[row.measure]} {row.distance:.3g}"
                bad.setdefault(row.recipe, []).append(f"{data}: {how}")
    if not bad:
        return ""
    listed = "; ".join(f"`{name}` ({', '.join(why)})" for name, why in sorted(bad.items()))
    return f"**What fails in this time:** {listed}."


def _rescued(pairs: Sequence[tuple[Row, Row]]) -> str:
    """Where the published settings fail in this time and the small changes of auto do not."""
    rescued = [auto.recipe for published, auto in pairs if auto.good and not published.good]
    spoiled = [auto.recipe for published, auto in pairs if published.good and not auto.good]
    said = (
        f"**Published settings** that miss a mode or a W1 of {GOOD_W1:.2f} on gaussians8 in this "
        f"time where the small changes of `auto` (below) do not: {_names(rescued) or 'none'}."
    )
    return said + (f" The other way round: {_names(spoiled)}." if spoiled else "")


def _gan(rows: Mapping[str, Sequence[Row]]) -> str:
    """Whether the standard GAN collapses or rotates on gaussians8, as its critics say."""
    found = next((row for row in rows.get("gaussians8", ()) if row.recipe == "gan"), None)
    if found is None or not found.judged:
        return ""
    lost = [result["end"]["of"] - result["end"]["modes"] for result in found.judged]
    moved = [restlessness(result) for result in found.judged]
    modes = ", ".join(f"{end:g}" for end in found.values("modes"))
    collapsed = sum(count > 0 for count in lost)
    rotating = sum(share > _RESTLESS for share in moved)
    said = f"**The standard GAN, `gan`,** ends with {modes} of 8 modes from its seeds: "
    said += f"it collapses from {collapsed} of {len(lost)}" if collapsed else "it does not collapse"
    return (
        f"{said}, and {'rotates' if rotating else 'does not rotate'}: in the second half of the "
        f"run {fmean(moved):.0%} of its latents change their mode from one look to the next "
        f"({found.results[0]['trial']['seconds'] / 20:g} s)."
    )


def restlessness(result: Mapping[str, Any]) -> float:
    """Mean share of latents that change their mode between looks, over the second half."""
    looks = result["looks"]
    late = [look["moved"] for look in looks[len(looks) // 2 :] if "moved" in look]
    return fmean(late) if late else 0.0


# -- tables ----------------------------------------------------------------------------------------


def _section(data: str, ranked: Sequence[Row]) -> list[str]:
    modes = any("modes" in result["end"] for row in ranked for result in row.judged)
    passes = _compared_passes(ranked)
    seeds = max(len(row.results) for row in ranked)
    heads = ["recipe", "W1"]
    heads += ["modes", "near"] if modes else ["Frechet"]
    heads += ["1-NN", "steps", "steps/s"]
    if passes is not None:
        heads.append(f"W1 after {passes:,} passes")
    lines = [
        f"## {_TITLES.get(data, data)}\n",
        f"`{data}`, nearest first. {_of_seeds(seeds)} The floor of W1 is {_floor(ranked, 'w1')}, "
        f"of 1-NN {_floor(ranked, 'nn_accuracy')}"
        + ("" if modes else f", of Frechet {_floor(ranked, 'frechet')}")
        + (
            "; *near* is the share of samples within 4 standard deviations."
            if modes
            else ". Ranked by the Frechet distance of the pixels: the W1 of two samples of so many "
            "numbers is as small for a generator that blurs."
        ),
        "",
        f"| {' | '.join(heads)} |",
        f"|---|{'---:|' * (len(heads) - 1)}",
    ]
    for row in ranked:
        cells = [f"`{row.recipe}`", _spread(row.values("w1"))]
        if modes:
            cells += [_counts(row), _percent(row.values("near"))]
        else:
            cells.append(_spread(row.values("frechet")))
        steps = [result["steps"] for result in row.judged]
        cells += [
            _spread(row.values("nn_accuracy")),
            f"{fmean(steps):,.0f}" if steps else "-",
            f"{fmean(_rates(row)):.0f}" if steps else "-",
        ]
        if passes is not None:
            readings = row.after_passes(passes)
            full = len(readings) == len(row.results)
            cells.append(_spread([r["w1"] for r in readings]) if full else "-")
        lines.append(f"| {' | '.join(cells)} |")
    stopped = [f"- `{row.recipe}`: {why}" for row in ranked for why in row.failures]
    if stopped:
        lines += ["", "Stopped early, or without a result:", "", *stopped]
    return [*lines, ""]


def _published_section(data: str, pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    """The published settings beside the auto ones of the same seeds, and what these change."""
    modes = any("modes" in result["end"] for row, _ in pairs for result in row.judged)
    heads = ["recipe", "W1 published", "W1 auto"]
    heads += ["modes published", "modes auto"] if modes else []
    lines = [
        f"### Published settings on {data}\n",
        "The same seconds and seed with the settings of the paper or its code, and what `auto` "
        "changes.",
        "",
        f"| {' | '.join([*heads, 'auto changes'])} |",
        f"|---|{'---:|' * (len(heads) - 1)}---|",
    ]
    for published, auto in pairs:
        cells = [f"`{auto.recipe}`", _spread(published.values("w1")), _spread(auto.values("w1"))]
        cells += [_counts(published), _counts(auto)] if modes else []
        changes = auto.results[0].get("departures", ())
        cells.append("; ".join(str(change).split(":")[0] for change in changes) or "nothing")
        lines.append(f"| {' | '.join(cells)} |")
    stopped = [f"- `{row.recipe}`: {why}" for row, _ in pairs for why in row.failures]
    if stopped:
        lines += ["", "Stopped early, or without a result:", "", *stopped]
    return [*lines, ""]


def _of_seeds(seeds: int) -> str:
    if seeds == 1:
        return "One seed."
    return f"Means of {seeds} seeds, with the least and the greatest in brackets."


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return _number(values[0])
    return f"{_mean(values)} ({_number(min(values))}-{_number(max(values))})"


def _mean(values: Sequence[float]) -> str:
    return _number(fmean(values)) if values else "-"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _percent(values: Sequence[float]) -> str:
    return f"{fmean(values):.0%}" if values else "-"


def _counts(row: Row) -> str:
    found = [f"{value:g}" for value in row.values("modes")]
    return found[0] if found and len(set(found)) == 1 else ", ".join(found) or "-"


# -- what both need --------------------------------------------------------------------------------


def _place(data: str) -> tuple[int, str]:
    known = list(_TITLES)
    return (known.index(data) if data in known else len(known), data)


def _by_recipe(rows: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for ranked in rows.values():
        for row in ranked:
            found.setdefault(row.recipe, []).append(row)
    return found


def _over_floor(row: Row) -> float:
    if not row.judged:
        return float("inf")
    return row.distance / fmean(result["floor"][row.measure] for result in row.judged)


def _floor(ranked: Sequence[Row], name: str) -> str:
    found = [result["floor"][name] for row in ranked for result in row.judged]
    if not found:
        return "unknown"
    low, high = _number(min(found)), _number(max(found))
    return low if low == high else f"{low} to {high}"


def _critic_free(row: Row) -> bool:
    return bool(row.judged) and row.judged[0]["critic_passes"] is None


def _rates(row: Row) -> list[float]:
    return [result["steps"] / result["seconds"] for result in row.judged]


def _compared_passes(ranked: Sequence[Row]) -> int | None:
    """The largest 2^k passes that most recipes with a critic reach from every seed."""
    reached = sorted(
        min((len(result["by_passes"]) for result in row.judged), default=0)
        for row in ranked
        if not _critic_free(row)
    )
    if not reached:
        return None
    rungs = reached[len(reached) // _LEFT_BEHIND]
    return 2 ** (12 + rungs) if rungs else None


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
