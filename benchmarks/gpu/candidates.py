"""How many pairs the Triton screen leaves on real activations: `python -m benchmarks.gpu.candidates`, some minutes.

The GPU report weighs the keys of candidates by it. The kernels run in Triton's interpreter, for queries spread evenly over the
rows; row i against all rows, itself among them, with the bins that a launch for all rows has. Writes candidates.json beside
this file.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"  # read when triton is first imported

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import msma_fast as mf
from benchmarks import data
from benchmarks.gpu.kernels.knn import splits_of
from msma_fast.triton_kernels import knn as kernels
from msma_fast.triton_kernels.resources import GPUS, fitting

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


def main() -> None:
    found = []
    for x in (data.smollm2_layer_15(), data.smollm2_layer(LAYER)):
        found.append({"data": f"SmolLM2-135M (4-bit), layer {LAYER}", **counted(x)})
        print(found[-1], flush=True)
    Path(__file__).with_name("candidates.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
