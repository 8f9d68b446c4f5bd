"""A learned map between two scales, and its losses.

    f(x) = x A + s(x W1 + b) W2,   s(u) = u / (1 + e^-u),   A starts as the Procrustes map, W2 as 0

    L = p |f(x) - y|^2 / |y|^2 + g stress(f(x), y)^2 + i information(f(x), y) + c curvature(f)

stress        Kruskal's stress-1 of distances within the batch (mf.stress, differentiable)
information   InfoNCE: -mean log softmax_j(cos(f(x_i), y_j) / t) at j = i (van den Oord et al., arXiv 1807.03748), or MINE:
              minus the Donsker-Varadhan bound with a learned critic (Belghazi et al., arXiv 1801.04062), pairs of the
              product of marginals by a shift of the batch
curvature     E_v |(J^T J - I) v|^2 / d + E_uv |D^2 f [u, v]|^2 / d, v and u of random signs: Hutchinson estimates of how far
              the Jacobian is from an isometry, and of the Hessian's squared norm

Derivatives of f are written out: J v = v A + (s'(u) * (v W1)) W2, D^2 f [v, w] = (s''(u) * (v W1) * (w W1)) W2. The error of
the pairs is ours: the other terms of Multi-Scale Manifold Alignment (arXiv 2505.20333) do not say which token is which, but
for the information. The epoch with the least error on rows of other texts is kept; with p = 0 the one with the least L, and A
starts as the identity, as the Procrustes map is one of pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msma_fast.distortion import stress
from msma_fast.msma.maps import procrustes

INFORMATION = ("infonce", "mine")
_WIDTH = 512  # of the hidden layer, or twice the map's own if that is less
_BATCHES, _LEAST, _MOST = 10, 32, 256  # batches an epoch, and the limits of their size
_EPOCHS = 10
_RATE, _HIGHEST, _DECAY = 2.0, 0.03, 1e-2  # rate: by the width (Yang et al., arXiv 2203.03466), and linearly to 0
_TEMPERATURE = 0.1
_CRITIC = 64
_GEOMETRY, _BENT = (
    64,
    32,
)  # rows of a batch of which distances, and the curvature, are taken: each costs as much as the rest


class Weights(NamedTuple):
    """Of the terms: geometry, information, curvature, and the error of the pairs."""

    geometry: float
    information: float
    curvature: float
    pairs: float = 1.0


PAPER = Weights(0.1, 0.1, 0.01)  # the published preset


class Residual(nn.Module):
    """f above, for rows (n, d) float32."""

    def __init__(self, linear: Tensor, width: int, generator: torch.Generator) -> None:
        super().__init__()
        d, e = linear.shape
        self.linear = nn.Parameter(linear.clone())
        self.into = nn.Parameter(torch.randn(d, width, generator=generator).div(d**0.5).to(linear))
        self.bias = nn.Parameter(linear.new_zeros(width))
        self.out = nn.Parameter(linear.new_zeros(width, e))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.linear + nn.functional.silu(x @ self.into + self.bias) @ self.out

    def derivatives(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """((J^T J - I) v_i, 0 of an isometry, (n, d); D^2 f(x_i) [v_i, w_i], (n, e))."""
        # One product with each weight where there is a choice: few rows cost what the weights do.
        u, along_v, along_w = torch.cat([x, v, w]).mm(self.into).chunk(3)
        u = u + self.bias
        gate = torch.sigmoid(u)
        slope = gate * (1.0 + u * (1.0 - gate))  # s'
        bow = gate * (1.0 - gate) * (2.0 + u * (1.0 - 2.0 * gate))  # s''
        image, bend = torch.cat([slope * along_v, bow * along_v * along_w]).mm(self.out).chunk(2)
        image = image + v @ self.linear
        back = image @ self.linear.T + (slope * (image @ self.out.T)) @ self.into.T
        return back - v, bend


class Learned(NamedTuple):
    """A trained map and how its training went."""

    module: Residual
    chosen: dict[str, float]  # epochs, of those trained, and the held-out error, or L, that chose so many

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = self.module.to(x.device)(x.to(torch.float32))
            return found.to(x.dtype)

    def isometry_deviation(self, x: Tensor, seed: int) -> float:
        """sqrt(E |(J J^T - I) v|^2 / d) of row vectors' Jacobians, a Hutchinson estimate over the rows of x (n, d)."""
        with torch.no_grad():
            x, generator = x.to(torch.float32), torch.Generator().manual_seed(seed)
            gap, _ = self.module.to(x.device).derivatives(x, signs(x, generator), signs(x, generator))
            return float(gap.square().sum(1).mean().div(x.shape[1]).sqrt())

    def hessian_norm(self, x: Tensor, seed: int) -> float:
        """sqrt(E |D^2 f [u, v]|^2), the Frobenius norm of the second derivatives."""
        with torch.no_grad():
            x, generator = x.to(torch.float32), torch.Generator().manual_seed(seed)
            _, bend = self.module.to(x.device).derivatives(x, signs(x, generator), signs(x, generator))
            return float(bend.square().sum(1).mean().sqrt())


def train(
    x: Tensor,
    y: Tensor,
    held: Tensor,
    weights: Weights,
    *,
    information: str = "infonce",
    seed: int = 0,
    resume: dict[str, Any] | None = None,
    after_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Learned:
    """Of paired rows x (n, d), y (n, e), centred and of one size; held (n,) bool: rows that stop the training.

    resume: what after_epoch was given last; training goes on from there and ends as if it had not been interrupted. Every
    random number is drawn on the CPU from `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = x.to(torch.float32), y.to(torch.float32)
    width = min(_WIDTH, 2 * max(x.shape[1], y.shape[1]))
    start = (
        procrustes(x[~held].double(), y[~held].double(), held).weight.to(x)
        if weights.pairs
        else torch.eye(x.shape[1], y.shape[1], device=x.device)
    )
    module = Residual(start, width, generator)
    critic = _critic(x.shape[1] + y.shape[1], generator).to(x.device) if information == "mine" else None
    rate = min(_RATE / width, _HIGHEST)
    parts = [module, *([] if critic is None else [critic])]
    optimizer = torch.optim.AdamW(
        [p for part in parts for p in part.parameters()], lr=rate, weight_decay=_DECAY,
        fused=x.device.type in ("cpu", "cuda"),
    )  # fmt: skip
    fitted = (~held).nonzero().squeeze(1)

    def criterion() -> float:
        with torch.no_grad():
            if weights.pairs:
                return float(_relative(module(x[held]), y[held]))
            same = torch.Generator().manual_seed(seed)
            some = held.nonzero().squeeze(1)
            some = some[
                torch.randperm(len(some), generator=same).to(some.device)[:_MOST]
            ]  # of all texts, not the first
            return float(loss(module, critic, x[some], y[some], weights, same))

    state: dict[str, Any] = {"epoch": 0, "chosen": 0, "least": criterion(), "best": _copied(module)}
    if resume is not None:
        state = {name: resume[name] for name in state}
        for part, kept in zip(parts, resume["parts"], strict=True):
            part.load_state_dict(kept)
        optimizer.load_state_dict(resume["optimizer"])
        generator.set_state(resume["generator"])
    while state["epoch"] < _EPOCHS:
        order = fitted[torch.randperm(len(fitted), generator=generator).to(fitted.device)]
        batches = order.split(min(_MOST, max(_LEAST, len(fitted) // _BATCHES)))
        for number, rows in enumerate(batches):
            if len(rows) < 2:
                continue  # nothing to compare a single pair with
            optimizer.param_groups[0]["lr"] = rate * (1.0 - (state["epoch"] + number / len(batches)) / _EPOCHS)
            optimizer.zero_grad(set_to_none=True)
            loss(module, critic, x[rows], y[rows], weights, generator).backward()
            optimizer.step()
        state["epoch"] += 1
        error = criterion()
        if error < state["least"]:
            state |= {"least": error, "best": _copied(module), "chosen": state["epoch"]}
        if after_epoch is not None:
            own = {"parts": [part.state_dict() for part in parts], "optimizer": optimizer.state_dict()}
            after_epoch(state | own | {"generator": generator.get_state()})
    module.load_state_dict(state["best"])
    return Learned(module, {"epochs": float(state["chosen"]), "held_out_error": state["least"]})


def loss(module: Residual, critic: Any, x: Tensor, y: Tensor, weights: Weights, generator: torch.Generator) -> Tensor:
    """L of a batch."""
    mapped = module(x)
    total: Tensor = weights.pairs * _relative(mapped, y)
    few = y[:_GEOMETRY]
    if weights.geometry and bool((few != few[0]).any()):
        total = total + weights.geometry * stress(few, mapped[:_GEOMETRY], normalized=True, check_finite=False).square()
    if weights.information:
        total = total + weights.information * (infonce(mapped, y) if critic is None else mine(critic, mapped, y))
    if weights.curvature:
        total = total + weights.curvature * curvature(module, x[:_BENT], generator)
    return total


def infonce(mapped: Tensor, y: Tensor) -> Tensor:
    """The lower it is the better rows find their pair among the batch; log n less it bounds their information from below."""
    cosines = nn.functional.normalize(mapped, dim=1) @ nn.functional.normalize(y, dim=1).T
    return nn.functional.cross_entropy(cosines / _TEMPERATURE, torch.arange(len(y), device=y.device))


def mine(critic: Any, mapped: Tensor, y: Tensor) -> Tensor:
    """Minus the bound E T(pairs) - log E exp T(shifted pairs)."""
    apart = critic(torch.cat([mapped, y.roll(1, 0)], 1)).squeeze(1)
    bound = critic(torch.cat([mapped, y], 1)).mean() - (apart.logsumexp(0) - torch.tensor(float(len(y))).log())
    return -bound


def curvature(module: Residual, x: Tensor, generator: torch.Generator) -> Tensor:
    """The two terms above, one pair of directions a row."""
    gap, bend = module.derivatives(x, signs(x, generator), signs(x, generator))
    return (gap.square().sum() + bend.square().sum()) / x.numel()


def signs(x: Tensor, generator: torch.Generator) -> Tensor:
    """Of the shape of x, 1 or -1."""
    return (torch.randint(0, 2, x.shape, generator=generator) * 2 - 1).to(x)


def _critic(width: int, generator: torch.Generator) -> nn.Sequential:
    """Its own generator: torch's random state stays as it is."""
    layers = [nn.Linear(*size, device="meta").to_empty(device="cpu") for size in ((width, _CRITIC), (_CRITIC, 1))]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / layer.in_features**0.5)
            layer.bias.zero_()
    return nn.Sequential(layers[0], nn.SiLU(), layers[1])


def _relative(mapped: Tensor, y: Tensor) -> Tensor:
    return (mapped - y).square().sum() / y.square().sum().clamp_min(1e-12)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
