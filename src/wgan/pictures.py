"""What a run draws on its way: sheets of samples and, in the plane, the critic's level lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wgan.data.base import Source, spread_rows
from wgan.reports.sheet import sample_sheet
from wgan.run import Run
from wgan.training import TrainState, bind_critic, synthesize

_SHEET = 64  # samples on a sheet
_DRAWN = 1000  # samples of a sheet of rows, and of the plane


@dataclass
class Pictures:
    """The pictures of one run, which are kept in its directory.

    Attributes:
        run: Its directory.
        source: What it trains on.
        latent: Numbers in a latent.
        seed: Of the run.
    """

    run: Run
    source: Source
    latent: int
    seed: int

    @cached_property
    def fixed(self) -> tuple[Tensor, Tensor | None]:
        """The latents and conditions of every sheet: the same throughout the run."""
        rng = torch.Generator().manual_seed(self.seed + 1)
        latent = torch.randn(_DRAWN, self.latent, generator=rng)
        return latent, self.source.batch(self._rows(_DRAWN)).condition

    def real(self) -> None:
        """Write the sheet of the data, `samples/real.png`."""
        real = self._real(self._count)
        path = self.run.path / "samples" / "real.png"
        sample_sheet(real, self.source.codec, path=path, real=real)

    def sheet(self, state: TrainState, *, last: bool = False) -> None:
        """Write the sheet of this step; the last one also as `samples.png`."""
        codec, count = self.source.codec, self._count
        latent, condition = self.fixed
        fake = synthesize(
            state.average,
            latent[:count],
            None if condition is None else condition[:count],
            state.like,
        )
        own = codec.decode(fake)
        pictures = codec.kind == "image" and codec.low is not None
        real = None if pictures else self._real(count)  # the sheet's frame or colour scale
        place = self.run.path / "samples" / f"{state.step:08d}.png"
        sample_sheet(own, codec, path=place, real=real)
        if last:
            sample_sheet(own, codec, path=self.run.path / "samples.png", real=real)

    def plane(self, state: TrainState) -> None:
        """Save samples, data and the critic's level lines, for unconditional data in the plane."""
        codec = self.source.codec
        if codec.shape != (2,) or codec.condition or state.critic is None:
            return
        latent, _ = self.fixed
        fake = codec.decode(synthesize(state.average, latent, None, state.like))
        real = self._real(_DRAWN)
        both = np.concatenate([real, fake])
        low, high = np.quantile(both, [0.01, 0.99], axis=0)
        margin = 0.25 * (high - low) + 1e-9
        x, y = (np.linspace(low[j] - margin[j], high[j] + margin[j], 100) for j in range(2))
        grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        module = state.critic.module.eval()
        with torch.no_grad():
            score = bind_critic(module, None)(codec.encode(grid).to(state.like)).score
        module.train()
        level = score.double().cpu().numpy().reshape(len(y), len(x))
        self.run.save_arrays(
            "plane.safetensors", {"real": real, "fake": fake, "x": x, "y": y, "score": level}
        )

    @property
    def _count(self) -> int:
        return _SHEET if self.source.codec.kind != "rows" else _DRAWN

    def _rows(self, count: int) -> Tensor:
        """`count` row numbers spread over the data, which repeat where there are fewer."""
        rows = spread_rows(self.source.size, count)
        return rows[torch.arange(count) % len(rows)]

    def _real(self, count: int) -> NDArray[Any]:
        return self.source.codec.decode(self.source.batch(self._rows(count)).values)
