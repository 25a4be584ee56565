"""The command line: one typed function per command, and one place that turns errors into lines."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

STARTED = time.monotonic()
"""When this process began, near enough: what `--seconds` counts from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status.

    0: done. 1: a run that failed. 2: a user's mistake, said in one line. 130, 143: stopped by
    Ctrl-C or SIGTERM, resumably.
    """
    if arguments is None:  # a process of its own
        signal.signal(signal.SIGTERM, _stop)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not of a background job
            signal.signal(signal.SIGINT, _stop)
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        return _complain("stopped", 128 + (_heard[-1] if _heard else signal.SIGINT))
    except Exception:
        if not _heard:
            raise
        # C code that is imported turns an interrupt into an ImportError, which may be caught; its
        # next import fails.
        return _complain("stopped", 128 + _heard[-1])
    finally:
        if _several():
            from wgan.training import ranks

            ranks.leave()


def _run(arguments: list[str]) -> int:
    from cyclopts import CycloptsError

    from wgan.cli.app import app
    from wgan.errors import RunFailedError, UnknownNameError, UserError

    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in app:
            raise UnknownNameError("command", arguments[0], (n for n in app if n[0] != "-"))
        status = app(
            arguments,
            print_error=False,
            exit_on_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), 2)
    except UserError as error:
        return _complain(str(error), 2)
    except RunFailedError as error:
        return _complain(str(error), 1)
    except BrokenPipeError:  # the reader of a pipe went away: `wgan recipes | head`
        sys.stderr.close()
        return 0
    except OSError as error:  # a full or read-only disk, where nothing nearer has said so
        return _complain(f"{error.strerror}: {error.filename}" if error.filename else str(error), 1)
    except (MemoryError, RuntimeError) as error:
        from wgan.memory import ran_out

        if not ran_out(error):
            raise  # our own bug
        return _complain("memory ran out; ask for fewer samples, or end other programs first", 1)
    return status if isinstance(status, int) else 0


_heard: list[int] = []
"""Signals that came while there was nothing to finish."""


def _stop(number: int, frame: FrameType | None) -> None:
    _heard.append(number)
    raise KeyboardInterrupt


def _several() -> bool:
    """Whether `torchrun` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _complain(message: str, status: int) -> int:
    if _several():  # one line for them all
        from wgan.training import ranks

        if not ranks.speaks():
            return status
    # what a stranger's file is called must not move the cursor, nor take more than a line
    shown = "".join(c if c.isprintable() else " " for c in message)
    print(f"wgan: {shown}", file=sys.stderr)
    return status
