"""Plugins: what they add, when they are executed, what a run remembers of them."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wgan
from wgan.cli import main
from wgan.errors import UserError
from wgan.objectives import OBJECTIVES, Wasserstein
from wgan.plugins import isolated, load_installed, load_plugin, load_plugins, looked_up, used
from wgan.recipes import RECIPES, get_recipe
from wgan.run import Run

TINY = ["--width", "8", "--batch-size", "16", "--latent", "2"]
BUDGET = ["--steps", "3", "--judge", "0", "--quiet"]
FLAT = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Literal
from pathlib import Path
import wgan
from wgan.objectives import Wasserstein

Path("executed").touch()

@dataclass(frozen=True)
class Flat(wgan.Constraint):
    weight: float = 1.0
    power: Literal["1", "2"] = "2"
    name = "flat"

    def penalty(self, critic, real, fake, draw, step):
        penalty = self.weight * critic(real).score.abs().pow(int(self.power)).mean()
        return wgan.Loss(penalty, {"flat_penalty": penalty.detach()})

wgan.register(
    wgan.Recipe("mine", "One of my own", "nobody", 2026, Wasserstein(), (Flat(2.0),))
)
"""


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with isolated():
        yield


def wgan_command(*arguments: str) -> int:
    """A command with no plugin loaded before it, as in a process of its own."""
    with isolated():
        return main(list(arguments))


def write(name: str, code: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `flat.py` and a run of its recipe, `run`."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "flat.py").write_text(FLAT)
    flags = ["--plugin", str(folder / "flat.py"), "--recipe", "mine", *BUDGET, *TINY]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        more = ["--constraint", "flat:power=1", "--out", str(folder / "run")]
        assert wgan_command("train", "gaussians8", *flags, *more) == 0
    (folder / "executed").unlink()
    return folder


@pytest.fixture
def run(made: Path) -> Run:
    """A run of the recipe of `flat.py`, and that file, where the test stands."""
    shutil.copytree(made, ".", dirs_exist_ok=True)
    return Run.open("run")


def test_a_run_records_its_plugins_by_content(run: Run) -> None:
    assert run.config["plugins"] == {"flat.py": hashlib.sha256(FLAT.encode()).hexdigest()}
    assert run.config["constraints"] == {"flat": {"weight": 2.0, "power": "1"}}
    assert all(isinstance(record["flat_penalty"], float) for record in run.records())


@pytest.mark.parametrize(
    "command",
    [
        ["sample", "run"],
        ["evaluate", "run"],
        ["resume", "run", "--steps", "4"],
        ["train", "--config", "run/config.yaml", "--out", "again"],
    ],
    ids=lambda command: command[0],
)
def test_a_run_never_executes_its_plugin(
    command: list[str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wgan_command(*command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--plugin PATH/flat.py" in error
    assert not Path("executed").exists()
    more = ["-n", "20"] if command[0] in ("sample", "evaluate") else ["--judge", "0"]
    assert wgan_command(*command, "--plugin", "flat.py", *more) == 0


def test_a_changed_plugin_is_a_difference(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    write("flat.py", FLAT + "# changed\n")
    flags = ["--plugin", "flat.py"]
    assert wgan_command("resume", "run", *flags, "--steps", "4") == 2
    assert "plugin flat.py has changed since the run began" in capsys.readouterr().err
    assert wgan_command("sample", "run", *flags, "-n", "3", "--out", "few.npy") == 0
    assert "plugin flat.py has changed" in capsys.readouterr().err
    assert wgan_command("resume", "run", *flags, "--steps", "4", "--judge", "0", "--allow") == 0
    capsys.readouterr()
    assert wgan_command("sample", "run", *flags, "-n", "3", "--out", "few.npy") == 0
    assert "changed" not in capsys.readouterr().err  # what was allowed is what it is now


def test_a_moved_plugin_is_the_same_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    write("elsewhere/flat.py", FLAT)
    flags = ["--plugin", "elsewhere/flat.py", "--steps", "4", "--judge", "0"]
    assert wgan_command("resume", "run", *flags) == 0
    assert "wgan sample run --plugin elsewhere/flat.py" in capsys.readouterr().out


def test_the_datas_plugin_is_not_needed_to_sample(capsys: pytest.CaptureFixture[str]) -> None:
    code = """
import numpy as np, wgan
@wgan.register_source("steps")
def steps():
    '''The numbers 0 to 99.

    And no more.
    '''
    return np.arange(100.0)[:, None]
"""
    write("source.py", code)
    flags = ["--plugin", "source.py"]
    assert wgan_command("train", "steps", *flags, "--out", "run", *BUDGET, *TINY) == 0
    assert set(Run.open("run").config["plugins"]) == {"source.py"}
    assert wgan_command("sample", "run", "-n", "5", "--out", "few.npy") == 0
    assert np.load("few.npy").shape == (5, 1)
    assert wgan_command("resume", "run", "--steps", "4") == 2
    assert "--plugin PATH/source.py" in capsys.readouterr().err
    assert wgan_command("resume", "run", *flags, "--steps", "4", "--judge", "0") == 0
    capsys.readouterr()
    assert wgan_command("data", *flags) == 0
    assert "The numbers 0 to 99.\n" in capsys.readouterr().out


def test_a_source_that_gives_something_else_is_refused() -> None:
    wgan.register_source("words")(lambda: "words")  # type: ignore[type-var]
    with pytest.raises(UserError, match="`words` must give an array, a tensor or a Source"):
        wgan.train("words", steps=1, out="run")


BROKEN = {
    "raises": ("import wgan\n\nvalue = 1 / 0\n", r"line 3: ZeroDivisionError: division by zero"),
    "syntax": ("x = 1\nif x\n", r"line 2: SyntaxError: expected ':'"),
    "exits": ("import sys\nsys.exit(3)\n", r"line 2: SystemExit: 3"),
    "taken": (
        "import wgan\nfrom wgan.objectives import Wasserstein\n"
        "wgan.register(wgan.Recipe('wgan-gp', 't', 's', 1, Wasserstein()))\n",
        r"line 3: recipe `wgan-gp` is taken by wgan itself; give yours another name",
    ),
    "two lines": ("raise ValueError('one\\ntwo')\n", r"line 1: ValueError: one two"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_plugin_that_raises_is_one_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, expected = BROKEN[case]
    write("broken.py", code)
    assert main(["recipes", "--plugin", "broken.py"]) == 2
    assert capsys.readouterr().err == f"wgan: plugin broken.py, {expected}\n"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("absent.py", "cannot read plugin absent.py: No such file or directory"),
        ("folder.py", "cannot read plugin folder.py: Is a directory"),
        ("plugin", "a plugin is a Python file, its name ending in .py; got plugin"),
    ],
)
def test_a_plugin_that_cannot_be_read_is_one_line(
    path: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder.py").mkdir()
    assert main(["train", "--plugin", path]) == 2
    assert capsys.readouterr().err == f"wgan: {expected}\n"


def test_a_plugin_that_raises_leaves_nothing_behind_and_what_was_there_in_place() -> None:
    write("flat.py", FLAT)
    load_plugin("flat.py")
    before = RECIPES["mine"]
    write("flat.py", FLAT.replace("mine", "other") + "\nraise RuntimeError\n")
    with pytest.raises(UserError, match="RuntimeError"):
        load_plugin("flat.py")
    assert RECIPES["mine"] is before
    assert "other" not in RECIPES
    write("flat.py", FLAT.replace("mine", "other"))
    load_plugin("flat.py")
    assert "mine" not in RECIPES
    assert "other" in RECIPES


def test_an_unchanged_plugin_is_executed_once() -> None:
    write("flat.py", FLAT)
    load_plugin("flat.py")
    Path("executed").unlink()
    load_plugin("flat.py")
    assert not Path("executed").exists()


def test_names_clash_between_plugins_but_not_with_ones_own_rerun() -> None:
    write("flat.py", FLAT)
    write("copy.py", FLAT)
    write("elsewhere/flat.py", FLAT)
    load_plugin("flat.py")
    with pytest.raises(UserError, match=r"constraint `flat` is taken by plugin flat\.py"):
        load_plugin("copy.py")
    with pytest.raises(UserError, match=r"two plugins are called flat\.py"):
        load_plugins(["flat.py", "elsewhere/flat.py"])
    for title in ("first", "second"):  # a notebook's cell, run again
        wgan.register(wgan.Recipe("cell", title, "nobody", 2026, Wasserstein()))
    assert RECIPES["cell"].title == "second"
    write("cell.py", FLAT.replace("mine", "cell").replace("flat", "round"))
    with pytest.raises(UserError, match="recipe `cell` is taken by your own code"):
        load_plugin("cell.py")


@dataclass(frozen=True)
class Again(Wasserstein):
    """An objective that forgets to take a name of its own."""


class Bare(wgan.Objective):
    name = "bare"


def recipe(**more: Any) -> wgan.Recipe:
    fields = {"name": "mine", "title": "t", "source": "s", "year": 1, "objective": Wasserstein()}
    return wgan.Recipe(**{**fields, **more})


MISTAKES = {
    "a class": (recipe(objective=Wasserstein), "`objective` must be an instance"),
    "not a constraint": (recipe(constraints=(1,)), "`constraints` must be an instance"),
    "no name": (recipe(objective=Again()), "objective `wasserstein` is taken by wgan itself"),
    "no dataclass": (Bare, "objective `Bare` must be a frozen dataclass"),
    "a bad name": (recipe(name="a name"), "a recipe needs a `name` of letters"),
    "something else": (3, "wgan.register takes a Recipe, or a class"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_cannot_be_registered_is_refused(case: str) -> None:
    part, expected = MISTAKES[case]
    with pytest.raises(UserError, match=expected):
        wgan.register(part)  # type: ignore[type-var]


def test_a_network_needs_one_builder() -> None:
    with pytest.raises(UserError, match="needs `generator`, `critic` or both"):
        wgan.register_network("nothing")
    with pytest.raises(UserError, match="critic `mlp` is taken"):
        wgan.register_network("mlp", critic=lambda spec, shapes, features=None: None)  # type: ignore[arg-type]


def test_a_network_for_one_player_is_unknown_for_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(
        "net.py",
        "import wgan\nfrom wgan.networks.mlp import mlp_critic\n"
        "wgan.register_network('mine', critic=mlp_critic)\n",
    )
    flags = ["--plugin", "net.py", "--out", "run", *BUDGET, *TINY, "--depth", "2"]
    assert wgan_command("train", "gaussians8", "--network", "mine", *flags) == 2
    assert "unknown network 'mine'" in capsys.readouterr().err
    assert not Path("run").exists()
    assert wgan_command("train", "gaussians8", "--critic-network", "mine", *flags) == 0
    assert set(Run.open("run").config["plugins"]) == {"net.py"}


def test_a_synthetic_source_is_one_among_the_others() -> None:
    @wgan.register
    class Point(wgan.Synthetic):
        """All at the origin."""

        name = "point"
        what = "one point"
        citation = "nobody"
        centres = np.zeros((1, 2))
        standard_deviation = 0.1

        def points(self, uniform: Any) -> Any:
            return np.zeros((len(uniform), 2))

    trained = wgan.train("point", steps=1, out="run", width=4)
    assert trained.evaluate(n=20)["modes"].value == 1


def test_a_configuration_cannot_name_plugins_to_be_loaded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("flat.py", FLAT)
    write("config.yaml", "recipe: mine\nplugins: [flat.py]\n")
    assert main(["train", "gaussians8", "--config", "config.yaml"]) == 2
    assert "name yours by --plugin FILE.py" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"wgan\.load_plugin"):
        wgan.train("gaussians8", recipe="mine", plugins=["flat.py"])
    assert not Path("executed").exists()


# -- installed packages ----------------------------------------------------------------------------


def install(code: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `wgan-flat` 1.2 on the path, as an installer leaves it."""
    site = Path("site")
    write(f"site/{module}.py", code)
    write(
        "site/wgan_flat-1.2.dist-info/METADATA",
        "Metadata-Version: 2.1\nName: wgan-flat\nVersion: 1.2\n",
    )
    write("site/wgan_flat-1.2.dist-info/entry_points.txt", f"[wgan.plugins]\nflat = {module}\n")
    monkeypatch.syspath_prepend(str(site.resolve()))


def test_an_installed_plugin_is_found_when_a_name_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(FLAT, "wgan_flat_plugin", monkeypatch)
    looked_up(lambda: get_recipe("wgan-gp"))
    assert not Path("executed").exists()
    assert looked_up(lambda: get_recipe("mine")).name == "mine"
    assert used([("recipe", "mine"), ("recipe", "wgan-gp")]) == {"wgan-flat": "1.2"}
    assert not load_installed()


def test_an_installed_plugin_that_raises_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install("raise ImportError('no such thing')\n", "wgan_broken_plugin", monkeypatch)
    assert main(["recipes"]) == 2
    expected = "wgan: installed plugin wgan-flat 1.2: ImportError: no such thing\n"
    assert capsys.readouterr().err == expected


def test_what_is_isolated_is_forgotten() -> None:
    before = dict(OBJECTIVES), dict(RECIPES)
    with isolated():
        write("flat.py", FLAT)
        load_plugin("flat.py")
        assert "mine" in RECIPES
    assert (dict(OBJECTIVES), dict(RECIPES)) == before


def test_plugins_do_not_slow_the_start() -> None:
    code = "import sys, wgan, wgan.cli.app; sys.exit('wgan.plugins' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
