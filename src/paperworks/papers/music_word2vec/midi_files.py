"""Notes of a MIDI file in quarter lengths, from its ticks: no tempo is needed, and nothing is quantised."""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.papers.music_word2vec.notes import BeatChange, Piece, piece_from_array

PERCUSSION_CHANNEL = 10
_SLOWEST, _FASTEST = 4.0, 2000.0
"""Quarters per minute that a tempo may have where times depend on it."""

Event = tuple[int, Any]
"""Tick from the start, and music21's event."""


def read_midi(path: Path, *, drop_percussion: bool = True) -> Piece:
    """Read a standard MIDI file.

    A tick is a fraction of a quarter, so that beats do not depend on the tempo map. Files whose ticks are fractions of
    a second (SMPTE) do depend on it, and are refused where a tempo is missing or absurd.

    Raises
    ------
    InputError : a file that is no MIDI file or is cut off, without notes, or with percussion alone.
    """
    data = path.read_bytes()
    if not data:
        raise InputError(path.name, "an empty file", "a MIDI file")
    if not data.startswith((b"MThd", b"RIFF")):
        raise InputError(path.name, "a file without the header MThd", "a MIDI file")
    if data.startswith(b"RIFF"):
        data = data[max(data.find(b"MThd"), 0) :]
    tracks, quarter, smpte = _tracks(path.name, data)
    quarters = _Clock(path.name, tracks, quarter, smpte)
    rows: list[tuple[float, float, int]] = []
    parts: list[int] = []
    drums, remarks = 0, []
    for number, events in enumerate(tracks):
        notes, percussion, unclosed = _notes_of(events, drop_percussion)
        drums += percussion
        if unclosed:
            remarks.append(f"{path.name}: {unclosed} notes of track {number} are never switched off")
        for begin, end, pitch in notes:
            onset = quarters(begin)
            rows.append((onset, quarters(end) - onset, pitch))
            parts.append(number)
    if not rows:
        found = f"percussion only ({drums} notes on channel 10)" if drums else "no notes"
        raise InputError(path.name, found, "at least one pitched note")
    beats, fifths = _signatures(tracks, quarters)
    piece = piece_from_array(rows, path.name, part=parts, beats=beats)
    return replace(piece, fifths=fifths, notes=tuple(remarks))


def _tracks(name: str, data: bytes) -> tuple[list[list[Event]], int, float]:
    """The events of each track by tick, ticks per quarter, and ticks per second (0 unless SMPTE)."""
    from music21.midi import MidiFile

    division = int.from_bytes(data[12:14], "big")
    if len(data) < 14 or division == 0:
        raise InputError(name, "a header without ticks per quarter", "a whole MIDI file")
    smpte = 0.0
    if division & 0x8000:
        smpte = float((256 - (division >> 8)) * (division & 0xFF))
        if not smpte:
            raise InputError(name, "SMPTE time without ticks", "a whole MIDI file")
    tracks = _track_chunks(data)
    if data[8:10] == b"\0\2" and len(tracks) > 1:
        raise InputError(name, f"{len(tracks)} pieces that do not belong together (MIDI type 2)", "one piece a file")
    # ticks are counted here: music21 refuses some of the divisions and headers that there are, and chunks of others
    header = b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), 480)
    reader = MidiFile()
    try:
        reader.readstr(header + b"".join(tracks))
    except Exception as error:  # music21 raises whatever a broken byte leads to
        raise InputError(
            name, f"a broken MIDI file ({str(error)[:80] or type(error).__name__})", "a whole one"
        ) from None
    found: list[list[Event]] = []
    for track in reader.tracks:
        tick, events = 0, []
        for event in track.events:
            if event.isDeltaTime():
                tick += int(event.time)
            else:
                events.append((tick, event))
        found.append(events)
    return found, division, smpte


def _track_chunks(data: bytes) -> list[bytes]:
    """The chunks MTrk of a MIDI file, with their heads; chunks of other names are passed over, as the standard asks."""
    found, place = [], 8 + int.from_bytes(data[4:8], "big")
    while place + 8 <= len(data):
        end = place + 8 + int.from_bytes(data[place + 4 : place + 8], "big")
        if data[place : place + 4] == b"MTrk":
            found.append(data[place:end])
        place = end
    return found


def _kind(event: Any) -> str:
    return str(getattr(event.type, "name", event.type))


def _notes_of(events: list[Event], drop_percussion: bool) -> tuple[list[tuple[int, int, int]], int, int]:
    """Begin tick, end tick and pitch of every note; percussion notes that were dropped; notes never switched off."""
    sounding: dict[tuple[int, int], list[int]] = defaultdict(list)
    notes: list[tuple[int, int, int]] = []
    drums = 0
    for tick, event in events:
        kind = _kind(event)
        if kind not in ("NOTE_ON", "NOTE_OFF"):
            continue
        if event.channel == PERCUSSION_CHANNEL and drop_percussion:
            drums += kind == "NOTE_ON" and event.velocity > 0
            continue
        key = (event.channel, event.pitch)
        if kind == "NOTE_ON" and event.velocity > 0:
            sounding[key].append(tick)
        elif sounding[key]:
            notes.append((sounding[key].pop(0), tick, event.pitch))
    last = events[-1][0] if events else 0
    open_notes = [(begin, last, pitch) for (_, pitch), begins in sounding.items() for begin in begins]
    return notes + open_notes, drums, len(open_notes)


class _Clock:
    """Ticks to quarter lengths."""

    def __init__(self, name: str, tracks: list[list[Event]], quarter: int, smpte: float) -> None:
        self.quarter = quarter
        self.smpte = smpte
        if not smpte:
            return
        found = sorted((t, int.from_bytes(e.data, "big")) for events in tracks for t, e in events if _tempo(e))
        # starting tick, quarter length there, quarters per tick; a file without a tempo has 120 per minute
        self.changes = [(0, 0.0, 2.0 / smpte)]
        for tick, micros in found:
            per_minute = 60e6 / micros if micros else float("inf")
            if not _SLOWEST <= per_minute <= _FASTEST:
                raise InputError(name, f"a tempo of {per_minute:g} quarters a minute", "a tempo map that can be played")
            self.changes.append((tick, self(tick), 1e6 / micros / smpte))

    def __call__(self, tick: int) -> float:
        if not self.smpte:
            return tick / self.quarter
        start, offset, rate = next(c for c in reversed(self.changes) if c[0] <= tick)
        return offset + (tick - start) * rate


def _tempo(event: Any) -> bool:
    return _kind(event) == "SET_TEMPO" and isinstance(event.data, bytes)


def _signatures(tracks: list[list[Event]], quarters: _Clock) -> tuple[list[BeatChange], int | None]:
    """The beats of the time signatures, and the sharps of the first key signature."""
    beats: dict[float, BeatChange] = {}
    fifths: int | None = None
    for events in tracks:
        for tick, event in events:
            kind, data = _kind(event), event.data
            if kind == "TIME_SIGNATURE" and isinstance(data, bytes) and len(data) >= 2 and data[0] and data[1] < 8:
                offset = quarters(tick)
                beats[offset] = BeatChange(offset, beat_length(data[0], 2 ** data[1]), offset)
            if kind == "KEY_SIGNATURE" and isinstance(data, bytes) and data and fifths is None:
                fifths = data[0] - 256 if data[0] > 127 else data[0]
    return [beats[offset] for offset in sorted(beats)], fifths if fifths is None or abs(fifths) <= 7 else None


def beat_length(numerator: int, denominator: int) -> float:
    """Quarter lengths of a beat of a time signature as music21 counts them: 1 in 4/4, 1.5 in 6/8 and 3/8, 3 in 6/4."""
    compound = numerator % 3 == 0 and (numerator > 3 or denominator >= 8)
    return (3 if compound else 1) * 4 / denominator
