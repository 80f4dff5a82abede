"""What Sieve and Swap gives: the swapped set, its raw twin, and why each sentence stayed or went."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from paperworks.papers.sieve_swap.steps_dataset import StepDataset, VideoSteps
from paperworks.runs.files import write_text


@dataclass(frozen=True)
class AuditRow:
    """One sentence: where it is, the written step that fits best, and whether it stayed.

    ``similarity`` is None where no step was compared; ``reason`` is empty for what stayed.
    """

    video: str
    sentence: int
    start: float
    end: float
    text: str
    best_step: str
    procedure: str
    similarity: float | None
    kept: bool
    reason: str


class SieveResult:
    """The outcome of ``SieveSwap``.

    Attributes
    ----------
    swapped : videos with written steps, up to k alternatives a segment.
    raw : the same segments with the spoken words.
    audit : a row for every sentence.
    dropped : video -> why nothing of it is left.
    tau : the threshold.
    irrelevant_similarities : best cosines of the irrelevant sentences.
    warnings : what the user should know.
    """

    def __init__(
        self,
        swapped: Mapping[str, VideoSteps],
        raw: Mapping[str, VideoSteps],
        audit: Sequence[AuditRow],
        dropped: Mapping[str, str],
        tau: float,
        irrelevant_similarities: np.ndarray,
        warnings: Sequence[str] = (),
    ) -> None:
        self.swapped, self.raw = StepDataset(swapped), StepDataset(raw)
        self.audit, self.dropped, self.tau = list(audit), dict(dropped), tau
        self.irrelevant_similarities, self.warnings = irrelevant_similarities, list(warnings)

    def similarities(self) -> np.ndarray:
        """Best cosines of the sentences that were compared."""
        return np.array([row.similarity for row in self.audit if row.similarity is not None])

    def summary(self) -> dict[str, float]:
        """Counts and shares."""
        kept = [row for row in self.audit if row.kept]
        spoken = sum(row.end - row.start for row in self.audit)
        return {
            "videos": float(len(self.swapped) + len(self.dropped)),
            "videos kept": float(len(self.swapped)),
            "sentences": float(len(self.audit)),
            "sentences kept": float(len(kept)),
            "share of sentences kept": len(kept) / max(1, len(self.audit)),
            "share of speech kept": sum(r.end - r.start for r in kept) / spoken if spoken else 0.0,
            "segments": float(sum(len(v) for v in self.swapped.values())),
            "tau": self.tau,
        }

    def reasons(self) -> Counter[str]:
        """Why sentences went, with their numbers."""
        return Counter(row.reason for row in self.audit if row.reason)

    def write(self, folder: Path) -> list[tuple[str, str]]:
        """Write ``swapped.json``, ``raw.json``, ``audit.csv`` and ``dropped.csv``; returns (name, what it is)."""
        self.swapped.write(folder / "swapped.json")
        self.raw.write(folder / "raw.json")
        write_text(folder / "audit.csv", audit_csv(self.audit))
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["video", "reason"])
        writer.writerows(self.dropped.items())
        write_text(folder / "dropped.csv", out.getvalue())
        return [
            ("swapped.json", "timed written steps, YouCook2-style JSON, alternatives in a list"),
            ("raw.json", "its twin: the same times with the words that were spoken"),
            ("audit.csv", "every sentence: best step, similarity, kept or why not"),
            ("dropped.csv", "videos of which nothing is left, and why"),
        ]


def audit_csv(rows: Sequence[AuditRow]) -> str:
    """The audit as CSV. A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(AuditRow)])
    writer.writeheader()
    for row in rows:
        record = asdict(row)
        record["start"], record["end"] = f"{row.start:.3f}", f"{row.end:.3f}"
        record["similarity"] = "" if row.similarity is None else f"{row.similarity:.6f}"
        for name in ("video", "text", "best_step", "procedure"):
            if record[name].startswith(("=", "+", "@")):
                record[name] = "'" + record[name]
        writer.writerow(record)
    return out.getvalue()
