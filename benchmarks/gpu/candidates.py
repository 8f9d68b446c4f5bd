"""How many pairs the Triton screen leaves on real activations: `python -m benchmarks.gpu.candidates`, some minutes.

The GPU report weighs the keys of candidates by it. The kernels run in Triton's interpreter, for queries spread evenly over the
rows; row i against all rows, itself among them. Writes candidates.json beside this file.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"  # read when triton is first imported

from pathlib import Path

import msma_fast as mf
from benchmarks import data

QUERIES, K, LAYER = 256, 15, 15


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "python_tests"))
    from hardened_interpreter import hardened  # without it the interpreter multiplies the bits of bfloat16

    found = []
    for n, x in ((50_000, data.smollm2_layer_15()), (8192, data.smollm2_layer(LAYER))):
        queries = x[:: n // QUERIES][:QUERIES].copy()
        with hardened():
            stats = mf.knn(queries, K, x, return_stats=True, backend="triton")[1]
        mean, most = float(stats.candidates.mean()), int(stats.candidates.max())
        searched_again = int((stats.widened > 0).sum())
        found.append(
            {"data": f"SmolLM2-135M (4-bit), layer {LAYER}", "n": n, "d": x.shape[1], "k": K, "candidates": mean,
             "most": most, "rows_searched_again": searched_again, "queries": QUERIES}
        )  # fmt: skip
        print(found[-1], flush=True)
    Path(__file__).with_name("candidates.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
