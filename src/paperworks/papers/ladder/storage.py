"""Discoveries as tables, as Markdown, and as folders of safetensors and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.ladder.aligner import LinearAligner
from paperworks.papers.ladder.slices import ErrorSlice
from paperworks.runs.files import new_folder

if TYPE_CHECKING:
    import pandas as pd

    from paperworks.papers.ladder.discovery import SliceDiscovery

FORMAT = 1
SETTINGS = ("top_k", "percentile", "percentile_scope", "margin", "n_hypotheses", "random_state")


def slice_table(slices: Sequence[ErrorSlice]) -> pd.DataFrame:
    """One row per slice."""
    import pandas as pd

    columns = [
        "class",
        "attribute",
        "n_without",
        "n_with",
        "accuracy_without",
        "accuracy_with",
        "gap",
        "error_rise",
        "p",
        "p_holm",
        "clip_score",
        "confirmed",
        "examples",
    ]
    rows = [
        [
            s.class_name,
            s.name,
            s.n_without,
            s.n_with,
            s.accuracy_without,
            s.accuracy_with,
            s.gap,
            s.error_rise,
            s.p,
            s.p_holm,
            s.clip_score,
            s.confirmed,
            " ".join(s.examples),
        ]
        for s in slices
    ]
    return pd.DataFrame(rows, columns=columns)


def to_markdown(discovery: SliceDiscovery) -> str:
    """The report that a reader takes away."""
    lines = ["# Error slices", ""]
    count = len(discovery.confirmed_)
    lines += [f"{count} of {len(discovery.slices_)} hypotheses are confirmed (margin {discovery.margin:g}).", ""]
    head = "| class | attribute | without | with | accuracy without | with | p (Holm) | confirmed |"
    lines += [head, "|" + " --- |" * 8]
    for s in discovery.slices_:
        lines.append(
            f"| {_cell(s.class_name)} | {_cell(s.name)} | {s.n_without} | {s.n_with} | {s.accuracy_without:.3f} | "
            f"{s.accuracy_with:.3f} | {s.p_holm:.2g} | {'yes' if s.confirmed else 'no'} |"
        )
    for s in discovery.slices_:
        if s.confirmed:
            lines += [
                "",
                f"## {s.class_name} without {s.name}",
                "",
                s.statement,
                "",
                "Examples: " + ", ".join(s.examples),
            ]
            lines += ["", *(f"- {t}" for t in s.test_sentences)]
    if discovery.notes_:
        lines += ["", "## Notes", "", *(f"- {note}" for note in discovery.notes_)]
    return "\n".join(lines) + "\n"


def save_discovery(discovery: SliceDiscovery, path: Path) -> None:
    """Write the folder in one step."""
    from safetensors.numpy import save_file

    described = {
        "format": FORMAT,
        "settings": {name: getattr(discovery, name) for name in SETTINGS},
        "class_names": list(discovery.class_names_),
        "slices": [_plain(asdict(s)) for s in discovery.slices_],
        "top_sentences": {str(k): v for k, v in discovery.top_sentences_.items()},
        "stability": {str(k): v for k, v in discovery.stability_.items()},
        "skipped": {str(k): v for k, v in discovery.skipped_.items()},
        "notes": list(discovery.notes_),
        "validation_digest": discovery.validation_digest_,
        "aligner": {"mse": _plain(discovery.aligner_.mse_), "r2": _plain(discovery.aligner_.r2_)},
    }
    arrays = {
        "aligner.weight": discovery.aligner_.weight_,
        "aligner.bias": discovery.aligner_.bias_,
        "hypotheses": discovery.vectors_,
        **{f"delta.{code}": delta for code, delta in discovery.delta_.items()},
    }
    with new_folder(path, "path") as aside:
        # copies: safetensors writes memory as it lies, whatever a view's strides are
        save_file({k: np.array(v, np.float64, order="C") for k, v in arrays.items()}, aside / "discovery.safetensors")
        (aside / "discovery.json").write_text(json.dumps(described, ensure_ascii=False, indent=1), encoding="utf-8")


def load_discovery(path: Path) -> SliceDiscovery:
    """Read the folder. Raises InputError for one that is not whole."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from paperworks.papers.ladder.discovery import SliceDiscovery

    try:
        described = json.loads((path / "discovery.json").read_text(encoding="utf-8"))
        arrays = load_file(path / "discovery.safetensors")
        found = SliceDiscovery(**described["settings"])
        found.class_names_ = list(described["class_names"])
        found.slices_ = [_slice(s) for s in described["slices"]]
        found.vectors_ = arrays["hypotheses"]
        found.aligner_ = LinearAligner()
        found.aligner_.weight_, found.aligner_.bias_ = arrays["aligner.weight"], arrays["aligner.bias"]
        found.aligner_.mse_, found.aligner_.r2_ = (_number(described["aligner"][k]) for k in ("mse", "r2"))
        found.delta_ = {int(k.partition(".")[2]): v for k, v in arrays.items() if k.startswith("delta.")}
        found.top_sentences_ = {int(k): v for k, v in described["top_sentences"].items()}
        found.stability_ = {int(k): v for k, v in described["stability"].items()}
        found.skipped_ = {int(k): v for k, v in described["skipped"].items()}
        found.notes_ = list(described["notes"])
        found.validation_digest_ = described["validation_digest"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "path", f"{path} ({type(error).__name__})", "a folder that SliceDiscovery.save wrote"
        ) from None
    return found


def _slice(stored: dict[str, Any]) -> ErrorSlice:
    values = {k: _number(v) if v is None else v for k, v in stored.items()}
    return ErrorSlice(**values | {k: tuple(stored[k]) for k in ("test_sentences", "examples")})


def _plain(value: Any) -> Any:
    """JSON has no NaN: None stands for it."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
