"""The references against each other, scipy, scikit-learn, and values known in closed form."""

from __future__ import annotations

import ast
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import information_oracles
import numpy as np
import oracles
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import digamma
from strategies import KINDS, cloud, probabilities

HERE = Path(__file__).parent
SCIPY_NAMES = {"manhattan": "cityblock", "jensen_shannon": "jensenshannon"}


def sample(metric: str, n: int = 11, d: int = 13, seed: int = 0) -> np.ndarray:
    return probabilities(n, d, seed) if metric in oracles.PROBABILITY_METRICS else cloud("normal", n, d, seed)


def spd(d: int, seed: int = 5) -> np.ndarray:
    a = np.random.default_rng(seed).standard_normal((d, d))
    return a @ a.T + np.eye(d) + np.triu(a, 1) * 0.1  # not symmetric: only its symmetric part counts


def options(metric: str, d: int) -> dict[str, Any]:
    return {"p": 3.0, "metric_tensor": spd(d) if metric == "mahalanobis" else None}


def test_the_oracles_import_nothing_of_the_package() -> None:
    allowed = {"__future__", "math", "collections", "typing", "dataclasses", "numpy", "scipy", "oracles"}
    for name in ("oracles.py", "information_oracles.py", "compare.py"):
        tree = ast.parse((HERE / name).read_text())
        found = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {module.split(".")[0] for module in found} <= allowed


@pytest.mark.parametrize("metric", oracles.METRICS)
@pytest.mark.parametrize("d", [2, 7, 8, 13, 29])
def test_canonical_and_plain_keys_agree_within_the_band(metric: str, d: int) -> None:
    x, y = sample(metric, 11, d, 1), sample(metric, 9, d, 2)
    y[0] = x[0]
    ours = oracles.canonical_keys(x, y, metric, **options(metric, d))
    plain = oracles.plain_keys(x, y, metric, **options(metric, d))
    band = oracles.key_band(x, y, metric, **options(metric, d))
    infinite = np.isinf(plain)
    assert np.array_equal(infinite, np.isinf(ours))
    assert np.all(np.abs(ours[~infinite] - plain[~infinite]) <= band[~infinite])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "huge_coordinate"])
@pytest.mark.parametrize("metric", ["sqeuclidean", "manhattan", "chebyshev", "inner_product"])
def test_plain_keys_agree_with_rational_arithmetic(metric: str, kind: str) -> None:
    x = cloud(kind, 6, 5, 4)
    exact = np.empty((6, 6))
    for i in range(6):
        for j in range(6):
            pairs = [(Fraction(a), Fraction(b)) for a, b in zip(x[i].tolist(), x[j].tolist(), strict=True)]
            terms = [a * b if metric == "inner_product" else abs(a - b) for a, b in pairs]
            total = max(terms) if metric == "chebyshev" else sum(t * t if metric == "sqeuclidean" else t for t in terms)
            exact[i, j] = float(-total if metric == "inner_product" else total)
    slack = oracles.key_band(x, x, metric)
    assert np.all(np.abs(oracles.plain_keys(x, x, metric) - exact) <= slack)
    assert np.all(np.abs(oracles.canonical_keys(x, x, metric) - exact) <= slack)


@pytest.mark.parametrize("metric", [m for m in oracles.METRICS if m not in ("hellinger", "fisher_rao", "kl")])
def test_distances_agree_with_scipy(metric: str) -> None:
    x, y = sample(metric, 11, 13, 1), sample(metric, 9, 13, 2)
    ours = oracles.to_distance(oracles.canonical_keys(x, y, metric, **options(metric, 13)), metric, 3.0)
    if metric == "inner_product":
        theirs = -(x @ y.T)
    elif metric == "mahalanobis":
        theirs = cdist(x, y, metric, VI=(spd(13) + spd(13).T) / 2)
    else:
        theirs = cdist(x, y, SCIPY_NAMES.get(metric, metric), **({"p": 3.0} if metric == "minkowski" else {}))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_probability_metrics_have_their_known_values() -> None:
    p, q = np.array([[0.5, 0.3, 0.2]]), np.array([[0.2, 0.3, 0.5]])
    value = {m: oracles.to_distance(oracles.canonical_keys(p, q, m), m).item() for m in oracles.PROBABILITY_METRICS}
    affinity = float(np.sqrt(p * q).sum())
    assert value["fisher_rao"] == pytest.approx(0.739291, abs=1e-6)
    assert value["fisher_rao"] == pytest.approx(2 * math.acos(affinity), rel=1e-14)
    assert value["hellinger"] == pytest.approx(math.sqrt(1 - affinity), rel=1e-14)
    assert value["kl"] == pytest.approx(0.3 * math.log(2.5), rel=1e-14)
    zero = np.array([[0.0, 0.5, 0.5]])
    assert oracles.canonical_keys(p, zero, "kl").item() == math.inf
    assert oracles.canonical_keys(zero, p, "kl").item() < math.inf


def test_the_lane_order_is_the_documented_one_and_matters() -> None:
    draw = np.random.default_rng(0)
    terms = draw.standard_normal(1001) * 10.0 ** draw.integers(-8, 8, 1001)
    lanes = [0.0] * 8
    for j, term in enumerate(terms.tolist()):
        lanes[j % 8] += term
    a, b, c, d, e, f, g, h = lanes
    expected = ((a + e) + (c + g)) + ((b + f) + (d + h))
    assert oracles.lane_sum(iter(terms), ()) == expected
    assert expected != sum(terms.tolist())
    assert expected == pytest.approx(math.fsum(terms), rel=1e-10)


def test_equal_rows_have_cosine_zero_although_rounding_says_otherwise() -> None:
    x = cloud("normal", 200, 7, 0)
    keys = oracles.canonical_keys(x, x, "cosine")
    assert np.all(np.diag(keys) == 0)
    norms = np.sqrt((x * x).sum(1))
    assert np.any(1 - (x * x).sum(1) / (norms * norms) != 0)


def test_nearest_orders_by_key_then_index_and_pads() -> None:
    keys = np.array([[0.0, 2.0, 1.0, 1.0, np.inf], [5.0, 0.0, 5.0, 5.0, 5.0]])
    allowed = np.array([[False, True, True, True, True], [True, False, False, True, False]])
    found = oracles.nearest(keys, allowed, 4)
    assert found.indices.tolist() == [[2, 3, 1, 4], [0, 3, -1, -1]]
    assert found.valid.tolist() == [[True] * 4, [True, True, False, False]]
    assert found.keys[1].tolist() == [5.0, 5.0, np.inf, np.inf]


def test_admissible_combines_self_window_and_groups() -> None:
    allowed = oracles.admissible(5, groups=[0, 1, 0, 1, 1], window=1)
    assert np.argwhere(allowed).tolist() == [[0, 3], [0, 4], [2, 4], [3, 0], [4, 0], [4, 2]]
    assert oracles.admissible(2, 3, groups=[0, 1], point_groups=[1, 0, 2]).tolist() == [[1, 0, 1], [0, 1, 1]]
    assert oracles.admissible(2, 2).all()


def test_radius_counts_distinguish_open_and_closed() -> None:
    distances = np.array([[0.0, 1.0, 2.0, 2.0]], dtype=np.float32)
    allowed = np.array([[False, True, True, True]])
    assert oracles.radius_counts(distances, 2, allowed, closed=False).tolist() == [1]
    assert oracles.radius_counts(distances, 2, allowed, closed=True).tolist() == [3]
    assert oracles.radius_counts(distances, 1 + 1e-12, allowed, closed=True).tolist() == [1]


def _ksg_by_trees(x: np.ndarray, y: np.ndarray, k: int, method: str) -> float:
    """KSG with chebyshev marginals by scipy's k-d tree, for samples without ties."""
    n, joint = len(x), cKDTree(np.hstack([x, y]))
    distances, indices = joint.query(np.hstack([x, y]), k + 1, p=np.inf)
    if method == "ksg1":
        radius = np.nextafter(distances[:, -1], 0)
        counts = [cKDTree(z).query_ball_point(z, radius, p=np.inf, return_length=True) - 1 for z in (x, y)]
        return float(digamma(k) + digamma(n) - np.mean(digamma(counts[0] + 1) + digamma(counts[1] + 1)))
    value = digamma(k) - 1 / k + digamma(n)
    for z in (x, y):
        radius = np.abs(z[indices[:, 1:]] - z[:, None]).max(-1).max(-1)
        counts = cKDTree(z).query_ball_point(z, np.nextafter(radius, np.inf), p=np.inf, return_length=True) - 1
        value -= np.mean(digamma(counts))
    return float(value)


@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
@pytest.mark.parametrize("k", [1, 3, 7])
def test_ksg_agrees_with_a_tree(method: str, k: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((211, 2))
    y = x[:, :1] + 0.5 * rng.standard_normal((211, 1))
    assert information_oracles.ksg_mi(x, y, k, method).mi == pytest.approx(_ksg_by_trees(x, y, k, method), abs=1e-12)


def test_ksg_of_a_variable_with_itself_is_the_ceiling(rng: np.random.Generator) -> None:
    x = rng.standard_normal((97, 3))
    result = information_oracles.ksg_mi(x, x, 4)
    assert result.mi == pytest.approx(digamma(97) - digamma(4), abs=1e-13)
    assert result.mi == pytest.approx(result.ceiling, abs=1e-13)


def _inside(z: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Rows strictly nearer than radius (n,), the row itself included, by a tree; chebyshev."""
    return cKDTree(z).query_ball_point(z, np.nextafter(radius, 0), p=np.inf, return_length=True)


@pytest.mark.parametrize("k", [1, 4])
def test_conditional_information_agrees_with_trees(k: int, rng: np.random.Generator) -> None:
    x, y, z = (rng.standard_normal((150, d)) for d in (2, 1, 3))
    y[:, 0] += x[:, 0] + z[:, 0]
    joint = np.hstack([x, y, z])
    radius = cKDTree(joint).query(joint, k + 1, p=np.inf)[0][:, -1]
    n_xz, n_yz, n_z = (_inside(s, radius) for s in (np.hstack([x, z]), np.hstack([y, z]), z))
    wanted = digamma(k) - (digamma(n_xz) + digamma(n_yz) - digamma(n_z)).mean()
    assert information_oracles.ksg_cmi(x, y, z, k) == pytest.approx(wanted, abs=1e-12)


def test_mixed_information_agrees_with_trees(rng: np.random.Generator) -> None:
    """Where the k-th distance is zero everything within 1e-15 counts, as in the program of Gao et al.; their margin of
    1e-15 below other radii is one rounding here."""
    x = np.where(rng.random(200) < 0.5, rng.integers(0, 2, 200), rng.standard_normal(200))[:, None]
    y = np.where(rng.random((200, 1)) < 0.5, np.round(x), x + rng.standard_normal((200, 1)))
    joint = np.hstack([x, y])
    radius = cKDTree(joint).query(joint, 4, p=np.inf)[0][:, -1]
    reach = np.where(radius == 0, 1e-15, np.nextafter(radius, 0))
    assert 0 < (radius == 0).sum() < 200
    m_xy, m_x, m_y = (cKDTree(s).query_ball_point(s, reach, p=np.inf, return_length=True) for s in (joint, x, y))
    total = digamma(np.where(radius == 0, m_xy, 3)) + np.log(200) - digamma(m_x) - digamma(m_y)
    assert information_oracles.mixed_mi(x, y, 3) == pytest.approx(total.mean(), abs=1e-12)


@pytest.mark.parametrize(("metric", "p", "unit"), [("chebyshev", np.inf, 8.0), ("euclidean", 2, 4 / 3 * math.pi)])
def test_entropy_and_divergence_agree_with_trees(metric: str, p: float, unit: float, rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((120, 3)), rng.standard_normal((90, 3)) + 1
    radius, reach = cKDTree(x).query(x, 5, p=p)[0][:, -1], cKDTree(y).query(x, 4, p=p)[0][:, -1]
    wanted = digamma(120) - digamma(4) + np.log(unit * radius**3).mean()
    assert information_oracles.knn_entropy(x, 4, metric) == pytest.approx(wanted, abs=1e-12)
    density_x, density_y = 4 / (119 * unit * radius**3), 4 / (90 * unit * reach**3)
    wanted = np.log(density_x / density_y).mean()
    assert information_oracles.knn_kl_divergence(x, y, 4, metric) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("rare", [False, True])
def test_label_information_agrees_with_scikit_learn(rare: bool, rng: np.random.Generator) -> None:
    from sklearn.feature_selection import mutual_info_classif

    labels = np.array([0] * 60 + [1] * 40 + [2] * 3 + [3] * 2 + [4, 5]) if rare else rng.integers(0, 3, 150)
    x = rng.standard_normal(len(labels)) + labels
    scaled = x / x.std()  # it divides by the deviation itself; the estimator does not care
    theirs = mutual_info_classif(scaled[:, None], labels, discrete_features=False, n_neighbors=4, random_state=0)
    # Its radius sits one rounding away from the k-th neighbour, which a few of its counts miss.
    assert information_oracles.ross_mi(x, labels, 4, "chebyshev") == pytest.approx(theirs[0], abs=0.005)


def test_dimensions_of_uniform_cubes(rng: np.random.Generator) -> None:
    for d in (1, 2, 5):
        x = rng.random((1000, d))
        assert oracles.twonn(x) == pytest.approx(d, rel=0.12)
        assert oracles.mle_dimension(x, 10) == pytest.approx(d, rel=0.15)
    embedded = np.hstack([x, x[:, :3] * 0])
    assert oracles.twonn(embedded) == pytest.approx(oracles.twonn(x), rel=1e-12)


def test_distance_correlation_by_four_loops(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((12, 2)), rng.standard_normal((12, 3))
    y[:, 0] += x[:, 0]

    def v_statistic(u: np.ndarray, v: np.ndarray) -> float:
        a, b, n = cdist(u, u), cdist(v, v), range(len(u))
        first = np.mean([a[i, j] * b[i, j] for i in n for j in n])
        third = np.mean([a[i, j] * b[i, m] for i in n for j in n for m in n])
        return float(first + a.mean() * b.mean() - 2 * third)

    direct = math.sqrt(v_statistic(x, y) / math.sqrt(v_statistic(x, x) * v_statistic(y, y)))
    assert oracles.distance_correlation(x, y) == pytest.approx(direct, rel=1e-10)
    assert oracles.distance_correlation(x, 3 * x + 1) == pytest.approx(1, rel=1e-12)


def test_linear_cka_is_the_feature_formula(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 6))
    a, b = x - x.mean(0), y - y.mean(0)
    direct = np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert oracles.linear_cka(x, y) == pytest.approx(direct, rel=1e-12)


def test_overlap_of_equal_and_unrelated_clouds(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((60, 3)), rng.standard_normal((60, 3))
    assert oracles.neighborhood_overlap(x, 2 * x, 5) == 1
    assert oracles.neighborhood_overlap(x, y, 59) == 1
    assert oracles.neighborhood_overlap(x, y, 5) == pytest.approx(5 / 59, abs=0.06)
