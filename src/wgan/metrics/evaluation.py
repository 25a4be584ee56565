"""What an evaluation found: numbers, their floors, and how to read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from wgan.errors import UnknownNameError

Better = Literal["lower", "higher", "0.5"]


@dataclass(frozen=True)
class Measurement:
    """One number, and how to read it.

    Attributes:
        name: Its key.
        value: The number; for `w1` and `sliced_w1` in the data's own unit.
        floor: The same number for real data against other real data, at the size in `detail`; None
            where there is no such thing.
        better: Which way is better; values beyond the floor are chance.
        detail: Sizes and settings, and whatever else belongs to it (`p_value`, ...). Where the
            floor is of a smaller size, `value_at_floor_size` is what compares with it.
        meaning: One sentence.
    """

    name: str
    value: float
    floor: float | None
    better: Better
    detail: Mapping[str, Any]
    meaning: str


@dataclass(frozen=True)
class Evaluation:
    """What the measures say.

    Attributes:
        measurements: In the order of the table.
        compared: What was compared: sizes, split, unit, scale, features, seed.
        seconds: Time it took.
    """

    measurements: tuple[Measurement, ...]
    compared: Mapping[str, Any]
    seconds: float

    def __getitem__(self, name: str) -> Measurement:
        """The measurement called `name`."""
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        raise UnknownNameError("measurement", name, [m.name for m in self.measurements])

    def __contains__(self, name: object) -> bool:
        """Whether it was measured."""
        return any(measurement.name == name for measurement in self.measurements)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "measurements": {m.name: asdict(m) for m in self.measurements},
            "compared": dict(self.compared),
            "seconds": self.seconds,
        }

    def table(self) -> str:
        """Aligned plain text for a person."""
        rows = [("measure", "value", "real", "better", "what it says")]
        for m in self.measurements:
            value, floor = _number(m.value), "-" if m.floor is None else _number(m.floor)
            fair = m.detail.get("value_at_floor_size")
            if fair is not None:
                floor += f" ({_number(fair)})"
            rows.append((m.name, value, floor, m.better, m.meaning))
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        lines = [
            f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  "
            f"{row[3]:<{widths[3]}}  {row[4]}"
            for row in rows
        ]
        return "\n".join([*self._notes(), "", *lines])

    def _notes(self) -> list[str]:
        c = self.compared
        size, floor_size = c["size"], c["floor_size"]
        notes = [
            f"{size:,} samples against {size:,} real ones of {c['reference']}, "
            f"distances in {c['unit']}{'' if c['scale'] is None else ' (scaled, except w1)'}, "
            f"features {c['features']}",
            "real: the same number for real data against other real data",
        ]
        if floor_size != size:
            notes.append(
                f"      ({floor_size:,} against {floor_size:,}, for want of more; in brackets the "
                "samples' number at that size)"
            )
        if c["feature_size"] != size:
            notes.append(
                f"frechet, kernel: {c['feature_size']:,} samples, real {c['feature_floor_size']:,}"
            )
        return notes


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"
