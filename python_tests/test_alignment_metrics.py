"""What maps between scales are measured by, on planted data: the sound metrics and the published ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import msma_fast as mf
from msma_fast.msma import published_metrics, sound_metrics


def test_a_map_that_loses_a_direction_loses_its_information() -> None:
    """Two coordinates of 0.67 nats each, and a map of rank one."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2000, 2)) * [1.0, 0.1]
    y = 0.8 * x + 0.6 * rng.standard_normal((2000, 2)) * [1.0, 0.1]
    held = sound_metrics.Held(torch.from_numpy(y), sound_metrics.Space(torch.eye(2, dtype=torch.float64), 1.0), None)
    one = torch.from_numpy(x) @ torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    whole, lost, none = (sound_metrics.information(z, held) for z in (torch.from_numpy(x), one, 0.0 * one))
    assert lost < whole - 0.05
    assert none == pytest.approx(0.0, abs=1e-9)


def test_a_map_that_bends_what_is_known_into_view_adds_nothing() -> None:
    """Of t = |z| + noise the image |z| shows more than z itself, and what it shows is the source's too."""
    rng = np.random.default_rng(6)
    z = torch.from_numpy(rng.standard_normal((2000, 2)))
    t = z.abs() + 0.3 * torch.from_numpy(rng.standard_normal((2000, 2)))
    held = sound_metrics.Held(t - t.mean(0), sound_metrics.Space(torch.eye(2, dtype=torch.float64), 1.0), None)
    blind, bent, both = (sound_metrics.information(one, held) for one in (z, z.abs(), torch.cat([z, z.abs()], 1)))
    truth = float(mf.ksg_mi(z.abs(), t, 3, metric="euclidean"))
    assert 0.5 < blind < bent - 0.1
    assert bent == pytest.approx(truth, abs=0.1)
    assert bent <= both + 0.03


def test_predictions_are_of_rows_of_other_texts() -> None:
    """Each text has a row and a target of its own, of noise: the target is known of a row of the same text alone."""
    rng = np.random.default_rng(7)
    texts = torch.arange(900) // 3
    x, t = (torch.from_numpy(np.repeat(rng.standard_normal((300, d)), 3, axis=0)) for d in (120, 2))

    def cosine(labels: torch.Tensor | None) -> float:
        found = sound_metrics.predicted(x, t, labels)
        assert float(found.square().mean()) == pytest.approx(1.0)
        return float((found * t).sum() / (found.norm() * t.norm()))

    assert abs(cosine(texts)) < 0.15
    assert cosine(None) > 0.4  # rows of a text in other folds


def test_published_measures_against_numpy() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((200, 5)) * [1, 2, 3, 4, 5], rng.standard_normal((200, 5)) + 1.0
    kl = sum(
        0.5 * (np.log(b.var() / a.var()) + (a.var() + (a.mean() - b.mean()) ** 2) / b.var() - 1)
        for a, b in zip(x.T, y.T, strict=True)
    )
    assert published_metrics.gaussian_kl(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(kl, rel=1e-9)
    counts, _, _ = np.histogram2d(x.ravel(), y.ravel(), bins=64)
    joint = counts / counts.sum()
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    mi = (joint[joint > 0] * np.log(joint[joint > 0] / product[joint > 0])).sum()
    assert published_metrics.histogram_mi(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(mi, rel=1e-6)
    flat, wide = torch.ones(200, 2, dtype=torch.float64), torch.from_numpy(x)
    beside = published_metrics.gaussian_kl(torch.cat([wide, flat], 1), torch.cat([torch.from_numpy(y), 3 * flat], 1))
    assert beside == pytest.approx(kl, rel=1e-9)  # what varies on neither side is left out
    assert np.isfinite(published_metrics.gaussian_kl(flat, wide[:, :2]))
    assert published_metrics.histogram_mi(flat, flat) == 0.0


def test_the_pooled_histogram_calls_a_shared_mean_information() -> None:
    """Coordinates of different means, independent rows: the published MI is far from zero."""
    rng = np.random.default_rng(2)
    means = np.arange(8.0) * 10
    x, y = (torch.from_numpy(means + rng.standard_normal((500, 8))) for _ in range(2))
    assert published_metrics.histogram_mi(x, y) > 1.5


def test_retrieval_counts_equal_rows_as_found() -> None:
    y = np.repeat(np.random.default_rng(0).standard_normal((50, 6)), 4, axis=0)
    rows = torch.from_numpy(y)
    assert sound_metrics._retrieval(rows, rows) == 1.0
    assert sound_metrics._retrieval(rows.flip(0), rows) == 0.0


def test_the_divergence_between_halves_is_near_zero_of_one_distribution_only() -> None:
    rng = np.random.default_rng(3)
    x, y = (torch.from_numpy(rng.standard_normal((2000, 4))) for _ in range(2))
    texts = torch.arange(2000) // 10
    assert sound_metrics._divergence(x, y, texts) == pytest.approx(0.0, abs=0.1)
    assert sound_metrics._divergence(x + 0.5, y, texts) == pytest.approx(0.5, abs=0.15)  # |shift|^2 / 2
    # A row's own pair on the other side would make it far below zero.
    assert sound_metrics._divergence(y, y, texts) > -0.2
