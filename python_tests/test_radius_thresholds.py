"""The key up to which distances are inside a radius, against the definition: that key is inside, the next one is not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracles
import pytest
import torch

import msma_fast as mf
from msma_fast.backends import native, native_search
from msma_fast.backends.torch import exact
from msma_fast.backends.torch.radius_count import key_threshold

DTYPES = [torch.float32, torch.float64]
ROOTED = ["euclidean", "mahalanobis", "jensen_shannon", "hellinger"]
PLAIN = ["sqeuclidean", "manhattan", "chebyshev", "cosine", "kl", "inner_product"]


def radii(dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Of all sizes, the ends of the range among them."""
    rng = np.random.default_rng(seed)
    info = torch.finfo(dtype)
    ends = [0.0, -0.0, info.tiny, info.tiny / 2, info.smallest_normal * info.eps, info.max, math.inf]
    some = [1.0, 2.0, 0.5, math.pi, 1e-30, 1e19, *(10.0 ** rng.uniform(-40, 38, 300)), *rng.uniform(0, 4, 300)]
    return torch.tensor([*ends, *some], dtype=torch.float64).to(dtype)


def check(threshold: torch.Tensor, radius: torch.Tensor, metric: str, closed: bool) -> None:
    """By numpy alone; its roots are correctly rounded."""
    wanted = radius.numpy()

    def inside(keys: Any) -> Any:
        with np.errstate(invalid="ignore", over="ignore"):
            distances = oracles.to_distance(keys, metric).astype(wanted.dtype)
        return distances <= wanted if closed else distances < wanted

    found = threshold.numpy()
    some = ~np.isneginf(found)
    assert inside(found)[some].all()
    lowest = -np.finfo(np.float64).max if metric == "inner_product" else 0.0
    with np.errstate(over="ignore"):
        beyond = np.where(some, np.nextafter(found, np.inf), lowest)
    assert not inside(beyond)[np.isfinite(beyond)].any()
    if metric != "inner_product":
        assert not (some & (found < 0.0)).any()


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", ROOTED + PLAIN)
def test_a_threshold_is_the_last_key_inside(metric: str, dtype: torch.dtype, closed: bool) -> None:
    radius = radii(dtype)
    if metric == "inner_product":
        radius = torch.cat([radius, -radius])
    roots = [exact.sqrt] + ([native_search.root] if native.available()[0] else [])
    for root in roots:
        check(key_threshold(radius, metric, 2.0, closed, root), radius, metric, closed)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(("metric", "p"), [("euclidean", 2.0), ("inner_product", 2.0), ("minkowski", 5.0)])
def test_equal_radii_have_the_threshold_of_each(metric: str, p: float, closed: bool) -> None:
    radius = radii(torch.float32)
    for one, alone in zip(radius[:40], key_threshold(radius, metric, p, closed)[:40], strict=True):
        same = key_threshold(one.expand(70).contiguous(), metric, p, closed)
        assert same.shape == (70,)
        assert bool((same == alone).all())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [3, 9, 20])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "manhattan", "chebyshev", "minkowski", "hellinger"])
def test_one_radius_at_a_distance_that_occurs(metric: str, d: int, dtype: Any, backend: str) -> None:
    """For all rows and, a little apart, one a row; with duplicates, labels and windows."""
    p = 1.0 if metric == "minkowski" else 2.0
    x = np.abs(np.random.default_rng(d).standard_normal((230, d))).astype(dtype)
    x[100:120] = x[:20]
    if metric == "hellinger":
        x /= x.sum(1, keepdims=True)
    distances = oracles.to_distance(oracles.canonical_keys(x, x, metric, p), metric, p).astype(dtype)
    for rules in ({}, {"groups": np.arange(230) // 12}, {"window": 9}):
        allowed = oracles.admissible(230, **rules)
        for radius in (*np.quantile(distances, [0.02, 0.4, 0.99], method="lower"), dtype(0.0)):
            mixed = np.where(np.arange(230) % 3, radius, np.nextafter(radius, dtype(9.0)))
            for closed in (False, True):
                for asked in (radius, mixed):
                    found = mf.radius_count(x, asked, metric=metric, p=p, closed=closed, backend=backend, **rules)
                    wanted = oracles.radius_counts(distances, asked, allowed, closed)
                    np.testing.assert_array_equal(found, wanted)
