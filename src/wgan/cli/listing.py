"""``wgan recipes`` and ``wgan data``: what there is."""

from __future__ import annotations

import json as json_format
from typing import Annotated

from cyclopts import Parameter

from wgan.cli.flags import Plugins, load_plugins


def recipes(
    *, plugin: Plugins = None, json: Annotated[bool, Parameter(negative="")] = False
) -> int:
    """List the recipes, with source and settings.

    Example: `wgan recipes --json`

    Args:
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        json: Print everything, published and auto settings included, as JSON.
    """
    load_plugins(plugin)
    from wgan.auto import describe
    from wgan.plugins import load_installed
    from wgan.recipes import RECIPES

    load_installed()

    if json:
        from wgan.build import critic_passes

        found = [
            {**describe(recipe), "critic_passes_per_step": critic_passes(name)}
            for name, recipe in RECIPES.items()
        ]
        print(json_format.dumps(found, indent=1))
        return 0
    width = max(map(len, RECIPES))
    for recipe in RECIPES.values():
        print(f"{recipe.name:<{width}}  {recipe.title}. {recipe.source} ({recipe.year})")
    return 0


def data(*, plugin: Plugins = None, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """List the data sets that come with the package or a plugin, and the files that can be read.

    Example: `wgan data`

    Args:
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        json: Print JSON.
    """
    load_plugins(plugin)
    from wgan.data import known_sources
    from wgan.plugins import load_installed

    load_installed()
    sources = known_sources()
    if json:
        print(json_format.dumps(sources, indent=1))
        return 0
    width = max(len(str(source["name"])) for source in sources)
    for source in sources:
        shape = "x".join(map(str, source["shape"])) if source["shape"] else "-"
        print(f"{source['name']:<{width}}  {shape:<8}  {source['what']}")
    print(
        "\nOr a path: a folder or .zip of pictures; .npy, .npz, IDX (.gz) or HDF5 arrays; "
        ".csv, .csv.gz or .parquet tables."
    )
    return 0
