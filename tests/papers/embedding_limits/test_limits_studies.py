"""The exact studies hold, and their findings on ranks fail where an enumeration is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paperworks.papers.embedding_limits import study
from paperworks.papers.embedding_limits.studies import exact
from paperworks.runs import Finding, Run, studies_of


def findings(name: str, folder: Path) -> list[Finding]:
    (chosen,) = [s for s in studies_of(study) if s.name == name]
    return list(chosen(Run(folder), True))


@pytest.mark.parametrize("name", ["beir", "construction", "curve", "ranks"])
def test_exact_studies_hold(name: str, tmp_path: Path) -> None:
    found = findings(name, tmp_path)
    assert found
    assert [f.statement for f in found if not f.holds] == []


def test_published_scores_have_a_correlation_of_nearly_nothing(tmp_path: Path) -> None:
    # ranks 1 6 3 5 4 2: squared differences add up to 34, 1 - 6 * 34 / (6 * 35)
    (only,) = findings("beir", tmp_path)
    assert only.measured == pytest.approx(1 - 34 / 35)


@pytest.mark.parametrize("name", ["order_rank", "one_threshold_rank", "sign_rank"])
def test_an_enumeration_that_is_too_high_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(exact, name)

    def higher(matrix: Any) -> int | None:
        found = right(matrix)
        return found + 1 if found == 2 else found

    def above(draws: int) -> int:
        rng = np.random.default_rng(3)
        each = [one for _ in range(draws) for one in exact._ranks_of_scores(rng)]
        return sum(found is None or found > known for _, found, known in each)

    assert above(10) == 0
    monkeypatch.setattr(exact, name, higher)
    assert above(10) > 0
