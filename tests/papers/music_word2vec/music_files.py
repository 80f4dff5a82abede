"""Scores written byte by byte, for the tests of reading and of variations."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

XML = """<?xml version="1.0"?><score-partwise version="4.0"><part-list><score-part id="P1"><part-name>x</part-name>
{instrument}</score-part></part-list><part id="P1"><measure number="1"><attributes><divisions>2</divisions>
<key><fifths>-3</fifths></key><time><beats>6</beats><beat-type>8</beat-type></time>{attributes}</attributes>{notes}
</measure></part></score-partwise>"""
REST = "<note><rest/><duration>6</duration></note>"
NOTE = "<note>{grace}<pitch><step>{step}</step><octave>4</octave></pitch>{duration}<voice>1</voice>{tie}</note>"


def number(value: int) -> bytes:
    """A variable-length quantity."""
    parts = [value & 127]
    while value := value >> 7:
        parts.append(value & 127 | 128)
    return bytes(reversed(parts))


def midi(*tracks: list[tuple[int, bytes]], division: int = 480) -> bytes:
    """A MIDI file from tracks of (delta time, message)."""
    data = b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), division)
    for track in tracks:
        body = b"".join(number(delta) + message for delta, message in [*track, (0, b"\xff\x2f\x00")])
        data += b"MTrk" + struct.pack(">I", len(body)) + body
    return data


def on(pitch: int, channel: int = 0, velocity: int = 80) -> bytes:
    return bytes([0x90 + channel, pitch, velocity])


def off(pitch: int, channel: int = 0) -> bytes:
    return bytes([0x80 + channel, pitch, 0])


TUNE = [(0, on(60)), (0, on(64)), (480, off(60)), (0, on(67)), (480, on(67, velocity=0)), (0, off(64))]


def save(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def rows(piece: Any) -> list[list[float]]:
    return np.column_stack([piece.onset, piece.duration, piece.pitch]).tolist()


BAD = {
    "empty.mid": (b"", "an empty file"),
    "text.mid": (b"hello world, no music", "without the header MThd"),
    "cut.mid": (midi(TUNE)[:40], "broken MIDI file|no notes"),
    "header.mid": (b"MThd\x00\x00", "without ticks"),
    "nothing.mid": (midi([(0, b"\xff\x51\x03\x07\xa1\x20")]), "no notes"),
    "drums.mid": (midi([(0, on(36, 9)), (480, off(36, 9))]), r"percussion only \(1 notes"),
    "far.mid": (midi([(0, on(60)), (2**27, off(60))], division=1), "a note that ends at quarter"),
    "zero.mid": (midi(TUNE, division=0), "without ticks"),
    "empty.musicxml": (b"", "an empty file"),
    "cut.musicxml": (XML[:120].encode(), "cannot parse"),
    "noise.mxl": (b"PK\x03\x04 no zip", "cannot be unpacked"),
    "rests.musicxml": (
        XML.format(instrument="", attributes="", notes="<note><rest/><duration>6</duration></note>"),
        "no notes",
    ),
}


def note(step: str, duration: int, *, tie: str = "", grace: bool = False) -> str:
    return NOTE.format(
        step=step,
        duration="" if grace else f"<duration>{duration}</duration>",
        tie=f'<tie type="{tie}"/>' if tie else "",
        grace="<grace/>" if grace else "",
    )  # parts in the order that MusicXML wants
