"""What the studies say of fits, on made ones: each finding follows the figures of all seeds, in either direction."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_transformers import VOCAB, tiny

from paperworks.papers.atp import ATP, Search, TrainerArgs
from paperworks.papers.atp.studies import tuned
from paperworks.runs import Finding, Study


class Made:
    """Fits that were never made: perplexities by kind of masks and removed share, each a little apart."""

    seeds = (0, 1, 2)

    def __init__(self, good: bool) -> None:
        self.good = good

    def pruned(self, seed: int, ratio: float = 0.4, masks: str = "search", **more: Any) -> tuple[Any, float]:
        levels = {"search": 30.0, "before": 31.0, "magnitude": 32.0, "random": 34.0, "all": 27.0}
        if not self.good:
            levels |= {"before": 29.0, "magnitude": 29.0, "random": 29.0, "all": 20.0}
        # Figures of different fits spread by themselves: three equal differences would have no interval.
        spread = np.random.default_rng([seed, round(100 * ratio), *masks.encode(), len(more)]).random()
        steep = (10 if self.good else -5) * max(0.0, ratio - 0.5)
        change = 0.02 if (more.get("sparsity") == "none") == self.good else 0.001
        back = 20 if (masks == "search") == self.good else 5
        report = SimpleNamespace(
            remaining_share=1 - ratio + (0 if self.good else 0.02),
            trajectory=SimpleNamespace(ratio=[0.5] + [(0.001 if self.good else 0.02) + 1e-4 * spread] * 5),
            returned_decided=back + round(3 * spread),
            loss_before_zeroing=3.0,
            loss_after_zeroing=3.0 + change + 1e-4 * spread,
            masked_against_cut=0.0 if self.good else 0.1,
        )
        apart = 1.0 if self.good or "alpha" not in more else 1.2
        return report, levels[masks] * apart * (1 + 0.4 * (ratio - 0.4) + steep) + 0.01 * spread

    def perplexities(self, masks: str = "search", ratio: float = 0.4, **more: Any) -> list[float]:
        return [self.pruned(seed, ratio, masks, **more)[1] for seed in self.seeds]


@pytest.mark.parametrize("study", [tuned.stages, tuned.sizes, tuned.ablations], ids=lambda study: study.name)
def test_findings_follow_the_fits(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(good: bool) -> list[Finding]:
        monkeypatch.setattr(tuned, "bench", lambda run, fast: Made(good))
        return study(None, False)  # type: ignore[arg-type]

    right, wrong = found(True), found(False)
    assert [f.statement for f in right if f.untested] == []
    assert all(finding.holds for finding in right), [f.statement for f in right if not f.holds]
    free = {"Units that the decision without noise left out", "Perplexity with (alpha, beta) = (5, 0.1)"}
    for finding in wrong:
        assert finding.holds == any(finding.statement.startswith(name) for name in free), finding.statement


@pytest.mark.parametrize("rate", [0.0, 1e-2])
def test_only_decisions_that_were_taken_back_count(rate: float) -> None:
    """A generator that does not learn takes nothing back, however often its sampled masks change."""
    tokens = torch.randint(3, VOCAB, (16, 8), generator=torch.Generator().manual_seed(0))
    search = Search(learning_rate=rate or 1e-12, offset=-0.5)
    method = ATP(0.4, generator=search, trainer_args=TrainerArgs(steps=6, batch_size=4), device="cpu")
    report = method.fit(tiny("llama"), tokens).report_
    assert report.returned_sampled > 0
    assert (report.returned_decided > 0) == (rate > 0)
