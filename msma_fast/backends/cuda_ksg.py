"""Counts of KSG by the CUDA kernel: radii and counts of many pairs of samples in one launch, from canonical keys.

For samples of few coordinates and for chebyshev; the others are screened by Triton (triton_ksg_pairs.py) where its kernels run
beside these. Formulas: backends/torch/ksg.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msma_fast.backends import cuda_launch as launch
from msma_fast.backends import triton_ksg_pairs
from msma_fast.backends.cuda import beside_triton, compiled
from msma_fast.backends.torch import ksg as plain
from msma_fast.backends.triton_ksg_pairs import Paired

_COUNTS = 1 << 25  # of one launch: 512 MiB of counts
_PAIRS = 65535  # the second dimension of a grid


def counted(paired: Paired) -> plain.Counts:
    """n_x, n_y and tied, (T, n, K) each."""
    if beside_triton() and triton_ksg_pairs.screened(paired):
        return triton_ksg_pairs.counted(paired)
    if max(paired.ks) >= compiled().MOST_NEIGHBORS:
        rows = torch.arange(paired.n, device=paired.sources[0]().values.device)
        parts = [triton_ksg_pairs.by_all_keys(paired, t, rows) for t in range(paired.samples.shape[0])]
        return plain.Counts(*(torch.stack(field) for field in zip(*parts, strict=True)))
    samples = [source().values.to(torch.float64).contiguous() for source in paired.sources]
    ks = [paired.ks[at : at + compiled().MOST_RADII] for at in range(0, len(paired.ks), compiled().MOST_RADII)]
    step = min(max(1, _COUNTS // (paired.n * len(paired.ks))), _PAIRS)
    parts = []
    for first in range(0, paired.samples.shape[0], step):
        some = paired.part(slice(first, first + step))
        found = [_launched(some._replace(ks=few), samples) for few in ks]
        parts.append(plain.Counts(*(torch.cat(field, 2) for field in zip(*found, strict=True))))
    return plain.Counts(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _launched(paired: Paired, samples: list[Tensor]) -> plain.Counts:
    """samples: float64, contiguous."""
    n, device, shape = paired.n, samples[0].device, (paired.samples.shape[0], paired.n, len(paired.ks))
    places = torch.tensor([sample.data_ptr() for sample in samples], dtype=torch.int64, device=device)
    widths = torch.tensor([sample.shape[1] for sample in samples], dtype=torch.int32, device=device)
    pairs = paired.samples.to(device, torch.int32).contiguous()
    ks = torch.tensor(paired.ks, dtype=torch.int32, device=device)
    n_x, n_y = (torch.empty(shape, dtype=torch.int64, device=device) for _ in range(2))
    tied = torch.empty(shape, dtype=torch.uint8, device=device)
    rule = launch.rule_of(paired.rule._replace(partners=paired.partners), n)
    stride = 0 if paired.partners is None or paired.partners.shape[0] == 1 else n
    compiled().ksg(
        paired.kernel.kind, places.data_ptr(), widths.data_ptr(), pairs.data_ptr(), shape[0], n, ks.data_ptr(), shape[2],
        max(paired.ks), paired.method == "ksg2", rule.parts(), stride, n_x.data_ptr(), n_y.data_ptr(), tied.data_ptr(),
        launch.stream_of(device),
    )  # fmt: skip
    return plain.Counts(n_x, n_y, tied.to(torch.bool))
