"""The example's table: a planted boundary beside the paper's, and ranges taken at the same share of the depth."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msma_fast as mf
from msma_fast.msma.scales import PAPER


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "scales_of_models.py"))


def walk(cut: int | None, seed: int, layers: int = 13) -> mf.Activations:
    rng = np.random.default_rng(seed)
    n = 800
    tokens = np.random.default_rng(9).integers(0, 8, n)
    x = 4 * np.random.default_rng(8).standard_normal((8, 24))[tokens] + rng.standard_normal((n, 24))
    stack = [x]
    for layer in range(1, layers):
        x = x + (2.4 if layer == cut else 0.4) * rng.standard_normal((n, 24))
        stack.append(x)
    acts = mf.Activations.from_arrays(
        stack, text_ids=np.arange(n) // 8, token_ids=tokens, positions=np.tile(np.arange(8), n // 8)
    )
    acts.next_token_ids = acts.token_ids
    return acts


def test_a_planted_boundary_is_in_the_table(example: dict[str, Any]) -> None:
    found = example["Read"](walk(5, 0), walk(None, 1), None)
    partition = example["scales"](found, n_resamples=4)
    lines = example["rows"]("planted", found, partition, "bert")
    assert len(lines) == 2
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    supported = [row for row in cells if row[3] == "supported"]
    assert len(supported) == 1
    assert supported[0][0] == "planted"
    assert supported[0][2] == "layer.5"
    assert "overlap" in supported[0][6]
    assert supported[0][7] == "yes"
    assert {row[1] for row in cells} == {"layer.5", "layer.9"}


def test_the_papers_ranges_at_the_same_share_of_the_depth(example: dict[str, Any]) -> None:
    def of(stacks: tuple[tuple[int, int], ...]) -> mf.ScalePartition:
        return mf.ScalePartition((), (), (), stacks)

    for paper, ranges in PAPER.items():
        assert example["published"](of(((0, ranges[-1][1]),)), paper) == [a for a, _ in ranges[1:]]
    assert example["published"](of(((0, 6),)), "bert") == [2, 4]
    assert example["published"](of(((0, 6), (7, 13))), "t5") == [3, 5, 10, 12]
