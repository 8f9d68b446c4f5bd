"""The search for the strength of a wanted effect."""

from __future__ import annotations

import pytest

from msma_fast.msma.matching import match


def test_matching_meets_a_target_and_says_when_it_cannot() -> None:
    calls: list[float] = []

    def saturating(s: float) -> float:
        calls.append(s)
        return 2 * s**2 / (1 + s**2)

    found = match("kl", 1.5, saturating, start=0.1, largest=1000, power=2)
    assert saturating(found) == pytest.approx(1.5, rel=0.02)
    assert len(calls) < 12
    assert match("kl", 1e-4, saturating, start=0.1, largest=1000, power=2) == pytest.approx(0.5**0.5 * 0.01, rel=0.02)
    with pytest.raises(ValueError, match=r"kl: .* got 3; the most found is 2, at strength 1000 of at most 1000"):
        match("kl", 3, saturating, start=0.1, largest=1000, power=2)
    with pytest.raises(ValueError, match=r"norm: .* the least found is 5, at strength 1e-07"):
        match("norm", 3, lambda s: 5.0, start=0.1, largest=1, power=1)
    with pytest.raises(ValueError, match="kl: expected an effect that changes continuously"):
        match("kl", 3, lambda s: 1.0 if s < 0.3 else float("nan"), start=0.1, largest=1, power=1)


def test_matching_starts_from_what_is_known() -> None:
    calls: list[float] = []

    def saturating(s: float) -> float:
        calls.append(s)
        return 2 * s**2 / (1 + s**2)

    known = {strength: saturating(strength) for strength in (0.1, 1.0, 3.0, 10.0)}
    calls.clear()
    found = match("kl", 1.5, saturating, start=0.1, largest=1000, power=2, known=known)
    assert 0 < len(calls) <= 4
    assert all(1.0 < strength < 3.0 for strength in calls)
    assert saturating(found) == pytest.approx(1.5, rel=0.02)
    calls.clear()
    assert match("kl", 1.5, saturating, start=0.1, largest=1000, power=2, known={found: 1.5}) == found
    assert calls == []
