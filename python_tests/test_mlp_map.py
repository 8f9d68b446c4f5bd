"""The learned map: its written-out derivatives, its losses, and that training is a function of the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from msma_fast.msma import mlp_map
from msma_fast.msma.maps import procrustes, ridge
from msma_fast.msma.mlp_map import PAPER, Learned, Residual, Weights, curvature, infonce, loss, mine, train

FUNC: Any = torch.func


def module(d: int, e: int, width: int = 8, seed: int = 0) -> Residual:
    generator = torch.Generator().manual_seed(seed)
    found = Residual(torch.randn(d, e, generator=generator), width, generator)
    with torch.no_grad():
        found.out.copy_(torch.randn(width, e, generator=generator))
        found.bias.copy_(torch.randn(width, generator=generator))
    return found


def planted(n: int = 600, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """y bends x: no linear map does."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6))
    y = np.hstack([x[:, :3], np.abs(x[:, 3:]) - np.abs(x[:, 3:]).mean(0)])
    return torch.from_numpy(x - x.mean(0)), torch.from_numpy(y - y.mean(0)), torch.arange(n) % 5 == 0


@pytest.mark.parametrize(("d", "e"), [(5, 5), (3, 7), (1, 1)])
def test_derivatives_are_those_of_automatic_differentiation(d: int, e: int) -> None:
    f = module(d, e).double()
    x, v, w = torch.randn(3, 11, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gap, bend = f.derivatives(x, v, w)
    _, along = FUNC.jvp(f, (x,), (v,))
    _, pull = FUNC.vjp(f, x)
    assert torch.allclose(gap, pull(along)[0] - v)
    _, second = FUNC.jvp(lambda at: FUNC.jvp(f, (at,), (v,))[1], (x,), (w,))
    assert torch.allclose(bend, second)


def test_curvature_estimates_are_the_norms_of_whole_matrices() -> None:
    f = module(4, 4)
    at = torch.randn(1, 4, generator=torch.Generator().manual_seed(3))
    jacobian = FUNC.jacrev(f)(at)[0, :, 0]  # (e, d)
    hessian = FUNC.hessian(f)(at)[0, :, 0, :, 0]
    many = at.expand(40000, 4)
    learned = Learned(f, {})
    gap = (jacobian.T @ jacobian - torch.eye(4)).norm() / 2.0
    assert learned.isometry_deviation(many, 0) == pytest.approx(float(gap.detach()), rel=0.03)
    assert learned.hessian_norm(many, 0) == pytest.approx(float(hessian.norm().detach()), rel=0.03)
    with torch.no_grad():
        wanted = float(gap.square() + hessian.square().sum() / 4)  # |J^T J - I|^2 / d, d = 4
        assert float(curvature(f, many, torch.Generator().manual_seed(0))) == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("d", [4, 256])
def test_the_curvature_term_sees_a_map_that_stretches_half_and_drops_half(d: int) -> None:
    """Its mean squared stretch is 1, as an isometry's: a term in the mean stretch alone would vanish with d."""
    f = module(d, d)
    with torch.no_grad():
        f.out.zero_()
        f.linear.copy_(torch.diag(torch.tensor([2.0**0.5, 0.0]).repeat(d // 2)))
        x = torch.randn(64, d, generator=torch.Generator().manual_seed(0))
        assert float(curvature(f, x, torch.Generator().manual_seed(0))) == pytest.approx(1.0, rel=1e-4)


def test_infonce_bounds_what_rows_tell_of_their_pair() -> None:
    y = torch.randn(64, 20, generator=torch.Generator().manual_seed(0))
    alone = torch.randn(64, 20, generator=torch.Generator().manual_seed(1))
    assert infonce(y, y) < 0.1
    assert infonce(alone, y) > np.log(64) - 0.2


def test_mine_is_the_donsker_varadhan_bound() -> None:
    x, y = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def critic(pairs: torch.Tensor) -> torch.Tensor:
        return (pairs[:, :3] * pairs[:, 3:]).sum(1, keepdim=True)

    joint = (x * y).sum(1).mean()
    apart = (x * y.roll(1, 0)).sum(1).exp().mean().log()
    assert float(mine(critic, x, y)) == pytest.approx(-float(joint - apart), abs=1e-6)


@pytest.mark.parametrize("name", Weights._fields)
def test_every_term_enters_the_loss_with_its_weight(name: str) -> None:
    f = module(5, 5)
    x, y = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(4))

    def at(size: float) -> float:
        weights = Weights(0.0, 0.0, 0.0, 0.0)._replace(**{name: size})
        return float(loss(f, None, x, y, weights, torch.Generator().manual_seed(0)).detach())

    term = at(1.0) - at(0.0)
    assert term > 1e-3
    assert at(2.0) - at(0.0) == pytest.approx(2.0 * term, rel=1e-4)


def test_training_finds_what_no_linear_map_does() -> None:
    x, y, held = planted()

    def error(map_: Any) -> float:
        return float((map_(x[held]) - y[held]).square().sum() / y[held].square().sum())

    learned = train(x, y, held, Weights(0.0, 0.0, 0.0))
    assert error(learned) < 0.6 * error(ridge(x, y, held))
    assert learned.chosen["held_out_error"] == pytest.approx(error(learned), rel=1e-4)
    assert learned.chosen["epochs"] > 3


def test_training_that_helps_nobody_keeps_the_procrustes_map() -> None:
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.standard_normal((200, 5))) for _ in range(2))
    held = torch.arange(200) % 5 == 0
    start = procrustes(x, y, held)
    learned = train(x, y, held, PAPER)
    at_least = float((learned(x[held]) - y[held]).square().sum())
    assert at_least <= float((start(x[held]) - y[held]).square().sum()) + 1e-3


@pytest.mark.parametrize("information", ["infonce", "mine"])
def test_the_same_seed_gives_the_same_map_and_torch_s_random_state_stays(information: str) -> None:
    x, y, held = planted(300)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, other = (train(x, y, held, PAPER, information=information, seed=3) for _ in range(2))
    assert torch.equal(one(x), other(x))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(one(x), train(x, y, held, PAPER, information=information, seed=4)(x))


@pytest.mark.parametrize("information", ["infonce", "mine"])
def test_interrupted_training_ends_as_if_it_had_not_been(information: str) -> None:
    x, y, held = planted(300)
    whole = train(x, y, held, PAPER, information=information)
    kept: list[dict[str, Any]] = []

    def stop(state: dict[str, Any]) -> None:
        import copy

        kept.append(copy.deepcopy(state))
        if len(kept) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(x, y, held, PAPER, information=information, after_epoch=stop)
    resumed = train(x, y, held, PAPER, information=information, resume=kept[-1])
    assert whole.chosen["epochs"] > 2
    assert torch.equal(whole(x), resumed(x))


def test_equal_rows_and_a_batch_of_one_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp_map, "_LEAST", 8)
    x = torch.ones(21, 3, dtype=torch.float64)  # 17 to fit: two batches of 8 and one row
    held = torch.arange(21) % 5 == 0
    assert bool(train(x, x.clone(), held, PAPER)(x).isfinite().all())
