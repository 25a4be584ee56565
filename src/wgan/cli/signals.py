"""Ctrl-C and SIGTERM: finish the step, save, say how to go on."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any, Self

_ECHO_SECONDS = 2.0
_TORCHRUN = "TORCHELASTIC_RUN_ID"  # a variable that it sets


class Stopper:
    """A context in which the first signal asks for a stop and a second one insists.

    Under `torchrun`, which passes on what the terminal or Slurm may have sent to everyone already,
    a second one insists only after two seconds.

    Attributes:
        signal: The signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._heard_at = 0.0
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @property
    def status(self) -> int:
        """Exit status: 128 and the signal's number, or 0."""
        return 0 if self.signal is None else 128 + self.signal

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is not None and issubclass(kind, Exception) and _TORCHRUN in os.environ:
            # It ends whom a failure has left, and who fails now has yet to say why.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        echo = time.monotonic() - self._heard_at < _ECHO_SECONDS
        if self.signal is not None and echo and _TORCHRUN in os.environ:
            return
        if self.signal is not None:  # the second one does not wait for the step
            signal.signal(number, self._before[number])
            raise KeyboardInterrupt
        self.signal, self._heard_at = number, time.monotonic()
