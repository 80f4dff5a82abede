"""The method on a user's own scores: learn vectors of their beats, report what harmony they hold, vary a score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.music_word2vec.config import BUNDLED, Config

if TYPE_CHECKING:
    from paperworks.papers.music_word2vec.notes import Piece
    from paperworks.papers.music_word2vec.slices import SliceEncoder

__all__ = ["Config", "Corpus", "run"]


@dataclass
class Corpus:
    """The slices of all scores, those that are learned from and those that are held out."""

    pieces: list[Piece]
    words: list[list[Any]]
    held: list[int]
    files: dict[str, Path]
    """Name of a piece -> its file, for scores that were read; names are paths within the folder."""
    skipped: list[tuple[str, str]]
    notes: list[str]

    @property
    def train(self) -> list[list[Any]]:
        """What is learned from."""
        return [words for i, words in enumerate(self.words) if i not in set(self.held)]

    @property
    def test(self) -> list[list[Any]]:
        """What is held out; all where nothing is."""
        return [self.words[i] for i in self.held] or self.words


def run(config: Config, run: runs.Run) -> runs.Report:
    """Learn vectors of beats, measure what harmony they hold, and vary a score."""
    from paperworks.papers.music_word2vec.model import MusicWord2Vec
    from paperworks.papers.music_word2vec.reporting import make_report
    from paperworks.papers.music_word2vec.slices import SliceEncoder
    from paperworks.papers.music_word2vec.variation import open_score

    if config.vary is not None:
        open_score(config.vary)  # refused now rather than after the learning
    encoder = SliceEncoder(
        beat="signature" if config.beat == "signature" else float(config.beat),
        representation=config.representation,
        end=config.end,
        expand_repeats=config.repeats,
    )
    corpus = read_corpus(config, run, encoder)
    model = MusicWord2Vec(
        vector_size=config.vector_size,
        window=config.window,
        vocab_size=config.vocab_size,
        negatives=config.negatives,
        loss=config.loss,
        steps=config.steps,
        lr=config.lr,
        transpose_augment=config.transpose,
        workers=config.workers,
        random_state=config.seed,
    )
    run.step(f"learning from {sum(map(len, corpus.train)):,} slices of {len(corpus.train)} scores")
    model.fit(corpus.train, progress=run.progress, checkpoint=run.state / "training.npz")
    return make_report(config, run, corpus, model, encoder)


def read_corpus(config: Config, run: runs.Run, encoder: SliceEncoder) -> Corpus:
    """Read, slice and split the scores."""
    from paperworks.papers.music_word2vec.chorales import load_chorales

    files: dict[str, Path] = {}
    skipped: list[tuple[str, str]] = []
    if config.scores in BUNDLED and not Path(config.scores).exists():
        run.step("reading the bundled chorales")
        pieces = load_chorales()
        if config.beat == "signature":
            raise InputError("beat", "signature, for the bundled notes without meters", "quarter lengths, or --scores")
    else:
        pieces, skipped, files = _read_files(config, run)
    words, kept = [], []
    for piece in run.progress(pieces, "slicing"):
        found, _ = encoder.encode(piece)
        if len(found) > 1 and len(set(found)) > 1:
            words.append(found)
            kept.append(piece)
        else:
            skipped.append((piece.name, "fewer than two different slices"))
    if not words:
        raise InputError("scores", "no score with two different slices", "scores of some beats")
    notes = [note for piece in kept for note in piece.notes][:10]
    held = _held_out(len(words), config.held_out)
    if not held:
        notes.append("No score is held out: the distances of keys and the variation use scores that were learned from.")
    return Corpus(kept, words, held, files, skipped, notes)


def _read_files(config: Config, run: runs.Run) -> tuple[list[Piece], list[tuple[str, str]], dict[str, Path]]:
    from paperworks.papers.music_word2vec.reading import read_scores, score_files

    found = score_files(config.scores)
    run.step(f"reading {len(found)} scores")
    scores = read_scores(found, expand_repeats=config.repeats, cache=_cache(run), progress=run.progress)
    root = Path(config.scores)
    names = {p: p.relative_to(root).as_posix() if p != root else p.name for p in found}  # subfolders may repeat a name
    pieces = [replace(piece, name=names[file]) for piece, file in zip(scores.pieces, scores.files, strict=True)]
    unread = [file for file in found if file not in set(scores.files)]
    skipped = [(names[file], reason) for file, (_, reason) in zip(unread, scores.skipped, strict=True)]
    return pieces, skipped, {names[file]: file for file in scores.files}


def _cache(run: runs.Run) -> Path:
    """Where what was parsed is kept, by content: for all runs, or for this one where the home cannot be written."""
    from paperworks.runs.store import home

    place = home() / "scores"
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / ".writable").touch()
    except OSError:
        return run.state / "scores"
    return place


def _held_out(pieces: int, wanted: int) -> list[int]:
    """Places of the scores that are held out, evenly spread; at most a quarter of all."""
    count = min(wanted, pieces // 4)
    return [int((k + 0.5) * pieces / count) for k in range(count)]
