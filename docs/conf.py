"""Sphinx configuration."""

import wgan

project = "wgan"
author = "The wgan authors"
copyright = "2026, the wgan authors"  # noqa: A001 - Sphinx's name
release = wgan.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = f"wgan {release}"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
default_role = "code"
napoleon_use_ivar = True
suppress_warnings = ["myst.header"]
