"""A piece of music as arrays of notes: what the readers give and what the slicer takes. Times are quarter lengths."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError

BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What a file that is no .npz archive of ours, or a damaged one, raises while it is read."""
LONGEST = 200_000.0
"""Quarter lengths that a piece may last: longer ones come from broken time stamps (a day at 140 beats per minute)."""


@dataclass(frozen=True)
class BeatChange:
    """From ``offset`` on, in quarter lengths, beats of ``length`` quarter lengths are counted from ``anchor``."""

    offset: float
    length: float
    anchor: float


@dataclass(frozen=True)
class Piece:
    """The notes of a piece at sounding pitch, tied notes merged, sorted by onset.

    Attributes
    ----------
    name : file name or title, used in messages.
    onset, duration : quarter lengths ``[n]`` float64, 0 or more. Grace notes have duration 0.
    pitch : MIDI pitch ``[n]`` int64, 0..127.
    part : index of the part or track of each note ``[n]`` int64.
    beats : the beats of the time signatures, for ``SliceEncoder(beat="signature")``.
    fifths : sharps (positive) or flats (negative) of the first key signature; None where there is none.
    notes : remarks of the reader, in words.
    """

    name: str
    onset: np.ndarray
    duration: np.ndarray
    pitch: np.ndarray
    part: np.ndarray
    beats: tuple[BeatChange, ...] = ()
    fifths: int | None = None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.pitch)

    @property
    def end(self) -> float:
        """Where the last note ends, in quarter lengths."""
        return float((self.onset + self.duration).max())

    def transposed(self, semitones: int) -> Piece:
        """The piece moved by semitones; notes that would leave 0..127 are moved by octaves."""
        pitch = self.pitch + semitones
        pitch = np.where(pitch > 127, pitch - 12 * -(-(pitch - 127) // 12), pitch)
        pitch = np.where(pitch < 0, pitch + 12 * -(pitch // 12), pitch)
        return replace(self, pitch=pitch, fifths=None)


def piece_from_array(
    notes: ArrayLike, name: str = "notes", *, part: ArrayLike | None = None, beats: Sequence[BeatChange] = ()
) -> Piece:
    """A piece from rows of (onset, duration, pitch).

    Parameters
    ----------
    notes : ``[n, 3]``: onset and duration in quarter lengths, MIDI pitch.

    Raises
    ------
    InputError : no notes, another shape, a value that is not finite, a negative onset or duration, a pitch outside
        0..127 or between two keys, or an end beyond 200,000 quarter lengths.
    """
    try:
        rows = np.asarray(notes, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(name, "values that are no numbers", "rows of onset, duration, pitch") from None
    if rows.size == 0:
        raise InputError(name, "no notes", "at least one pitched note")
    if rows.ndim != 2 or rows.shape[1] != 3:
        raise InputError(name, f"an array of shape {rows.shape}", "shape [n, 3]: onset, duration, pitch")
    if not np.isfinite(rows).all():
        raise InputError(name, "a value that is not finite", "finite onsets, durations and pitches")
    for column, what in ((0, "onset"), (1, "duration")):
        if rows[:, column].min() < 0:
            raise InputError(name, f"a negative {what} ({rows[:, column].min():g})", f"{what}s of 0 or more")
    pitch = rows[:, 2].round().astype(np.int64)
    if (np.abs(rows[:, 2] - pitch) > 1e-6).any():
        raise InputError(name, "a pitch between two keys", "whole MIDI pitches")
    if pitch.min() < 0 or pitch.max() > 127:
        raise InputError(name, f"pitch {pitch.min() if pitch.min() < 0 else pitch.max()}", "MIDI pitches 0..127")
    end = float((rows[:, 0] + rows[:, 1]).max())
    if end > LONGEST:
        raise InputError(name, f"a note that ends at quarter {end:.6g}", f"at most {LONGEST:,.0f} quarters")
    voices = np.zeros(len(rows), np.int64) if part is None else np.asarray(part, dtype=np.int64)
    if voices.shape != pitch.shape:
        raise InputError(name, f"{voices.size} parts for {len(pitch)} notes", "one part a note")
    order = np.lexsort((pitch, voices, rows[:, 0]))
    return Piece(name, rows[order, 0], rows[order, 1], pitch[order], voices[order], tuple(beats))
