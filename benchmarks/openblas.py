"""Which OpenBLAS kernels the suite runs with: the fastest for faiss here.

The OpenBLAS inside faiss is older than some processors and falls back to kernels of 2009 on one it does not know: four
times slower than it need be. So each family of kernels is timed once, in a process of its own, and everybody runs under
the winner. numpy and scipy bring a newer OpenBLAS of their own, which obeys the same variable; results.json keeps it.
"""

from __future__ import annotations

import os
import subprocess
import sys

VARIABLE = "OPENBLAS_CORETYPE"
# The newest families that an OpenBLAS of 2021 has; a family that the processor lacks crashes, alone.
_FAMILIES = ("SkylakeX", "Zen", "Haswell")
# Small integers have exact products: a kernel that computes wrongly here is out of the race.
_TRIAL = """
import time
import faiss, numpy as np
x = np.random.default_rng(0).integers(-8, 8, (2048, 512)).astype(np.float32)
found = faiss.pairwise_distances(x, x)
wide = x.astype(np.float64)
squares = (wide * wide).sum(1)
assert np.array_equal(found, squares[:, None] + squares - 2 * wide @ wide.T)
seconds = []
for _ in range(5):
    start = time.perf_counter()
    faiss.knn(x, x, 16)
    seconds.append(time.perf_counter() - start)
print(min(seconds))
"""


def fastest() -> dict[str, str]:
    """The environment of the fastest kernels: empty where OpenBLAS's own choice is as fast, or faiss is missing."""
    times: dict[str | None, float] = {}
    for family in (None, *_FAMILIES) * 2:  # twice, apart: one may have been disturbed
        times[family] = min(times.get(family, float("inf")), _seconds(family))
    best = min(times, key=lambda family: times[family])
    return {VARIABLE: best} if best is not None and times[best] < 0.9 * times[None] else {}


def _seconds(family: str | None) -> float:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if family is not None:
        environment[VARIABLE] = family
    done = subprocess.run([sys.executable, "-c", _TRIAL], env=environment, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else float("inf")
