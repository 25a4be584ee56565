"""Real files, where they are at hand: `$WGAN_DATA`, or `shared/data` beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from wgan.data import DataOptions, open_source
from wgan.errors import UserError

DATA = Path(os.environ.get("WGAN_DATA") or Path(__file__).parents[3] / "shared" / "data")


def real(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"no {name} in {DATA}; set WGAN_DATA to a folder that has it")
    return path


@pytest.mark.parametrize(
    ("name", "options", "kind", "shape", "size"),
    [
        ("fashion-mnist/t10k-images-idx3-ubyte.gz", {}, "image", (1, 28, 28), 10_000),
        ("fashion-mnist/train-images-idx3-ubyte.gz", {}, "image", (1, 28, 28), 60_000),
        ("cifar10/cifar10_12k.npz", {"key": "test_images"}, "image", (3, 32, 32), 2_000),
        ("sim/geant4_ecal_showers_100.h5", {"key": "ecal"}, "volume", (1, 24, 24, 25), 100),
        ("sim/airfoils_uiuc.npz", {"key": "y", "layout": "rows"}, "rows", (128,), 2_142),
        ("sim/ep_scattering_train.h5", {"condition": "beam_energy"}, "rows", (4,), 482_477),
        ("tabular/lalonde_cps.parquet", {}, "rows", (12,), 16_177),
    ],
)
def test_real_files_are_read_as_they_are(
    name: str, options: dict[str, str], kind: str, shape: tuple[int, ...], size: int
) -> None:
    source = open_source(real(name), DataOptions(**options))  # type: ignore[arg-type]
    assert (source.codec.kind, source.shape, source.size) == (kind, shape, size)
    values, condition = source.batch(torch.tensor([0, size - 1]))
    assert values.isfinite().all()
    assert (condition is not None) == ("condition" in options)
    again = source.codec.encode(source.codec.decode(values))
    torch.testing.assert_close(again, values, atol=1e-5, rtol=1e-5)


def test_magic_gamma_without_its_class() -> None:
    path = real("tabular/magic_gamma.parquet")
    with pytest.raises(
        UserError, match=r"class \(large_string\); .*--columns (fLength.*fDist)"
    ) as e:
        open_source(path)
    columns = tuple(str(e.value).rsplit("--columns ", 1)[1].split(","))
    assert open_source(path, DataOptions(columns=columns)).shape == (10,)


def test_the_text_of_adult_is_named() -> None:
    with pytest.raises(UserError, match=r"workclass \(string\), education \(string\)"):
        open_source(real("tabular/adult_train.csv.gz"))


def test_scenes_at_another_size(tmp_path: Path) -> None:
    import zipfile

    some = tmp_path / "some.zip"
    with (
        zipfile.ZipFile(real("scenes64/scenes64.zip")) as whole,
        zipfile.ZipFile(some, "w") as part,
    ):
        for member in whole.infolist()[::500]:
            part.writestr(member, whole.read(member))
    sources = [
        open_source(some, DataOptions(size=size, cache=tmp_path / "cache")) for size in (64, 48)
    ]
    large, small = (s.codec.decode(s.batch(torch.arange(21)).values) for s in sources)
    assert large.shape == (21, 64, 64, 3)
    assert small.shape == (21, 48, 48, 3)
    np.testing.assert_allclose(
        large.reshape(21, -1).mean(1), small.reshape(21, -1).mean(1), atol=1.0
    )
