"""The page's HTML, CSS and JavaScript, kept as files of their own and read as package data."""

from __future__ import annotations

from importlib import resources
from string import Template


def read(name: str) -> str:
    """A file of this folder as text."""
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def template(name: str) -> Template:
    """A file of this folder whose $names are to be filled in."""
    return Template(read(name))
