"""What `make gpu-check` asks of a GPU: ops that have kernels and some that are torch's, the CPU's answer, peers in torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

import msma_fast as mf
from msma_fast import fisher

K = 15
SIZES = ((8192, 576), (50_000, 576), (20_000, 64), (20_000, 8))  # of searches
PAIRED = 4096, 64  # of everything else
CHECKED = 512  # rows of a search whose answer is compared
LAYERS, PERMUTATIONS = 6, 50
READ_OUT = 1024, 576, 49_152  # states, coordinates, tokens
RECALL = 0.9  # of precision="fast"
KEYED = ("cosine", "inner_product", "manhattan", "chebyshev", "minkowski")  # metrics beside euclidean

Run = Callable[..., Any]


class Case(NamedTuple):
    """ours and peers take the same inputs on the GPU; right(answer) compares it with the CPU's; share(answer), of a search:
    how many of the CPU's neighbours are in it."""

    name: str
    inputs: tuple[Any, ...]
    ours: Run
    peers: dict[str, Run]
    right: Callable[[Any], bool]
    share: Callable[[Any], float] | None = None


def cases(device: torch.device, rivals: dict[str, Run]) -> Iterator[Case]:
    """rivals: peers of knn, x (n, d) -> K + 1 neighbours of every row."""
    generator = torch.Generator().manual_seed(0)
    for n, d in SIZES:
        x = torch.randn(n, d, generator=generator)
        x[:, 0] += 30
        yield from _searches(x, device, rivals)
    n, d = PAIRED
    x, y = torch.randn(2, n, d, generator=generator)
    y += 0.5 * x
    layers = [torch.randn(n, d, generator=generator) + x for _ in range(LAYERS)]
    groups = torch.arange(n) // 8
    for name, ours, inputs, peers, tolerance in (
        *_neighbors(x, groups),
        *_distances(x, y),
        *_information(x, y, layers, groups),
        *_sums(x, y),
    ):
        yield _case(f"{name} {n} x {d}", ours, inputs, device, peers, tolerance)
    n, d, vocabulary = READ_OUT
    h, v = torch.randn(2, n, d, generator=generator)
    weight = torch.randn(vocabulary, d, generator=generator) * (4 / math.sqrt(d))
    for name, ours, inputs, peers, tolerance in _fisher(h, weight, v):
        yield _case(f"{name} {n} x {d}, {vocabulary} tokens", ours, inputs, device, peers, tolerance)


def _searches(x: Tensor, device: torch.device, rivals: dict[str, Run]) -> Iterator[Case]:
    """knn and radius_count of all rows, of which CHECKED are asked of the CPU."""
    n, d = x.shape
    some = slice(0, n // CHECKED * CHECKED, n // CHECKED)
    there = (x.to(device),)
    nearest = mf.knn(x[some], K, x)  # the query itself comes first
    reach = float(nearest.distances[:, -1].median())
    counted = mf.radius_count(x[some], reach, x) - 1

    def same(found: Any) -> bool:
        return torch.equal(found.indices[some].cpu()[:, : K - 1], nearest.indices[:, 1:])

    def share(found: Any) -> float:
        mine = (found if isinstance(found, Tensor) else found.indices)[some].cpu()
        return float((mine[:, :, None] == nearest.indices[:, None, 1:]).any(1).double().mean())

    def near(found: Any) -> bool:
        return share(found) >= RECALL

    def fast(x: Tensor) -> Any:
        return mf.knn(x, K, precision="fast", check_finite=False)

    yield Case(f"knn {n} x {d}", there, lambda x: mf.knn(x, K), rivals, same, share)
    yield Case(f"knn fast {n} x {d}", there, fast, rivals, near, share)
    yield Case(
        f"radius_count {n} x {d}", there, lambda x: mf.radius_count(x, reach), {},
        lambda found: torch.equal(found[some].cpu(), counted),
    )  # fmt: skip


# (name, ours, inputs, peers, relative tolerance or None for the same bits)
Asked = tuple[str, Run, tuple[Any, ...], dict[str, Run], float | None]


def _neighbors(x: Tensor, groups: Tensor) -> Iterator[Asked]:
    yield "knn groups window", lambda x, g: mf.knn(x, K, groups=g, window=9), (x, groups), {}, None
    reach = math.sqrt(2.0 * x.shape[1])
    yield (
        "radius_count groups window",
        lambda x, g: mf.radius_count(x, reach, groups=g, window=9),
        (x, groups), {}, None,
    )  # fmt: skip
    for metric in KEYED:
        yield f"knn {metric}", lambda x, metric=metric: mf.knn(x, K, metric=metric, p=3.0), (x,), {}, None


def _distances(x: Tensor, y: Tensor) -> Iterator[Asked]:
    yield "pairwise_distances", mf.pairwise_distances, (x, y), {"torch": torch.cdist}, 2e-6
    for metric in KEYED[:-1]:
        yield (
            f"pairwise_distances {metric}",
            lambda x, y, metric=metric: mf.pairwise_distances(x, y, metric=metric),
            (x, y), {}, 2e-5,
        )  # fmt: skip
    yield (
        "pairwise_distances backward", _gradients(lambda x, y: mf.pairwise_distances(x, y).square().mean()), (x, y),
        {"torch": _gradients(lambda x, y: torch.cdist(x, y).square().mean())}, 1e-4,
    )  # fmt: skip
    edges = torch.linspace(0.0, 3.0 * math.sqrt(x.shape[1]), 65, dtype=torch.float64)
    yield (
        "distance_histogram", lambda x, edges: mf.distance_histogram(x, edges), (x, edges),
        {"torch": lambda x, edges: torch.cdist(x, x).histc(64, 0.0, float(edges[-1]))}, None,
    )  # fmt: skip


def _information(x: Tensor, y: Tensor, layers: list[Tensor], groups: Tensor) -> Iterator[Asked]:
    for metric, width in (("euclidean", x.shape[1]), ("chebyshev", x.shape[1]), ("euclidean", 2)):
        yield (
            f"ksg_mi {metric} {width}", lambda x, y, m=metric: mf.ksg_mi(x, y, 3, metric=m),
            (x[:, :width].contiguous(), y[:, :width].contiguous()), {}, 1e-11,
        )  # fmt: skip
    yield "ksg_mi groups window", lambda x, y, g: mf.ksg_mi(x, y, 3, groups=g, window=9), (x, y, groups), {}, 1e-11
    yield f"ksg_mi_matrix of {LAYERS}", lambda *layers: mf.ksg_mi_matrix(list(layers), 3), tuple(layers), {}, 1e-11
    yield (
        f"mi_permutation_test of {PERMUTATIONS}",
        lambda x, y: mf.mi_permutation_test(x, y, 3, PERMUTATIONS, metric="euclidean").null, (x, y), {}, 1e-11,
    )  # fmt: skip


def _sums(x: Tensor, y: Tensor) -> Iterator[Asked]:
    h = math.sqrt(x.shape[1])

    def torch_sums(x: Tensor, y: Tensor) -> Tensor:
        return (torch.cdist(x, y).square() / (-2 * h * h)).exp().sum()

    def torch_mmd(x: Tensor, y: Tensor) -> Tensor:
        n, m = len(x), len(y)
        own = sum((torch_sums(z, z) - len(z)) / (len(z) * (len(z) - 1)) for z in (x, y))
        return own - 2 * torch_sums(x, y) / (n * m)

    def torch_stress(x: Tensor, y: Tensor) -> Tensor:
        return (torch.cdist(x, x) - torch.cdist(y, y)).square().sum() / 2

    widths = [0.5 * h, h, 2.0 * h]
    yield "gaussian_kernel_sums", lambda x, y: mf.gaussian_kernel_sums(x, y, widths), (x, y), {}, 1e-10
    yield "mmd", lambda x, y: mf.mmd(x, y + 1.0, h), (x, y), {"torch": lambda x, y: torch_mmd(x, y + 1.0)}, 1e-8
    yield (
        "mmd backward", _gradients(lambda x, y: mf.mmd(x, y + 1.0, h)), (x, y),
        {"torch": _gradients(lambda x, y: torch_mmd(x, y + 1.0))}, 1e-4,
    )  # fmt: skip
    yield "stress", mf.stress, (x, y), {"torch": torch_stress}, 1e-10
    yield "stress backward", _gradients(mf.stress), (x, y), {"torch": _gradients(torch_stress)}, 1e-4
    yield "distance_correlation", mf.distance_correlation, (x, y), {"torch": _torch_distance_correlation}, 1e-9
    yield "cka rbf", lambda x, y: mf.cka(x, y, "rbf"), (x, y), {}, 1e-9


def _fisher(h: Tensor, weight: Tensor, v: Tensor) -> Iterator[Asked]:
    def torch_mean(h: Tensor, weight: Tensor) -> Tensor:
        p = (h @ weight.T).softmax(1)
        m = p @ weight
        return (weight.T @ (p.sum(0)[:, None] * weight) - m.T @ m) / len(h)

    def torch_vp(h: Tensor, weight: Tensor, v: Tensor) -> Tensor:
        p, u = (h @ weight.T).softmax(1), v @ weight.T
        return (p * (u - (p * u).sum(1, keepdim=True))) @ weight

    def torch_trace(h: Tensor, weight: Tensor) -> Tensor:
        p = (h @ weight.T).softmax(1)
        return p @ weight.square().sum(1) - (p @ weight).square().sum(1)

    def torch_rao(h: Tensor, weight: Tensor) -> Tensor:
        root = (h @ weight.T).softmax(1).sqrt()
        return 2 * (root @ root.T).clamp(max=1).arccos()

    def torch_quadratic(h: Tensor, weight: Tensor, v: Tensor) -> Tensor:
        p, u = (h @ weight.T).softmax(1), v @ weight.T
        return (p * u * u).sum(1) - (p * u).sum(1).square()

    yield "logit_fisher_quadratic", fisher.logit_fisher_quadratic, (h, weight, v), {"torch": torch_quadratic}, 1e-4
    yield "logit_fisher_mean", fisher.logit_fisher_mean, (h, weight), {"torch": torch_mean}, 1e-4
    yield "logit_fisher_vp", fisher.logit_fisher_vp, (h, weight, v), {"torch": torch_vp}, 1e-4
    yield "logit_fisher_trace", fisher.logit_fisher_trace, (h, weight), {"torch": torch_trace}, 1e-4
    yield "fisher_rao_distances", fisher.fisher_rao_distances, (h, weight), {"torch": torch_rao}, 1e-4


def _torch_distance_correlation(x: Tensor, y: Tensor) -> Tensor:
    a, b = (torch.cdist(z, z) for z in (x, y))
    a, b = (z - z.mean(0) - z.mean(1, keepdim=True) + z.mean() for z in (a, b))
    return ((a * b).mean() / ((a * a).mean() * (b * b).mean()).sqrt()).sqrt()


def _gradients(of: Run) -> Run:
    """The gradients of a number with respect to every argument."""

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        leaves = [each.detach().requires_grad_() for each in inputs]
        return torch.autograd.grad(of(*leaves), leaves)

    return run


def _case(
    name: str, ours: Run, inputs: Sequence[Any], device: torch.device, peers: dict[str, Run], tolerance: float | None
) -> Case:
    """Compared with what the same call gives on the CPU, up to `tolerance` of its largest number."""
    wanted = _numbers(ours(*inputs))

    def right(found: Any) -> bool:
        mine = _numbers(found)
        if tolerance is None:
            return all(map(torch.equal, mine, wanted))
        return all(
            float((a - b).abs().max()) <= tolerance * float(b.abs().max()) for a, b in zip(mine, wanted, strict=True)
        )

    return Case(name, tree_map_only(Tensor, lambda each: each.to(device), tuple(inputs)), ours, peers, right)


def _numbers(answer: Any) -> list[Tensor]:
    return [torch.as_tensor(each).detach().cpu() for each in tree_leaves(answer)]
