"""KSG estimators of mutual information elsewhere. ennemi and scikit-learn take one-dimensional variables."""

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
