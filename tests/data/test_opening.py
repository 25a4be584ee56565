from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wgan.data import DataOptions, Source, known_sources, open_source
from wgan.errors import UnknownNameError, UserError


@pytest.mark.parametrize("name", [entry["name"] for entry in known_sources()])
def test_every_known_source_is_as_told(name: str) -> None:
    told = next(entry for entry in known_sources() if entry["name"] == name)
    source = open_source(name)
    assert isinstance(source, Source)
    assert (source.name, list(source.shape), source.size) == (name, told["shape"], told["size"])
    assert source.batch(torch.arange(3, 7)).values.shape == (4, *source.shape)
    assert source.fingerprint == open_source(name).fingerprint
    assert told["what"]
    assert told["source"]


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    source = open_source("digits")
    assert (source.codec.low, source.codec.high) == (0, 16)
    own = source.codec.decode(source.batch(torch.arange(1797)).values)
    assert own.dtype == np.uint8
    np.testing.assert_array_equal(own, load_digits().images)
    values = source.batch(torch.arange(1797)).values
    assert (values.min().item(), values.max().item()) == (-1, 1)


def test_an_open_source_is_left_as_it_is() -> None:
    source = open_source("gaussians8")
    assert open_source(source) is source


def test_the_seed_is_that_of_the_options() -> None:
    a, b = (open_source("gaussians8", DataOptions(seed=seed)) for seed in (0, 1))
    assert a.fingerprint != b.fingerprint


def test_unknown_names_come_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"'digit'. Did you mean 'digits'\? Known: digits,"):
        open_source("digit")
    np.save(tmp_path / "showers.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"no file or folder .*; did you mean .*/showers\.npy\?"):
        open_source(tmp_path / "shower.npy")
    with pytest.raises(UserError, match="nor is there a folder"):
        open_source(tmp_path / "gone" / "shower.npy")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="none of the files that can be read"):
        open_source(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="must be a name, a path, an array or a source"):
        open_source(3)  # type: ignore[arg-type]


def test_names_are_fit_for_a_run(tmp_path: Path) -> None:
    path = tmp_path / "My data (2)/é.v1.npy"
    path.parent.mkdir()
    np.save(path, np.zeros((3, 2)))
    assert open_source(path).name == "v1"
    path = path.rename(path.with_name("my data, new.v1.NPY"))
    assert open_source(path).name == "my-data-new.v1"


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("digits", {"key": "x"}),
        ("gaussians8", {"columns": ("x",)}),
        (np.zeros((3, 2)), {"drop_missing": True}),
        ("a.npy", {"key": "x"}),
        ("a.npz", {"skip_bad": True}),
        ("a.csv", {"layout": "rows"}),
        ("folder", {"key": "x"}),
    ],
)
def test_options_that_do_not_apply_are_refused(
    tmp_path: Path, data: Any, options: dict[str, Any]
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "a.npz", np.zeros(3))
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "folder").mkdir()
    if isinstance(data, str) and (tmp_path / data).exists():
        data = tmp_path / data
    (name,) = options
    with pytest.raises(UserError, match=f"`{name}` does not apply to"):
        open_source(data, DataOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 10}, "`size` must be a multiple of 4, from 8 up, got 10"),
        ({"size": 4}, "got 4"),
        ({"layout": "image"}, r"unknown layout 'image'. Did you mean 'images'\?"),
        ({"columns": ("a", "a")}, "each only once"),
        ({"columns": ()}, "at least one"),
        ({"seed": -1}, "`seed` must be in"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DataOptions(**options)


def test_one_name_or_a_list_is_as_good_as_a_tuple() -> None:
    assert DataOptions(condition="a").condition == ("a",)  # type: ignore[arg-type]
    assert DataOptions(columns=["a", "b"]).columns == ("a", "b")  # type: ignore[arg-type]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WGAN_CACHE", str(tmp_path))
    assert DataOptions().cache_folder == tmp_path
    assert DataOptions(cache=tmp_path / "mine").cache_folder == tmp_path / "mine"
    monkeypatch.delenv("WGAN_CACHE")
    assert DataOptions().cache_folder.name == "wgan"


def test_importing_is_light() -> None:
    heavy = ("sklearn", "pyarrow", "h5py", "PIL", "scipy", "matplotlib")
    script = f"import sys, wgan.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
