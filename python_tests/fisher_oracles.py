"""The Fisher metric of a read-out written from its definition, in float64; imports nothing of ours."""

from __future__ import annotations

import numpy as np


def probabilities(h: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """softmax(W h + b), (n, V)."""
    logits = h.astype(np.float64) @ weight.astype(np.float64).T
    logits = logits if bias is None else logits + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


def metrics(h: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """G(h_i) = W^T (diag p - p p^T) W as sum_t p_t (w_t - m)(w_t - m)^T, (n, d, d)."""
    w = weight.astype(np.float64)
    found = []
    for p in probabilities(h, weight, bias):
        off = w - p @ w
        found.append((off * p[:, None]).T @ off)
    return np.stack(found)


def fisher_rao(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(n, m) from rows of probabilities, by the chord between the square roots."""
    chord = np.linalg.norm(np.sqrt(p)[:, None] - np.sqrt(q)[None], axis=2)
    return np.asarray(4.0 * np.arcsin(np.minimum(chord / 2, 1.0)))
