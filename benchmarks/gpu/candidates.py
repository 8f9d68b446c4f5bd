"""How many pairs the Triton screen leaves on real activations: `python -m benchmarks.gpu.candidates`, some minutes.

The GPU report weighs the keys of candidates by it, and what is done only where a vote of the CUDA collect pass finds
somebody. The kernels run in Triton's interpreter, for queries spread evenly over the rows; row i against all rows, itself
among them, with the bins that a launch for all rows has. Writes candidates.json beside this file.
"""

from __future__ import annotations

import json
import math
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"  # read when triton is first imported

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import msma_fast as mf
from benchmarks import data
from benchmarks.gpu.kernels.knn import splits_of
from msma_fast.backends import triton_search
from msma_fast.backends.cuda_launch import FIRST
from msma_fast.backends.torch import screen as screens
from msma_fast.backends.torch.admissible import Admissible
from msma_fast.backends.torch.kernel import Kernel, Rows
from msma_fast.backends.triton_screen import ready
from msma_fast.triton_kernels import knn as kernels
from msma_fast.triton_kernels.resources import GPUS, fitting
from msma_fast.triton_kernels.screen import WORD, split

QUERIES, K, LAYER = 256, 15, 15


def counted(x: np.ndarray) -> dict[str, Any]:
    """x (n, d)."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "python_tests"))
    from hardened_interpreter import hardened  # without it the interpreter multiplies the bits of bfloat16

    n = len(x)
    queries = x[:: n // QUERIES][:QUERIES].copy()
    rows = fitting(kernels.BOUNDS, kernels.bounds_needs, min(GPUS))[0].blocks["BLOCK_N"]  # as interpreted
    splits = splits_of(n, K, rows)
    with hardened(), patch.object(kernels, "PROGRAMS", splits * (QUERIES // rows)):
        stats = mf.knn(queries, K, x, return_stats=True, backend="triton")[1]
    return {
        "n": n, "d": x.shape[1], "k": K, "candidates": float(stats.candidates.mean()), "most": int(stats.candidates.max()),
        "rows_searched_again": int((stats.widened > 0).sum()), "queries": QUERIES, "bins": splits * kernels.BINS,
    }  # fmt: skip


def votes(x: np.ndarray) -> list[float]:
    """The share of the votes of csrc/cuda/collect.cuh that find somebody, over the first 1 / FIRST of the points and over the
    rest, whose bound the lists of the first give: 8 adjacent queries, 32 adjacent points, at three places of x (n, d)."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "python_tests"))
    from hardened_interpreter import hardened

    found = []
    for start in (len(x) // 8, len(x) // 2, 7 * len(x) // 8):
        with hardened():
            found.append(_votes(torch.from_numpy(np.ascontiguousarray(x)).float(), start))
    return [float(each) for each in np.mean(found, 0)]


def _votes(x: torch.Tensor, start: int) -> tuple[float, float]:
    n, own = len(x), torch.arange(start, start + QUERIES)
    left, right = Rows(x[own]), Rows(x)
    sides = ready(Kernel("sqeuclidean"), left, right, Admissible(own))
    queries, points = sides.x, sides.y.side
    g = sides.y.c - 2.0 * queries.b.float() @ points.b.float().T
    upper = g + queries.near[:, None] * points.near + queries.far[:, None] * points.far + sides.y.col
    upper[torch.arange(QUERIES), own] = math.inf
    step, rows = (
        triton_search.sample_step(n, K),
        fitting(kernels.BOUNDS, kernels.bounds_needs, min(GPUS))[0].blocks["BLOCK_N"],
    )
    share = split(n, kernels.BINS * step, splits_of(n, K, rows))[1]
    tiles = [upper[:, at : at + share].split(kernels.BINS, 1)[::step] for at in range(0, n, share)]
    best = torch.cat([torch.stack(each).amin(0) for each in tiles], 1)
    margin = screens.row_margin(sides.screen, torch.arange(QUERIES))
    top = triton_search._raised(triton_search._kth(best, K), margin)
    near, far, col = (each.view(-1, WORD.value).amax(1) for each in (points.near, points.far, sides.y.col))
    margins = queries.near[:, None] * near + queries.far[:, None] * far
    low = (g - sides.y.col).view(QUERIES, -1, WORD.value).amin(2) - margins
    words = low.shape[1] // FIRST // 4 * 4
    reach = (low + triton_search.ALLOWED * (margins + col))[:, :words]
    itself = own // WORD.value
    reach[torch.arange(QUERIES)[itself < words], itself[itself < words]] = math.inf
    better = torch.minimum(top, triton_search._raised(triton_search._kth(reach, K), margin))
    hit = low <= torch.cat([top[:, None].expand(-1, words), better[:, None].expand(-1, low.shape[1] - words)], 1)
    eight = hit.view(QUERIES // 8, 8, -1).any(1).double()
    return float(eight[:, :words].mean()), float(eight[:, words:].mean())


def main() -> None:
    found = []
    for x in (data.smollm2_layer_15(), data.smollm2_layer(LAYER)):
        found.append({"data": f"SmolLM2-135M (4-bit), layer {LAYER}", **counted(x), "votes": votes(x)})
        print(found[-1], flush=True)
    Path(__file__).with_name("candidates.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
