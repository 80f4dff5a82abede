"""Variations as scores: notes move to the substituted slices, rhythm and register stay; MIDI and MusicXML out."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.papers.music_word2vec.model import MusicWord2Vec
from paperworks.papers.music_word2vec.reading import expand, notes_of, parse_score, piece_from_stream
from paperworks.papers.music_word2vec.slices import SliceEncoder
from paperworks.papers.music_word2vec.substitution import Choice, Substitution, moves, substitute_words
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    from music21.stream import Stream

_LINE = (("F", 5), ("C", 0), ("G", 7), ("D", 2), ("A", 9), ("E", 4), ("B", 11))


@dataclass(frozen=True)
class Variation:
    """A varied score, its words before and after, and what was substituted."""

    score: Stream
    before: list[int]
    after: list[int]
    substitution: Substitution
    offsets: np.ndarray
    """Begin of every slice in quarter lengths."""


def open_score(source: str | Path | Stream) -> tuple[Stream, str]:
    """A score and its name, from a file, a stream, or the name of one of Bach's works in music21's corpus.

    Raises InputError for a file that cannot be read, or an unknown name.
    """
    if not isinstance(source, str | Path):
        return source, "stream"
    require_extra("music", "varying a score")
    path = Path(source)
    if path.is_file():
        return parse_score(path), path.name
    file = corpus_file(str(source)) if path.name == str(source) else None
    if file is None:
        raise InputError("vary", source, "a score file, or the name of a bundled work such as bwv253")
    return parse_score(file), str(source)


def corpus_file(work: str) -> Path | None:
    """The file of one of Bach's works in music21's corpus; None where there is none of exactly this name."""
    from music21 import corpus
    from music21.exceptions21 import Music21Exception

    try:
        found = corpus.getWork(f"bach/{work}")
    except Music21Exception:
        return None
    # Of some works the corpus has several files, such as one with the continuo.
    files = [Path(file) for file in (found if isinstance(found, list) else [found])]
    return next((file for file in files if file.stem == work), None)


def substitute(
    score: str | Path | Stream,
    model: MusicWord2Vec,
    m: int = 20,
    seed: int = 0,
    *,
    choice: Choice = "fit",
    local: int = 0,
    encoder: SliceEncoder | None = None,
) -> Variation:
    """Vary a score: each slice is replaced by one of its ``m`` nearest words (see ``Substitutes``).

    A note takes its pitch from the slice in which it begins and keeps it to its end, over ties too. It moves to the
    nearest octave. Percussion stays; chord symbols go, since they would be wrong. The result is at sounding pitch.

    Raises
    ------
    InputError : a score that cannot be read, without notes, or of which no slice is in the vocabulary.
    """
    check_seed("seed", seed)
    stream, name = open_score(score)
    encoder = encoder or SliceEncoder()
    if encoder.representation != "pc":
        raise InputError("encoder", encoder.representation, "words of 12 bits (pc)")
    stream = copy.deepcopy(stream).toSoundingPitch()
    if encoder.expand_repeats:
        stream = expand(stream, name)
    piece = piece_from_stream(stream, name)
    words, offsets = encoder.encode(piece)
    before = [int(w) for w in words]
    done = substitute_words(model, before, m, choice=choice, local=local, seed=seed)
    if np.isnan(done.distance).all():
        raise InputError(name, "no slice that the model knows", "a score in the style of those it was trained on")
    slices = [moves(old, new) if old != new else {} for old, new in zip(before, done.words, strict=True)]
    _move_notes(stream, offsets, slices, piece.fifths or 0)
    _name_parts(stream, name)
    after, _ = encoder.encode(piece_from_stream(stream, name))
    return Variation(stream, before, [int(w) for w in after], done, offsets)


def _move_notes(stream: Stream, offsets: np.ndarray, slices: list[dict[int, int]], fifths: int) -> None:
    from music21.harmony import Harmony

    for symbol in list(stream.recurse().getElementsByClass(Harmony)):
        stream.remove(symbol, recurse=True)
    spelled = spelling(fifths)
    for voice in list(getattr(stream, "parts", ())) or [stream]:
        if not notes_of(voice, drop_percussion=True)[0]:
            continue
        tied: dict[int, tuple[float, int]] = {}  # pitch -> where the note before ends, and how far it moved
        for element in voice.flatten().notes:
            onset = float(element.offset)
            at = int(np.searchsorted(offsets, onset + 1e-6, side="right")) - 1
            for sound in getattr(element, "notes", (element,)):
                if not hasattr(sound, "pitch"):
                    continue
                old = round(sound.pitch.ps)
                tie = sound.tie or element.tie
                end, shift = tied.get(old, (-1.0, 0))
                if tie is None or tie.type == "start" or abs(end - onset) > 1e-6:
                    shift = slices[at].get(old % 12, 0) if 0 <= at < len(slices) else 0
                tied[old] = (onset + float(element.quarterLength), shift)
                if shift:
                    _set_pitch(sound, min(max(old + shift, 0), 127), spelled)


def _set_pitch(sound: Any, midi: int, spelled: list[str]) -> None:
    from music21.pitch import Pitch

    name = spelled[midi % 12]
    octave = midi // 12 - 1
    if name.startswith("C-"):  # C flat belongs to the octave above its sound
        octave += 1
    elif name.startswith("B#"):
        octave -= 1
    sound.pitch = Pitch(f"{name}{octave}")


def spelling(fifths: int) -> list[str]:
    """Names of the 12 pitch classes in a key of ``fifths`` sharps (flats if negative), as music21 writes them.

    The notes of the major key and its five usual chromatic ones: from three fifths below the tonic to eight above.
    """
    names = [""] * 12
    for place in range(fifths - 3, fifths + 9):
        letter, natural = _LINE[(place + 1) % 7]
        sharps = (place + 1) // 7
        names[(natural + sharps) % 12] = letter + ("#" * sharps if sharps > 0 else "-" * -sharps)
    return names


def _name_parts(stream: Stream, name: str) -> None:
    """Fixed ids in place of random ones, so that the same variation gives the same file; a title."""
    from music21.instrument import Instrument, UnpitchedPercussion
    from music21.metadata import Metadata

    for number, part in enumerate(getattr(stream, "parts", ()), 1):
        part.id = f"P{number}"
        if not part.hasMeasures():
            part.makeMeasures(inPlace=True)  # the writers refuse scores in which only some parts have bar lines
        if not list(part.recurse().getElementsByClass(Instrument)):
            pitched = notes_of(part, drop_percussion=True)[0]
            part.insert(0, Instrument() if pitched else UnpitchedPercussion())  # else one with a random id is written
        for instrument in part.recurse().getElementsByClass(Instrument):
            if instrument.midiProgram is None and not isinstance(instrument, UnpitchedPercussion):
                instrument.midiProgram = 0  # without a program it would share a channel with percussion
            instrument.partId = f"P{number}"
            instrument.instrumentId = f"I{number}"
    if stream.metadata is None:
        stream.insert(0, Metadata())
    title = stream.metadata.title or Path(name).stem
    stream.metadata.title = f"{title} (variation)"
    stream.metadata.movementName = None


def write_score(score: Stream, path: str | Path) -> None:
    """Write a score to a new .mid, .musicxml or .xml file. Raises InputError for another suffix or a taken name."""
    from paperworks.runs.files import new_file

    path = Path(path)
    formats = {".mid": "midi", ".midi": "midi", ".musicxml": "musicxml", ".xml": "musicxml"}
    if path.suffix.lower() not in formats:
        raise InputError("path", path, "a name that ends in .mid, .musicxml or .xml")
    with new_file(path) as aside:
        plain = aside.with_name(aside.name + path.suffix)
        try:
            made = Path(score.write(formats[path.suffix.lower()], fp=plain))
            made.replace(aside)
        except Exception as error:  # music21 raises whatever an odd score leads to
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise InputError(path.name, f"a score that music21 cannot write ({reason})", "plain notation") from None
        finally:
            plain.unlink(missing_ok=True)
