"""From the user's file to rows that can be chosen: checks, embeddings, quality."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.embedding import encode_to_file
from paperworks.embedding.rows import as_rows, chunk_rows, read_rows
from paperworks.errors import InputError
from paperworks.language.generation import InstructionFile
from paperworks.papers.diversify_conquer.config import DATA, Config
from paperworks.papers.diversify_conquer.coverage import dominating_column
from paperworks.papers.diversify_conquer.pool import (
    Pool,
    Scan,
    Texts,
    bundled_records,
    chunked_encoder,
    read_ids,
)
from paperworks.papers.diversify_conquer.quality import (
    NAMED,
    column_quality,
    file_quality,
    model_quality,
    text_quality,
)
from paperworks.papers.diversify_conquer.scorers import DeitaScorer, PerplexityScorer, RewardModelScorer
from paperworks.runs.files import replace_file


@dataclass
class Prepared:
    """What the selection works on.

    Attributes
    ----------
    pool : all samples.
    rows : int64 [n], the samples that can be chosen, by their row in the data.
    vectors : [n, d], their embeddings.
    quality : float64 [n] or None.
    counts : samples by what became of them, for the report.
    notes : what the reader should know.
    """

    pool: Pool
    rows: np.ndarray
    vectors: Any
    quality: np.ndarray | None
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)


def prepare(config: Config, run: runs.Run) -> Prepared:
    """Read, check, embed, and rate."""
    run.step(f"reading {config.data}")
    if config.data in DATA:
        pool = Pool(bundled_records(config.data), config.ids)
    else:
        pool = Pool(InstructionFile(config.data, "data"), config.ids)
    scan = _scanned(pool, run)
    notes: list[str] = []
    rows, counts = _usable(config, pool, scan)
    _check_budget(config, len(rows), len(pool))
    # what is read of a file is looked at before models are asked, which may take hours
    read = config.quality not in (*NAMED, "compression", "length", "none")
    quality = _quality(config, run, pool, scan, rows, notes) if read else None
    vectors = _vectors(config, run, pool, rows, notes)
    if not read:
        quality = _quality(config, run, pool, scan, rows, notes)
    return Prepared(pool, rows, vectors, quality, counts, notes)


def budget_of(config: Config) -> int | float:
    """The budget as ``resolve_budget`` takes it."""
    return int(config.budget) if config.budget >= 1 else config.budget


def _check_budget(config: Config, usable: int, all_samples: int) -> None:
    if config.budget > usable:
        found = f"{int(config.budget)}, above the {usable} samples that can be chosen (of {all_samples})"
        raise InputError("budget", found, f"at most {usable}")


def _scanned(pool: Pool, run: runs.Run) -> Scan:
    kept = run.state / "scan.npz"
    if kept.is_file():
        with np.load(kept) as stored:
            return Scan(stored["empty"], stored["duplicate"], stored["id_digests"])
    scan = pool.scan(run.progress)
    save_arrays(kept, empty=scan.empty, duplicate=scan.duplicate, id_digests=scan.id_digests)
    return scan


def _usable(config: Config, pool: Pool, scan: Scan) -> tuple[np.ndarray, dict[str, int]]:
    usable = ~scan.empty
    counts = {"samples": len(pool), "empty": int(scan.empty.sum()), "duplicates": int(scan.duplicate.sum())}
    if config.duplicates == "drop":
        usable &= ~scan.duplicate
    if config.exclude is not None:
        excluded = pool.positions(read_ids(config.exclude, "exclude"), scan, "exclude")
        counts["excluded by id"] = len(excluded)
        usable[excluded] = False
    rows = np.flatnonzero(usable)
    if len(rows) < 2:
        raise InputError("data", f"{len(rows)} of {len(pool)} samples that can be chosen", "2 or more")
    counts["can be chosen"] = len(rows)
    return rows, counts


def _vectors(config: Config, run: runs.Run, pool: Pool, rows: np.ndarray, notes: list[str]) -> Any:
    if config.embeddings is not None:
        given = as_rows(config.embeddings, "embeddings")
        if given.shape[0] != len(pool):
            raise InputError("embeddings", f"{given.shape[0]} rows", f"{len(pool)}, one for each sample of the data")
        vectors = given if len(rows) == len(pool) else _part(given, rows, run.state / "part.npy", run)
        column, share = dominating_column(vectors)
        if share > 0.5 and vectors.shape[1] > 2:
            notes.append(
                f"Column {column} of the embeddings has {share:.0%} of their variance and decides the clusters: "
                "scale the columns if that is not meant."
            )
        return vectors
    run.step(f"embedding {len(rows):,} samples")
    path = run.state / "embeddings.npy"
    if path.is_file():
        return np.load(path, mmap_mode="r")
    chunked = chunked_encoder(config.encoder, **({"device": config.device} if config.encoder is not None else {}))
    from paperworks.embedding import TruncationWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # chunks of unusual text may pass the limit by some tokens
        return encode_to_file(chunked, Texts(pool, rows, config.text), path, progress=run.progress)


def _part(given: Any, rows: np.ndarray, path: Path, run: runs.Run) -> Any:
    """Some rows of a memory-mapped array as a file of their own, written in chunks."""
    if path.is_file():
        return np.load(path, mmap_mode="r")
    size = chunk_rows(given.shape[1], 16 * 2**20)
    with replace_file(path) as aside:
        out = np.lib.format.open_memmap(aside, "w+", np.float32, (len(rows), given.shape[1]))
        for start in run.progress(range(0, len(rows), size), "copying embeddings"):
            out[start : start + size] = read_rows(given, rows[start : start + size], "embeddings")
        out.flush()
    return np.load(path, mmap_mode="r")


def _quality(
    config: Config, run: runs.Run, pool: Pool, scan: Scan, rows: np.ndarray, notes: list[str]
) -> np.ndarray | None:
    name = config.quality
    if name == "none":
        return None
    kept = run.state / "quality.npy"
    if kept.is_file():
        values = np.load(kept)
    else:
        run.step(f"quality: {name}")
        if name in ("compression", "length"):
            values = text_quality(name, pool, rows, run.progress)
        elif name in NAMED:
            values = model_quality(_scorer(config), pool, rows, run.state / "quality-partial.npy", run.progress)
        elif Path(name).suffix.lower() in (".npy", ".csv"):
            values = file_quality(Path(name).expanduser(), pool, scan)[rows]
        else:
            values = column_quality(name, pool, rows, run.progress)
        with runs.files.replace_file(kept) as aside, aside.open("wb") as out:
            np.save(out, values)
    missing = int(np.isnan(values).sum())
    if missing == len(values):
        raise InputError("quality", f"{name}: no value for any sample that can be chosen", "one or more")
    if missing:
        notes.append(f"{missing:,} samples have no quality; each counts as the median of its cluster.")
    return values


def _scorer(config: Config) -> Any:
    if config.quality == "likelihood":
        return PerplexityScorer(config.model, sign=-1, device=config.device)
    if config.quality == "reward":
        assert config.reward_model is not None
        return RewardModelScorer(config.reward_model, device=config.device)
    assert config.complexity_model is not None
    assert config.quality_model is not None
    return DeitaScorer(config.complexity_model, config.quality_model, device=config.device)


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write an ``.npz`` file, replaced in one step."""
    with runs.files.replace_file(path) as aside, aside.open("wb") as out:
        np.savez(out, **arrays)
