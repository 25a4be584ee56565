"""The commands by name."""

from __future__ import annotations

import sys

from cyclopts import App, Group, Parameter

import wgan
from wgan.cli.bench import bench_recipes
from wgan.cli.benchmark_w1 import benchmark_w1
from wgan.cli.compare import compare
from wgan.cli.distance import distance
from wgan.cli.doctor import doctor
from wgan.cli.evaluate import evaluate
from wgan.cli.listing import data, recipes
from wgan.cli.report import report
from wgan.cli.reproduce import reproduce
from wgan.cli.resume import resume
from wgan.cli.sample import sample
from wgan.cli.sweep import sweep
from wgan.cli.train import train
from wgan.cli.verify import verify

_WELCOME = """\
wgan trains, judges and uses Wasserstein GANs and their relatives.

  wgan train digits --seconds 60      train; ends with samples.png and report.html to look at
  wgan sample RUN -n 64               draw samples
  wgan evaluate RUN                   judge them against the data
  wgan verify RUN                     check that it is whole
  wgan distance A B                   how far apart, and what is certain of it
  wgan compare RUN RUN                which is closer to the data
  wgan sweep DATA --search ...        which settings are best
  wgan doctor RUN                     what is wrong with it, and what to do
  wgan recipes, wgan data             what there is
  wgan train --help                   every flag, with an example
"""

app = App(
    name="wgan",
    help="Train, judge and use Wasserstein GANs and their relatives.",
    version=wgan.__version__,
    default_parameter=Parameter(show_default=False),
    group_parameters=Group("Options", sort_key=1),
    help_format="markdown",
    suppress_keyboard_interrupt=False,  # `main` says that it stopped
)
for command in (
    train,
    resume,
    sample,
    evaluate,
    distance,
    compare,
    doctor,
    report,
    verify,
    recipes,
    data,
    bench_recipes,
    benchmark_w1,
    reproduce,
    sweep,
):
    app.command(command)


@app.default
def welcome() -> None:
    """Show the shortest useful help."""
    sys.stdout.write(_WELCOME)
