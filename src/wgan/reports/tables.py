"""The report's sections with tables: measurements, settings, card."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from wgan.reports import page
from wgan.reports.inputs import Runs, words

_ON_CARD_ELSEWHERE = ("format", "departures", "meaning", "estimate", "codec", "reason")


def evaluation(runs: Runs) -> str:
    """Measurements with their noise floors, one pair of columns for each run that has them."""
    measured = {
        name: item.evaluation["measurements"] for name, item in runs.items() if item.evaluation
    }
    entries: dict[str, Any] = {}
    for found in measured.values():
        entries = {**found, **entries}
    if not entries:
        return ""
    header, rows = [""], []
    for name in measured:
        header += [name, f"{name}: floor"] if len(runs) > 1 else ["samples", "noise floor"]
    for key, entry in entries.items():
        cells: list[object] = [key]
        for found in measured.values():
            cells += [found.get(key, {}).get("value"), _floor(found.get(key, {}))]
        rows.append([*cells, entry.get("better"), _explained(entry)])
    note = (
        "None of these numbers comes from the critic. The noise floor is the same number for real "
        "data against other real data: what is as near as that cannot be told from the data."
    )
    table = page.table([*header, "better", "what it says"], rows)
    return page.section("Judged against data", page.paragraph(note), table)


def _floor(entry: Mapping[str, Any]) -> object:
    """The floor, and what compares with it where it was taken at a smaller size."""
    fair = (entry.get("detail") or {}).get("value_at_floor_size")
    if fair is None or entry.get("floor") is None:
        return entry.get("floor")
    return f"{page.plain(entry['floor'])} (samples at its size: {page.plain(fair)})"


def _explained(entry: Mapping[str, Any]) -> str:
    detail = {
        words(key): value
        for key, value in (entry.get("detail") or {}).items()
        if isinstance(value, int | float | str) and key != "value_at_floor_size"
    }
    meaning = str(entry.get("meaning") or "")
    return f"{meaning} ({page.plain(detail)})" if detail else meaning


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
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return flat
