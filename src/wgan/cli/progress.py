"""What a person sees while a run goes on: a live line, or a plain one every few seconds."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:  # not for `wgan --help` to wait for torch
    from wgan.diagnostics.rules import Finding
    from wgan.types import Record

_PLAIN_SECONDS = 5.0
_LIVE_SECONDS = 0.25
_TREND = 200  # steps whose halves are compared


class Progress:
    """Shows records as they come; a context manager.

    Args:
        estimate: Key of the estimate in the records, or None.
        steps: Where the run ends, or None.
        deadline: `time.monotonic` value at which it ends, or None.
        quiet: Show nothing.
    """

    def __init__(
        self,
        estimate: str | None,
        *,
        first: int,
        steps: int | None,
        deadline: float | None,
        quiet: bool = False,
    ) -> None:
        self.estimate = estimate
        self.first = first
        self.steps = steps
        self.deadline = deadline
        self.quiet = quiet
        self._console = Console(file=sys.stderr, highlight=False)
        self._live: Live | None = None
        self._started = time.monotonic()
        self._shown = self._started
        self._estimates: deque[float] = deque(maxlen=_TREND)
        self._every = _PLAIN_SECONDS
        self._audit: Record = {}

    def __enter__(self) -> Self:
        if not self.quiet and self._console.is_terminal:
            self._every = _LIVE_SECONDS
            self._live = Live(Text("starting"), console=self._console, auto_refresh=False)
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, value, trace)

    def show(self, record: Record) -> None:
        """Take in a record, and refresh the line if it is time."""
        if self.quiet:
            return
        if "audit.excess" in record:
            self._audit = record
        value = record.get(self.estimate) if self.estimate else None
        if isinstance(value, float):
            self._estimates.append(value)
        now = time.monotonic()
        if now - self._shown < self._every:
            return
        self._shown = now
        line = self.line(record, now)
        if self._live is not None:
            self._live.update(Text(line), refresh=True)
        else:
            self._console.print(line, soft_wrap=True)

    def warn(self, step: int, finding: Finding) -> None:
        """Show what the doctor says, above the line."""
        if not self.quiet:
            self._console.print(
                f"warning at step {step:,}: {finding.name}: {finding.evidence}\n"
                f"  do: {finding.advice}",
                soft_wrap=True,
                markup=False,
            )

    def line(self, record: Record, now: float) -> str:
        """Step, speed, time left, the estimate and where it is going."""
        step = record["step"]
        assert isinstance(step, int)
        rate = (step - self.first) / max(now - self._started, 1e-9)
        parts = [f"step {step:,}" + (f"/{self.steps:,}" if self.steps else "")]
        parts.append(f"{rate:.1f} steps/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.1f} s/step")
        left = self._left(step, rate, now)
        if left is not None:
            parts.append(f"{_clock(left)} left")
        if self._estimates and self.estimate:
            smooth = median(list(self._estimates)[-_TREND // 4 :])
            parts.append(f"{self.estimate.replace('_', ' ')} {smooth:.4g}{self._trend()}")
        excess, lower = (self._audit.get(f"audit.{name}") for name in ("excess", "lower"))
        if isinstance(excess, float) and isinstance(lower, float):
            parts.append(f"excess {excess:.3g}  W1 at least {lower:.3g}")
        return "  ".join(parts)

    def _left(self, step: int, rate: float, now: float) -> float | None:
        ends = []
        if self.steps is not None and rate > 0:
            ends.append((self.steps - step) / rate)
        if self.deadline is not None:
            ends.append(max(self.deadline - now, 0.0))
        return min(ends, default=None)

    def _trend(self) -> str:
        """Falling, rising or steady: halves of the window against their own scatter."""
        if len(self._estimates) < _TREND // 2:
            return ""
        values = list(self._estimates)
        half = len(values) // 2
        old, new = median(values[:half]), median(values[half:])
        spread = median(abs(v - old) for v in values[:half])
        error = 2.5 * spread / math.sqrt(half)
        if abs(new - old) <= error:
            return " (steady)"
        return " (falling)" if new < old else " (rising)"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
