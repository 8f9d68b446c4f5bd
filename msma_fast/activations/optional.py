"""Packages that only some users need: imported when used, with an error that says what to install."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType


def require(module: str, purpose: str) -> ModuleType:
    """The imported module. Raises ImportError naming the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ImportError(
            f"{purpose} needs the package {package}, which is not installed: pip install 'msma_fast[analyze]'"
        ) from error


def package_folder(module: str, distribution: str, *options: str) -> Path:
    """The folder of an installed package, found without importing it. Raises ImportError naming the command
    that installs it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        command = " ".join(["pip install", *options, distribution])
        raise ImportError(f"the package {distribution} is not installed: {command}")
    return Path(next(iter(spec.submodule_search_locations)))
