"""The second bound over a row's list and the points that it leaves, against sorted numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.usefixtures("strict")

M, WORDS = 1000, 32  # the last word has eight points, and 24 bits that are none's


def lists(n: int, limit: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    count = rng.integers(0, limit + 1, n).astype(np.int32)
    count[:4] = 0, 1, limit, limit + 5
    word = rng.integers(1, 1 << 32, (n, limit)) & rng.integers(1, 1 << 32, (n, limit)) | 1 << 31
    word[0::3] = 0xFFFFFFFF
    low = rng.standard_normal((n, limit)).astype(np.float32)
    low[rng.random((n, limit)) < 0.1] = -np.inf
    low[rng.random((n, limit)) < 0.1] = np.nan
    low[5] = np.round(low[5])
    low[6] = np.inf
    listed = (word.astype(np.uint32).view(np.int32).astype(np.int64) << 32) | rng.integers(0, WORDS, (n, limit))
    return torch.from_numpy(listed), torch.from_numpy(low), torch.from_numpy(count)


@pytest.mark.parametrize(("n", "limit", "k"), [(37, 300, 5), (9, 128, 1), (20, 40, 60)])
def test_the_second_bound_and_its_points(n: int, limit: int, k: int) -> None:
    from msma_fast.triton_kernels import narrow

    rng = np.random.default_rng(1)
    listed, low, count = lists(n, limit)
    near_i, far_i, near, far, col = (
        torch.from_numpy(rng.random(size).astype(np.float32)) for size in (n, n, WORDS, WORDS, WORDS)
    )
    margin = torch.from_numpy(rng.random(n))
    margin[7] = float("nan")
    tau, total = narrow.second_bound((listed, low, count), (near_i, far_i, margin), (near, far, col), M, k, 2.5)
    row, column = narrow.points((listed, low, count), tau, total, M, 100)
    found: dict[int, list[int]] = {i: [] for i in range(n)}
    for i, j in zip(row.tolist(), column.tolist(), strict=True):
        found[i - 100].append(j)
    assert torch.equal(row, row.sort().values)
    for i in range(n):
        size = 0 if count[i] > limit else int(count[i])
        group, word, lower = (
            (listed[i, :size] & 0xFFFFFFFF).numpy(),
            listed[i, :size].numpy() >> 32,
            low[i, :size].numpy(),
        )
        allowed = near_i[i] * near[group] + far_i[i] * far[group] + col[group]
        upper = lower + np.float32(2.5) * allowed.numpy()
        bound = np.append(np.sort(upper[np.isfinite(upper)]).astype(float), [np.inf] * k)[k - 1] + 2 * margin[i].item()
        bound = np.float32(min(bound + abs(bound) * 2.0**-20, np.finfo(np.float32).max)) if bound == bound else bound
        assert np.array_equal(tau[i].item(), bound, equal_nan=True)
        left = [s for s in range(size) if not lower[s] > bound]
        wanted = [32 * int(group[s]) + bit for s in left for bit in range(32) if word[s] >> bit & 1]
        assert found[i] == [j for j in wanted if j < M]
        assert total[i] == len(found[i])


def test_no_list_and_no_point() -> None:
    from msma_fast.triton_kernels import narrow

    empty = torch.zeros(3, 8, dtype=torch.int64), torch.zeros(3, 8), torch.zeros(3, dtype=torch.int32)
    one = torch.zeros(3)
    tau, total = narrow.second_bound(empty, (one, one, one.double()), (one, one, one), 50, 2, 2.0)
    assert (tau == torch.finfo(torch.float32).max).all()
    row, column = narrow.points(empty, tau, total, 50, 0)
    assert row.numel() == column.numel() == 0
