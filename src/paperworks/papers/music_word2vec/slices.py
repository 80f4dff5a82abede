"""Beats to words: the set of sounding pitch classes of every slice of a piece."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from paperworks.errors import InputError
from paperworks.papers.music_word2vec.notes import Piece, piece_from_array

Word: TypeAlias = int | str
"""A slice: an int of 12 bits (bit 0 is C, bit 11 is B, 0 is silence), or the text of nine octave codes."""

TOLERANCE = 1e-6
"""Quarter lengths within which two times are the same: three thirds are a quarter."""
_LOWEST, _HIGHEST = 21, 108
_MOST_SLICES = 2_000_000


@dataclass
class SliceEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encodes pieces as words, one per slice of ``beat`` quarter lengths.

    Parameters
    ----------
    beat : quarter lengths of a slice; or "signature" for the beat of the time signature (a dotted quarter in 6/8).
    representation : "pc", ints of 12 bits; "88", texts of nine octave codes (A0 to B0, seven octaves from C1, C8), in
        which bit 0 of every code is C.
    end : "exclusive", a note belongs to the slices that it overlaps; "official", times are rounded to three decimals
        and a note that ends on a beat belongs to the following slice too, as in the released code.
    drop_percussion : leave out percussion when files are read.
    expand_repeats : play the repeats of a score when files are read.
    trim : leave out silence before the first and after the last note.

    Attributes
    ----------
    offsets_ : after ``transform``, the begin of every slice of every piece in quarter lengths.
    skipped_ : after ``transform``, files that could not be read, with the reason.
    """

    beat: float | Literal["signature"] = 1.0
    representation: Literal["pc", "88"] = "pc"
    end: Literal["exclusive", "official"] = "exclusive"
    drop_percussion: bool = True
    expand_repeats: bool = False
    trim: bool = True
    offsets_: list[np.ndarray] = field(default_factory=list, init=False, repr=False)
    skipped_: list[tuple[str, str]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.beat != "signature" and not (
            isinstance(self.beat, Real) and 1 / 64 <= self.beat <= 64  # also refuses NaN
        ):
            raise InputError("beat", repr(self.beat), "quarter lengths from 1/64 to 64, or signature")
        if self.representation not in ("pc", "88"):
            raise InputError("representation", repr(self.representation), "pc or 88")
        if self.end not in ("exclusive", "official"):
            raise InputError("end", repr(self.end), "exclusive or official")

    def fit(self, pieces: Any = None, y: Any = None) -> SliceEncoder:
        """Nothing is learned; there for pipelines."""
        return self

    def transform(self, pieces: Any) -> list[list[Word]]:
        """The words of each piece.

        Parameters
        ----------
        pieces : paths, music21 streams, ``Piece`` objects or arrays ``[n, 3]`` (onset, duration, MIDI pitch), one or
            many. Of many files, those that cannot be read are skipped and listed in ``skipped_``.

        Raises
        ------
        InputError : nothing could be read, or a piece without notes, with negative onsets or pitches outside 0..127.
        """
        self._check()  # set_params may have changed them
        self.offsets_, self.skipped_ = [], []
        found = []
        for piece in self._read(pieces):
            words, offsets = self.encode(piece)
            found.append(words)
            self.offsets_.append(offsets)
        return found

    def encode(self, piece: Piece) -> tuple[list[Word], np.ndarray]:
        """The words of one piece and the begin of each slice in quarter lengths."""
        onset, end = piece.onset, piece.onset + piece.duration
        if self.end == "official":
            onset, end = _official(piece)
        bounds = self.bounds(piece)
        first, last = _span(bounds, onset, end, inclusive=self.end == "official")
        counts = last - first + 1
        note = np.repeat(np.arange(len(onset)), counts)
        slot = np.repeat(first, counts) + np.arange(len(note)) - np.repeat(np.cumsum(counts) - counts, counts)
        words: list[Any]
        if self.representation == "pc":
            codes = np.zeros(len(bounds) - 1, np.int64)
            np.bitwise_or.at(codes, slot, 1 << (piece.pitch[note] % 12))
            filled = codes != 0
            words = [*codes.tolist()]
        else:
            octaves = _octaves(slot, piece.pitch[note], len(bounds) - 1)
            filled = octaves.any(axis=1)
            words = ["-".join(map(str, row)) for row in octaves.tolist()]
        begins = bounds[:-1]
        if not self.trim or not filled.any():
            return words, begins
        low, high = int(filled.argmax()), len(filled) - int(filled[::-1].argmax())
        return words[low:high], begins[low:high]

    def bounds(self, piece: Piece) -> np.ndarray:
        """Where slices begin, and one more: quarter lengths ``[n + 1]``, ascending."""
        end, reached = piece.end, float(piece.onset.max())
        if self.end == "official":
            end = reached = float(_official(piece)[1].max())
        # the last slice has what sounds before ``end``, and the moment ``reached`` itself
        if self.beat != "signature":
            beat = float(self.beat)
            least = int(reached / beat + TOLERANCE) + 1
            return np.arange(max(_whole(end / beat, piece.name), least) + 1) * beat
        end = max(end, reached + 2 * TOLERANCE)
        changes = piece.beats or ()
        starts = [0.0, *(c.offset for c in changes[1:])]
        found: list[np.ndarray] = []
        for i, start in enumerate(starts):
            stop = min(starts[i + 1], end) if i + 1 < len(starts) else end
            length = changes[i].length if changes else 1.0
            anchor = changes[i].anchor if changes else 0.0
            if stop <= start + TOLERANCE:
                continue
            anchor -= np.ceil((anchor - start) / length - TOLERANCE) * length  # at or before the start
            steps = _whole((stop - anchor) / length, piece.name)
            grid = anchor + np.arange(steps + 1) * length
            found.append(grid[grid < stop - TOLERANCE])
        return np.append(np.concatenate(found), max(end, found[-1][-1] + TOLERANCE))

    def _read(self, pieces: Any) -> Iterable[Piece]:
        many = list(pieces) if isinstance(pieces, list | tuple) else [pieces]
        if not many:
            raise InputError("pieces", "none", "at least one piece")
        if all(isinstance(p, str | Path) for p in many):
            from paperworks.papers.music_word2vec.reading import read_scores, score_files

            files = [f for p in many for f in (score_files(p) if Path(p).is_dir() else [Path(p)])]
            scores = read_scores(files, drop_percussion=self.drop_percussion, expand_repeats=self.expand_repeats)
            self.skipped_ = scores.skipped
            return scores.pieces
        return [self._piece(p, number) for number, p in enumerate(many)]

    def _piece(self, piece: Any, number: int) -> Piece:
        options = {"drop_percussion": self.drop_percussion, "expand_repeats": self.expand_repeats}
        if isinstance(piece, Piece):
            return piece
        if isinstance(piece, str | Path):
            from paperworks.papers.music_word2vec.reading import read_score

            return read_score(piece, **options)
        if hasattr(piece, "recurse"):
            from paperworks.papers.music_word2vec.reading import piece_from_stream

            return piece_from_stream(piece, f"stream {number}", **options)
        return piece_from_array(piece, f"piece {number}")


def _whole(slices: float, name: str) -> int:
    if slices > _MOST_SLICES:
        raise InputError(name, f"{slices:.3g} slices", f"at most {_MOST_SLICES:,} slices")
    return max(int(np.ceil(slices - TOLERANCE)), 1)


def _official(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """Onset and end of each note as the released code rounds them."""
    onset = piece.onset.round(3)
    return onset, (onset + piece.duration.round(3)).round(6)


def _span(bounds: np.ndarray, onset: np.ndarray, end: np.ndarray, *, inclusive: bool) -> tuple[np.ndarray, np.ndarray]:
    """First and last slice of each note. A note without duration belongs to the slice of its onset."""
    first = np.searchsorted(bounds, onset + TOLERANCE, side="right") - 1
    if inclusive:
        last = np.searchsorted(bounds, end + TOLERANCE, side="right") - 1
    else:
        last = np.searchsorted(bounds, end - TOLERANCE, side="left") - 1
    most = len(bounds) - 2
    first = np.minimum(first, most)
    return first, np.minimum(np.maximum(last, first), most)


def _octaves(slot: np.ndarray, pitch: np.ndarray, slices: int) -> np.ndarray:
    """Nine octave codes of each slice ``[slices, 9]``; pitches off the keyboard of 88 keys are left out."""
    codes = np.zeros((slices, 9), np.int64)
    keys = (pitch >= _LOWEST) & (pitch <= _HIGHEST)
    np.bitwise_or.at(codes, (slot[keys], pitch[keys] // 12 - 1), 1 << (pitch[keys] % 12))
    return codes


def encode_pitches(pitches: Iterable[int]) -> int:
    """The word of a set of MIDI pitches or pitch classes."""
    code = 0
    for pitch in pitches:
        code |= 1 << (int(pitch) % 12)
    return code


def pitch_classes(word: int) -> list[int]:
    """The pitch classes of a word, ascending."""
    return [pc for pc in range(12) if word >> pc & 1]


def transpose_word(word: Word, semitones: int) -> Word:
    """The word of the same slice moved by semitones: its 12 bits rotated.

    Raises InputError for words of 88 keys: they are transposed before they are encoded (``Piece.transposed``).
    """
    if not isinstance(word, int | np.integer):
        raise InputError("word", repr(word), "a word of 12 bits")
    k = semitones % 12
    return ((int(word) << k) | (int(word) >> (12 - k))) & 0xFFF


def transpose_words(words: Sequence[int], semitones: int) -> list[int]:
    """A sequence of words moved by semitones."""
    codes = np.asarray(words, dtype=np.int64)
    k = semitones % 12
    return (((codes << k) | (codes >> (12 - k))) & 0xFFF).tolist()
