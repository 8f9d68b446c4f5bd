"""Float64 to the bit: the order of all numbers, and correctly rounded square roots.

torch.sqrt of float64 on a CPU may be off by a unit in the last place.

s = sqrt(v) is repaired: the exact residual v - s s (Dekker's product by splitting) says on which side of the rounding
boundary s lies, and s steps to its neighbour. v is first scaled by an even power of two into [1, 4).
Source: Dekker, A floating-point technique for extending the available precision, Numer. Math. 18 (1971).
"""

from __future__ import annotations

import torch
from torch import Tensor

_SPLIT = 134217729.0  # 2^27 + 1 splits 53 bits into 26 and 27


def _square_residual(v: Tensor, s: Tensor) -> Tensor:
    """v - s s, exact for s within a few ulp of sqrt(v)."""
    t = s * _SPLIT
    high = t - (t - s)
    low = s - high
    product = s * s
    # The parts of s s, largest first; each of these products is exact.
    error = ((high * high - product) + high * low + high * low) + low * low
    return (v - product) - error


def _power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent by its bits (torch.ldexp goes through a float32 power); -1022 <= exponent <= 1023."""
    return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)


def sqrt(v: Tensor) -> Tensor:
    """The correctly rounded float64 square root of v >= 0; inf, NaN and 0 pass through."""
    if v.is_cuda:  # CUDA's own is
        return torch.sqrt(v)
    mantissa, exponent = torch.frexp(v)  # v = mantissa 2^exponent, mantissa in [0.5, 1)
    shift = 2 - exponent % 2
    scaled = mantissa * (2 * shift).to(torch.float64)  # 2^shift for shift 1 and 2: in [1, 4)
    half = torch.div(exponent - shift, 2, rounding_mode="floor")
    s = torch.sqrt(scaled)
    ulp = 2.0**-52  # of s in [1, 2)
    for _ in range(2):
        residual = _square_residual(scaled, s)
        # s is right while -s ulp < v - s s <= s ulp, in multiples of ulp^2 (the boundary itself is never reached).
        bound = s * ulp
        s = torch.where(residual > bound, s + ulp, s)
        s = torch.where((residual <= -bound) & (s > 1.0), s - ulp, s)
    root = s * _power_of_two(half)
    ordinary = (v > 0) & (v < float("inf"))
    return torch.where(ordinary, root, torch.sqrt(v))


def number_at(order: Tensor) -> Tensor:
    """The float64 at each place (int64) in the order of all float64 numbers; 0 is the place of zero."""
    return torch.where(order >= 0, order, torch.iinfo(torch.int64).min - order).view(torch.float64)


def place_of(number: Tensor) -> Tensor:
    """The place (int64) of a float64 in that order: number_at of it is the number."""
    bits = number.view(torch.int64)
    return torch.where(bits >= 0, bits, torch.iinfo(torch.int64).min - bits)


def between(low: Tensor, high: Tensor) -> Tensor:
    """The place halfway, rounded down; low + high itself would overflow."""
    return (low >> 1) + (high >> 1) + (low & high & 1)
