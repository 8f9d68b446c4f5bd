"""The two spaces a layer is looked at in. Preprocessing decides layer information, so both are declared.

geometry      rows divided by their root mean square, all d coordinates
information   the same rows, centred, projected on the d' leading principal components of *other* texts, and divided by
              one number per layer (the root mean square of the fitted projection), so that the scales of two layers are
              comparable in the joint distance; euclidean within each marginal
"""

from __future__ import annotations

import torch
from torch import Tensor


def rms_normalized(x: Tensor) -> Tensor:
    """(n, d) -> rows with root mean square one, float32. A zero row stays zero."""
    x = x.to(torch.float32)
    rms = x.square().mean(1, keepdim=True).sqrt()
    return x / torch.where(rms > 0, rms, 1.0)


def z_scores(x: Tensor) -> Tensor:
    """(n, d) float32: every coordinate centred and divided by its standard deviation; a constant one is 0."""
    x = x.to(torch.float32)
    spread = x.std(0, correction=0)
    return (x - x.mean(0)) / torch.where(spread > 0, spread, 1.0)


def information_space(rows: Tensor, fit: Tensor, dimensions: int) -> Tensor:
    """(n, d) and fitting rows (m, d), both RMS-normalised -> (n, d') float64."""
    fit = fit.to(torch.float64)
    mean = fit.mean(0)
    centered = fit - mean
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    leading = vectors[:, -dimensions:].flip(1)
    projected = (rows.to(torch.float64) - mean) @ leading
    scale = (centered @ leading).square().mean().sqrt()
    return projected / torch.where(scale > 0, scale, torch.ones_like(scale))
