"""The report's sections with tables: measurements, settings, card."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from wgan.reports import page
from wgan.reports.inputs import Runs, words

_FAIR = "value_at_floor_size"
_ON_CARD_ELSEWHERE = ("format", "departures", "meaning", "estimate", "codec", "reason")


def evaluation(runs: Runs) -> str:
    """Measurements with their noise floors, a few columns for each run that has them."""
    found = {name: item.evaluation for name, item in runs.items() if item.evaluation}
    measured = {name: part["measurements"] for name, part in found.items()}
    entries: dict[str, Any] = {}
    for part in measured.values():
        entries = {**part, **entries}
    if not entries:
        return ""
    # Where real data were too few for a floor at the same size, the fair comparison is a third one.
    smaller = any(_FAIR in _detail(entry) for part in measured.values() for entry in part.values())
    header = [""]
    for name in measured:
        first = name if len(runs) > 1 else "samples"
        header += [first, *(["at the floor's size"] if smaller else []), "noise floor"]
    rows = []
    for key, entry in entries.items():
        cells: list[object] = [key]
        for part in measured.values():
            one = part.get(key, {})
            cells += [one.get("value"), *([_detail(one).get(_FAIR)] if smaller else [])]
            cells.append(one.get("floor"))
        rows.append([*cells, entry.get("better"), entry.get("meaning")])
    note = (
        "None of these numbers comes from the critic. The noise floor is the same number for real "
        "data against other real data: what is as near as that cannot be told from the data."
    )
    return page.section(
        "Judged against data",
        page.paragraph(note),
        page.table([*header, "better", "what it says"], rows),
        page.folded("What was compared, and how", _compared(found)),
    )


def _compared(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Sizes and settings: of the whole evaluation, then of each measurement."""
    columns = []
    for part in found.values():
        compared = part.get("compared") or {}
        column = {words(k): v for k, v in compared.items() if not isinstance(v, list | dict)}
        for key, entry in part["measurements"].items():
            detail = {k: v for k, v in _detail(entry).items() if not isinstance(v, list | dict)}
            column[f"{key}:"] = {words(k): v for k, v in detail.items() if k != _FAIR}
        columns.append(column)
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name) for column in columns)] for name in names]
    return page.table(["", *(found if len(found) > 1 else [""])], rows)


def _detail(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return entry.get("detail") or {}


def settings(runs: Runs) -> str:
    """The resolved configuration, and where it departs from the published one."""
    configs = [_flat(item.run.config) for item in runs.values()]
    names = dict.fromkeys(name for config in configs for name in config)
    rows = [[name, *(config.get(name) for config in configs)] for name in names]
    differing = [i for i, (_, *cells) in enumerate(rows) if any(c != cells[0] for c in cells)]
    many = len(runs) > 1
    parts = []
    if differing:
        parts.append(page.paragraph("Tinted: the settings in which the runs differ.", "note"))
    parts.append(page.table(["setting", *(runs if many else ["value"])], rows, differing))
    for name, item in runs.items():
        departures = item.run.card.get("departures")
        if not departures:
            continue
        title = "Departures from the published settings" + f": {name}" * many
        parts.append(f"<h3>{escape(title)}</h3>")
        fields = ("field", "published", "value", "reason")
        cells = [[departure.get(field) for field in fields] for departure in departures]
        parts.append(page.table(["setting", "published", "here", "why"], cells))
    return page.section("Settings", *parts)


def card(runs: Runs) -> str:
    """Everything else on the card; the data's entries have a row each."""
    columns = []
    for item in runs.values():
        column: dict[str, object] = {"directory": str(item.run.path)}
        for name, value in item.run.card.items():
            if name == "data":
                column |= {f"data: {words(key)}": part for key, part in item.data.items()}
            elif name not in _ON_CARD_ELSEWHERE:
                column[words(name)] = value
        columns.append(column)
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name) for column in columns)] for name in names]
    table = page.table(["", *(runs if len(runs) > 1 else [""])], rows)
    return page.section("Data, versions and machine", table)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested settings by names with dots."""
    flat: dict[str, object] = {}
    for name, value in config.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else {f"{prefix}{name}": value}
        )
    return flat
