"""Shared data and the rule of the suite: an answer is checked before it is timed, and a wrong one prints no number."""

from __future__ import annotations

import numpy as np
import pytest

# Few rounds: each is seconds long, and the median of pytest-benchmark's table is what is quoted.
ROUNDS = {"rounds": 5, "warmup_rounds": 1, "iterations": 1}


@pytest.fixture(scope="session")
def points() -> np.ndarray:
    """(8192, 576) float32 with the shape of a small model's layer: correlated coordinates and a few long rows."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((64, 576)).astype(np.float32)
    x = rng.standard_normal((8192, 64)).astype(np.float32) @ mixing + rng.standard_normal((8192, 576)).astype(
        np.float32
    )
    x[::1024] *= 30.0
    return x
