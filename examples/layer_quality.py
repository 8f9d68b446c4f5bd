"""Numbers that are said to tell how good a layer is: on planted states, where the truth is known, then on a real model.

    prompt entropy    S(K) / log T, K = Z Z^T / tr Z Z^T of the T states Z (T, d) of a text, S(K) = -sum lambda log lambda;
                      the mean over texts. 0: one direction; log min(T, d) / log T at most: all directions alike
    dataset entropy   the same of one mean state for each of the texts
    curvature         the mean angle between z_{t+1} - z_t and z_{t+2} - z_{t+1}, in degrees; the mean over texts. 0: a
                      straight line, 90: a random walk in many dimensions, 120: states that know nothing of each other
    effective rank    exp(-sum p log p), p = s / sum s of the singular values s of all states, centred
    dimension         TwoNN of the distinct states

S(K) is the matrix-based entropy of order 1 (Giraldo, Rao, Principe 2015), curvature is of Hosseini and Fedorenko (2023),
the effective rank of Roy and Vetterli (2007), TwoNN of Facco et al. (2017). Entropies and curvature are compared over
layers by Skean et al., Layer by Layer (arXiv 2502.02013), whose invariances under augmentation (InfoNCE, LiDAR, DiME) are
left out: they ask for augmented texts. As we read it the paper fixes no scale of the states. Here rows are divided by their
root mean square, so that every state weighs 1/T in K and a few of large norm do not decide it; curvature takes them as they
are. Nothing is centred in K: a direction that all states share lowers the entropy.

None of them says by itself that a layer is good: all are properties of the cloud, which a task may ask for or not.

    python examples/layer_quality.py [MODEL]      minilm (the default), smollm2, a folder or a name on the hub
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np
import torch

from msma_fast.activations import Activations, collect_activations, read_texts
from msma_fast.msma.layers import twonn
from msma_fast.msma.spaces import rms_normalized

ROWS = 2000  # at most, of the dimension
MEASURES = ("prompt entropy", "dataset entropy", "curvature", "effective rank", "dimension")


class Quality(NamedTuple):
    """Of one layer. Entropies as shares of log T and log texts, curvature in degrees; nan where it is not defined."""

    prompt_entropy: float
    dataset_entropy: float
    curvature: float
    effective_rank: float
    dimension: float


def matrix_entropy(states: torch.Tensor) -> float:
    """S(K) / log T of states (T, d), in [0, 1]; nan of a single state. The smaller of Z Z^T and Z^T Z will do."""
    rows = rms_normalized(states).to(torch.float64)
    count, width = rows.shape
    if count < 2:
        return math.nan
    share = torch.linalg.eigvalsh(rows @ rows.T if count <= width else rows.T @ rows).clamp(min=0)
    share = share / share.sum()
    return float(torch.special.entr(share).sum()) / math.log(count)


def curvature(states: torch.Tensor) -> float:
    """Degrees, of the states (T, d) of successive tokens; a step of length 0 has no direction and makes no angle."""
    steps = states.to(torch.float64).diff(dim=0)
    lengths = steps.norm(dim=1)
    products, scale = (steps[:-1] * steps[1:]).sum(1), lengths[:-1] * lengths[1:]
    cosines = (products[scale > 0] / scale[scale > 0]).clamp(-1, 1)
    return float(cosines.acos().rad2deg().mean())


def effective_rank(states: torch.Tensor) -> float:
    """exp of the entropy of the singular values of states (n, d), centred; from 1 to min(n - 1, d), nan where all are one.

    Singular values of the size of float32 rounding count as 0: with nothing else left they would look like many directions.
    """
    rows = states.to(torch.float64)
    singular = torch.linalg.svdvals(rows - rows.mean(0))
    singular = singular[singular > torch.finfo(torch.float32).eps * rows.norm()]
    return math.exp(float(torch.special.entr(singular / singular.sum()).sum())) if len(singular) else math.nan


def quality(states: torch.Tensor, text_ids: torch.Tensor) -> Quality:
    """Of one layer (n, d), its rows by text and, in a text, in the order of the tokens."""
    texts = [states[text_ids == text] for text in text_ids.unique()]
    rows = rms_normalized(states)
    means = torch.stack([rms_normalized(text).mean(0) for text in texts])
    per_text = [(matrix_entropy(text), curvature(text)) for text in texts]
    entropy, angle = np.nanmean(np.array(per_text), 0)  # a text of one or two tokens has no entropy or no angle
    dimension, _ = twonn(rows[:: -(-len(rows) // ROWS)], 1)
    return Quality(float(entropy), matrix_entropy(means), float(angle), effective_rank(rows), dimension)


def planted(
    texts: int = 40, tokens: int = 32, width: int = 256, seed: int = 0
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """States (texts * tokens, width) of each kind, text by text, and the text of each row."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((texts, tokens, width))
    start, ways = rng.standard_normal((2, texts, 1, width))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=float)
    around = np.zeros((texts, tokens, width))
    around[:, :, :2] = corners[np.arange(tokens) % 4]
    kinds = {
        "independent": noise,
        "one direction": 2.0 ** rng.integers(-3, 4, (texts, tokens, 1)) * rng.standard_normal(width),
        "straight": start + np.arange(tokens)[:, None] * ways,
        "square walk": around + 3 * start,
        "random walk": noise.cumsum(1),
        "8 of 256 coordinates": noise[:, :, :8] @ rng.standard_normal((8, width)) / math.sqrt(8),
    }
    rows = {name: torch.from_numpy(states.reshape(-1, width)) for name, states in kinds.items()}
    return rows, torch.arange(texts).repeat_interleave(tokens)


def of_model(model: str, texts: int) -> Activations:
    """Every token of the texts: a path needs all of its points."""
    given = read_texts("commons").texts[:texts]
    return collect_activations(model, None, given, tokens_per_text=None, max_length=64)


def show(title: str, found: dict[str, Quality]) -> None:
    wide = max(map(len, (title, *found))) + 2
    print(f"{title:<{wide}}" + "".join(f"{name:>17}" for name in MEASURES))
    for name, one in found.items():
        numbers = (f"{value:>17.{digits}f}" for value, digits in zip(one, (3, 3, 1, 1, 1), strict=True))
        print(f"{name:<{wide}}" + "".join(numbers))
    print()


def main(model: str = "minilm", texts: int = 60) -> dict[str, dict[str, Quality]]:
    kinds, labels = planted()
    found = {"planted": {name: quality(states, labels) for name, states in kinds.items()}}
    acts = of_model(model, texts)
    assert acts.text_ids is not None
    found[model] = {name: quality(acts.layer(name), acts.text_ids) for name in acts.names}
    for title, one in found.items():
        show(title, one)
    return found


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "minilm")
