"""Bad input, one table: the type, the named argument, what came, and the same words on every backend."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import available_backends

import msma_fast as mf

GOOD = np.random.default_rng(0).standard_normal((6, 3))
OTHER = np.random.default_rng(1).standard_normal((6, 2))
LABELS = np.array([0, 0, 1, 1, 2, 2])
UNEQUAL = np.array([0, 0, 0, 0, 1, 1])
HALVES = LABELS / 2
ONE_AND_A_HALF: Any = 1.5
SEVERAL_K: Any = (1, 2)
PROBABILITIES = np.full((6, 3), 1 / 3)


def changed(value: float, base: np.ndarray = GOOD) -> np.ndarray:
    x = base.copy()
    x[2, 1] = value
    return x


class Bad(NamedTuple):
    name: str
    call: Callable[[], Any]
    error: type[Exception]
    says: tuple[str, ...]  # regular expressions, all found in the message


# Every place that takes data: (function, argument, call with that argument replaced).
DATA: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("pairwise_distances", "x", lambda x: mf.pairwise_distances(x)),
    ("pairwise_distances", "y", lambda x: mf.pairwise_distances(GOOD, x)),
    ("knn", "queries", lambda x: mf.knn(x, 2)),
    ("knn", "points", lambda x: mf.knn(GOOD, 2, x)),
    ("knn_graph", "x", lambda x: mf.knn_graph(x, 2)),
    ("radius_count", "queries", lambda x: mf.radius_count(x, 1.0)),
    ("radius_count", "points", lambda x: mf.radius_count(GOOD, 1.0, x)),
    ("radius_graph", "x", lambda x: mf.radius_graph(x, 1.0)),
    ("ksg_mi", "x", lambda x: mf.ksg_mi(x, OTHER)),
    ("ksg_mi", "y", lambda x: mf.ksg_mi(OTHER, x)),
    ("ksg_mi_matrix", "layers", lambda x: mf.ksg_mi_matrix([GOOD, x])),
    ("ross_mi", "x", lambda x: mf.ross_mi(x, np.array([0, 0, 0, 1, 1, 1]), 1)),
    ("ksg_cmi", "x", lambda x: mf.ksg_cmi(x, OTHER, OTHER)),
    ("ksg_cmi", "y", lambda x: mf.ksg_cmi(OTHER, x, OTHER)),
    ("ksg_cmi", "z", lambda x: mf.ksg_cmi(OTHER, OTHER, x)),
    ("mixed_mi", "x", lambda x: mf.mixed_mi(x, OTHER)),
    ("mixed_mi", "y", lambda x: mf.mixed_mi(OTHER, x)),
    ("knn_entropy", "x", lambda x: mf.knn_entropy(x)),
    ("knn_kl_divergence", "x", lambda x: mf.knn_kl_divergence(x, GOOD, 1)),
    ("knn_kl_divergence", "y", lambda x: mf.knn_kl_divergence(GOOD, x, 1)),
    ("mi_permutation_test", "x", lambda x: mf.mi_permutation_test(x, OTHER, n_permutations=2)),
    ("mi_permutation_test", "y", lambda x: mf.mi_permutation_test(OTHER, x, n_permutations=2)),
    ("mi_interval", "x", lambda x: mf.mi_interval(x, OTHER)),
    ("mi_interval", "y", lambda x: mf.mi_interval(OTHER, x)),
    ("mi_matrix_interval", "layers", lambda x: mf.mi_matrix_interval([GOOD, x])),
    ("intrinsic_dimension", "x", lambda x: mf.intrinsic_dimension(x)),
    ("neighborhood_overlap", "x", lambda x: mf.neighborhood_overlap(x, OTHER, 2)),
    ("neighborhood_overlap", "y", lambda x: mf.neighborhood_overlap(OTHER, x, 2)),
    ("distance_correlation", "x", lambda x: mf.distance_correlation(x, OTHER)),
    ("distance_correlation", "y", lambda x: mf.distance_correlation(OTHER, x)),
    ("cka", "x", lambda x: mf.cka(x, OTHER)),
    ("cka", "y", lambda x: mf.cka(OTHER, x)),
    ("stress", "x", lambda x: mf.stress(x, OTHER)),
    ("stress", "y", lambda x: mf.stress(OTHER, x)),
    ("distance_histogram", "x", lambda x: mf.distance_histogram(x, [0.0, 1.0])),
    ("distance_histogram", "points", lambda x: mf.distance_histogram(GOOD, [0.0, 1.0], points=x)),
    ("correlation_integral", "x", lambda x: mf.correlation_integral(x, 1.0)),
    ("gaussian_kernel_sums", "x", lambda x: mf.gaussian_kernel_sums(x, None, 1.0)),
    ("gaussian_kernel_sums", "y", lambda x: mf.gaussian_kernel_sums(GOOD, x, 1.0)),
    ("mmd", "x", lambda x: mf.mmd(x, GOOD, 1.0)),
    ("mmd", "y", lambda x: mf.mmd(GOOD, x, 1.0)),
    ("cauchy_schwarz_divergence", "y", lambda x: mf.cauchy_schwarz_divergence(GOOD, x, 1.0)),
]
BAD_DATA: list[tuple[str, Any, type[Exception], str]] = [
    ("nan", changed(np.nan), ValueError, "nan|NaN|finite"),
    ("inf", changed(np.inf), ValueError, "inf|finite"),
    ("empty", GOOD[:0], ValueError, r"empty|\b0\b"),
    ("no coordinates", GOOD[:, :0], ValueError, r"\b0\b"),
    ("integers", np.arange(18).reshape(6, 3), TypeError, "int64"),
    ("integer tensor", torch.arange(18, dtype=torch.int32).reshape(6, 3), TypeError, "int32"),
    ("booleans", np.ones((6, 3), dtype=bool), TypeError, "bool"),
    ("complex", GOOD.astype(np.complex128), TypeError, "complex128"),
    ("text", "not an array", TypeError, "str"),
    ("none of these", object(), TypeError, "object"),
    ("four axes", np.ones((2, 2, 6, 3)), ValueError, r"\(2, 2, 6, 3\)"),
]
TABLE = [
    Bad(f"{function} {argument}: {name}", partial(call, value), error, (rf"\b{argument}\b", says))
    for function, argument, call in DATA
    for name, value, error, says in BAD_DATA
    if not (function == "pairwise_distances" and name == "four axes")  # any leading axes are welcome there
]

# Every function with a k, called on six points.
WITH_K: list[tuple[str, Callable[[Any], Any]]] = [
    ("knn", lambda k: mf.knn(GOOD, k)),
    ("knn_graph", lambda k: mf.knn_graph(GOOD, k)),
    ("ksg_mi", lambda k: mf.ksg_mi(GOOD, OTHER, k)),
    ("ksg_mi several", lambda k: mf.ksg_mi(GOOD, OTHER, (1, k))),
    ("ksg_mi_matrix", lambda k: mf.ksg_mi_matrix([GOOD, OTHER], k)),
    ("ksg_cmi", lambda k: mf.ksg_cmi(GOOD, OTHER, OTHER, k)),
    ("ksg_cmi several", lambda k: mf.ksg_cmi(GOOD, OTHER, OTHER, (1, k))),
    ("mixed_mi", lambda k: mf.mixed_mi(GOOD, OTHER, k)),
    ("knn_entropy", lambda k: mf.knn_entropy(GOOD, k)),
    ("knn_kl_divergence", lambda k: mf.knn_kl_divergence(GOOD, GOOD + 0.1, k)),
    ("mi_permutation_test", lambda k: mf.mi_permutation_test(GOOD, OTHER, k, 2)),
    ("mi_interval", lambda k: mf.mi_interval(GOOD, OTHER, k)),
    ("mi_matrix_interval", lambda k: mf.mi_matrix_interval([GOOD, OTHER], k)),
    ("neighborhood_overlap", lambda k: mf.neighborhood_overlap(GOOD, OTHER, k)),
    ("intrinsic_dimension", lambda k: mf.intrinsic_dimension(GOOD, "mle", k=k)),
]
for function, with_k in WITH_K:
    for k, error in ((0, ValueError), (-3, ValueError), (6, ValueError), (2.5, TypeError), ("3", TypeError)):
        TABLE.append(Bad(f"{function} k={k!r}", partial(with_k, k), error, (r"\bk\b", re.escape(str(k)))))
TABLE += [
    Bad("ross_mi k=0", lambda: mf.ross_mi(GOOD, LABELS, 0), ValueError, (r"\bk\b", "0")),
    Bad("ross_mi k=1.5", lambda: mf.ross_mi(GOOD, LABELS, ONE_AND_A_HALF), TypeError, (r"\bk\b", "1.5")),
    Bad("knn k > m", lambda: mf.knn(GOOD, 3, GOOD[:2]), ValueError, (r"\bk\b", "3", "2")),
    Bad("ksg_mi no k", lambda: mf.ksg_mi(GOOD, OTHER, ()), ValueError, (r"\bk\b",)),
]


def row(name: str, call: Callable[[], Any], *says: str, error: type[Exception] = ValueError) -> Bad:
    return Bad(name, call, error, says)


TABLE += [
    # shapes that do not fit together
    row("pairwise_distances d", lambda: mf.pairwise_distances(GOOD, OTHER), r"\by\b", "3", "2"),
    row("knn d", lambda: mf.knn(GOOD, 1, OTHER), "points", "3", "2"),
    row("radius_count d", lambda: mf.radius_count(GOOD, 1.0, OTHER), "points", "3", "2"),
    row("knn batches", lambda: mf.knn(np.ones((2, 4, 3)), 1, np.ones((3, 4, 3))), "points", "2", "3"),
    row("ksg_mi n", lambda: mf.ksg_mi(GOOD, OTHER[:5]), r"\by\b", "6", "5"),
    row("ksg_cmi y n", lambda: mf.ksg_cmi(GOOD, OTHER[:5], OTHER), r"\by\b", "6", "5"),
    row("ksg_cmi z n", lambda: mf.ksg_cmi(GOOD, OTHER, OTHER[:5]), r"\bz\b", "6", "5"),
    row("ksg_cmi z batch", lambda: mf.ksg_cmi(GOOD, OTHER, OTHER[None]), r"\bz\b", r"\(6,\)", r"\(1, 6\)"),
    row("mixed_mi n", lambda: mf.mixed_mi(GOOD, OTHER[:5]), r"\by\b", "6", "5"),
    row("mixed_mi batch", lambda: mf.mixed_mi(GOOD[None], OTHER[None]), r"\bx\b", r"\(1, 6, 3\)"),
    row("mixed_mi several k", lambda: mf.mixed_mi(GOOD, OTHER, SEVERAL_K), r"\bk\b", "integer", error=TypeError),
    row("entropy batch", lambda: mf.knn_entropy(GOOD[None]), r"\bx\b", r"\(1, 6, 3\)"),
    row("divergence d", lambda: mf.knn_kl_divergence(GOOD, OTHER), r"\by\b", "3", "2"),
    row("divergence batch", lambda: mf.knn_kl_divergence(GOOD, GOOD[None]), r"\by\b", r"\(1, 6, 3\)"),
    row("divergence k > m", lambda: mf.knn_kl_divergence(GOOD, GOOD[:3] + 0.1), r"\bk\b", "m = 3", "5"),
    row("ksg_mi_matrix n", lambda: mf.ksg_mi_matrix([GOOD, OTHER[:5]]), "layers", "6", "5"),
    row("ksg_mi_matrix none", lambda: mf.ksg_mi_matrix([]), "layers"),
    row("mi_permutation_test n", lambda: mf.mi_permutation_test(GOOD, OTHER[:5]), r"\by\b", "6", "5"),
    row("neighborhood_overlap n", lambda: mf.neighborhood_overlap(GOOD, OTHER[:5], 1), r"\by\b", "6", "5"),
    row("distance_correlation n", lambda: mf.distance_correlation(GOOD, OTHER[:5]), r"\by\b", "6", "5"),
    row("cka n", lambda: mf.cka(GOOD, OTHER[:5]), r"\by\b", "6", "5"),
    row("ross_mi n", lambda: mf.ross_mi(GOOD, LABELS[:5], 1), "labels", "6", "5"),
    row("stress n", lambda: mf.stress(GOOD, OTHER[:5]), r"\by\b", "6", "5"),
    row("stress one row", lambda: mf.stress(GOOD[:1], OTHER[:1]), r"\bx\b", "2", "1"),
    row("stress nothing to divide by", lambda: mf.stress(GOOD * 0 + 0.1, OTHER, normalized=True), r"\bx\b", "equal"),
    row("stress overflow", lambda: mf.stress(GOOD * 1e200, OTHER), "overflow"),
    row("gaussian_kernel_sums d", lambda: mf.gaussian_kernel_sums(GOOD, OTHER, 1.0), r"\by\b", "3", "2"),
    row("gaussian_kernel_sums overflow", lambda: mf.gaussian_kernel_sums(GOOD * 1e200, None, 1.0), "overflow"),
    row("mmd one row", lambda: mf.mmd(GOOD, GOOD[:1], 1.0), r"\by\b", "2", "1"),
    row("mmd no y", lambda: mf.mmd(GOOD, None, 1.0), r"\by\b", "NoneType", error=TypeError),
    row("histogram d", lambda: mf.distance_histogram(GOOD, [0, 1], points=OTHER), "points", "3", "2"),
    row("histogram overflow", lambda: mf.distance_histogram(GOOD * 1e200, [0, 1]), "overflow"),
    # labels and windows
    row("histogram groups n", lambda: mf.distance_histogram(GOOD, [0, 1], groups=LABELS[:5]), "groups", "6", "5"),
    row("histogram both", lambda: mf.distance_histogram(GOOD, [0, 1], points=GOOD, groups=LABELS), "groups", "points"),
    row("integral window", lambda: mf.correlation_integral(GOOD, 1.0, window=-1), "window", "-1"),
    row("integral no pair", lambda: mf.correlation_integral(GOOD, 1.0, window=5), "window", "5"),
    row("integral one group", lambda: mf.correlation_integral(GOOD, 1.0, groups=LABELS * 0), "groups", "none"),
    row("knn groups n", lambda: mf.knn(GOOD, 1, groups=LABELS[:5]), "groups", "6", "5"),
    row("radius_count groups n", lambda: mf.radius_count(GOOD, 1.0, groups=LABELS[:5]), "groups", "6", "5"),
    row("ksg_mi groups n", lambda: mf.ksg_mi(GOOD, OTHER, 1, groups=LABELS[:5]), "groups", "6", "5"),
    row("ksg_cmi groups n", lambda: mf.ksg_cmi(GOOD, OTHER, OTHER, 1, groups=LABELS[:5]), "groups", "6", "5"),
    row("ksg_cmi short row", lambda: mf.ksg_cmi(GOOD, OTHER, OTHER, 3, groups=LABELS // 2), r"\bk\b", "3", "2"),
    row("mixed_mi short row", lambda: mf.mixed_mi(GOOD, OTHER, 3, window=3), r"\bk\b", "3"),
    row("entropy short row", lambda: mf.knn_entropy(GOOD, 3, groups=LABELS // 2), r"\bk\b", "3", "2"),
    row("divergence short row", lambda: mf.knn_kl_divergence(GOOD, GOOD + 0.1, 3, window=3), r"\bk\b", "3"),
    row("entropy window", lambda: mf.knn_entropy(GOOD, 1, window=-1), "window", "-1"),
    row("entropy groups float", lambda: mf.knn_entropy(GOOD, 1, groups=HALVES), "groups", error=TypeError),
    row("knn groups float", lambda: mf.knn(GOOD, 1, groups=HALVES), "groups", "float64", error=TypeError),
    row("ross_mi labels float", lambda: mf.ross_mi(GOOD, HALVES, 1), "labels", "float64", error=TypeError),
    row("knn one label array", lambda: mf.knn(GOOD, 1, GOOD, groups=LABELS), "point_groups"),
    row("knn the other alone", lambda: mf.knn(GOOD, 1, GOOD, point_groups=LABELS), "groups"),
    row("radius_count one side", lambda: mf.radius_count(GOOD, 1.0, GOOD, groups=LABELS), "point_groups"),
    row("point_groups n", lambda: mf.knn(GOOD, 1, GOOD, groups=LABELS, point_groups=LABELS[:5]), "point_groups"),
    row("knn window", lambda: mf.knn(GOOD, 1, window=-1), "window", "-1"),
    row("knn window apart", lambda: mf.knn(GOOD, 1, GOOD, window=2), "window", "2"),
    row("knn window float", lambda: mf.knn(GOOD, 1, window=ONE_AND_A_HALF), "window", "1.5", error=TypeError),
    row("ksg_mi window", lambda: mf.ksg_mi(GOOD, OTHER, 1, window=-1), "window", "-1"),
    row("ksg_mi short row", lambda: mf.ksg_mi(GOOD, OTHER, 3, groups=LABELS // 2), r"\bk\b", "3", "2"),
    row("ksg_mi_matrix short row", lambda: mf.ksg_mi_matrix([GOOD, OTHER], 3, window=3), r"\bk\b", "3"),
    row("exchange lengths", lambda: mf.mi_permutation_test(GOOD, OTHER, exchange=UNEQUAL), "exchange", "equal"),
    row("exchange n", lambda: mf.mi_permutation_test(GOOD, OTHER, exchange=LABELS[:5]), "exchange", "6", "5"),
    row("within n", lambda: mf.mi_permutation_test(GOOD, OTHER, within=LABELS[:5]), "within", "6", "5"),
    row("within float", lambda: mf.mi_permutation_test(GOOD, OTHER, within=HALVES), "within", error=TypeError),
    row("no permutations", lambda: mf.mi_permutation_test(GOOD, OTHER, 3, 0), "n_permutations", "0"),
    # names that do not exist
    row("pairwise metric", lambda: mf.pairwise_distances(GOOD, metric="euclid"), "metric", "euclid'"),
    row("knn metric", lambda: mf.knn(GOOD, 1, metric="euclid"), "metric", "euclid'", "chebyshev"),
    row("radius_count metric", lambda: mf.radius_count(GOOD, 1.0, metric="euclid"), "metric", "euclid'"),
    row("ksg_mi metric", lambda: mf.ksg_mi(GOOD, OTHER, metric="cosine"), "metric", "cosine"),
    row("ksg_cmi metric", lambda: mf.ksg_cmi(GOOD, OTHER, OTHER, metric="cosine"), "metric", "cosine", "euclidean"),
    row("mixed_mi metric", lambda: mf.mixed_mi(GOOD, OTHER, metric="cosine"), "metric", "cosine"),
    row("entropy metric", lambda: mf.knn_entropy(GOOD, metric="manhattan"), "metric", "manhattan"),
    row("divergence metric", lambda: mf.knn_kl_divergence(GOOD, GOOD, metric="cosine"), "metric", "cosine"),
    row("ksg_cmi backend", lambda: mf.ksg_cmi(GOOD, OTHER, OTHER, backend="tpu"), "backend", "tpu"),
    row("mixed_mi backend", lambda: mf.mixed_mi(GOOD, OTHER, backend="tpu"), "backend", "tpu"),
    row("entropy backend", lambda: mf.knn_entropy(GOOD, backend="tpu"), "backend", "tpu"),
    row("divergence backend", lambda: mf.knn_kl_divergence(GOOD, OTHER, backend="tpu"), "backend", "tpu"),
    row("ksg_mi method", lambda: mf.ksg_mi(GOOD, OTHER, method="ksg3"), "method", "ksg3", "ksg1"),
    row("ksg_mi_matrix method", lambda: mf.ksg_mi_matrix([GOOD], method="ksg3"), "method", "ksg3"),
    row("test method", lambda: mf.mi_permutation_test(GOOD, OTHER, method="ksg3"), "method", "ksg3"),
    row("dimension method", lambda: mf.intrinsic_dimension(GOOD, "pca"), "method", "pca", "twonn"),
    row("cka kernel", lambda: mf.cka(GOOD, OTHER, "poly"), "kernel", "poly", "linear"),
    row("symmetrize", lambda: mf.knn_graph(GOOD, 1, symmetrize="both"), "symmetrize", "both", "mutual"),
    row("knn precision", lambda: mf.knn(GOOD, 1, precision="medium"), "precision", "medium", "exact"),
    row("knn backend", lambda: mf.knn(GOOD, 1, backend="tpu"), "backend", "tpu", "torch"),
    row("pairwise backend", lambda: mf.pairwise_distances(GOOD, backend="tpu"), "backend", "tpu"),
    row("ksg_mi backend", lambda: mf.ksg_mi(GOOD, OTHER, backend="tpu"), "backend", "tpu"),
    row("use_backend", lambda: mf.use_backend("tpu").__enter__(), "tpu", "torch"),
    row("histogram metric", lambda: mf.distance_histogram(GOOD, [0, 1], metric="kl"), "metric", "kl'", "cosine"),
    row("stress backend", lambda: mf.stress(GOOD, OTHER, backend="tpu"), "backend", "tpu"),
    # numbers out of range
    row("edges down", lambda: mf.distance_histogram(GOOD, [0.0, 2.0, 1.0]), "edges", "ascending"),
    row("edges one", lambda: mf.distance_histogram(GOOD, [1.0]), "edges", "2"),
    row("edges none", lambda: mf.distance_histogram(GOOD, []), "edges", r"\(0,\)"),
    row("edges nan", lambda: mf.distance_histogram(GOOD, [0.0, np.nan]), "edges", "nan|NaN"),
    row("edges text", lambda: mf.distance_histogram(GOOD, "auto"), "edges", "auto", error=TypeError),
    row("edges of text", lambda: mf.distance_histogram(GOOD, [0.0, "1"]), r"edges\[1\]", error=TypeError),
    row("radii flat", lambda: mf.correlation_integral(GOOD, np.ones((2, 2))), "radii", r"\(2, 2\)"),
    row("radii inf", lambda: mf.correlation_integral(GOOD, np.inf), "radii", "inf"),
    row("bandwidth 0", lambda: mf.mmd(GOOD, GOOD, 0.0), "bandwidth", "positive"),
    row("bandwidth negative", lambda: mf.gaussian_kernel_sums(GOOD, None, [1.0, -2.0]), "bandwidth", "-2"),
    row("bandwidth tiny", lambda: mf.gaussian_kernel_sums(GOOD, None, 1e-200), "bandwidth", "1e-200"),
    row("bandwidth none", lambda: mf.gaussian_kernel_sums(GOOD), "bandwidth", "None", error=TypeError),
    row("bandwidth complex", lambda: mf.mmd(GOOD, GOOD, np.ones(2) * 1j), "bandwidth", "complex", error=TypeError),
    row("radius negative", lambda: mf.radius_count(GOOD, -1.0), "radius", "-1"),
    row("radius nan", lambda: mf.radius_count(GOOD, np.nan), "radius", "nan|NaN"),
    row("radius nan products", lambda: mf.radius_count(GOOD, np.nan, metric="inner_product"), "radius", "nan|NaN"),
    row("radius one negative", lambda: mf.radius_count(GOOD, 1.0 - HALVES * 3), "radius", "-2|-0.5"),
    row("radius n", lambda: mf.radius_count(GOOD, np.ones(5)), "radius", "6", "5"),
    row("radius text", lambda: mf.radius_count(GOOD, "far"), "radius", "str|far", error=TypeError),
    row("radius_graph negative", lambda: mf.radius_graph(GOOD, -1.0), "radius", "-1"),
    row("minkowski p=0", lambda: mf.knn(GOOD, 1, metric="minkowski", p=0.0), r"\bp\b", "0"),
    row("p<0", lambda: mf.pairwise_distances(GOOD, metric="minkowski", p=-1.0), r"\bp\b", "-1"),
    row("minkowski p nan", lambda: mf.knn(GOOD, 1, metric="minkowski", p=np.nan), r"\bp\b", "nan"),
    row("noise", lambda: mf.ksg_mi(GOOD, OTHER, noise=-1e-3), "noise", "-0.001"),
    row("fraction 0", lambda: mf.intrinsic_dimension(GOOD, fraction=0.0), "fraction", "0"),
    row("fraction 1.5", lambda: mf.intrinsic_dimension(GOOD, fraction=1.5), "fraction", "1.5"),
    # values a metric or an estimator cannot take
    row("ksg_cmi overflow", lambda: mf.ksg_cmi(GOOD, OTHER, OTHER * 1e200, metric="euclidean"), "overflow"),
    row("mixed_mi overflow", lambda: mf.mixed_mi(GOOD * 1e200, OTHER, metric="euclidean"), "overflow"),
    row("entropy overflow", lambda: mf.knn_entropy(GOOD * 1e200, metric="euclidean"), "overflow"),
    row("entropy repeats", lambda: mf.knn_entropy(np.repeat(GOOD[:3], 2, 0), 1), r"\bx\b", "6 of 6", "k = 1"),
    row("divergence repeats", lambda: mf.knn_kl_divergence(GOOD[[0] * 6], OTHER[:, [0] * 3], 5), r"\bx\b", "6 of 6"),
    row("divergence shared", lambda: mf.knn_kl_divergence(GOOD, GOOD[2:4], 1), r"\by\b", "2 of 6", "independent"),
    row("no tensor", lambda: mf.knn(GOOD, 1, metric="mahalanobis"), "metric_tensor"),
    row("tensor d", lambda: mf.knn(GOOD, 1, metric="mahalanobis", metric_tensor=np.eye(2)), "metric_tensor", "2"),
    row(
        "tensor indefinite",
        lambda: mf.knn(GOOD, 1, metric="mahalanobis", metric_tensor=np.diag([1.0, 1.0, -1.0])),
        "metric_tensor", "definite",
    ),
    row(
        "tensor nan",
        lambda: mf.pairwise_distances(GOOD, metric="mahalanobis", metric_tensor=np.full((3, 3), np.nan)),
        "metric_tensor", "nan|NaN|finite",
    ),
]  # fmt: skip
METRIC_CALLS: list[tuple[str, str, Callable[..., Any]]] = [
    ("pairwise_distances", "x", lambda x, metric: mf.pairwise_distances(x, metric=metric)),
    ("knn", "queries", lambda x, metric: mf.knn(x, 2, metric=metric)),
    ("radius_count", "queries", lambda x, metric: mf.radius_count(x, 1.0, metric=metric)),
]
BAD_VALUES: list[tuple[str, np.ndarray, str]] = [
    *(
        ("hellinger fisher_rao jensen_shannon kl", changed(v, PROBABILITIES), "probabilit|sum|negative")
        for v in (-0.1, 0.9)
    ),
    ("cosine", np.vstack([GOOD, np.zeros((1, 3))]), "zero"),
    ("correlation", np.vstack([GOOD, np.full((1, 3), 7.0)]), "zero|constant"),
    ("cosine", np.vstack([GOOD, np.full((1, 3), 1e-200)]), "zero|underflow"),
    ("euclidean sqeuclidean inner_product cosine", GOOD * 1e200, "overflow|finite"),
]
for function, argument, metric_call in METRIC_CALLS:
    for metrics, values, says in BAD_VALUES:
        for metric in metrics.split():
            TABLE.append(
                Bad(
                    f"{function} {metric} {says} {values[-1, -1]:.2g} {values[2, 1]:.2g}",
                    partial(metric_call, values, metric),
                    ValueError,
                    (rf"\b{argument}\b|{metric}", says),
                )
            )


@pytest.mark.parametrize("bad", TABLE, ids=[bad.name for bad in TABLE])
def test_bad_input(bad: Bad) -> None:
    messages = set()
    for backend in available_backends():
        with pytest.raises(bad.error) as caught, mf.use_backend(backend):
            bad.call()
        assert caught.type is bad.error, f"{caught.type.__name__} is a kind of {bad.error.__name__}"
        messages.add(str(caught.value))
    assert len(messages) == 1, messages
    message = messages.pop()
    for pattern in bad.says:
        assert re.search(pattern, message), f"nothing like {pattern!r} in {message!r}"


@pytest.mark.parametrize("name", ["native", "triton", "cuda", "torch"])
def test_an_unavailable_backend_fails_loudly_with_its_reason(name: str) -> None:
    entry = next(entry for entry in mf.backends() if entry.name == name)
    if entry.available:
        pytest.skip(f"{name} is available here")
    assert entry.reason
    for call in (lambda: mf.knn(GOOD, 1, backend=name), lambda: mf.pairwise_distances(GOOD, backend=name)):
        with pytest.raises((ValueError, NotImplementedError, RuntimeError), match=name) as caught:
            call()
        assert entry.reason in str(caught.value)


def test_numbers_that_are_integers_in_other_clothes_are_fine() -> None:
    wanted = mf.knn(GOOD, 2).indices
    several: list[Any] = [np.int64(2), np.int32(2), torch.tensor(2).item()]
    for k in several:
        assert np.array_equal(mf.knn(GOOD, k).indices, wanted)
    assert np.array_equal(mf.radius_count(GOOD, 2), mf.radius_count(GOOD, np.float32(2)))


def test_no_input_check_is_an_assert() -> None:
    """python -O drops assert statements; the engine's sources hold none."""
    import ast
    from pathlib import Path

    for path in Path(mf.__file__).parent.rglob("*.py"):
        found = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
        assert not found, f"{path}: assert in line {found}"
