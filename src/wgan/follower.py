"""A run as the processes have it that are not the first: they take its steps and follow it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from wgan.auto import Departure
from wgan.build import build_state
from wgan.config import Config
from wgan.data.base import Source
from wgan.errors import NonFiniteError, RankLostError, RunFailedError
from wgan.planning import make_audit, make_stopping
from wgan.training import TrainState, ranks, train
from wgan.training.agreement import require_agreement


@dataclass
class Follower:
    """A run as a process has it that is not the first: it takes every step, and decides nothing.

    Attributes:
        path: The run directory, which the first process has.
        config: What the run is.
        state: Where it stands.
        source: What it trains on.
        departures: Where the configuration departs from the published one; of a new run.
        status: interrupted or finished, once it is over.
    """

    path: Path
    config: Config
    state: TrainState
    source: Source
    departures: tuple[Departure, ...] = ()
    status: str = "interrupted"

    @classmethod
    def of(
        cls,
        path: Path,
        config: Config,
        training: Source,
        heldout: Source,
        generator: nn.Module | None = None,
        critic: nn.Module | None = None,
        departures: tuple[Departure, ...] = (),
    ) -> Follower:
        """A follower in the state that the first process has."""
        state = build_state(config, training, generator, critic)
        ranks.equalise(state)
        require_agreement(state, training)
        if config.stop_when is not None or config.patience is not None:
            audit = make_audit(config, training, heldout)
            make_stopping(config, audit, training, generator, critic)  # for its share of a step
        return cls(path, config, state, training, departures)

    def follow(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Train until the first process says that the run is over.

        Args:
            stop: Asked before every step; true ends the run on all processes.

        Raises:
            RunFailedError: Something was not finite, or the first process is gone.
        """
        said = ranks.GO

        def done(state: TrainState) -> bool:
            nonlocal said
            said = ranks.agree(ranks.STOP if stop() else ranks.GO)
            return said != ranks.GO

        try:
            while True:
                try:
                    for _ in train(self.state, self.source, until=done):
                        pass
                    if said != ranks.TAKE:
                        self.status = "finished" if said == ranks.FINISH else "interrupted"
                        return
                except NonFiniteError:
                    if self.config.on_divergence == "stop":
                        raise
                ranks.equalise(self.state)
        except (OSError, RankLostError) as error:
            raise saved(error, self.path) from None


def saved(error: Exception, path: Path) -> RunFailedError:
    """The error that a process ends with where the run can go on from its last checkpoint."""
    return RunFailedError(
        f"{error}; the run is saved up to its last checkpoint: wgan resume {path}"
    )
