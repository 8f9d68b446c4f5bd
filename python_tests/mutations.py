"""Breaks every Triton kernel in several ways and shows that a test notices: `python python_tests/mutations.py [NAME...]`.

A mutation is one replacement in one file, undone afterwards. Exit status 1 where the tests pass all the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Mutation(NamedTuple):
    """name, the file, what is replaced by what, the test file that has to fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


def keys(name: str, old: str, new: str) -> Mutation:
    return Mutation(f"keys: {name}", "triton_kernels/keys.py", old, new, "test_keys.py")


def knn(name: str, old: str, new: str) -> Mutation:
    return Mutation(f"knn: {name}", "triton_kernels/knn.py", old, new, "test_knn.py")


MUTATIONS = [
    keys("sign of the inner product", "result = 0.0 - total", "result = 0.0 + total"),
    keys("order of the lanes", "((l0 + l4) + (l2 + l6)) + ((l1", "((l0 + l2) + (l4 + l6)) + ((l1"),
    keys("last coordinate", "tl.int32) < d", "tl.int32) < d - 1"),
    keys("norm left out", "total / (norm_x * norm_y)", "total / norm_x"),
    keys("equal rows", "result = tl.where(equal, 0.0, result)", "result = result"),
    keys("one power too few", "tl.static_range(P - 1)", "tl.static_range(P - 2)"),
    keys("last row", "row_keep, col_keep = rows < n, cols < m", "row_keep, col_keep = rows < n - 1, cols < m"),
    keys("pairs beyond the end", "keep = at < pairs", "keep = at < pairs + 1"),
    keys("NaN lost", "propagate_nan=tl.PropagateNan.ALL", "propagate_nan=tl.PropagateNan.NONE"),
    knn("a lower bound as an upper one", "upper = g + margin", "upper = g - margin"),
    knn("an upper bound as a lower one", "lower = g - margin", "lower = g + margin"),
    knn("the query itself", "> window) | (own", ">= window) | (own"),
    knn("labels", "(label[:, None] != other[None, :])", "(label[:, None] == other[None, :])"),
    knn("overflowing lists", "mask=keep & (place < limit)", "mask=keep"),
    knn("place in the list", "tl.cumsum(kept, axis=1) - kept", "tl.cumsum(kept, axis=1)"),
    knn("points beyond the end", "keep = (cols < m)[None, :]", "keep = (cols <= m)[None, :]"),
    knn("largest bin", "keep & (upper < best)", "keep & (upper > best)"),
    knn("half the product", "c[None, :] - 2.0 * dot,", "c[None, :] - 1.0 * dot,"),
]  # fmt: skip


def noticed(mutation: Mutation) -> bool:
    """Whether the tests fail with the mutation in place."""
    path = ROOT / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.old) == 0:
        raise ValueError(f"{mutation.name}: expected {mutation.old!r} in {mutation.file}, which does not have it")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        f"python_tests/triton/{mutation.test}",
    ]
    try:
        path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, check=False
        )
    finally:
        path.write_text(text, encoding="utf-8")
    return done.returncode == 1


def main() -> int:
    missed = 0
    for mutation in MUTATIONS:
        if sys.argv[1:] and not any(word in mutation.name for word in sys.argv[1:]):
            continue
        found = noticed(mutation)
        missed += not found
        print(f"{'noticed' if found else 'MISSED '}  {mutation.name}", flush=True)
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
