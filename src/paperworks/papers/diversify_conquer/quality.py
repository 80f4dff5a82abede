"""Quality of samples: cheap figures of the text, a column or a file of the user, or a model's score."""

from __future__ import annotations

import csv
import zlib
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.kinds import whole_array
from paperworks.language.generation import InstructionRecord
from paperworks.papers.diversify_conquer.pool import Pool, Scan, prompt_text
from paperworks.runs import Progress, no_progress

NAMED = ("compression", "length", "none", "likelihood", "reward", "deita")
"""Qualities that have a name; anything else is a column of the data or a file."""


@cache
def _english() -> bytes:
    """32 KB from all over the bundled text, to prime the compression with: short texts alone say little."""
    from paperworks.language import bundled_text

    text = bundled_text("train")
    step = len(text) // 64
    return "".join(text[i * step : i * step + 500] for i in range(64)).encode()


def compression_ratio(text: str) -> float:
    """Bytes of the text over bytes of it compressed (zlib, primed with English prose).

    Random characters stay near 1, repetitions are far above prose.
    """
    data = text.encode("utf-8", "surrogatepass")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, _english())
    return len(data) / max(1, len(packer.compress(data) + packer.flush()))


def compression_quality(ratios: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Minus the absolute deviation of the log ratio from the median of texts of like length: float64 [n], at most 0.

    Longer texts compress better, so that the median is that of a tenth of the pool by length (of all, below 500 texts).
    """
    logs = np.log(np.maximum(ratios, 1e-9))
    parts = np.array_split(np.argsort(lengths, kind="stable"), 10 if len(logs) >= 500 else 1)
    usual = np.empty(len(logs))
    for part in parts:
        usual[part] = np.median(logs[part])
    return -np.abs(logs - usual)


def answer_text(record: InstructionRecord) -> str:
    """The answer; the prompt where there is none."""
    return record.response if record.response is not None else prompt_text(record)


def text_quality(name: str, pool: Pool, rows: np.ndarray, progress: Progress = no_progress) -> np.ndarray:
    """Quality "compression" or "length" (characters of the answer, as a logarithm) of some rows: float64 [n]."""
    values, lengths = np.empty(len(rows)), np.empty(len(rows))
    for start in progress(range(0, len(rows), 1000), f"quality: {name}"):
        for i, record in enumerate(pool.records.take(rows[start : start + 1000]), start):
            text = answer_text(record)
            lengths[i] = len(text)
            values[i] = compression_ratio(text) if name == "compression" else np.log1p(len(text))
    return compression_quality(values, lengths) if name == "compression" else values


def column_quality(name: str, pool: Pool, rows: np.ndarray, progress: Progress = no_progress) -> np.ndarray:
    """A column of the data as float64 [n]; NaN where it is missing or null.

    Raises InputError for a column that no record has, or a value that is not a number.
    """
    values, known = np.full(len(rows), np.nan), False
    for start in progress(range(0, len(rows), 1000), f"quality: {name}"):
        for i, record in enumerate(pool.records.take(rows[start : start + 1000]), start):
            known |= name in record.extra
            given = record.extra.get(name)
            if given is None or given == "":
                continue
            try:
                values[i] = float(given)
            except (TypeError, ValueError):
                where = f"{given!r} in column {name} of sample {record.id}"
                raise InputError("quality", where, "numbers, or nothing where there is none") from None
    if not known:
        columns = ", ".join(sorted(pool.records[int(rows[0])].extra)) or "none besides the texts"
        raise InputError(
            "quality", repr(name), f"{', '.join(NAMED)}, a .npy or .csv file, or a column of the data ({columns})"
        )
    return values


def file_quality(path: Path, pool: Pool, scan: Scan) -> np.ndarray:
    """Scores of all samples from a file: ``.npy`` float [n] in the order of the data, or ``.csv`` with id and score.

    Samples that a ``.csv`` leaves out get NaN. Raises InputError for ids that do not exist or repeat.
    """
    count = len(pool)
    if path.suffix.lower() == ".npy":
        try:
            values = whole_array(path)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InputError("quality", f"{path}, which cannot be read ({error})", "a .npy file") from None
        if values.shape != (count,) or values.dtype.kind not in "fiub":
            raise InputError("quality", f"{path}: {values.dtype} {values.shape}", f"numbers, one per sample ({count},)")
        return values.astype(np.float64)
    ids, scores = _id_scores(path)
    values = np.full(count, np.nan)
    values[pool.positions(ids, scan, "quality")] = scores
    return values


def _id_scores(path: Path) -> tuple[list[str], list[float]]:
    ids: list[str] = []
    scores: list[float] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as source:
            reader = csv.DictReader(source)
            names = reader.fieldnames or []
            score = next((n for n in ("score", "quality") if n in names), None)
            if "id" not in names or score is None:
                raise InputError("quality", f"{path} with columns {', '.join(names)}", "columns id and score")
            for row in reader:
                ids.append(str(row["id"]))
                scores.append(float(row[score]) if row[score] else np.nan)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("quality", f"{path}, which cannot be read ({error})", "a .csv file") from None
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("quality", f"{path}, line {len(ids) + 1}: not a number", "numbers as scores") from None
    return ids, scores


def model_quality(
    scorer: Any, pool: Pool, rows: np.ndarray, kept: Path, progress: Progress = no_progress
) -> np.ndarray:
    """A scorer's figure for prompt and answer of some rows: float64 [n]; NaN without an answer.

    ``kept`` holds the part that is done, so that a scoring of hours goes on after a kill.
    """
    from paperworks.runs.files import replace_file

    values = np.full(len(rows), np.nan)
    done = 0
    if kept.is_file():
        stored = np.load(kept)
        done = min(len(stored), len(rows))
        values[:done] = stored[:done]
    for start in progress(range(done, len(rows), 64), "quality by a model"):
        part = pool.records.take(rows[start : start + 64])
        answered = [i for i, r in enumerate(part) if r.response and r.response.strip()]
        if answered:
            values[start + np.array(answered)] = _scores(scorer, [part[i] for i in answered])
        with replace_file(kept) as aside, aside.open("wb") as out:
            np.save(out, values[: start + len(part)])
    return values


def _scores(scorer: Any, records: list[InstructionRecord]) -> np.ndarray:
    if hasattr(scorer, "score_records"):  # whole conversations
        return np.asarray(scorer.score_records(records), np.float64)
    return np.asarray(scorer.score([prompt_text(r) for r in records], [str(r.response) for r in records]), np.float64)
