"""mf.MSMA where the rows lie: on the GPU where there is one, and the same answers as on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import msma_fast as mf

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
RANGES = [(0, 0), (1, 1), (2, 2)]


def layers(device: torch.device) -> list[torch.Tensor]:
    """Each partly a rotation of the one behind it."""
    generator = torch.Generator().manual_seed(0)
    found = [torch.randn(300, 8, generator=generator)]
    for _ in range(2):
        turn = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
        found.append(found[-1] @ turn + 0.3 * torch.randn(300, 8, generator=generator))
    return [layer.to(device) for layer in found]


@pytest.mark.parametrize("name", ["procrustes", "ridge", "low-rank", "mlp"])
def test_maps_are_fitted_measured_kept_and_used_on_the_device(name: str, tmp_path: Path) -> None:
    here, there = (mf.MSMA(map=name).fit(layers(device), RANGES) for device in (torch.device("cpu"), DEVICE))
    x = layers(DEVICE)[2]
    mapped = there.transform(x, source="global", target="local")
    assert mapped.device.type == DEVICE.type
    wanted = here.transform(x.cpu(), source="global", target="local")
    # Training adds in another order on a GPU, and goes its own way by that.
    assert torch.allclose(mapped.cpu(), wanted, atol=0.05 if name == "mlp" else 1e-4)
    for ours, theirs in zip(there.evaluate(layers(DEVICE)), here.evaluate(layers(torch.device("cpu"))), strict=True):
        for metric in ("r2", "mi", "cka"):
            assert ours.sound[metric].after == pytest.approx(theirs.sound[metric].after, abs=0.03)
    again = mf.MSMA.load(there.save(tmp_path / "maps"))
    assert torch.equal(again.transform(x, source="global", target="local"), mapped)


def test_interrupted_training_goes_on_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mf.MSMA(map="mlp").fit(layers(DEVICE), RANGES)
    plain, calls = torch.save, []

    def interrupted(*arguments: object) -> None:
        plain(*arguments)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mf.MSMA(map="mlp").fit(layers(DEVICE), RANGES, checkpoint=tmp_path)
    monkeypatch.setattr(torch, "save", plain)
    resumed = mf.MSMA(map="mlp").fit(layers(DEVICE), RANGES, checkpoint=tmp_path)
    x = layers(DEVICE)[2]
    told = [each.transform(x, source=2, target=0) for each in (whole, resumed)]
    assert torch.allclose(told[0], told[1], atol=1e-4)
