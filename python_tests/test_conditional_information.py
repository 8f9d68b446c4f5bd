"""ksg_cmi: the brute-force estimate on every backend and by either way, equal to peers where definitions coincide."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import information_oracles
import numpy as np
import pytest
import torch
from scipy.special import digamma
from strategies import cloud

import msma_fast as mf
from msma_fast.backends.torch import joint

METRICS = ["chebyshev", "euclidean"]
EXCLUSIONS: list[dict[str, Any]] = [
    {"groups": np.arange(120) // 15},
    {"window": 6},
    {"groups": np.arange(120) % 3, "window": 4},
]


def triple(n: int, dx: int = 2, dy: int = 3, dz: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, dz))
    return z[:, :1] + rng.standard_normal((n, dx)), 0.5 * z[:, :1] + rng.standard_normal((n, dy)), z


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_brute_force_estimate(metric: str, dtype: Any, backend: str) -> None:
    for shape in ((2, 3, 1), (1, 1, 1), (9, 1, 10)):
        x, y, z = (s.astype(dtype) for s in triple(131, *shape))
        for k in (1, 4, 60):
            found = mf.ksg_cmi(x, y, z, k, metric=metric, backend=backend)
            assert isinstance(found, float)
            assert found == pytest.approx(information_oracles.ksg_cmi(x, y, z, k, metric), abs=1e-12)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("options", EXCLUSIONS, ids=range(3))
def test_exclusions_enter_neighbours_and_counts(metric: str, options: dict[str, Any], backend: str) -> None:
    x, y, z = triple(120)
    found = mf.ksg_cmi(x, y, z, 5, metric=metric, backend=backend, **options)
    assert found == pytest.approx(information_oracles.ksg_cmi(x, y, z, 5, metric, **options), abs=1e-12)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "kind", ["duplicates", "lattice", "one_ulp", "all_equal", "shifted", "huge_coordinate", "scales"]
)
def test_ties_follow_the_canonical_keys(kind: str, metric: str, backend: str) -> None:
    x, y, z = cloud(kind, 90, 2, 1), cloud("lattice", 90, 1, 2), cloud(kind, 90, 1, 3)
    for a, b, c in ((x, y, z), (z, x, y), (x, z, x)):
        found = mf.ksg_cmi(a, b, c, 3, metric=metric, backend=backend)
        assert found == pytest.approx(information_oracles.ksg_cmi(a, b, c, 3, metric), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_the_fewest_rows(metric: str, backend: str) -> None:
    for k in (1, 4):
        x, y, z = triple(k + 1)
        found = mf.ksg_cmi(x, y, z, k, metric=metric, backend=backend)
        assert found == pytest.approx(information_oracles.ksg_cmi(x, y, z, k, metric), abs=1e-12)


def test_several_k_and_batches(backend: str) -> None:
    x, y, z = (np.stack(s) for s in zip(*(triple(60, seed=s) for s in range(3)), strict=True))
    several = mf.ksg_cmi(x[0], y[0], z[0], (7, 1, 3), backend=backend)
    assert several.dtype == np.float64
    assert several.tolist() == [mf.ksg_cmi(x[0], y[0], z[0], k, backend=backend) for k in (7, 1, 3)]
    one, all_k = mf.ksg_cmi(x, y, z, 3, backend=backend), mf.ksg_cmi(x, y, z, [2, 3], backend=backend)
    assert one.tolist() == [mf.ksg_cmi(*s, 3, backend=backend) for s in zip(x, y, z, strict=True)]
    assert all_k.shape == (3, 2)
    assert np.array_equal(all_k[:, 1], one)
    assert all_k[:, 0].tolist() == [mf.ksg_cmi(*s, 2, backend=backend) for s in zip(x, y, z, strict=True)]


def test_kinds_and_dtypes_of_input(backend: str) -> None:
    x, y, z = (s[:, 0] for s in triple(90))
    wanted = information_oracles.ksg_cmi(x, y.astype(np.float32), z, 3)
    assert mf.ksg_cmi(x[:, None], y.astype(np.float32), z, backend=backend) == pytest.approx(wanted, abs=1e-12)
    a, b, c = (torch.from_numpy(s) for s in (x, y, z))
    found = mf.ksg_cmi(a, b, c, [3, 4], backend=backend)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float64
    assert found.tolist() == mf.ksg_cmi(x, y, z, [3, 4], backend=backend).tolist()
    a, b, c = (s.to(torch.bfloat16) for s in (a, b, c))
    wanted = information_oracles.ksg_cmi(a.double().numpy(), b.double().numpy(), c.double().numpy(), 3)
    assert mf.ksg_cmi(a, b, c, backend=backend) == pytest.approx(wanted, abs=1e-12)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, z = triple(97)
    wanted = mf.ksg_cmi(x, y, z, (2, 5), backend="torch")
    monkeypatch.setattr(joint, "_BLOCK", 97 * 10)
    assert np.array_equal(mf.ksg_cmi(x, y, z, (2, 5), backend="torch"), wanted)


@pytest.mark.parametrize("metric", METRICS)
def test_a_constant_condition_leaves_the_mutual_information(metric: str, backend: str) -> None:
    """With z constant n_z counts everybody, n_xz is n_x, and the estimate is KSG1."""
    x, y, _ = triple(140)
    found = mf.ksg_cmi(x, y, np.ones(140), 4, metric=metric, backend=backend)
    assert found == pytest.approx(information_oracles.ksg_mi(x, y, 4, metric=metric).mi, abs=1e-12)


def test_what_z_knows_already_is_not_counted() -> None:
    """Given x itself, x tells nothing: n_xz = n_z and n_yz is k - 1 or more, so the estimate is at most zero."""
    x, y, _ = triple(300)
    assert mf.ksg_cmi(x, y, x, 3) <= 0
    assert mf.ksg_cmi(y, y, np.ones(300), 3) == pytest.approx(digamma(300) - digamma(3), abs=1e-12)


def test_agreement_with_ennemi(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same definition. Its digamma is an expansion good to 1e-6, so it gets scipy's for the comparison."""
    import ennemi
    from ennemi import _entropy_estimators

    x, y, z = triple(300, 1, 1, 2)
    ours = mf.ksg_cmi(x, y, z, 3, backend=backend)
    theirs = ennemi.estimate_mi(y[:, 0], x[:, 0], k=3, cond=z, preprocess=False).item()
    assert ours == pytest.approx(theirs, abs=1e-5)
    monkeypatch.setattr(_entropy_estimators, "_psi", digamma)
    theirs = ennemi.estimate_mi(y[:, 0], x[:, 0], k=3, cond=z, preprocess=False).item()
    assert ours == pytest.approx(theirs, abs=1e-10)


def test_agreement_with_npeet_plus(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same definition, once its noise of 1e-10 on x and y is left out."""
    import npeet_plus

    monkeypatch.setattr(npeet_plus.estimators, "add_noise", lambda x, intens=0: x)
    x, y, z = triple(300, 2, 1, 2)
    for k in (1, 3, 10):
        theirs = npeet_plus.cmi(x, y, z, k=k, base=np.e)
        assert mf.ksg_cmi(x, y, z, k, backend=backend) == pytest.approx(theirs, abs=1e-10)


def test_the_transfer_entropy_example_finds_what_was_planted(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).resolve().parents[1] / "examples" / "transfer_entropy.py"
    found = runpy.run_path(str(example))["main"](steps=1200, surrogates=19)
    assert found["x -> y"].estimate == pytest.approx(found["x -> y"].truth, abs=0.06)
    assert found["x -> y"].estimate > found["x -> y"].null.max()
    assert abs(found["y -> x"].estimate) < 0.05
    assert found["y -> x"].estimate < found["y -> x"].null.max()
    printed = capsys.readouterr().out
    assert "x -> y" in printed
    assert "truth" in printed
