"""What layers know about labels: planted knowledge is found, and what the token alone says is told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from msma_fast.msma.layer_knowledge import POSITION_BINS, entropy, knowledge, labels_of

TEXTS, PER_TEXT, K = 200, 8, 3


def at_corners(labels: np.ndarray, rng: np.random.Generator, width: float = 0.01) -> Tensor:
    """Rows near one corner a label: they know the label and nothing else."""
    corners = rng.standard_normal((labels.max() + 1, 4)) * 20
    return torch.from_numpy(corners[labels] + width * rng.standard_normal((len(labels), 4)))


@pytest.fixture(scope="module")
def planted() -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """(spaces by name, labels, texts): the next token is half the time what the token says, else one of four."""
    rng = np.random.default_rng(0)
    n = TEXTS * PER_TEXT
    token = rng.integers(0, 4, n)
    following = np.where(rng.random(n) < 0.5, token, rng.integers(0, 4, n))
    position = rng.integers(1, 129, n)
    spaces = {
        "nothing": torch.from_numpy(rng.standard_normal((n, 4))),
        "token": at_corners(token, rng),
        "next": at_corners(following, rng),
        "position": torch.from_numpy(position[:, None] + 0.01 * rng.standard_normal((n, 1))),
    }
    labels = labels_of(*(torch.from_numpy(each) for each in (token, following, position)))
    return spaces, labels, torch.arange(n) // PER_TEXT


def test_each_layer_knows_what_was_planted(planted: tuple[dict[str, Tensor], dict[str, Tensor], Tensor]) -> None:
    spaces, labels, texts = planted
    found = knowledge(list(spaces.values()), labels, texts, K, n_nulls=3, seed=0)
    assert list(found) == ["token_id", "next_token", "position"]
    nothing, token, following, position = range(4)
    # p(next | token) is 5/8 for the token itself and 1/8 for the three others.
    shared = math.log(4) + 5 / 8 * math.log(5 / 8) + 3 / 8 * math.log(1 / 8)
    own, after, place = (found[name] for name in found)
    assert own.value == pytest.approx([0, math.log(4), shared, 0], abs=0.06)
    assert own.null is None
    assert own.most == pytest.approx(math.log(4), abs=0.01)
    assert after.value == pytest.approx([0, shared, math.log(4), 0], abs=0.06)
    # What the token says by itself remains when next tokens are exchanged among rows of the same token, and only that.
    assert after.null is not None
    assert after.null[token] == pytest.approx(shared, abs=0.06)
    assert after.null[following] == pytest.approx(shared**2 / math.log(4), abs=0.25)
    assert after.value[following] - after.null[following] > 0.8
    assert abs(after.null[nothing]) < 0.06
    assert place.most == pytest.approx(math.log(POSITION_BINS), abs=0.02)
    assert place.value[position] > math.log(POSITION_BINS) - 0.3
    assert max(abs(place.value[each]) for each in (nothing, token, following)) < 0.1
    assert {one.n for one in found.values()} == {TEXTS * PER_TEXT}


def test_rows_without_a_next_token_are_left_out(planted: tuple[dict[str, Tensor], dict[str, Tensor], Tensor]) -> None:
    spaces, labels, texts = planted
    shortened = labels["next_token"].clone()
    shortened[::8] = -1
    found = knowledge([spaces["next"]], labels | {"next_token": shortened}, texts, K, n_nulls=1, seed=0)
    assert found["next_token"].n == TEXTS * (PER_TEXT - 1)
    assert found["next_token"].value[0] == pytest.approx(found["next_token"].most, abs=0.06)


def test_labels_that_are_not_known_are_not_asked_for() -> None:
    token = torch.tensor([1, 1, 2, 2])
    assert list(labels_of(token, None, None)) == ["token_id"]
    assert list(labels_of(token, torch.full((4,), -1), torch.full((4,), 7))) == ["token_id"]
    bins = labels_of(token, None, torch.arange(4))["position"]
    assert bins.tolist() == sorted(bins.tolist())
    assert bins.unique().shape[0] == 4


def test_a_label_that_no_other_text_has_is_not_known() -> None:
    rows, texts = torch.randn(40, 3, dtype=torch.float64), torch.arange(40) // 10
    found = knowledge([rows], labels_of(texts, None, None), texts, K, n_nulls=1, seed=0)
    assert math.isnan(found["token_id"].value[0])


def test_entropy_of_labels() -> None:
    assert entropy(torch.tensor([4, 4, 9, 9])) == pytest.approx(np.log(2))
    assert entropy(torch.tensor([3, 3, 3])) == 0.0
