"""The exact findings hold, in their short form."""

from __future__ import annotations

from pathlib import Path

from paperworks.papers.gkc.paper_size import paper_cost
from paperworks.papers.gkc.studies.exact import exact
from paperworks.runs import Run


def test_the_exact_findings_hold(tmp_path: Path) -> None:
    findings = exact(Run(tmp_path), fast=True)
    assert len(findings) == 14
    assert [f.statement for f in findings if not f.holds] == []


def test_the_two_stage_way_needs_three_times_the_operations_at_the_papers_size() -> None:
    cost, weights = paper_cost(32)
    assert cost.flops_ratio >= 3
    assert 35e6 < weights < 50e6
