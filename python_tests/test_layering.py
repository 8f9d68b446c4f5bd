"""Who may import whom: the import graph is read from the sources, with the imports inside functions.

cli, report -> msma, activations, interop -> public engine -> ops -> backends.registry -> one backend
(lazily) -> its binary or kernels. A backend may build on backends.torch, that of CUDA on Triton's.
Leaf modules import only each other, and any of these may import them.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A module's layer is that of its longest listed prefix. A module without a layer is an error: place it.
LAYERS = {
    "msma_fast": "root",
    **{f"msma_fast.{name}": "leaf" for name in ("metrics", "results", "_arrays", "_version")},
    "msma_fast.activations.blocks": "leaf",  # of torch modules alone: the engine's parameter Fisher names layers by it
    "msma_fast.backends": "backends",
    "msma_fast.backends.registry": "registry",
    **{f"msma_fast.backends.{name}": f"backends.{name}" for name in ("torch", "native", "cuda", "triton")},
    "msma_fast.backends.native_ksg_dense": "backends.native",
    "msma_fast.backends.native_ksg_low": "backends.native",
    "msma_fast.backends.native_pairwise_distances": "backends.native",
    "msma_fast.backends.native_fisher": "backends.native",
    "msma_fast.backends.native_search": "backends.native",
    "msma_fast.backends.native_tree": "backends.native",
    "msma_fast.backends.native_reductions": "backends.native",
    "msma_fast.backends.cuda_ksg": "backends.cuda",
    "msma_fast.backends.cuda_launch": "backends.cuda",
    "msma_fast.backends.cuda_search": "backends.cuda",
    "msma_fast.backends.triton_check": "backends.triton",
    "msma_fast.backends.triton_fast": "backends.triton",
    "msma_fast.backends.triton_fisher": "backends.triton",
    "msma_fast.backends.triton_reductions": "backends.triton",
    "msma_fast.backends.triton_direct": "backends.triton",
    "msma_fast.backends.triton_radius_count": "backends.triton",
    "msma_fast.backends.triton_prepare": "backends.triton",
    "msma_fast.backends.triton_screen": "backends.triton",
    "msma_fast.backends.triton_pairwise_distances": "backends.triton",
    "msma_fast.backends.triton_ksg": "backends.triton",
    "msma_fast.backends.triton_ksg_pairs": "backends.triton",
    "msma_fast.backends.triton_search": "backends.triton",
    **{f"msma_fast.{name}": name for name in ("_native", "_cuda", "triton_kernels", "ops")},
    "msma_fast.reduction_ops": "ops",
    "msma_fast.fisher_ops": "ops",
    **{
        f"msma_fast.{name}": "engine"
        for name in (
            "_checks",
            "distances",
            "neighbors",
            "information",
            "conditional_information",
            "mixed_information",
            "entropy",
            "dimension",
            "similarity",
            "graph",
            "permutation",
            "intervals",
            "explain",
            "diagnostics",
            "shortfall",
            "distance_counts",
            "distortion",
            "kernel_sums",
            "fisher",
        )
    },
    **{f"msma_fast.{name}": name for name in ("activations", "msma", "interop", "report", "cli", "__main__")},
    **{
        f"msma_fast.{name}": "cli"
        for name in ("commands", "experiment_command", "intervention_command", "doctor", "bench")
    },
}
BACKENDS = {"backends.torch", "backends.native", "backends.cuda", "backends.triton"}
PUBLIC = {"leaf", "engine", "root"}
MAY_IMPORT = {
    "leaf": set(),
    "backends": set(),
    "_native": set(),
    "_cuda": set(),
    "triton_kernels": set(),
    "backends.torch": set(),
    "backends.native": {"backends.torch", "_native"},
    "backends.cuda": {"backends.torch", "backends.triton", "_cuda"},  # what both need is in the Triton backend's files
    "backends.triton": {"backends.torch", "triton_kernels"},
    "registry": {"backends", *BACKENDS},
    "ops": {"registry"},
    "engine": {"ops", "registry"},
    "activations": PUBLIC,
    "interop": PUBLIC | {"activations"},
    "msma": PUBLIC | {"activations"},
    "report": PUBLIC | {"activations", "msma"},
    "cli": PUBLIC | {"activations", "msma", "interop", "report"},
    "__main__": {"cli"},
    "root": {"engine", "registry", "activations", "msma", "interop"},
}
# Elsewhere any third party may be imported inside a function, and torch and numpy at the top of a file.
ONLY_THIRD_PARTIES = {
    "backends.torch": {"torch"},
    "triton_kernels": {"torch", "triton"},
    "leaf": {"torch", "numpy"},
    "ops": {"torch"},
}
# The registry loads the chosen backend; the other turns a missing optional dependency into one clear error.
MAY_COMPUTE_NAMES = {"msma_fast.backends.registry", "msma_fast.activations.optional"}
# kernels live outside the package's folder because another distribution owns that top-level name
FOLDERS = {"msma_fast": "msma_fast", "triton_kernels": "msma_fast.triton_kernels"}


class Import(NamedTuple):
    line: int
    target: str  # "" where the name is computed
    lazy: bool  # inside a function


def sources(root: Path) -> dict[str, Path]:
    """Module name -> file for every Python file of the package and its kernels."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


def imports(tree: ast.AST, package: str, modules: set[str], lazy: bool = False) -> Iterator[Import]:
    """Every import below `tree`; `package` resolves relative names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(node.lineno, full if full in modules or full in LAYERS else base, lazy)
        elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
            name = node.args[0] if node.args else None
            known = isinstance(name, ast.Constant) and isinstance(name.value, str)
            target = _absolute(str(getattr(name, "value", "")), package) if known else ""
            yield Import(node.lineno, target, lazy)
        inner = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(node, package, modules, inner)


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _absolute(name: str, package: str) -> str:
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parents = package.split(".")
    return ".".join([*parents[: len(parents) - level + 1], *filter(None, [name.lstrip(".")])])


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        if (name := ".".join(parts[:length])) in LAYERS:
            return LAYERS[name]
    return LAYERS.get(module)  # the root itself, never a prefix: an unlisted module has no layer


def violations(root: Path) -> list[str]:
    found, modules = [], sources(root)
    for module, path in modules.items():
        layer = layer_of(module)
        if layer is None:
            found.append(f"{module}: has no layer; place it in LAYERS")
            continue
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for one in imports(ast.parse(path.read_text()), package, set(modules)):
            if not one.target and module in MAY_COMPUTE_NAMES:
                continue
            if reason := _forbidden(layer, one):
                found.append(f"{module}:{one.line}: {reason}")
    return found


def _forbidden(layer: str, one: Import) -> str | None:
    if not one.target:
        return "imports a computed name, which nobody can check"
    top = one.target.split(".")[0]
    if top == "msma_fast":
        target = layer_of(one.target)
        if target is None:
            return f"imports {one.target}, which has no layer"
        if target in BACKENDS and layer == "registry" and not one.lazy:
            return f"imports {one.target} at the top; a backend is loaded when it is first chosen"
        if target == layer or target in MAY_IMPORT[layer] or (target == "leaf" and layer != "triton_kernels"):
            return None
        return f"{layer} may not import {target} ({one.target})"
    if top in sys.stdlib_module_names:
        return None
    allowed = ONLY_THIRD_PARTIES.get(layer)
    if allowed is None:
        return None if one.lazy or top in ("torch", "numpy") or layer in LATE else f"{top} is imported at the top"
    return None if top in allowed else f"{layer} may not import {top}"


# Reached by nobody's `import msma_fast`: they may import what they need at the top.
LATE = {"cli", "report", "interop", "activations", "msma", "__main__"}


def test_the_import_graph_has_no_forbidden_arrow() -> None:
    assert "msma_fast.neighbors" in sources(ROOT)
    assert violations(ROOT) == []


FORBIDDEN = [
    ("msma_fast/neighbors.py", "from msma_fast.backends.torch import knn"),
    ("msma_fast/neighbors.py", "def f():\n    from .backends import native"),
    (
        "msma_fast/neighbors.py",
        "def f():\n    import importlib\n    importlib.import_module('msma_fast._native')",
    ),
    ("msma_fast/neighbors.py", "from . import msma"),
    ("msma_fast/neighbors.py", "import msma_fast"),
    ("msma_fast/neighbors.py", "import scipy.sparse"),
    ("msma_fast/neighbors.py", "def f(name):\n    __import__(name)"),
    ("msma_fast/ops.py", "from msma_fast.backends.torch import keys"),
    ("msma_fast/ops.py", "from .neighbors import knn"),
    ("msma_fast/metrics.py", "from . import neighbors"),
    ("msma_fast/metrics.py", "def f():\n    import scipy"),
    ("msma_fast/backends/torch/keys.py", "import numpy"),
    ("msma_fast/backends/torch/keys.py", "from .. import native"),
    ("msma_fast/backends/torch/keys.py", "from ..registry import choose"),
    ("msma_fast/backends/native.py", "from msma_fast._cuda import knn"),
    ("msma_fast/backends/native.py", "def f():\n    from .triton import knn"),
    ("msma_fast/backends/native.py", "from ..distances import pairwise_distances"),
    ("msma_fast/backends/registry.py", "from . import native"),
    ("msma_fast/backends/registry.py", "from ..neighbors import knn"),
    ("msma_fast/activations/store.py", "from msma_fast.backends import registry"),
    ("msma_fast/activations/store.py", "from ..report import page"),
    ("msma_fast/msma/scales.py", "def f():\n    from msma_fast.cli import main"),
    ("msma_fast/report/page.py", "from msma_fast._native import keys"),
    ("msma_fast/cli.py", "from .backends.native import knn"),
    ("msma_fast/unplaced.py", ""),
    ("triton_kernels/knn.py", "import numpy"),
    ("triton_kernels/knn.py", "from msma_fast.backends import torch"),
    ("triton_kernels/knn.py", "from ..metrics import METRICS"),
]
ALLOWED = [
    (
        "msma_fast/neighbors.py",
        "import numpy\nimport torch\nfrom . import _checks, metrics, ops\nfrom .graph import Graph",
    ),
    ("msma_fast/graph.py", "def f():\n    import scipy.sparse\n    import networkx"),
    (
        "msma_fast/ops.py",
        "import torch\nfrom msma_fast.backends.registry import choose\nfrom .metrics import METRICS",
    ),
    (
        "msma_fast/backends/registry.py",
        "import importlib\ndef f(name):\n    return importlib.import_module(name)",
    ),
    ("msma_fast/backends/registry.py", "def f():\n    from . import native\n    from .torch import knn"),
    ("msma_fast/backends/native.py", "from msma_fast import _native\nfrom .torch import knn\nimport torch"),
    (
        "msma_fast/backends/torch/knn.py",
        "import math\nimport torch\nfrom . import keys\nfrom ...metrics import METRICS",
    ),
    ("msma_fast/activations/store.py", "import msma_fast as mf\ndef f():\n    import transformers"),
    (
        "msma_fast/cli.py",
        "from msma_fast import Activations\nfrom .report import page\nfrom .msma import scales",
    ),
    ("triton_kernels/knn.py", "import torch\nimport triton\nfrom . import tiles"),
]


def plant(root: Path, file: str, text: str) -> None:
    names = [
        "__init__",
        "neighbors",
        "graph",
        "distances",
        "ops",
        "metrics",
        "_checks",
        "cli",
        "backends/__init__",
    ]
    names += [
        "backends/registry",
        "backends/native",
        "backends/triton",
        "backends/torch/__init__",
        "report/page",
    ]
    names += ["backends/torch/keys", "activations/store", "msma/__init__", "msma/scales", "report/__init__"]
    for path in [*(f"msma_fast/{name}.py" for name in names), "triton_kernels/tiles.py", file]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    (root / file).write_text(text)


@pytest.mark.parametrize(("file", "text"), FORBIDDEN)
def test_a_planted_arrow_is_found(tmp_path: Path, file: str, text: str) -> None:
    plant(tmp_path, file, text)
    found = violations(tmp_path)
    assert len(found) == 1, found
    assert found[0].startswith(
        file.replace("triton_kernels/", "msma_fast.triton_kernels.").removesuffix(".py").replace("/", ".")
    )


@pytest.mark.parametrize(("file", "text"), ALLOWED)
def test_a_lawful_arrow_is_left_alone(tmp_path: Path, file: str, text: str) -> None:
    plant(tmp_path, file, text)
    assert violations(tmp_path) == []


HEAVY = ["transformers", "sklearn", "matplotlib", "networkx", "scipy", "ray", "triton", "rich"]
FRESH_IMPORT = f"""
import os, sys
import numpy, torch
threads = lambda: len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
before, loaded = threads(), set(sys.modules)
import msma_fast
heavy = [name for name in {HEAVY} if name in sys.modules and name not in loaded]
assert not heavy, heavy
assert not torch.cuda.is_initialized()
assert threads() == before, (before, threads())
"""


def test_importing_the_package_is_light() -> None:
    done = subprocess.run([sys.executable, "-c", FRESH_IMPORT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_the_bindings_know_python_and_nothing_native_knows_torch() -> None:
    files = [p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".cpp", ".hpp", ".h", ".cu", ".cuh")]
    assert files
    for path in files:
        included = re.findall(r'#\s*include\s*[<"]([^>"]+)', path.read_text())
        assert not [name for name in included if re.match(r"(torch|ATen|c10)/", name)], path
        if "bindings" not in path.parts:
            assert not [name for name in included if re.match(r"(pybind11/|Python\.h|nanobind/)", name)], path
