"""What compiling promises whoever trains many times in one process."""

from functools import partial

import torch
from torch import Tensor

from wgan.config import resolve
from wgan.data import open_source
from wgan.training.compiled import Compiled


def scaled(factor: int, values: Tensor) -> Tensor:
    return factor * values


def test_many_runs_of_one_process_are_compiled() -> None:
    source = open_source("gaussians8")
    method = resolve({"recipe": "wgan-gp"}, source, source.name)[0].method()
    for factor in range(2, 14):  # torch compiles a function anew eight times at most
        compiled = Compiled(method, "aot_eager")
        found = compiled("critic", partial(scaled, factor), torch.ones(2))
        assert found.tolist() == [factor, factor]
        assert compiled.describe() == {"critic": "compiled"}
