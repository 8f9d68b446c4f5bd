"""Common random numbers: draws that are a function of what they are for, not of when they are made.

Two conditions that ask for the same (seed, purpose, place) get the same numbers, so that what differs between them is the
condition. Each draw is a stream of its own of the counter-based generator Philox 4x64-10 (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011): key (seed, purpose), counter (0, the place's up to three integers).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# What draws are for; one number each, so that no two purposes share a stream.
TOKENS = 1  # place: prompt, step
NOISE = 2  # place: prompt, layer, position
MASKS = 3  # place: prompt
DIRECTION = 4


def stream(seed: int, purpose: int, *place: int) -> np.random.Generator:
    """The generator of one place; `place` holds at most three integers >= 0."""
    counter = [0, *place, *[0] * (3 - len(place))]
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, purpose], counter=counter))


def gumbels(seed: int, numbers: list[int], step: int, size: int) -> Tensor:
    """(prompts, size) float64 standard Gumbel values, -log of exponentials, of one step of the prompts `numbers`."""
    rows = [stream(seed, TOKENS, number, step).standard_exponential(size) for number in numbers]
    return -torch.from_numpy(np.stack(rows)).log()


def normals(seed: int, numbers: list[int], layer: int, positions: range, size: int) -> Tensor:
    """(prompts, positions, size) float32 standard normal values."""
    rows = [
        stream(seed, NOISE, number, layer, position).standard_normal(size, dtype=np.float32)
        for number in numbers
        for position in positions
    ]
    return torch.from_numpy(np.stack(rows)).reshape(len(numbers), len(positions), size)
