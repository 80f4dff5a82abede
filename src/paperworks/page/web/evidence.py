"""What was measured here beside what a paper says: the catalogue's claims and findings, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paperworks.catalog import Claim, Paper, Verdict
from paperworks.runs.render import evidence_text, format_number, margin_text

ORDER: tuple[Verdict, ...] = ("holds", "partly tested", "does not hold", "not tested here", "not measured")
STYLES: dict[Verdict, str] = {
    "holds": "holds",
    "partly tested": "partly",
    "does not hold": "fails",
    "not tested here": "untested",
    "not measured": "unmeasured",
}
REST: dict[Verdict, str] = {
    "partly tested": "partly tested",
    "does not hold": "do not hold",
    "not tested here": "not testable here",
    "not measured": "not measured",
}
HEADLINE_CLAIMS = 3
RELATIONS = {"<": "<", "<=": "≤", "==": "=", ">=": "≥", ">": ">"}


@dataclass(frozen=True)
class Measurement:
    """One finding, as text."""

    statement: str
    measured: str
    compared: str
    baseline: str
    kind: str
    detail: str
    evidence: str
    margin: str
    holds: bool


@dataclass(frozen=True)
class ClaimRow:
    """A claim of the paper with its verdict and what was measured for it."""

    claim: Claim
    verdict: Verdict
    style: str
    measured: tuple[Measurement, ...]
    untested: tuple[str, ...]


class Evidence:
    """The claims of one paper. ``counts`` is per verdict; ``bar`` the segments of the picture of them."""

    def __init__(self, paper: Paper) -> None:
        self.paper = paper
        verdicts = paper.verdicts()
        findings = paper.findings
        self.rows = [
            ClaimRow(
                claim,
                verdicts[claim.id],
                STYLES[verdicts[claim.id]],
                tuple(measured(f) for f in findings if f["claim"] == claim.id),
                tuple(paper.untested_parts(claim)),
            )
            for claim in paper.claims
        ]
        self.counts = {verdict: sum(v == verdict for v in verdicts.values()) for verdict in ORDER}
        self.total = len(paper.claims)
        self.held = self.counts["holds"]
        self.measured_on = str(paper.results.get("measured", ""))
        self.fast = bool(paper.results.get("fast", False))

    @property
    def headline(self) -> list[ClaimRow]:
        """The claims that are shown first: measured ones for which the paper has a figure before all others."""
        ranked = sorted(self.rows, key=lambda row: (not row.measured, not any(c.isdigit() for c in row.claim.value)))
        return ranked[:HEADLINE_CLAIMS]

    @property
    def others(self) -> list[ClaimRow]:
        """The claims that are folded away."""
        return [row for row in self.rows if row not in self.headline]

    @property
    def words(self) -> str:
        """The counts as a sentence: "17 of 20 claims hold here, 3 not tested"."""
        rest = [f"{self.counts[verdict]} {text}" for verdict, text in REST.items() if self.counts[verdict]]
        return ", ".join([f"{self.held} of {self.total} claims hold here", *rest])

    @property
    def bar(self) -> list[tuple[str, int, int]]:
        """Style, first claim and number of claims of each segment, in the order of ``ORDER``."""
        segments, first = [], 0
        for verdict in ORDER:
            if self.counts[verdict]:
                segments.append((STYLES[verdict], first, self.counts[verdict]))
                first += self.counts[verdict]
        return segments


def measured(finding: dict[str, Any]) -> Measurement:
    """A finding of ``results.json`` as text."""
    unit = finding["unit"]
    baseline = finding["baseline"]
    interval = ""
    if finding["interval"]:
        interval = f" [{', '.join(_figure(end, '') for end in finding['interval'])}]"
    return Measurement(
        statement=finding["statement"],
        measured=_figure(finding["measured"], "" if interval else unit)
        + (f"{interval} {unit}".rstrip() if interval else ""),
        compared=f"{RELATIONS[finding['relation']]} {_figure(finding['bound'], unit)}",
        baseline="" if baseline is None else f"{finding['baseline_name'] or 'baseline'} {_figure(baseline, unit)}",
        kind=finding["kind"],
        detail=finding["detail"],
        evidence=evidence_text(finding),
        margin=margin_text(finding),
        holds=finding["holds"],
    )


def _figure(value: Any, unit: str) -> str:
    """A figure with its unit; findings keep what is not finite as text."""
    text = format_number(value) if isinstance(value, (int, float)) else str(value)
    return f"{text} {unit}".strip()
