"""The largest eigenpairs of the Fisher metric of a read-out at each row, from products alone; effective rank.

Block Krylov with Rayleigh-Ritz (Golub, Van Loan, Matrix Computations, 10.3): the basis starts with the eigenvectors that the
most probable tokens alone would have, and grows by the residuals of the pairs that are not settled yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from msma_fast import _checks
from msma_fast.fisher._arguments import Checked, readout_of, within
from msma_fast.fisher.logits import products, run
from msma_fast.results import Array

_GUARD = 4  # vectors beyond those wanted: the gap that decides convergence is behind them
_ROWS, _STARTED = 128, 4  # rows of h together: in the iteration, and while it is started from their tokens
_TOKENS, _STARTING = 512, 5  # the most probable tokens that the start knows, and its rounds
_TOLERANCE = {torch.float32: 2.0**-12, torch.float64: 2.0**-36}  # of residuals, relative to the first eigenvalue


def logit_fisher_eigh(
    h: Array, weight: Array, rank: int, bias: Array | None = None, *, norm: Any = None, backend: str | None = None
) -> Any:
    """The `rank` largest eigenvalues of G(h_i), descending, and their eigenvectors: (n, r) and (n, d, r).

    h, weight, bias, norm, dtypes and errors as in `logit_fisher_vp`; 1 <= rank <= d. Eigenvectors are orthonormal columns,
    the largest entry positive. Residuals |G u - lambda u| are at most 2^-12 of the first eigenvalue (2^-36 in float64): the
    error of an eigenvalue is about that squared over its distance to the others.

    Cost: two products n V d a vector, some 3 rank vectors; all d columns where 4 (rank + 4) >= d, or where the eigenvalues
    are too much alike. Memory beside the result: 128 rows at a time, 256 d (rank + 4) numbers a round and some 12 x 512 x d
    to begin with; with few rows that is more than n x V. When not to use it: for the eigenvectors of the mean,
    torch.linalg.eigh(logit_fisher_mean(...)).
    """
    read = readout_of(h, weight, bias, norm, backend)
    rows = read.h.detach()
    d = rows.shape[1]
    rank = _checks.integer("rank", rank, at_least=1)
    if rank > d:
        raise ValueError(f"rank: expected at most d = {d}, got {rank}")

    parts = [_pairs(read, part, rank) for part in rows.split(_ROWS)]
    values, vectors = (torch.cat(field) for field in zip(*parts, strict=True))
    return read.wrap(within(values, read)), read.wrap(_signed(vectors))


def _pairs(read: Checked, rows: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    n, d = rows.shape

    def dense(some: Tensor) -> tuple[Tensor, Tensor]:
        parts = [_dense(read, rows[part], rank) for part in some.split(_STARTED)]
        values, vectors = (torch.cat(field) for field in zip(*parts, strict=True))
        return values, vectors

    if 4 * (rank + _GUARD) >= d:
        return dense(torch.arange(n, device=rows.device))
    with torch.no_grad():
        likely = run("top_tokens", read, read.normed(rows), min(_TOKENS, read.weight.shape[0]))
    parts = zip(*(each.split(_STARTED) for each in (rows, *likely)), strict=True)
    start = torch.cat([_start(read, part, shares, tokens, rank + _GUARD) for part, shares, tokens in parts])
    return _krylov(lambda some, v: within(products(read, rows[some], v), read), dense, start, rank)


def _dense(read: Checked, rows: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """By all d columns of the metric: (n, rank), (n, d, rank)."""
    n, d = rows.shape
    metric = within(products(read, rows, torch.eye(d, dtype=rows.dtype, device=rows.device).expand(n, d, d)), read)
    values, vectors = torch.linalg.eigh((metric + metric.mT) / 2)
    return values.flip(1)[:, :rank].clamp_min(0.0), vectors.flip(2)[:, :, :rank]


def _start(read: Checked, rows: Tensor, shares: Tensor, tokens: Tensor, count: int) -> Tensor:
    """(n, count, d): eigenvectors of the metric that the tokens (n, T) of these shares (n, T) would have alone, nearly."""
    with torch.no_grad():
        frame = read.at(rows)
    words = read.weight[tokens].to(rows.dtype)
    mean = (shares[:, None] @ words) / shares.sum(1)[:, None, None]
    words = (words - mean) * shares.sqrt()[:, :, None]

    def apply(v: Tensor) -> Tensor:
        pushed = v if frame is None else frame.push(v)
        found = (pushed @ words.mT) @ words
        return found if frame is None else frame.pull(found)

    generator = torch.Generator().manual_seed(0)
    first = torch.randn(count, rows.shape[1], generator=generator, dtype=torch.float64).to(rows)
    space = Space(first.expand(rows.shape[0], *first.shape))
    for _ in range(_STARTING):
        space.grow(apply(space.block))
        found = space.pairs(count)
        space.turn(found.residual)
    return found.vectors


class Pairs(NamedTuple):
    """values (n, r), vectors (n, r, d), residual G u - lambda u (n, r, d)."""

    values: Tensor
    vectors: Tensor
    residual: Tensor


class Space:
    """Orthonormal rows (n, s, d) and their products with the metric; block: the rows that wait for theirs."""

    def __init__(self, start: Tensor) -> None:
        self.block = _orthonormal(start)
        self.basis = self.images = self.block[:, :0]

    def grow(self, image: Tensor) -> None:
        self.basis, self.images = torch.cat([self.basis, self.block], 1), torch.cat([self.images, image], 1)

    def pairs(self, rank: int) -> Pairs:
        """Rayleigh-Ritz."""
        small = self.basis @ self.images.mT
        values, weights = torch.linalg.eigh((small + small.mT) / 2)
        values, weights = values.flip(1)[:, :rank], weights.flip(2)[:, :, :rank].mT
        vectors = weights @ self.basis
        return Pairs(values, vectors, weights @ self.images - values[:, :, None] * vectors)

    def turn(self, directions: Tensor) -> None:
        self.block = _orthonormal(directions, self.basis)

    def keep(self, rows: Tensor) -> None:
        self.basis, self.images = self.basis[rows], self.images[rows]


def _krylov(
    apply: Callable[[Tensor, Tensor], Tensor],
    dense: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    rank: int,
) -> tuple[Tensor, Tensor]:
    """(n, rank) and (n, d, rank); apply(some, v) is G v of the numbered rows. Rows and vectors that are settled rest; rows
    whose eigenvalues are too much alike to settle before half of all directions have been tried are left to dense(some)."""
    n, _, d = start.shape
    values, vectors = start.new_empty(n, rank), start.new_empty(n, rank, d)
    tolerance, some, space = _TOLERANCE[start.dtype], torch.arange(n, device=start.device), Space(start)
    while True:
        space.grow(apply(some, space.block))
        found = space.pairs(rank)
        values[some], vectors[some] = found.values.clamp_min(0.0), found.vectors
        size = found.residual.norm(dim=2) / found.values[:, :1].clamp_min(torch.finfo(start.dtype).tiny)
        open_ = (size > tolerance).sum(1)
        left = open_.nonzero().squeeze(1)
        if not left.numel():
            return values, vectors.mT
        some = some[left]
        if 2 * (space.basis.shape[1] + rank) > d:
            break
        # As many as rows need on average: who needs more has another round, and who needs fewer loses little.
        worst = size[left].topk(int(open_[left].float().mean().ceil()), dim=1).indices
        space.keep(left)
        space.turn(found.residual[left].gather(1, worst[:, :, None].expand(-1, -1, d)))
    values[some], columns = dense(some)
    vectors[some] = columns.mT
    return values, vectors.mT


def _orthonormal(block: Tensor, basis: Tensor | None = None) -> Tensor:
    """An orthonormal basis (n, b, d) of the block's rows, orthogonal to `basis`; twice, for what rounding leaves."""
    for _ in range(2):
        if basis is not None:
            block = block - (block @ basis.mT) @ basis
        block = torch.linalg.qr(block.mT).Q.mT
    return block


def _signed(vectors: Tensor) -> Tensor:
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0).to(vectors)


def effective_rank(metric: Array) -> Any:
    """exp of the entropy of the normalised eigenvalues (Roy, Vetterli, EUSIPCO 2007): between 1 and d.

    metric (..., d, d) symmetric positive semidefinite, such as `logit_fisher_mean`; eigenvalues below zero by rounding count
    as zero. Returns (...) float64, a float for one numpy matrix. Raises ValueError for NaN, inf, a matrix that is not square
    or is zero.
    """
    matrix = _checks.points("metric", metric, ndims=None).to(torch.float64)
    if matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"metric: expected square matrices (..., d, d), got shape {tuple(matrix.shape)}")
    values = torch.linalg.eigvalsh((matrix + matrix.mT) / 2).clamp_min(0.0)
    total = values.sum(-1, keepdim=True)
    if not bool((total > 0).all()):
        raise ValueError("metric: expected a positive eigenvalue, got a matrix without one")
    found = torch.special.entr(values / total).sum(-1).exp()
    return found if isinstance(metric, Tensor) else float(found) if found.ndim == 0 else found.numpy()
