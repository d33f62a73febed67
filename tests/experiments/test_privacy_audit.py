"""The audit of differential privacy catches what it should, and nothing else."""

from math import sqrt

import pytest
import torch
from experiments import privacy
from matrices import seeded

MU = sqrt(privacy.AUDITED.releases) / privacy.AUDITED.multiplier
"""Distance of the scores with and without the canary, with all noise that is due."""


def scores(mean: float, deviation: float, seed: int) -> list[float]:
    drawn = torch.randn(1000, generator=seeded(seed), dtype=torch.float64)
    return (mean + deviation * drawn).tolist()


def test_the_canary_moves_a_run_as_far_as_the_budget_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(privacy, "TRIALS", 1)
    found = list[float]()
    guess = privacy._guess

    def kept(*given: object) -> float:
        found.append(guess(*given))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(privacy, "_guess", kept)
    entry = privacy.audit(0.0, 0)
    assert found == pytest.approx([MU, 0.0], abs=1e-9)
    assert entry["stated"] == pytest.approx(privacy.AUDITED.epsilon, rel=1e-3)
    assert entry["right"] == 1


def test_what_the_audit_shows_is_below_what_is_stated_and_not_by_much() -> None:
    shown = privacy.shown_epsilon(scores(MU, 1, 0), scores(0, 1, 1))
    assert 0.5 < shown["plain"] < shown["gaussian"] < privacy.AUDITED.epsilon
    assert shown["gaussian"] > 0.6 * privacy.AUDITED.epsilon
    assert privacy.gaussian_epsilon(MU) == pytest.approx(
        privacy.AUDITED.epsilon, rel=1e-9
    )


@pytest.mark.parametrize("factor", [0.5, 0.0])
def test_too_little_noise_is_caught(factor: float) -> None:
    shown = privacy.shown_epsilon(scores(MU, factor, 0), scores(0, factor, 1))
    assert shown["gaussian"] > privacy.AUDITED.epsilon
    if not factor:
        assert shown["plain"] > privacy.AUDITED.epsilon
