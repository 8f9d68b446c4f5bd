"""KSG estimators of mutual information elsewhere, and of their family. scikit-learn takes one-dimensional variables, and
ennemi too, but for the condition and for entropy; NPEET+ takes many, with chebyshev distances alone."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.case import Contender


def ennemi(k: int) -> Contender:
    def run(x: np.ndarray, y: np.ndarray) -> float:
        from ennemi import estimate_mi

        return float(estimate_mi(y, x, k=k)[0, 0])

    return Contender("ennemi", run, needs="ennemi")


def npeet(k: int) -> Contender:
    def run(x: np.ndarray, y: np.ndarray) -> float:
        import npeet_plus

        return float(npeet_plus.mi(x.reshape(len(x), -1), y.reshape(len(y), -1), k=k, base=np.e))

    return Contender("npeet-plus", run, needs="npeet_plus")


def sklearn_information(k: int) -> Contender:
    def run(x: np.ndarray, y: np.ndarray) -> float:
        from sklearn.feature_selection import mutual_info_regression

        return float(mutual_info_regression(x[:, None], y, n_neighbors=k)[0])

    return Contender("scikit-learn", run, needs="sklearn")


def sklearn_columns(k: int, columns: int, timed: int = 3) -> Contender:
    """Every column of a table against each of a few; their time stands for `columns` of them. Each pair is met twice."""

    def run(table: np.ndarray) -> list[np.ndarray]:
        return [_sklearn_column(table, columns, t * columns // timed, k) for t in range(timed)]

    return Contender(f"scikit-learn, {timed} columns scaled", run, needs="sklearn", repeat=columns / timed)


def sklearn_columns_once(k: int, columns: int, timed: int = 3) -> Contender:
    """As `sklearn_columns`, but each pair once: half of the columns stand for those that come before a column."""

    def run(table: np.ndarray) -> list[np.ndarray]:
        return [_sklearn_column(table, columns // 2, t * columns // timed, k) for t in range(timed)]

    return Contender(f"scikit-learn, each pair once, {timed} scaled", run, needs="sklearn", repeat=columns / timed)


def _sklearn_column(table: np.ndarray, count: int, column: int, k: int) -> np.ndarray:
    """The first `count` of (columns, n, 1) against one."""
    from sklearn.feature_selection import mutual_info_regression

    x, y = table[:count, :, 0].T, table[column, :, 0]
    return np.asarray(mutual_info_regression(x, y, n_neighbors=k, n_jobs=torch.get_num_threads()))


def ennemi_conditional(k: int) -> Contender:
    def run(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> float:
        from ennemi import estimate_mi

        return float(estimate_mi(y, x, k=k, cond=z, preprocess=False)[0, 0])

    return Contender("ennemi", run, needs="ennemi")


def npeet_conditional(k: int) -> Contender:
    def run(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> float:
        import npeet_plus

        return float(npeet_plus.cmi(*(s.reshape(len(s), -1) for s in (x, y, z)), k=k, base=np.e))

    return Contender("npeet-plus", run, needs="npeet_plus")


def npeet_entropy(k: int) -> Contender:
    def run(x: np.ndarray) -> float:
        import npeet_plus

        return float(npeet_plus.entropy(x, k=k, base=np.e))

    return Contender("npeet-plus", run, needs="npeet_plus")


def ennemi_entropy(k: int) -> Contender:
    def run(x: np.ndarray) -> float:
        from ennemi import estimate_entropy

        return float(estimate_entropy(x, k=k, multidim=True))

    return Contender("ennemi", run, needs="ennemi")


def npeet_divergence(k: int) -> Contender:
    def run(x: np.ndarray, y: np.ndarray) -> float:
        import npeet_plus

        return float(npeet_plus.kldiv(x, y, k=k, base=np.e))

    return Contender("npeet-plus", run, needs="npeet_plus")


def scipy_mixed(k: int) -> Contender:
    """The estimate of Gao et al. by scipy's trees, whole arrays at a time; counts include the row itself."""

    def run(x: np.ndarray, y: np.ndarray) -> float:
        from scipy.spatial import cKDTree
        from scipy.special import digamma

        samples = [np.column_stack([x, y]), x.reshape(len(x), -1), y.reshape(len(y), -1)]
        trees = [cKDTree(sample) for sample in samples]
        radius = trees[0].query(samples[0], [k + 1], p=np.inf)[0][:, 0]
        reach = np.nextafter(radius, 0)
        m_xy, m_x, m_y = (
            tree.query_ball_point(sample, reach, p=np.inf, return_length=True)
            for tree, sample in zip(trees, samples, strict=True)
        )
        terms = digamma(np.where(radius == 0, m_xy, k)) - digamma(m_x) - digamma(m_y)
        return float(terms.mean() + np.log(len(x)))

    return Contender("scipy trees", run, needs="scipy")


def npeet_matrix(k: int, pairs: int = 3) -> Contender:
    """The first pairs of layers, one after the other; their time stands for all L (L - 1) / 2 that have two layers."""

    def run(layers: np.ndarray) -> list[float]:
        import npeet_plus

        return [float(npeet_plus.mi(layers[t], layers[t + 1], k=k, base=np.e)) for t in range(pairs)]

    return Contender("npeet-plus, 3 pairs scaled to 465", run, needs="npeet_plus", repeat=465 / pairs)


def torch_matrix(k: int, metric: str) -> Contender:
    """Plain float32 torch: each layer's distances once, then every pair by a maximum, topk and two comparisons."""
    p = 2.0 if metric == "euclidean" else float("inf")

    def run(layers: np.ndarray) -> np.ndarray:
        count, n = layers.shape[:2]
        psi = torch.special.digamma(torch.arange(n + 2, dtype=torch.float64))
        marginals = []
        for layer in torch.from_numpy(layers):
            marginals.append(torch.cdist(layer, layer, p=p).fill_diagonal_(float("inf")))
        out = torch.empty(count, count, dtype=torch.float64)
        for a in range(count):
            for b in range(a, count):
                x, y = marginals[a], marginals[b]
                eps = torch.maximum(x, y).topk(k, dim=1, largest=False).values[:, -1:]
                inside = psi[(x < eps).sum(1) + 1] + psi[(y < eps).sum(1) + 1]
                out[a, b] = out[b, a] = psi[k] + psi[n] - inside.mean()
        return out.numpy()

    return Contender("plain torch", run)


def torch_permutations(k: int, metric: str, permutations: int) -> Contender:
    """Plain float32 torch: both distance matrices once, y's re-indexed by every permutation of seed 0; the last estimate."""
    p = 2.0 if metric == "euclidean" else float("inf")

    def run(x: np.ndarray, y: np.ndarray) -> float:
        n = len(x)
        psi = torch.special.digamma(torch.arange(n + 2, dtype=torch.float64))
        a, b = (
            torch.cdist(points, points, p=p).fill_diagonal_(float("inf"))
            for points in (torch.from_numpy(x), torch.from_numpy(y))
        )
        generator = torch.Generator().manual_seed(0)
        for _ in range(permutations):
            order = torch.randperm(n, generator=generator)
            shuffled = b[order][:, order]
            eps = torch.maximum(a, shuffled).topk(k, dim=1, largest=False).values[:, -1:]
            inside = psi[(a < eps).sum(1) + 1] + psi[(shuffled < eps).sum(1) + 1]
            estimate = psi[k] + psi[n] - inside.mean()
        return float(estimate)

    return Contender("plain torch", run)
