"""The Fisher metric of a read-out by plain torch, in chunks that keep its memory within 5 % of n V 4 bytes, as ours does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.case import Contender


def _rows(n: int, arrays: int) -> int:
    """Rows of a chunk of which `arrays` (rows, V) arrays are alive: larger chunks are faster (64 to 2048 tried)."""
    return max(8, int(0.045 * n) // arrays)


def _chunks(h: Tensor, size: int) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, h.shape[0], size):
        yield slice(start, start + size), h[start : start + size]


def _softmax_(logits: Tensor) -> Tensor:
    logits -= logits.amax(1, keepdim=True)
    logits.exp_()
    return logits.div_(logits.sum(1, keepdim=True))


def torch_mean() -> Contender:
    """Chunks of logits, softmax in place, P W and column sums; then W^T diag(p) W by scaled blocks of W."""

    def run(h: np.ndarray, weight: np.ndarray) -> Tensor:
        x, w = torch.from_numpy(h), torch.from_numpy(weight)
        means, total = torch.empty_like(x), torch.zeros(w.shape[0])
        for rows, chunk in _chunks(x, _rows(len(x), 1)):
            p = _softmax_(chunk @ w.T)
            torch.mm(p, w, out=means[rows])
            total += p.sum(0)
        found = -(means.T @ means) / len(x)
        for start in range(0, len(w), 8192):
            block = w[start : start + 8192]
            found.addmm_((block * (total[start : start + 8192, None] / len(x))).T, block)
        return found

    return Contender("torch, chunks of rows", run)


def torch_products() -> Contender:
    """torch.func: jvp to the logits, the softmax's Fisher metric, vjp back."""

    def run(h: np.ndarray, weight: np.ndarray, v: np.ndarray) -> Tensor:
        x, w, steps = (torch.from_numpy(z) for z in (h, weight, v))
        found = torch.empty_like(x)

        def logits(z: Tensor) -> Tensor:
            return z @ w.T

        for rows, chunk in _chunks(x, _rows(len(x), 3)):
            pair: tuple[Tensor, Tensor] = torch.func.jvp(logits, (chunk,), (steps[rows],))  # type: ignore[assignment]
            scores, u = pair
            p = scores.softmax(1)
            u = p * (u - (p * u).sum(1, keepdim=True))
            found[rows] = torch.func.vjp(logits, chunk)[1](u)[0]
        return found

    return Contender("torch.func jvp + vjp, chunks of rows", run)


def torch_closed_products() -> Contender:
    """The softmax's Fisher metric written out: three matrix products a chunk, two arrays of its logits' size."""

    def run(h: np.ndarray, weight: np.ndarray, v: np.ndarray) -> Tensor:
        x, w, steps = (torch.from_numpy(z) for z in (h, weight, v))
        found = torch.empty_like(x)
        for rows, chunk in _chunks(x, _rows(len(x), 2)):
            p, u = _softmax_(chunk @ w.T), steps[rows] @ w.T
            u -= torch.linalg.vecdot(p, u)[:, None]
            torch.mm(p.mul_(u), w, out=found[rows])
        return found

    return Contender("closed form, chunks of rows", run)


def torch_fisher_rao() -> Contender:
    """The normaliser, then the square roots of chunks of tokens into one n x n product."""

    def run(h: np.ndarray, weight: np.ndarray) -> Tensor:
        x, w = torch.from_numpy(h), torch.from_numpy(weight)
        size = max(64, int(0.045 * len(w)))
        largest, total = torch.full((len(x),), -torch.inf), torch.zeros(len(x))
        for block in w.split(size):
            logits = x @ block.T
            raised = torch.maximum(largest, logits.amax(1))
            total = total * (largest - raised).exp_() + logits.sub_(raised[:, None]).exp_().sum(1)
            largest = raised
        half = (largest + total.log()) / 2
        affinity = torch.zeros(len(x), len(x))
        for block in w.split(size):
            roots = (x @ block.T).div_(2).sub_(half[:, None]).exp_()
            affinity.addmm_(roots, roots.T)
        return affinity.clamp_(max=1.0).acos_().mul_(2)

    return Contender("torch, chunks of tokens", run)


def torch_eigh(rank: int, positions: int, count: int) -> Contender:
    """The explicit metric of each position and torch.linalg.eigh; `positions` are done and stand for `count`."""

    def run(h: np.ndarray, weight: np.ndarray) -> Tensor:
        x, w = torch.from_numpy(h[:positions]), torch.from_numpy(weight)
        found = []
        for row in x:
            p = (w @ row).softmax(0)
            mean = p @ w
            values, _ = torch.linalg.eigh(torch.addmm(-torch.outer(mean, mean), (w * p[:, None]).T, w))
            found.append(values.flip(0)[:rank])
        return torch.stack(found)

    return Contender(f"torch.linalg.eigh, {positions} of {count} positions", run, repeat=count / positions)
