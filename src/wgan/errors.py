"""What is raised, and what it means for the person at the keyboard.

A :class:`UserError` is a mistake that the user can mend: the command line prints its one line and
exits with status 2. A :class:`RunFailedError` is a run that could not go on: status 1, and what was
saved stays good. Anything else is our own bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class UserError(ValueError):
    """A user's mistake: the message says what was given, what is allowed and what to do."""


class UnknownNameError(UserError):
    """A name that is not one of the known ones; the message lists them and the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


class MissingExtraError(UserError):
    """An optional dependency is not installed; the message is the command that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'wgan[{extra}]'")


class RunFailedError(RuntimeError):
    """A run that stopped before its end; its last good checkpoint is in place."""


class RankLostError(RunFailedError):
    """Another process of the run ended, or cannot be reached."""

    def __init__(self, reason: str) -> None:
        said = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason")
        said = re.sub(r"^\[\S+:\d+\]\s*", "", said).partition(". ")[0]  # where in torch; advice
        super().__init__(f"another process of this run ended or cannot be reached ({said[:200]})")


class OutOfMemoryError(RunFailedError):
    """Memory ran out; the message says what takes less."""


class NonFiniteError(RunFailedError):
    """A loss, penalty or gradient was not finite; raised *before* the update it would cause."""

    def __init__(self, term: str, step: int, rollbacks: int = 0) -> None:
        again = f", after {rollbacks} rollback{'s' * (rollbacks > 1)}" if rollbacks else ""
        more = f"--max-rollbacks {2 * rollbacks}" if rollbacks else "--on-divergence rollback"
        super().__init__(
            f"`{term}` is not finite at step {step}{again}; the update was not made. "
            "Lower the learning rate, look at the records of the steps before, or resume with "
            f"{more}"
        )
        self.term = term
        self.step = step
