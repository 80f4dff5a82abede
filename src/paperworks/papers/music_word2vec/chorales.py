"""The bundled input: notes of Bach's works in music21's corpus, so that nothing has to be parsed.

    python -m paperworks.papers.music_word2vec.chorales      writes data/chorales.npz from the installed music21

The music is by Johann Sebastian Bach (1685-1750) and in the public domain. The file holds facts of the notes (onset,
duration, pitch, part), and nothing of the typesetting, texts or analyses of the encoded scores.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from paperworks.papers.music_word2vec.notes import Piece
from paperworks.papers.music_word2vec.slices import SliceEncoder, Word

FILE = Path(__file__).parent / "data" / "chorales.npz"
TICKS = 48 * 5 * 7
"""Parts of a quarter in which times are stored: thirds, fifths, sevenths and sixteenths of it are whole."""


def load_chorales() -> list[Piece]:
    """The bundled works, 4-part chorales for the most part, sorted by name. Needs no music21.

    Names are those of music21's corpus, such as ``bwv66.6``.
    """
    with np.load(FILE, allow_pickle=False) as stored:
        names = str(stored["names"]).split("\n")
        starts, fifths = np.append(0, np.cumsum(stored["lengths"])), stored["fifths"]
        steps, durations = stored["onset_steps"].astype(np.int64), stored["duration"].astype(np.float64) / TICKS
        pitch, part = stored["pitch"].astype(np.int64), stored["part"].astype(np.int64)
    pieces = []
    for i, name in enumerate(names):
        rows = slice(starts[i], starts[i + 1])
        onset = np.cumsum(steps[rows]) / TICKS
        pieces.append(Piece(name, onset, durations[rows], pitch[rows], part[rows], fifths=int(fifths[i])))
    return pieces


def write_chorales(file: Path = FILE) -> str:
    """Parse the Bach folder of music21's corpus and write the bundled file; says what was written."""
    import music21

    from paperworks.papers.music_word2vec.reading import read_scores

    folder = Path(music21.__file__).parent / "corpus" / "bach"
    files = sorted(p for p in folder.iterdir() if p.suffix in (".mxl", ".xml", ".krn"))
    scores = read_scores(files, jobs=1)
    pieces = distinct([replace(p, name=Path(p.name).stem) for p in scores.pieces])
    _pack(pieces, file)
    left = "; ".join(f"{n}: {reason}" for n, reason in scores.skipped)
    twice = len(scores.pieces) - len(pieces)
    return (
        f"{len(pieces)} works, {sum(map(len, pieces)):,} notes, {file.stat().st_size:,} bytes; "
        f"{twice} left out that are there twice; not read: {left or 'none'}"
    )


def _pack(pieces: list[Piece], file: Path) -> None:
    onset = [np.rint(p.onset * TICKS).astype(np.int64) for p in pieces]
    columns = {
        "names": np.array("\n".join(p.name for p in pieces)),
        "lengths": np.array([len(p) for p in pieces], np.int32),
        "fifths": np.array([p.fifths or 0 for p in pieces], np.int8),
        "onset_steps": np.concatenate([np.diff(o, prepend=0) for o in onset]).astype(np.int32),
        "duration": np.concatenate([np.rint(p.duration * TICKS) for p in pieces]).astype(np.int32),
        "pitch": np.concatenate([p.pitch for p in pieces]).astype(np.uint8),
        "part": np.concatenate([p.part for p in pieces]).astype(np.uint8),
    }
    with file.open("wb") as out:
        np.savez_compressed(out, **columns)  # type: ignore[arg-type]


def distinct(pieces: list[Piece]) -> list[Piece]:
    """Without works that are there twice: another edition, or the same chorale in another cantata.

    Of two works that share half of the runs of four slices of the one with fewer, the one with more is kept.
    """
    runs: list[set[tuple[Word, ...]]] = []
    for piece in pieces:
        words, _ = SliceEncoder().encode(piece)
        runs.append({tuple(words[i : i + 4]) for i in range(len(words) - 3)})
    kept: list[int] = []
    for i in sorted(range(len(pieces)), key=lambda i: -len(runs[i])):
        if all(2 * len(runs[i] & runs[k]) < len(runs[i]) for k in kept):
            kept.append(i)
    return [pieces[i] for i in sorted(kept)]


if __name__ == "__main__":
    print(write_chorales())
