"""What a paper claims and what was measured for it, from the files beside its recipe, for the report of a run.

A report shows what came out on the user's own input. Beside it stand the paper's figures, and those that ``paperworks
reproduce`` measured, so that a reader sees what to expect and what not to.
"""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.runs.findings import Finding
from paperworks.runs.render import relation_text, verdict_text


def paper_claims(module: str) -> list[dict[str, str]]:
    """The claims of the paper whose recipe is ``module``, those that were measured and have a figure first.

    Each has its ``claim``, the ``paper``'s figure, and of the first finding what was measured ``here`` and its
    ``verdict``; empty texts where there is none. Empty if there is no ``paper.toml``, as for a recipe of no paper.
    """
    spec = importlib.util.find_spec(module.rpartition(".")[0])
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not places or not (Path(places[0]) / "paper.toml").is_file():
        return []
    results = Path(places[0]) / "results.json"
    try:
        claims = tomllib.loads((Path(places[0]) / "paper.toml").read_text(encoding="utf-8"))["claims"]
        findings = json.loads(results.read_text(encoding="utf-8"))["findings"] if results.is_file() else []
        rows = [_row(claim, [f for f in findings if f["claim"] == claim["id"]]) for claim in claims]
    except (OSError, AttributeError, KeyError, TypeError, ValueError, InputError):
        return []  # the run is well; ``paperworks list`` names what is wrong with the files
    return sorted(rows, key=lambda row: (not row["here"], not any(c.isdigit() for c in row["paper"])))


def _row(claim: dict[str, Any], findings: list[dict[str, Any]]) -> dict[str, str]:
    paper = claim.get("value", "")
    if paper and claim.get("baseline"):
        paper += f" (against {claim['baseline']})"
    here, verdict = "", claim.get("reason", "")
    if findings:
        checked = [Finding.from_dict(f).to_dict() for f in findings]
        # the one that fails, if one does: the claim holds only if all of them do
        shown = next((f for f in checked if not f["holds"]), checked[0])
        here = f"{shown['statement'].rstrip('.')}: {relation_text(shown)}"
        verdict = verdict_text(shown)
    return {"claim": claim["statement"], "paper": paper, "here": here, "verdict": verdict}
