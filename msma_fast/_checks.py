"""The checks every public function makes once, before anything is computed. Messages name the argument, what was
expected and what came; they are the same for every backend because no backend is chosen yet."""

from __future__ import annotations

import math
import numbers
from typing import Any

import torch
from torch import Tensor

from msma_fast._arrays import float_tensor, from_array
from msma_fast.backends import registry
from msma_fast.metrics import METRICS

# How far from one the sum of a probability row may be: the rounding of a softmax in that precision, with room.
_SUM_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def points(name: str, value: Any, *, ndims: tuple[int, ...] | None = (2, 3), check_finite: bool = True) -> Tensor:
    """A float tensor of rows (..., n, d) with n >= 1, d >= 1 and finite values; ndims None: any number of leading axes."""
    tensor = float_tensor(name, value)
    if tensor.ndim < 2 if ndims is None else tensor.ndim not in ndims:
        shapes = {1: "(n,)", 2: "(n, d)", 3: "(b, n, d)"}
        wanted = "(..., n, d)" if ndims is None else " or ".join(shapes[nd] for nd in ndims)
        raise ValueError(f"{name}: expected an array of shape {wanted}, got shape {tuple(tensor.shape)}")
    if tensor.numel() == 0:
        raise ValueError(f"{name}: expected at least one row and one column, got an empty array {tuple(tensor.shape)}")
    if check_finite and not registry.all_finite(tensor):
        bad = int((~torch.isfinite(tensor)).sum())
        kind = "NaN" if bool(torch.isnan(tensor).any()) else "inf"
        raise ValueError(
            f"{name}: expected finite values, got {kind} ({bad} of {tensor.numel()} values are not finite)"
        )
    return tensor


def pair(x_name: str, x: Tensor, y_name: str, y: Tensor) -> None:
    """Two point sets that can be compared: same number of axes, batch, d and device."""
    if x.ndim != y.ndim or x.shape[:-2] != y.shape[:-2]:
        raise ValueError(
            f"{y_name}: expected the same batch shape as {x_name} {tuple(x.shape)}, got shape {tuple(y.shape)}"
        )
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"{y_name}: expected d = {x.shape[-1]} as in {x_name}, got d = {y.shape[-1]}")
    if x.device != y.device:
        raise ValueError(f"{y_name}: expected device {x.device} as {x_name}, got {y.device}")


def paired(x: Any, y: Any, check_finite: bool) -> tuple[Tensor, Tensor]:
    """Rows x (n, dx) and y (n, dy) of the same things, n >= 2."""
    a = points("x", x, ndims=(2,), check_finite=check_finite)
    b = points("y", y, ndims=(2,), check_finite=check_finite)
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"y: expected {a.shape[0]} rows as in x, got {b.shape[0]}")
    if a.device != b.device:
        raise ValueError(f"y: expected device {a.device} as x, got {b.device}")
    if a.shape[0] < 2:
        raise ValueError(f"x: expected at least 2 rows, got {a.shape[0]}")
    return a, b


def vector(name: str, value: Any, size: int) -> Tensor:
    """A float tensor (size,), finite."""
    tensor = float_tensor(name, value)
    if tuple(tensor.shape) != (size,):
        raise ValueError(f"{name}: expected shape ({size},), got {tuple(tensor.shape)}")
    if not registry.all_finite(tensor):
        raise ValueError(f"{name}: expected finite values, got NaN or inf")
    return tensor


def reals(name: str, value: Any, device: torch.device) -> tuple[Tensor, bool]:
    """A number or a sequence of them as (k,) float64, k >= 1, finite; and whether it was a single number."""
    if value is None or isinstance(value, (bool, str)):
        raise TypeError(f"{name}: expected a number or a one-dimensional array, got {value!r}")
    if isinstance(value, numbers.Real):
        tensor = torch.tensor(float(value), dtype=torch.float64)
    elif isinstance(value, (list, tuple)):
        tensor = torch.tensor([number(f"{name}[{i}]", item) for i, item in enumerate(value)], dtype=torch.float64)
    else:
        tensor = from_array(name, value).detach()
        if tensor.is_complex() or tensor.dtype == torch.bool:
            raise TypeError(f"{name}: expected real numbers, got {tensor.dtype}")
    if tensor.ndim > 1 or tensor.numel() == 0:
        raise ValueError(f"{name}: expected a number or shape (k,) with k >= 1, got shape {tuple(tensor.shape)}")
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name}: expected finite numbers, got NaN or inf")
    return tensor.to(device=device, dtype=torch.float64).reshape(-1), tensor.ndim == 0


def integer(name: str, value: Any, *, at_least: int) -> int:
    """A Python or numpy integer, not a bool."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an integer >= {at_least}, got {value!r} ({type(value).__name__})")
    integral = int(value)
    if integral < at_least:
        raise ValueError(f"{name}: expected an integer >= {at_least}, got {integral}")
    return integral


def neighbor_count(name: str, k: Any, available: int, *, self_search: bool) -> int:
    """k with 1 <= k <= n - 1 (self-search) or <= m."""
    k = integer(name, k, at_least=1)
    limit = available - 1 if self_search else available
    if k > limit:
        what = f"n - 1 = {limit} (n = {available}, a row is not its own neighbour)" if self_search else f"m = {limit}"
        raise ValueError(f"{name}: expected at most {what}, got {k}")
    return k


def neighbor_counts(k: Any, n: int) -> tuple[list[int], bool]:
    """One k or a sequence of them, for estimators: (values, whether a single one was given)."""
    if isinstance(k, (list, tuple, range)) or (hasattr(k, "__len__") and not isinstance(k, (str, bytes))):
        values = [neighbor_count("k", item, n, self_search=True) for item in k]
        if not values:
            raise ValueError("k: expected an integer or a non-empty sequence of integers, got an empty sequence")
        return values, False
    return [neighbor_count("k", k, n, self_search=True)], True


def labels(name: str, value: Any, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Integer labels of the given shape (or of its last axis, shared by the batch) as int64 on `device`."""
    tensor = from_array(name, value)
    if tensor.is_floating_point() or tensor.is_complex():
        raise TypeError(f"{name}: expected integer labels, got {tensor.dtype}")
    if tuple(tensor.shape) not in (shape, shape[-1:]):
        wanted = f"{shape[-1:]}" if len(shape) == 1 else f"{shape[-1:]} or {shape}"
        raise ValueError(f"{name}: expected labels of shape {wanted}, got {tuple(tensor.shape)}")
    return tensor.to(device=device, dtype=torch.int64).expand(shape).contiguous()


def labels_of_sides(
    groups: Any, point_groups: Any, queries: Tensor, points: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Labels of queries (..., n, d) and of points (..., m, d), int64, both or neither; of a self-search (points None) the
    queries' alone."""
    if points is None and point_groups is not None:
        raise ValueError("point_groups: expected None without points (groups labels both sides), got labels")
    if points is not None and (groups is None) != (point_groups is None):
        missing, given = ("groups", "point_groups") if groups is None else ("point_groups", "groups")
        raise ValueError(f"{missing}: expected labels for both sides with separate points, got only {given}")
    own = None if groups is None else labels("groups", groups, tuple(queries.shape[:-1]), queries.device)
    if points is None or point_groups is None:
        return own, None
    return own, labels("point_groups", point_groups, tuple(points.shape[:-1]), queries.device)


def metric(
    name: Any, p: Any, metric_tensor: Any, x: Tensor, sets: dict[str, Tensor]
) -> tuple[str, float, Tensor | None]:
    """The metric's name, power and tensor, with the rows of `sets` (argument name -> tensor) checked against it."""
    if not isinstance(name, str) or name not in METRICS:
        raise ValueError(f"metric: expected one of {', '.join(METRICS)}, got {name!r}")
    p = number("p", p)
    if name == "minkowski" and not p >= 1:
        raise ValueError(f"p: expected a number >= 1 (below 1 it is not a metric), got {p}")
    tensor = None
    if name == "mahalanobis":
        if metric_tensor is None:
            raise ValueError("metric_tensor: expected a (d, d) matrix for metric='mahalanobis', got None")
        tensor = _metric_tensor(metric_tensor, x)
    elif metric_tensor is not None:
        raise ValueError(f"metric_tensor: expected None unless metric='mahalanobis', got one with metric={name!r}")
    for argument, rows in sets.items():
        if METRICS[name].probabilities:
            _probabilities(argument, rows, name)
        if METRICS[name].nonzero_rows:
            _directions(argument, rows, name)
    return name, float(p), tensor


def _metric_tensor(value: Any, x: Tensor) -> Tensor:
    """M symmetrised in float64; positive semidefinite up to the rounding of its eigenvalues."""
    tensor = float_tensor("metric_tensor", value)
    d = x.shape[-1]
    if tuple(tensor.shape) != (d, d):
        raise ValueError(f"metric_tensor: expected shape ({d}, {d}), got {tuple(tensor.shape)}")
    tensor = tensor.to(device=x.device, dtype=torch.float64)
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError("metric_tensor: expected finite values, got NaN or inf")
    tensor = (tensor + tensor.T) / 2
    eigenvalues = torch.linalg.eigvalsh(tensor.detach())
    floor = -d * 2.0**-50 * float(eigenvalues.abs().max())
    if float(eigenvalues[0]) < floor:
        raise ValueError(
            f"metric_tensor: expected a positive semidefinite matrix, got an indefinite one "
            f"(smallest eigenvalue {float(eigenvalues[0]):.3g})"
        )
    return tensor


def _probabilities(name: str, rows: Tensor, metric_name: str) -> None:
    rows = rows.detach()
    if bool((rows < 0).any()):
        raise ValueError(
            f"{name}: expected rows that are probability vectors for metric={metric_name!r}, "
            f"got a negative value ({float(rows.min()):.3g})"
        )
    sums = rows.sum(-1, dtype=torch.float64)
    off = float((sums - 1).abs().max())
    if off > _SUM_TOLERANCE[rows.dtype]:
        raise ValueError(
            f"{name}: expected rows that sum to 1 for metric={metric_name!r}, got a row whose sum is off by {off:.3g}"
        )


def _directions(name: str, rows: Tensor, metric_name: str) -> None:
    rows = rows.detach()
    if metric_name == "correlation":
        flat = rows.amax(-1) == rows.amin(-1)
        what = "constant"
    else:
        flat = (rows == 0).all(-1)
        what = "zero"
    if bool(flat.any()):
        raise ValueError(f"{name}: expected no {what} row for metric={metric_name!r}, got {int(flat.sum())} of them")


def window(value: Any, n: int, *, self_search: bool) -> int:
    """w >= 0, at most n (which excludes everything); only a self-search has positions to be near in."""
    value = integer("window", value, at_least=0)
    if value and not self_search:
        raise ValueError(f"window: expected 0 with separate points (positions are not shared), got {value}")
    return min(value, n)


def choice(name: str, value: Any, options: tuple[Any, ...]) -> Any:
    """One of the options, by equality."""
    if not any(type(value) is type(option) and value == option for option in options):
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def number(name: str, value: Any, *, at_least: float = -math.inf) -> float:
    """A real number >= at_least, not NaN."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {value!r} ({type(value).__name__})")
    result = float(value)
    if not result >= at_least:
        raise ValueError(f"{name}: expected a number >= {at_least}, got {value}")
    return result
