"""Every Triton kernel compiles for sm_80, sm_90 and sm_100 without a GPU, without spills, with the operations it may use."""

from __future__ import annotations

import os
from typing import Any

import pytest

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("a process that interprets kernels does not compile them", allow_module_level=True)

from compiled_triton import ARCHITECTURES, compiled
from msma_fast.triton_kernels import keys, knn

KINDS = [("sqeuclidean", 0), ("chebyshev", 0), ("minkowski", 1), ("minkowski", 16), ("inner_product", 0), ("cosine", 0)]
ROWS = {"norm_x_ptr": "*fp64", "norm_y_ptr": "*fp64", "out_ptr": "*fp64", "d": "i32"}


def check_keys(
    kernel: Any, types: dict[str, str], blocks: dict[str, int], kind: str, p: int, architecture: int
) -> None:
    for dtype in ("*fp32", "*fp64"):
        wanted = ROWS | types | {"x_ptr": dtype, "y_ptr": dtype}
        found = compiled(kernel, wanted, {"KIND": kind, "P": p, **blocks}, architecture, **keys.EXACT)
        assert found.spilled == 0
        assert found.registers <= 255
        if kind not in ("chebyshev", "cosine"):  # a division of float64 is made of fused operations
            assert "DFMA" not in found.sass
        assert "DADD" in found.sass or kind == "chebyshev"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("kind", "p"), KINDS)
def test_block_keys(kind: str, p: int, architecture: int) -> None:
    sizes = {"n": "i32", "m": "i32"}
    check_keys(keys.block_keys_kernel, sizes, keys.BLOCK_TILE, kind, p, architecture)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("kind", "p"), KINDS)
def test_pair_keys(kind: str, p: int, architecture: int) -> None:
    types = {"i_ptr": "*i64", "j_ptr": "*i64", "pairs": "i64"}
    check_keys(keys.pair_keys_kernel, types, keys.PAIR_TILE, kind, p, architecture)


def test_a_fused_operation_would_be_noticed() -> None:
    """The same kernel without the switch does fuse, so the assertion above can fail."""
    types = ROWS | {"x_ptr": "*fp64", "y_ptr": "*fp64", "n": "i32", "m": "i32"}
    found = compiled(keys.block_keys_kernel, types, {"KIND": "sqeuclidean", "P": 0, **keys.BLOCK_TILE}, 90)
    assert "DFMA" in found.sass


SCREEN = dict.fromkeys(
    ("near_i_ptr", "far_i_ptr", "top_ptr", "c_ptr", "near_ptr", "far_ptr", "col_ptr", "best_ptr"), "*fp32"
)
SCREEN |= dict.fromkeys(("own_ptr", "label_i_ptr", "label_ptr", "columns_ptr", "count_ptr"), "*i32")
SCREEN |= dict.fromkeys(("n", "m", "d", "window", "limit"), "i32") | {"b_ptr": "*bf16", "p_ptr": "*bf16"}
MATRIX_INSTRUCTION = {80: " HMMA", 90: "HGMMA", 100: "UTCHMMA"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["bounds_kernel", "collect_kernel"])
@pytest.mark.parametrize(("self_search", "labels"), [(True, True), (False, False)])
def test_knn(name: str, self_search: bool, labels: bool, architecture: int) -> None:
    kernel, configuration = getattr(knn, name), knn.BOUNDS_TILE if name == "bounds_kernel" else knn.COLLECT_TILE
    tile = {key: value for key, value in configuration.items() if key.startswith("BLOCK")}
    options = {key: value for key, value in configuration.items() if not key.startswith("BLOCK")}
    types = {key: value for key, value in SCREEN.items() if key in kernel.arg_names}
    found = compiled(kernel, types, {"SELF": self_search, "LABELS": labels, **tile}, architecture, **options)
    assert found.spilled == 0
    assert MATRIX_INSTRUCTION[architecture] in found.sass
    if name == "bounds_kernel":
        assert "SHFL" not in found.sass  # a bin is a register of one thread
