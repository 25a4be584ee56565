"""Small published classifiers, whose last hidden layer serves as a feature space.

Written as functions of named arrays, so that a weights file is read without running anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Classifier:
    """An architecture that a weights file can fill.

    Attributes:
        name: For the fingerprint.
        channels: What it reads: 1 for grey, 3 for colour.
        size: Height and width that it reads.
        shapes: Name and shape of each array.
        forward: Weights and pictures ``[n, channels, size, size]`` in [0, 1] to features ``[n, k]``
            and logits ``[n, classes]``.
    """

    name: str
    channels: int
    size: int
    shapes: Mapping[str, tuple[int, ...]]
    forward: Callable[[Weights, Tensor], tuple[Tensor, Tensor]]


def _lenet5(w: Weights, v: Tensor) -> tuple[Tensor, Tensor]:
    for name in ("c1", "c3"):
        v = F.conv2d(v, w[f"convnet.{name}.weight"], w[f"convnet.{name}.bias"])
        v = F.max_pool2d(v.tanh(), 2)
    v = F.conv2d(v, w["convnet.c5.weight"], w["convnet.c5.bias"]).tanh().flatten(1)
    features = F.linear(v, w["fc.f6.weight"], w["fc.f6.bias"]).tanh()
    return features, F.linear(features, w["fc.f7.weight"], w["fc.f7.bias"])


def _resnet20(w: Weights, v: Tensor) -> tuple[Tensor, Tensor]:
    def convolve(v: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        v = F.conv2d(v, w[f"{name}.weight"], stride=stride, padding=1)
        statistics = w[f"{norm}.running_mean"], w[f"{norm}.running_var"]
        return F.batch_norm(v, *statistics, w[f"{norm}.weight"], w[f"{norm}.bias"])

    mean, deviation = v.new_tensor([0.485, 0.456, 0.406]), v.new_tensor([0.229, 0.224, 0.225])
    v = (v - mean[:, None, None]) / deviation[:, None, None]
    v = convolve(v, "conv1", "bn1").relu()
    for group in (1, 2, 3):
        for block in (0, 1, 2):
            name = f"layer{group}.{block}"
            stride = 2 if group > 1 and block == 0 else 1
            h = convolve(v, f"{name}.conv1", f"{name}.bn1", stride).relu()
            h = convolve(h, f"{name}.conv2", f"{name}.bn2")
            if stride == 2:  # He et al.'s option A: every second pixel, and zeros for new channels
                pad = h.shape[1] // 4
                v = F.pad(v[:, :, ::2, ::2], (0, 0, 0, 0, pad, pad))
            v = (h + v).relu()
    features = v.mean((2, 3))
    return features, F.linear(features, w["linear.weight"], w["linear.bias"])


def _lenet5_shapes() -> dict[str, tuple[int, ...]]:
    weights = {
        "convnet.c1": (6, 1, 5, 5),
        "convnet.c3": (16, 6, 5, 5),
        "convnet.c5": (120, 16, 5, 5),
        "fc.f6": (84, 120),
        "fc.f7": (10, 84),
    }
    biases = {f"{name}.bias": shape[:1] for name, shape in weights.items()}
    return {f"{name}.weight": shape for name, shape in weights.items()} | biases


def _resnet20_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (10, 64), "linear.bias": (10,)}

    def layer(convolution: str, norm: str, inputs: int, outputs: int) -> None:
        shapes[f"{convolution}.weight"] = (outputs, inputs, 3, 3)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = (outputs,)

    layer("conv1", "bn1", 3, 16)
    for group, width in ((1, 16), (2, 32), (3, 64)):
        for block in (0, 1, 2):
            inputs = width // 2 if group > 1 and block == 0 else width
            name = f"layer{group}.{block}"
            layer(f"{name}.conv1", f"{name}.bn1", inputs, width)
            layer(f"{name}.conv2", f"{name}.bn2", width, width)
    return shapes


CLASSIFIERS = (
    Classifier("lenet5", 1, 32, _lenet5_shapes(), _lenet5),
    Classifier("resnet20", 3, 32, _resnet20_shapes(), _resnet20),
)


def recognise(weights: Weights) -> Classifier | None:
    """The classifier whose arrays these are, or None."""
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    return next((kind for kind in CLASSIFIERS if kind.shapes == shapes), None)


def read_pictures(classifier: Classifier, pictures: Tensor) -> Tensor:
    """Pictures ``[n, c, h, w]`` in [0, 1], c 1 or 3, as the classifier reads them.

    Grey is repeated for colour, colour weighted (.299, .587, .114) for grey, and any size resized
    bilinearly (shrunk with antialiasing).
    """
    if pictures.shape[1] == 3 and classifier.channels == 1:
        luminance = pictures.new_tensor([0.299, 0.587, 0.114])
        pictures = (pictures * luminance[:, None, None]).sum(1, keepdim=True)
    elif pictures.shape[1] == 1 and classifier.channels == 3:
        pictures = pictures.expand(-1, 3, -1, -1)
    size = (classifier.size, classifier.size)
    if pictures.shape[2:] == size:
        return pictures
    shrinks = pictures.shape[2] > classifier.size or pictures.shape[3] > classifier.size
    return F.interpolate(pictures, size, mode="bilinear", antialias=shrinks)
