"""KSG estimators of mutual information elsewhere, and of their family. scikit-learn takes one-dimensional variables, and
ennemi too, but for the condition and for entropy."""

from __future__ import annotations

import numpy as np

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
