"""``wgan report``."""

from __future__ import annotations

from pathlib import Path


def report(*runs: Path, out: Path | None = None) -> int:
    """Write a report that opens offline; several runs of the same data share its axes.

    Example: `wgan report runs/0001-digits-wgan-gp runs/0002-digits-wgan --out both.html`

    Args:
        runs: Run directories.
        out: Where to [RUN/report.html, or report.html for several runs].
    """
    from wgan.errors import UserError
    from wgan.run import Run
    from wgan.session import report as write

    if not runs:
        raise UserError("name at least one run: wgan report RUN [RUN ...]")
    print(f"wrote {write([Run.open(path) for path in runs], out)}")
    return 0
