"""Scores in: MIDI, MusicXML, kern and what else music21 parses; streams; folders, in child processes with a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.papers.music_word2vec.midi_files import read_midi
from paperworks.papers.music_word2vec.notes import BROKEN, BeatChange, Piece, piece_from_array
from paperworks.papers.music_word2vec.score_text import KINDS, score_text
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import replace_file

if TYPE_CHECKING:
    from music21.meter import TimeSignature
    from music21.stream import Stream

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
SCORE_SUFFIXES = (".xml", ".musicxml", ".mxl", ".krn", ".abc", ".mei", ".md", ".capx", ".nwc", ".mscz")
SUFFIXES = MIDI_SUFFIXES + tuple(s for s in SCORE_SUFFIXES if s not in (".md", ".nwc", ".mscz"))
"""What is looked for in a folder."""
CACHE_VERSION = 3
_MANY = 8
"""Files from which on child processes are worth their start."""


@dataclass
class Scores:
    """What was read from files: the pieces with their files, and each file that could not be read with the reason."""

    pieces: list[Piece] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def read_score(path: str | Path, *, drop_percussion: bool = True, expand_repeats: bool = False) -> Piece:
    """Read one score: MIDI, MusicXML (also compressed), kern, ABC, MEI.

    Raises
    ------
    InputError : a file that is missing, empty, corrupt, without notes, or with percussion alone; the file is named.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("scores", path, "a file that exists")
    require_extra("music", f"reading {path.name}")
    if path.suffix.lower() in MIDI_SUFFIXES:
        return read_midi(path, drop_percussion=drop_percussion)
    return piece_from_stream(
        parse_score(path), path.name, drop_percussion=drop_percussion, expand_repeats=expand_repeats
    )


def parse_score(path: Path) -> Stream:
    """The file as a stream of music21. Raises InputError, with the file's name, where music21 cannot parse it."""
    from music21 import converter

    if not path.is_file():
        raise InputError("score", path, "a file that exists")
    if not path.stat().st_size:
        raise InputError(path.name, "an empty file", f"a score: {KINDS}")
    text = score_text(path)
    try:
        if text is None:
            parsed = converter.parse(path, forceSource=True, storePickle=False)
        else:
            parsed = converter.parseData(text[0], format=text[1])
    except Exception as error:  # music21 raises whatever a broken file leads to
        reason = " ".join(str(error).replace(str(path), path.name).split())[:120] or type(error).__name__
        raise InputError(path.name, f"a file that music21 cannot parse ({reason})", f"a whole score: {KINDS}") from None
    if not hasattr(parsed, "recurse"):
        raise InputError(path.name, f"a {type(parsed).__name__}", "a score")
    return parsed


def piece_from_stream(
    stream: Stream, name: str = "stream", *, drop_percussion: bool = True, expand_repeats: bool = False
) -> Piece:
    """The notes of a music21 stream at sounding pitch. Tied notes are merged, chord symbols are left out.

    Raises
    ------
    InputError : no pitched note; the message says whether there was percussion.
    """
    from music21.stream import Opus, Score

    if isinstance(stream, Opus):  # several tunes in one file: one after the other would join them
        raise InputError(name, f"a collection of {len(stream.scores)} scores", "one score a file")
    if expand_repeats:
        stream = expand(stream, name)
    if stream.isWellFormedNotation() or isinstance(stream, Score):
        stream = stream.toSoundingPitch()
    voices = list(getattr(stream, "parts", ())) or [stream]
    rows: list[list[float]] = []
    parts: list[int] = []
    unpitched = 0
    for number, voice in enumerate(voices):
        found, percussion = notes_of(voice, drop_percussion)
        unpitched += percussion
        rows += found
        parts += [number] * len(found)
    if not rows:
        found_words = f"percussion only ({unpitched} notes)" if unpitched else "no notes"
        raise InputError(name, found_words, "at least one pitched note")
    earliest = min(row[0] for row in rows)
    if -1e-6 < earliest < 0:
        rows = [[max(row[0], 0.0), *row[1:]] for row in rows]
    piece = piece_from_array(rows, name, part=parts, beats=_beats(voices[0]))
    return replace(piece, fifths=_fifths(stream))


def expand(stream: Stream, name: str) -> Stream:
    """The stream with its repeats played. Raises InputError where they are not well formed."""
    from music21.exceptions21 import Music21Exception
    from music21.stream import Measure

    if not list(stream.recurse().getElementsByClass(Measure)):
        return stream  # no bar lines, no repeats
    try:
        return stream.expandRepeats()
    except Music21Exception as error:
        raise InputError(name, f"repeats that cannot be expanded ({str(error)[:80]})", "well-formed repeats") from None


def notes_of(voice: Stream, drop_percussion: bool) -> tuple[list[list[float]], int]:
    """Onset, duration and pitch of every note of a part, ties merged; and how many unpitched notes there were."""
    from music21.harmony import Harmony
    from music21.instrument import UnpitchedPercussion

    flat = voice.flatten()
    drums = any(isinstance(i, UnpitchedPercussion) for i in flat.getElementsByClass("Instrument"))
    rows: list[list[float]] = []
    held: dict[int, list[float]] = {}
    unpitched = 0
    for element in flat.notes:
        if isinstance(element, Harmony):
            continue
        if not element.pitches or (drums and drop_percussion):
            unpitched += 1
            continue
        onset, length = float(element.offset), float(element.quarterLength)
        sounds: Any = getattr(element, "notes", (element,))
        for sound in sounds:
            pitch = round(sound.pitch.ps)
            tied = sound.tie or element.tie
            tie = None if tied is None else tied.type
            before = held.get(pitch)
            if tie in ("continue", "stop") and before is not None and abs(before[0] + before[1] - onset) < 1e-6:
                before[1] += length
            else:
                rows.append([onset, length, pitch])
                held[pitch] = rows[-1]
    return rows, unpitched


def _beats(voice: Stream) -> list[BeatChange]:
    """The beats of a part's time signatures; an upbeat moves the first ones so that they fall on the bar lines."""
    found: list[BeatChange] = []
    measures = list(voice.getElementsByClass("Measure"))
    for measure in measures or [voice]:
        for signature in measure.getElementsByClass("TimeSignature"):
            offset = float(measure.offset + signature.offset) if measures else float(signature.offset)
            length = _beat_of(signature)
            anchor = offset
            if measures and measure is measures[0] and len(measures) > 1:
                full = float(measures[1].offset - measures[0].offset)
                if full < float(signature.barDuration.quarterLength) - 1e-6:
                    anchor = float(measures[1].offset)
            if length > 0:
                found.append(BeatChange(offset, length, anchor))
    return found


def _beat_of(signature: TimeSignature) -> float:
    """Quarter lengths of a beat; where beats differ in length (3+2/8), of the unit that the meter is written in."""
    from music21.exceptions21 import Music21Exception

    try:
        return float(signature.beatDuration.quarterLength)
    except Music21Exception:
        return 4.0 / signature.denominator


def _fifths(stream: Stream) -> int | None:
    signature = next(iter(stream.recurse().getElementsByClass("KeySignature")), None)
    return None if signature is None or signature.sharps is None else int(signature.sharps)


# -- folders ---------------------------------------------------------------------------------------------------


def score_files(source: str | Path) -> list[Path]:
    """The scores of a folder, with those of its subfolders, sorted; or the one file.

    Raises
    ------
    InputError : nothing of that name, or a folder without scores.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError("scores", path, "a folder of scores, a score, or bach-chorales")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    if not found:
        raise InputError("scores", f"{path}, a folder without scores", f"files that end in {', '.join(SUFFIXES)}")
    return found


def read_scores(
    files: Sequence[str | Path],
    *,
    drop_percussion: bool = True,
    expand_repeats: bool = False,
    cache: Path | None = None,
    jobs: int | None = None,
    progress: Progress = no_progress,
) -> Scores:
    """Read many scores in child processes. Files that cannot be read are listed, not raised.

    Parameters
    ----------
    cache : folder of what was read before, by the content of the file; a file is parsed once only. None: no cache.
    jobs : processes; None: one per processor core, and none but this for fewer than 8 new files.

    Raises
    ------
    InputError : no file could be read; the first reason is named.
    """
    paths = [Path(f) for f in files]
    options = (drop_percussion, expand_repeats)
    read: list[Piece | str | None] = [_cached(path, cache, options) for path in paths]
    todo = [i for i, found in enumerate(read) if found is None]
    for i, result in progress(_parse_all(paths, todo, options, cache, jobs), "scores", len(todo)):
        read[i] = result
    scores = Scores()
    for path, found in zip(paths, read, strict=True):
        if isinstance(found, Piece):
            scores.pieces.append(found)
            scores.files.append(path)
        else:
            scores.skipped.append((path.name, str(found)))
    if not scores.pieces:
        first = scores.skipped[0] if scores.skipped else ("no file", "nothing was given")
        raise InputError("scores", f"no file that can be read ({first[0]}: {first[1]})", "at least one score")
    return scores


def _parse_all(
    paths: list[Path], todo: list[int], options: tuple[bool, bool], cache: Path | None, jobs: int | None
) -> Iterable[tuple[int, Piece | str]]:
    if not todo:
        return
    require_extra("music", "reading scores")
    if jobs == 1 or (jobs is None and len(todo) < _MANY):
        for i in todo:
            yield i, _parse(paths[i], options, cache)
        return
    import joblib

    call = joblib.delayed(_numbered)
    parallel = joblib.Parallel(n_jobs=jobs or -1, return_as="generator_unordered", batch_size=1)
    yield from parallel(call(i, paths[i], options, cache) for i in todo)


def _numbered(i: int, path: Path, options: tuple[bool, bool], cache: Path | None) -> tuple[int, Piece | str]:
    return i, _parse(path, options, cache)


def _parse(path: Path, options: tuple[bool, bool], cache: Path | None) -> Piece | str:
    """The piece, or in words why there is none; kept in the cache either way."""
    try:
        result: Piece | str = read_score(path, drop_percussion=options[0], expand_repeats=options[1])
    except InputError as error:
        result = f"{error.found}"
    except RecursionError:
        result = "a score that is nested too deep"
    except Exception as error:  # music21 raises whatever an odd score leads to: one file must not stop a folder
        reason = " ".join(str(error).split())[:120]
        return f"a score that cannot be read ({type(error).__name__}: {reason})"  # not kept in the cache
    place = _place(path, cache, options)
    if place is not None:
        _store(place, result)
    return result


def _place(path: Path, cache: Path | None, options: tuple[bool, bool]) -> Path | None:
    if cache is None or not path.is_file():
        return None
    content = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    return cache / f"{content}-{int(options[0])}{int(options[1])}{path.suffix.lower()}-{CACHE_VERSION}.npz"


def _store(place: Path, result: Piece | str) -> None:
    about: dict[str, Any] = (
        {"error": result}
        if isinstance(result, str)
        else {"beats": [asdict(b) for b in result.beats], "fifths": result.fifths, "notes": list(result.notes)}
    )
    arrays: dict[str, np.ndarray] = {}
    if isinstance(result, Piece):
        arrays = {n: getattr(result, n) for n in ("onset", "duration", "pitch", "part")}
    with replace_file(place) as aside, aside.open("wb") as out:
        np.savez_compressed(out, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]


def _cached(path: Path, cache: Path | None, options: tuple[bool, bool]) -> Piece | str | None:
    place = _place(path, cache, options)
    if place is None or not place.is_file():
        return None
    try:
        with np.load(place, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            if "error" in about:
                return str(about["error"])
            onset, duration, pitch, part = (stored[n] for n in ("onset", "duration", "pitch", "part"))
            beats = tuple(BeatChange(**b) for b in about["beats"])
            fifths, notes = about["fifths"], tuple(about["notes"])
    except BROKEN:  # a damaged entry is read again
        return None
    return Piece(path.name, onset, duration, pitch, part, beats=beats, fifths=fifths, notes=notes)
