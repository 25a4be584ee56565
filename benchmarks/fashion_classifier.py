"""Train a LeNet-5 on Fashion-MNIST, whose last hidden layer is then a space for Frechet distances.

    python -m benchmarks.fashion_classifier FOLDER OUT.npz

FOLDER holds the four IDX files. The network is the one that `--features` knows from MNIST: grey
pictures of 32x32 in [0, 1], tanh, max pooling, 84 features. Eight epochs of Adam in batches of 128,
its rate falling to nothing; about 90% of the test pictures are recognised. One seed gives one file.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wgan.data import open_source
from wgan.metrics.classifiers import CLASSIFIERS, read_pictures

_EPOCHS, _BATCH, _LR = 8, 128, 2e-3


def labelled(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Pictures ``[n, 1, 28, 28]`` in [0, 1] and labels ``[n]`` of `train` or `t10k`."""
    found = []
    for kind in ("images-idx3", "labels-idx1"):
        source = open_source(folder / f"{part}-{kind}-ubyte.gz")
        assert source.size is not None
        values = source.batch(torch.arange(source.size)).values
        found.append(torch.from_numpy(np.asarray(source.codec.decode(values))))
    pictures, labels = found
    return pictures.float().view(-1, 1, 28, 28) / 255, labels.round().long().flatten()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    lenet = next(c for c in CLASSIFIERS if c.name == "lenet5")
    rng = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in lenet.shapes.items():
        fan_in = math.prod(lenet.shapes[name.replace("bias", "weight")][1:])
        weights[name] = (torch.rand(shape, generator=rng) * 2 - 1) / math.sqrt(fan_in)
        weights[name].requires_grad_(True)
    pictures, labels = labelled(arguments.folder, "train")
    optimizer = torch.optim.Adam(weights.values(), _LR, fused=True)
    steps = _EPOCHS * (len(pictures) // _BATCH)
    step = 0
    for _ in range(_EPOCHS):
        order = torch.randperm(len(pictures), generator=rng)
        for rows in order[: len(order) // _BATCH * _BATCH].view(-1, _BATCH):
            optimizer.param_groups[0]["lr"] = _LR * (1 - step / steps)
            _, logits = lenet.forward(weights, read_pictures(lenet, pictures[rows]))
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits, labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
    pictures, labels = labelled(arguments.folder, "t10k")
    with torch.no_grad():
        right = [
            (lenet.forward(weights, read_pictures(lenet, some))[1].argmax(1) == those).float()
            for some, those in zip(pictures.chunk(20), labels.chunk(20), strict=True)
        ]
    arrays: dict[str, Any] = {name: w.detach().numpy() for name, w in weights.items()}
    np.savez(arguments.out, **arrays)
    print(f"{torch.cat(right).mean():.2%} of the test pictures recognised; {arguments.out}")


if __name__ == "__main__":
    main()
