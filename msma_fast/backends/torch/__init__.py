"""The plain reading of every op in torch: short, readable, memory bounded by row blocks. Runs wherever torch has float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def available() -> tuple[bool, str]:
    """Always: torch is what the package itself needs."""
    return True, f"torch {torch.__version__}"


def serves(op: str, device: torch.device) -> tuple[bool, str]:
    """Any device with float64, where canonical keys live."""
    if device.type == "mps":
        return False, "torch has no float64 on mps, and canonical keys are float64; move the data to the CPU"
    return True, "any device with float64"


def operations() -> dict[str, Callable[..., Any]]:
    """op name -> function."""
    from msma_fast.backends.torch.ops import TORCH_KEYS
    from msma_fast.backends.torch.ops import ops as bind

    return bind(TORCH_KEYS)
