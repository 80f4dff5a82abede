"""What the options name: transcripts, procedures, references, names to leave out."""

from __future__ import annotations

import json
from pathlib import Path

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.sieve_swap.config import Config
from paperworks.papers.sieve_swap.procedures import (
    KnowledgeBase,
    Procedure,
    read_procedures,
    wikibooks_recipes,
)
from paperworks.papers.sieve_swap.results import SieveResult
from paperworks.papers.sieve_swap.sentences import VideoTranscript, read_transcripts
from paperworks.papers.sieve_swap.sieve import SieveSwap, VideoMatch
from paperworks.papers.sieve_swap.steps_dataset import StepDataset
from paperworks.papers.sieve_swap.thresholds import parse_tau, read_sentences
from paperworks.runs.files import write_text

BUNDLE = Path(__file__).parent / "bundle"


def load_procedures(config: Config) -> list[Procedure]:
    """The written procedures."""
    if config.procedures == "bundled":
        return read_procedures(BUNDLE / "procedures.jsonl")
    return wikibooks_recipes() if config.procedures == "wikibooks" else read_procedures(config.procedures)


def load_transcripts(config: Config) -> list[VideoTranscript]:
    """The transcripts, with the durations of the videos if these are given."""
    if config.transcripts != "bundled":
        return read_transcripts(config.transcripts, videos=config.videos)
    if config.videos is not None:
        raise InputError("transcripts", "bundled, with videos of your own", "the transcripts of the videos")
    durations = {video: steps.duration for video, steps in load_bundled_references().items()}
    return read_transcripts(BUNDLE / "transcripts", durations=durations)


def load_bundled_references() -> StepDataset:
    """The true steps of the bundled transcripts."""
    return StepDataset.read(BUNDLE / "references.json", "references")


def load_references(config: Config) -> StepDataset | None:
    """The true steps, where they are known."""
    if config.references is not None:
        return StepDataset.read(config.references, "references")
    bundled = config.transcripts == "bundled" and config.procedures == "bundled"
    return load_bundled_references() if bundled else None


def excluded(config: Config) -> list[str]:
    """Names of what must not be used."""
    return [] if config.exclude is None else read_sentences(config.exclude)


def sift(config: Config, run: runs.Run) -> tuple[SieveResult, SieveSwap]:
    """Sieve and Swap on what the options name; a run that was stopped does not match a transcript again."""
    run.step(f"reading {config.procedures} procedures and {config.transcripts} transcripts")
    names = excluded(config)
    kb = KnowledgeBase.of(load_procedures(config), exclude=names, filter_steps=config.filter_steps)
    transcripts = load_transcripts(config)
    load_references(config)  # the report reads them: what cannot be read is refused before the work
    run.step(f"indexing {len(kb.steps):,} steps of {len(kb):,} procedures")
    dense = config.encoder not in ("tfidf", "bm25", "svd")
    method = SieveSwap(
        config.encoder,
        parse_tau(config.tau),
        config.k,
        config.match,
        variant=config.variant,
        min_iou=config.min_iou,
        min_recall=config.min_recall,
        most_candidates=config.most_candidates,
        irrelevant=None if config.irrelevant is None else read_sentences(config.irrelevant),
        margin=config.margin,
        max_gap=config.max_gap,
        min_seconds=config.min_seconds,
        most_segments=config.most_segments,
        exclude=names,
        filter_steps=config.filter_steps,
        cache=run.state / "steps.npy" if dense and _encoder_is_here(config) else None,
        seed=config.seed % 2**32,
        progress=run.progress,
    ).fit(kb)
    matches: list[VideoMatch] = []
    for transcript in run.progress(transcripts, "matching transcripts", len(transcripts)):
        kept = run.state / "matches" / f"{len(matches):06}.json"
        if kept.is_file():
            match = VideoMatch.from_dict(json.loads(kept.read_text(encoding="utf-8")))
        else:
            match = method.match_video(transcript)
            write_text(kept, json.dumps(match.to_dict()))
        matches.append(match)
    result = method.decide(matches)
    for transcript in transcripts:
        repairs = transcript.transcript.repairs
        if repairs:
            mended = ", ".join(f"{count} {what}" for what, count in sorted(repairs.items()))
            result.warnings.append(f"{transcript.id}: mended captions ({mended}).")
        encoding = transcript.transcript.encoding
        if not encoding.startswith("utf"):
            result.warnings.append(f"{transcript.id}: read as {encoding}; if letters are wrong, save it as UTF-8.")
    return result, method


def _encoder_is_here(config: Config) -> bool:
    from paperworks.embedding import sentence_encoder

    return config.encoder != "auto" or sentence_encoder() is not None
