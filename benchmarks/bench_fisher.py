"""The Fisher metric of SmolLM2's own read-out at its last layer's states: mean, products, distances, eigenpairs.

Everybody gets the normed states and the weights in float32; errors are against float64, on a sample of rows where a row is
computed alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import data
from benchmarks.case import OURS, Case, Contender, parameters
from benchmarks.oracle import ArrayJudge, fisher_metrics, fisher_rao, token_probabilities
from benchmarks.peers import fisher as peers
from msma_fast import fisher

RANK, POSITIONS, DENSE = 8, 256, 4
ROWS = slice(0, 64, 4)  # those that are judged
ROWS_OF_PAIRS = slice(0, None, 16)


def states(n: int) -> tuple[np.ndarray, np.ndarray]:
    return data.smollm2_states(n)


def with_steps(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    h, weight = states(n)
    return h, weight, data.random_points(len(h), h.shape[1])


def images(h: np.ndarray, weight: np.ndarray, v: np.ndarray) -> np.ndarray:
    """G(h_i) v_ir by the definition, (n, r, d) float64."""
    p = token_probabilities(h, weight)[:, None]
    u = v.astype(np.float64) @ weight.T.astype(np.float64)
    found: np.ndarray = (p * (u - (p * u).sum(2, keepdims=True))) @ weight.astype(np.float64)
    return found


def products(h: np.ndarray, weight: np.ndarray, v: np.ndarray) -> np.ndarray:
    return images(h[ROWS], weight, v[ROWS, None])[:, 0]


def mean(h: np.ndarray, weight: np.ndarray) -> np.ndarray:
    wide, total, outer = weight.astype(np.float64), np.zeros(len(weight)), np.zeros(2 * weight.shape[1:])
    for start in range(0, len(h), 256):
        p = token_probabilities(h[start : start + 256], weight)
        total += p.sum(0)
        outer = outer + (p @ wide).T @ (p @ wide)
    return (wide.T @ (wide * total[:, None]) - outer) / len(h)


def distances(h: np.ndarray, weight: np.ndarray) -> np.ndarray:
    p = token_probabilities(h[ROWS], weight)
    return fisher_rao(p, p)


def eigenvalues(h: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh(fisher_metrics(h[:DENSE], weight))[:, ::-1][:, :RANK]


class EigenJudge(ArrayJudge):
    """Answers are (values, vectors) of all positions, or values of the first DENSE. Ours must be eigenpairs everywhere."""

    def __init__(self, h: np.ndarray, weight: np.ndarray) -> None:
        super().__init__(eigenvalues(h, weight), 5e-5)
        self.h, self.weight = h, weight

    def gate(self, answer: Any) -> str | None:
        values, vectors = answer[0][ROWS_OF_PAIRS], answer[1][ROWS_OF_PAIRS].transpose(0, 2, 1)
        found = images(self.h[ROWS_OF_PAIRS], self.weight, vectors)
        off = np.linalg.norm(found - values[:, :, None] * vectors, axis=2).max(1) / values[:, 0]
        if off.max() > 1.1 * 2.0**-12:  # what is promised, and the rounding of float32
            return f"expected residuals of at most 2^-12 of the largest value, got {off.max():.2g}"
        return super().gate(answer)

    def fault(self, answer: Any) -> Any:
        return super().fault(answer[0][:DENSE] if isinstance(answer, tuple) else answer)


def case(name: str, inputs: Callable[[], Any], ours: Any, peers: list[Contender], judge: Any, **options: Any) -> Case:
    return Case("fisher", name, inputs, (ours, *peers), judge, **options)


def sized(n: int) -> str:
    return f"{data.rows(n):,} states of {data.MODEL}'s last layer"


CASES = (
    case(
        f"logit_fisher_mean, {sized(4096)}",
        lambda: states(data.rows(4096)),
        Contender(OURS, fisher.logit_fisher_mean),
        [peers.torch_mean()],
        lambda h, w: ArrayJudge(mean(h, w), 2e-5),
        memory=True,
    ),
    case(
        f"logit_fisher_vp, {sized(4096)}",
        lambda: with_steps(data.rows(4096)),
        Contender(OURS, fisher.logit_fisher_vp, lambda found: found[ROWS]),
        [replace(peer(), answer=lambda found: found[ROWS]) for peer in (peers.torch_products, peers.torch_closed_products)],
        lambda h, w, v: ArrayJudge(products(h, w, v), 2e-5),
        memory=True,
    ),
    case(
        f"fisher_rao_distances, {sized(2048)}",
        lambda: states(data.rows(2048)),
        Contender(OURS, fisher.fisher_rao_distances, lambda found: found[ROWS, ROWS]),
        [replace(peers.torch_fisher_rao(), answer=lambda found: found[ROWS, ROWS])],
        lambda h, w: ArrayJudge(distances(h, w), 2e-5),
        memory=True,
    ),
    case(
        f"logit_fisher_eigh, top {RANK}, {sized(POSITIONS)}",
        lambda: states(data.rows(POSITIONS)),
        Contender(OURS, lambda h, w: fisher.logit_fisher_eigh(h, w, RANK)),
        [peers.torch_eigh(RANK, DENSE, data.rows(POSITIONS))],
        EigenJudge,
        memory=True,
        slow=True,
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", parameters(CASES))
def test_fisher(case: Case, measure: Callable[[Case], None]) -> None:
    measure(case)
