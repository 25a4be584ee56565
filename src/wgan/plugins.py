"""Parts from a user's own file or from an installed package, under names of their own.

A plugin is Python code that calls :func:`register`, :func:`register_network` or
:func:`register_source`. It is executed when the user names its file (`--plugin`,
:func:`load_plugin`) or has installed it (entry point group ``wgan.plugins``), and never because a
run or a configuration names it: those may come from a stranger.

A run records the plugins that its parts came from, each by file name and content (or by package and
version). A plugin is therefore known by its file name; loading another file of that name, or the
same one after a change, replaces what the first one registered.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.constraints import CONSTRAINTS, Constraint, check_constraints
from wgan.data import Source, Synthetic
from wgan.data.opening import SOURCES, known_sources
from wgan.data.synthetic import SYNTHETIC
from wgan.errors import UnknownNameError, UserError
from wgan.networks import CRITICS, GENERATORS, CriticBuilder, NetworkSpec, Shapes
from wgan.objectives import OBJECTIVES, Objective
from wgan.recipes import RECIPES, Recipe

GROUP = "wgan.plugins"
"""The entry point group; each entry names a module that registers its parts when imported."""

Part = TypeVar("Part", bound=Recipe | type[Objective] | type[Constraint] | type[Synthetic])
Opener = TypeVar("Opener", bound=Callable[[], Source | NDArray[Any] | Tensor])
Found = TypeVar("Found")
GeneratorBuilder = Callable[[NetworkSpec, Shapes], nn.Module]

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_REGISTRIES: dict[str, tuple[dict[str, Any], ...]] = {
    "recipe": (RECIPES,),
    "objective": (OBJECTIVES,),
    "constraint": (CONSTRAINTS,),
    "generator": (GENERATORS,),
    "critic": (CRITICS,),
    "source": (SOURCES, SYNTHETIC),
}


@dataclass(frozen=True)
class Plugin:
    """Code that registers parts.

    Attributes:
        name: Its file's name, or its package's.
        fingerprint: SHA-256 of the file, or the package's version.
    """

    name: str
    fingerprint: str


_owners: dict[tuple[str, str], Plugin | None] = {}  # by kind and name; None: a script or notebook
_loaded: dict[str, Plugin] = {}
_imported: set[str] = set()  # entry points
_loading: list[Plugin] = []  # innermost last


# -- what a plugin calls ---------------------------------------------------------------------------


def register(part: Part) -> Part:
    """Make a part known by its `name`; also a decorator of classes.

    Args:
        part: A `Recipe`, whose objective and constraints come with it where they are new; or a
            class: an `Objective` or a `Constraint` (a frozen dataclass of plain fields), or a
            `Synthetic` source.

    Returns:
        The part.

    Raises:
        UserError: The name is taken, or the part is none of these.
    """
    if isinstance(part, Recipe):
        _check_recipe(part)
        if OBJECTIVES.get(part.objective.name) is not type(part.objective):
            _add_fields("objective", type(part.objective))
        for constraint in part.constraints:
            if CONSTRAINTS.get(constraint.name) is not type(constraint):
                _add_fields("constraint", type(constraint))
        _add("recipe", part.name, part, RECIPES)
    elif isinstance(part, type) and issubclass(part, Objective):
        _add_fields("objective", part)
    elif isinstance(part, type) and issubclass(part, Constraint):
        _add_fields("constraint", part)
    elif isinstance(part, type) and issubclass(part, Synthetic):
        _add("source", getattr(part, "name", None), part, SYNTHETIC)
    else:
        raise UserError(
            "wgan.register takes a Recipe, or a class that derives from Objective, Constraint or "
            f"Synthetic, got {part!r}"
        )
    return part


def register_network(
    name: str, *, generator: GeneratorBuilder | None = None, critic: CriticBuilder | None = None
) -> None:
    """Make networks known as `--network`, `--generator-network`, `--critic-network`.

    Args:
        name: On the command line.
        generator: From :class:`NetworkSpec` and :class:`Shapes` to a module: latents
            ``[batch, latent]`` to ``[batch, *shape]``. `wgan.Generator` around a body does the
            reshaping, the tanh of bounded data and the conditions.
        critic: From the same and a number of features (or None) to a module: ``[batch, *shape]``
            to `Scores`. `wgan.CriticNetwork` around a body does the head and the conditions.

    Raises:
        UserError: The name is taken, or neither is given.
    """
    if generator is None and critic is None:
        raise UserError(f"network `{name}` needs `generator`, `critic` or both")
    if generator is not None:
        _add("generator", name, generator, GENERATORS)
    if critic is not None:
        _add("critic", name, critic, CRITICS)


def register_source(name: str) -> Callable[[Opener], Opener]:
    """Decorate a function without arguments: what it returns becomes the data of this name.

    It returns an array or a tensor ``[n, ...]``, which is read as one in memory is, or a `Source`;
    the first line of its docstring is shown by `wgan data`. It is called when the data is used.

    Raises:
        UserError: The name is taken.
    """

    def decorate(source: Opener) -> Opener:
        _add("source", name, source, SOURCES)
        return source

    return decorate


# -- what loads a plugin ---------------------------------------------------------------------------


def load_plugin(path: str | PathLike[str]) -> None:
    """Execute a plugin's file; once, unless it has changed.

    Raises:
        UserError: It cannot be read, a name in it is taken, or it raises: the last line of its
            traceback and where that was. Nothing of it is registered then.
    """
    path = Path(path).expanduser()
    if path.suffix != ".py":
        raise UserError(f"a plugin is a Python file, its name ending in .py; got {path}")
    try:
        code = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read plugin {path}: {error.strerror}") from None
    plugin = Plugin(path.name, hashlib.sha256(code).hexdigest())
    if _loaded.get(plugin.name) == plugin:
        return
    module = ModuleType(f"wgan_plugin_{path.stem}")
    module.__file__ = str(path)
    with _registering(plugin, f"plugin {path}", str(path)):
        _forget(plugin.name)
        sys.modules[module.__name__] = module  # where dataclasses look for a class's annotations
        # what was hashed is what is executed, so no cached bytecode
        exec(compile(code, str(path), "exec", dont_inherit=True), module.__dict__)


def load_plugins(paths: Iterable[str | PathLike[str]]) -> None:
    """Load several plugins, in this order; two different files of one name are refused."""
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        if files.setdefault(path.name, path).resolve() != path.resolve():
            raise UserError(f"two plugins are called {path.name}; rename one of them")
        load_plugin(path)


def load_installed() -> bool:
    """Load the plugins of installed packages; whether there was one not loaded before.

    Raises:
        UserError: One of them raises, or takes a name that is taken.
    """
    found = [point for point in entry_points(group=GROUP) if str(point) not in _imported]
    for point in found:
        package, version = (point.dist.name, point.dist.version) if point.dist else (point.name, "")
        with _registering(
            Plugin(package, version), f"installed plugin {package} {version}".strip()
        ):
            point.load()
        _imported.add(str(point))
    return bool(found)


# -- what the package asks -------------------------------------------------------------------------


def looked_up(find: Callable[[], Found], recorded: Mapping[str, str] | None = None) -> Found:
    """``find()``; where it misses a name, once more with the plugins of installed packages.

    Args:
        find: Looks something up by name.
        recorded: The plugins that a run or a configuration names. They are not executed here: if
            the name is still missing, the error says which to give.
    """
    try:
        try:
            return find()
        except UnknownNameError:
            if not load_installed():
                raise
        return find()
    except UnknownNameError:
        missing = sorted(set(recorded or ()) - set(_loaded))
        if not missing:
            raise
        flags = " ".join(f"--plugin PATH/{name}" for name in missing)
        raise UserError(
            f"this was made with {_plural(missing)}, which you have to name yourself, since its "
            f"code is executed: {flags} (in Python: wgan.load_plugin)"
        ) from None


def used(parts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The plugins that parts, by kind and name, come from: fingerprints by name."""
    owners = {owner for part in parts if (owner := _owners.get(part)) is not None}
    return {owner.name: owner.fingerprint for owner in sorted(owners, key=lambda o: o.name)}


def recorded_plugins(given: Mapping[str, Any]) -> dict[str, str]:
    """The plugins that a configuration names, as :func:`used` gave them.

    Raises:
        UserError: It has something else under `plugins`.
    """
    plain = given.get("plugins") or {}
    if not isinstance(plain, Mapping) or not all(
        isinstance(item, str) for pair in plain.items() for item in pair
    ):
        raise UserError(
            "`plugins` in a configuration only records what a run was made with; name yours by "
            f"--plugin FILE.py or wgan.load_plugin, got {plain!r}"
        )
    return dict(plain)


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """How the plugins of a run differ from those at its beginning, in words."""
    changed = [name for name in sorted(before) if now.get(name, before[name]) != before[name]]
    return [
        *(f"plugin {name} has changed since the run began" for name in changed),
        *(f"plugin {name} is no longer used" for name in sorted(set(before) - set(now))),
        *(f"plugin {name} was not used before" for name in sorted(set(now) - set(before))),
    ]


@contextmanager
def isolated() -> Iterator[None]:
    """A context after which whatever was registered in it is forgotten: for tests of plugins."""
    restore = _snapshot()
    try:
        yield
    finally:
        restore()


# -- within ----------------------------------------------------------------------------------------


def _add(kind: str, name: Any, part: Any, registry: dict[str, Any]) -> None:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise UserError(f"a {kind} needs a `name` of letters, digits, - and _, got {name!r}")
    plugin = _loading[-1] if _loading else None
    taken = any(name in each for each in _REGISTRIES[kind])
    if kind == "source":
        taken = name in {source["name"] for source in known_sources()}
    owner, added = _owners.get((kind, name)), (kind, name) in _owners
    rerun = added and owner is plugin is None  # a notebook's cell
    if taken and not rerun:
        whose = f"plugin {owner.name}" if owner else "your own code" if added else "wgan itself"
        raise UserError(f"{kind} `{name}` is taken by {whose}; give yours another name")
    registry[name] = part
    _owners[kind, name] = plugin


def _add_fields(kind: str, part: type[Objective] | type[Constraint]) -> None:
    """Register a class whose instances a configuration describes by their fields."""
    if not hasattr(part, "__dataclass_fields__"):
        raise UserError(
            f"{kind} `{part.__name__}` must be a frozen dataclass: write "
            "@dataclass(frozen=True) above it"
        )
    _add(kind, getattr(part, "name", None), part, _REGISTRIES[kind][0])


def _check_recipe(recipe: Recipe) -> None:
    parts: list[tuple[str, object, type]] = [
        ("objective", recipe.objective, Objective),
        *(("constraints", constraint, Constraint) for constraint in recipe.constraints),
    ]
    for what, part, kind in parts:
        if not isinstance(part, kind):
            raise UserError(
                f"recipe `{recipe.name}`: `{what}` must be an instance of wgan.{kind.__name__}, "
                f"such as wgan.objectives.Wasserstein(), got {part!r}"
            )
    check_constraints(recipe.constraints)


@contextmanager
def _registering(plugin: Plugin, what: str, file: str | None = None) -> Iterator[None]:
    """Within, parts belong to a plugin; if it raises, none is kept and one line says why."""
    restore = _snapshot()
    _loading.append(plugin)
    try:
        yield
    except BaseException as error:
        restore()
        if isinstance(error, (Exception, SystemExit)):
            raise UserError(f"{what}{_last_line(error, file)}") from error
        raise
    finally:
        _loading.pop()
    _loaded[plugin.name] = plugin


def _last_line(error: BaseException, file: str | None) -> str:
    """Where in a file an error was raised, and the last line of its traceback."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    if not isinstance(error, UserError):
        said = f"{type(error).__name__}: {said}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines = [error.lineno]
    return f"{f', line {lines[-1]}' if lines else ''}: {' '.join(said.split())}"


def _forget(name: str) -> None:
    """Take away what a plugin registered."""
    for (kind, part), owner in list(_owners.items()):
        if owner is not None and owner.name == name:
            del _owners[kind, part]
            for registry in _REGISTRIES[kind]:
                registry.pop(part, None)
    _loaded.pop(name, None)


def _snapshot() -> Callable[[], None]:
    """What puts every registry back as it is now."""
    changing: list[dict[Any, Any]] = [_owners, _loaded]
    changing += [registry for registries in _REGISTRIES.values() for registry in registries]
    before = [dict(each) for each in changing]

    def restore() -> None:
        for each, old in zip(changing, before, strict=True):
            each.clear()
            each.update(old)

    return restore


def _plural(names: list[str]) -> str:
    return f"plugin{'s' if len(names) > 1 else ''} {' and '.join(names)}"
