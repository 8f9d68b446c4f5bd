"""The tasks that the verdict is fitted and judged on: their truths by other ways than the ones that state them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from benchmarks import information_tasks as tasks
from benchmarks.information_tasks import Task, held_out_tasks, training_tasks

TRAINING, HELD_OUT = training_tasks(), held_out_tasks()


def named(name: str) -> Task:
    return next(task for task in TRAINING + HELD_OUT if task.name == name)


def test_training_and_held_out_tasks_share_nothing() -> None:
    names = [task.name for task in TRAINING + HELD_OUT]
    assert len(names) == len(set(names))
    unseen = {task.family for task in HELD_OUT} - {task.family for task in TRAINING}
    assert unseen == {"sparse", "mixture", "transformed", "embedded", "parity"}


@pytest.mark.parametrize("task", TRAINING + HELD_OUT, ids=lambda task: task.name)
def test_a_sample_has_the_shapes_it_says_and_is_the_same_for_a_seed(task: Task) -> None:
    x, y = task.sample(50, 1)
    assert x.shape == (50, task.dx)
    assert y.shape == (50, task.dy)
    assert np.isfinite(x).all()
    assert np.isfinite(y).all()
    again = task.sample(50, 1)
    assert np.array_equal(x, again[0])
    assert np.array_equal(y, again[1])
    assert not np.array_equal(x, task.sample(50, 2)[0])
    assert task.truth >= 0


def test_closed_forms() -> None:
    assert named("pairs 16+16 rho 0.5").truth == pytest.approx(2.30146, abs=1e-5)
    assert named("pairs 1+1 rho 0.95").truth == pytest.approx(-math.log(1 - 0.95**2) / 2)
    # all 2d variables correlate by rho: their mean is what the halves share
    assert named("dense 2+2 rho 0.6").truth == pytest.approx(math.log((1 + 0.6) ** 2 / ((1 - 0.6) * (1 + 3 * 0.6))) / 2)
    for dx, dy, df, wanted in (
        (1, 1, 1, 0.22417),
        (2, 2, 1, 0.43195),
        (2, 2, 2, 0.19315),
        (3, 3, 2, 0.29092),
        (5, 5, 3, 0.29854),
    ):
        assert tasks.student_excess(df, dx, dy) == pytest.approx(wanted, abs=1e-5)
    assert tasks.uniform_information(0.1) == pytest.approx(1.70944, abs=1e-5)
    assert tasks.uniform_information(0.75) == pytest.approx(0.33333, abs=1e-5)


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_the_waves_by_adaptive_quadrature(noise: float) -> None:
    """h(y) with the density of cos(2 pi x) integrated over the phase, by another rule than the module's."""

    def density(y: float) -> float:
        return 2 * quad(lambda x: norm.pdf(y, math.cos(2 * math.pi * x), noise), 0, 0.5, epsabs=1e-12, limit=200)[0]

    def term(y: float) -> float:
        value = density(y)
        return -value * math.log(value) if value > 0 else 0.0

    entropy = 2 * quad(term, 0, 1 + 8 * noise, epsabs=1e-7, limit=200)[0]
    assert tasks.wave_information(noise) == pytest.approx(entropy - norm(scale=noise).entropy(), abs=1e-5)


@pytest.mark.parametrize("name", ["crossed 2+2 rho 0.9", "crossed 8+8 rho 0.7", "3 clusters 4+4", "8 clusters 1+1"])
def test_mixtures_by_scipys_densities(name: str) -> None:
    """The mean log density ratio over other samples, the parameters read off the definition."""
    task = named(name)
    d = task.dx
    if name.startswith("crossed"):
        rho = float(name.split()[-1])
        means = np.zeros((2, 2 * d))
        blocks = [np.block([[np.eye(d), s * rho * np.eye(d)], [s * rho * np.eye(d), np.eye(d)]]) for s in (1, -1)]
    else:
        count = int(name.split()[0])
        means = 2.0 * np.random.default_rng(count).standard_normal((count, 2 * d))
        blocks = [np.eye(2 * d)] * count

    def density(z: np.ndarray, columns: slice) -> np.ndarray:
        parts = [
            multivariate_normal(mean[columns], block[columns, columns]).pdf(z)
            for mean, block in zip(means, blocks, strict=True)
        ]
        return np.mean(parts, axis=0)

    x, y = task.sample(40_000, 7)
    ratio = np.log(density(np.hstack([x, y]), slice(None)) / density(x, slice(0, d)) / density(y, slice(d, None)))
    error = math.hypot(ratio.std() / math.sqrt(len(ratio)), task.truth_error)
    assert abs(ratio.mean() - task.truth) < 4 * error
    assert error < 0.02


def test_the_maps_can_be_undone() -> None:
    """What keeps information: one sample recovered from its image."""
    x = np.random.default_rng(0).standard_normal((500, 3))
    whirled = tasks.whirl(x)
    angle = -(whirled**2).sum(1) / 3
    turned = np.stack(
        [
            np.cos(angle) * whirled[:, 0] - np.sin(angle) * whirled[:, 1],
            np.sin(angle) * whirled[:, 0] + np.cos(angle) * whirled[:, 1],
        ],
        axis=1,
    )
    np.testing.assert_allclose(turned, x[:, :2], atol=1e-10)
    np.testing.assert_allclose(norm.ppf(np.arctan(tasks.heavy(x)) / np.pi + 0.5), x, atol=1e-6)
    rolled = tasks.swiss_roll(x[:, :1])
    np.testing.assert_allclose(
        np.linalg.norm(rolled, axis=1) * 21, 1.5 * np.pi * (1 + 2 * norm.cdf(x[:, 0])), rtol=1e-12
    )


def test_parity_needs_every_column() -> None:
    x, y = named("parity 3+1").sample(4000, 0)
    assert np.array_equal(np.sign(y[:, 0]), np.sign(x.prod(1)))
    assert abs(np.corrcoef(np.sign(y[:, 0]), np.sign(x[:, :2].prod(1)))[0, 1]) < 0.06
