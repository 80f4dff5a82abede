"""Scores as other programs write them: each gives the notes that it means, or is refused with words."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from music_files import TUNE, midi, number, off, on, rows, save

from paperworks.errors import InputError
from paperworks.papers.music_word2vec.reading import read_score

pytest.importorskip("music21")

ONE = [[0, 1, 60]]
EVENTS = b"".join(number(time) + message for time, message in ((0, on(60)), (480, off(60)), (0, b"\xff\x2f\x00")))
TRACK = b"MTrk" + struct.pack(">I", len(EVENTS)) + EVENTS


def head(form: int, tracks: int, more: bytes = b"") -> bytes:
    return b"MThd" + struct.pack(">IHHH", 6 + len(more), form, tracks, 480) + more


@pytest.mark.parametrize(
    "data",
    [
        head(1, 1) + b"XFIH\0\0\0\4abcd" + TRACK,
        head(1, 5) + TRACK,
        head(1, 1, b"\0\0") + TRACK,
        head(2, 1) + TRACK,
        head(0, 1) + TRACK + bytes(37),
        b"RIFF"
        + struct.pack("<I", len(TRACK) + 26)
        + b"RMIDdata"
        + struct.pack("<I", len(TRACK) + 14)
        + head(0, 1)
        + TRACK,
    ],
    ids=["other chunk", "fewer tracks", "longer head", "type 2 with one track", "bytes behind", "RMID"],
)
def test_midi_files_of_other_programs(data: bytes, tmp_path: Path) -> None:
    assert rows(read_score(save(tmp_path, "a.mid", data))) == ONE


def test_independent_patterns_are_not_joined(tmp_path: Path) -> None:
    data = midi(TUNE, TUNE)
    with pytest.raises(InputError, match=r"2 pieces that do not belong together \(MIDI type 2\)"):
        read_score(save(tmp_path, "a.mid", data[:8] + b"\0\2" + data[10:]))


def test_running_status_goes_on_and_drums_are_left_out(tmp_path: Path) -> None:
    """Type 0: a chord in running status, a change of tempo, a drum on channel 10, another channel."""
    events = [
        *((0, b"\x90\x3c\x50"), (0, b"\x40\x50"), (480, b"\x3c\x00"), (0, b"\x40\x00")),
        *(
            (0, b"\xff\x51\x03\x03\xd0\x90"),
            (0, b"\x99\x24\x50"),
            (120, b"\x24\x00"),
            (0, on(67, 1)),
            (480, off(67, 1)),
        ),
    ]
    data = midi(events)
    piece = read_score(save(tmp_path, "a.mid", data[:8] + b"\0\0" + data[10:]))
    assert rows(piece) == [[0, 1, 60], [0, 1, 64], [1.25, 1, 67]]


HIGH = [[0, 1, 73], [1, 1, 74], [2, 1, 76], [3, 1, 78], [4, 4, 79]]
LOW = [[0, 2, 61], [2, 2, 55], [4, 4, 66]]
START = "X:1\nT:T\nM:4/4\nL:1/4\n"


@pytest.mark.parametrize(
    "tune",
    [
        '%%score 1 2\nV:1 name="a"\nV:2 clef=bass\nK:D\nV:1\nc d e f|\nw: la la\nV:2\nC2 G,2|\nV:1\ng4|]\nV:2\nF4|]\n',
        "K:D\n[V:1] c d e f|\n[V:2] C2 G,2|\n[V:1] g4|\n[V:2] F4|\n",
        "K:D\n[V:1] c d e f|[V:2] C2 G,2|\n[V:1]g4|[V:2]F4|\n",
        "K:D\nc d e f| g4|\nV:2\nC2 G,2|F4|\n",
    ],
    ids=["lines", "in brackets", "on one line", "the first without a name"],
)
def test_voices_of_abc_that_take_turns_sound_together(tune: str, tmp_path: Path) -> None:
    """music21 alone begins each voice anew where it goes on, or joins them end to end."""
    assert sorted(rows(read_score(save(tmp_path, "a.abc", START + tune)))) == sorted(HIGH + LOW)


def test_text_scores_in_windows_1252(tmp_path: Path) -> None:
    abc = (START.replace("T:T", "T:K\xf6nig") + "K:C\nC4|\n").encode("cp1252")
    assert rows(read_score(save(tmp_path, "a.abc", abc))) == [[0, 4, 60]]
    kern = "!!!COM: K\xf6nig\r\n**kern\t**kern\r\n*M4/4\t*M4/4\r\n2C\t4c\r\n.\t4e\r\n*-\t*-\r\n".encode("cp1252")
    assert sorted(rows(read_score(save(tmp_path, "a.krn", kern)))) == [[0, 1, 60], [0, 2, 48], [1, 1, 64]]


PARTWISE = (
    '<?xml version="1.0" encoding="{}"?><score-partwise version="3.1"><part-list>'
    '<score-part id="P1"><part-name>K\xf6nig</part-name></score-part></part-list>'
    '<part id="P1"><measure number="1"><attributes><divisions>6</divisions>'
    "</attributes><note><pitch><step>C</step><octave>5</octave></pitch><duration>2</duration><voice>1</voice><type>eighth"
    "</type><time-modification><actual-notes>3</actual-notes><normal-notes>2</normal-notes></time-modification></note>"
    "<note><pitch><step>E</step><octave>5</octave></pitch><duration>10</duration><voice>1</voice></note><backup><duration>"
    "12</duration></backup><note><pitch><step>G</step><octave>4</octave></pitch><duration>12</duration><voice>2</voice>"
    "</note></measure></part></score-partwise>"
)
VOICES = [[0, 2, 67], [0, 1 / 3, 72], [1 / 3, 5 / 3, 76]]
CONTAINER = '<container><rootfiles><rootfile full-path="{}"/></rootfiles></container>'


def archive(**files: str | bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        for name, content in files.items():
            out.writestr(name.replace("__", "/").replace("_xml", ".xml"), content)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.musicxml", PARTWISE.format("UTF-8").encode()),
        ("a.mxl", archive(score_xml=PARTWISE.format("UTF-8"))),
        (
            "a.mxl",
            archive(
                **{"META-INF__container_xml": CONTAINER.format("b/s.xml")},
                a_xml="<rss/>",
                b__s_xml=PARTWISE.format("UTF-8"),
            ),
        ),
        ("a.mxl", archive(s_xml=PARTWISE.format("UTF-16").encode("utf-16"))),
        ("a.mxl", archive(s_xml=PARTWISE.format("ISO-8859-1").encode("latin-1"))),
        ("a.musicxml", archive(s_xml=PARTWISE.format("UTF-8"))),
    ],
    ids=["plain", "archive", "container that names the second file", "UTF-16", "Latin-1", "archive by another name"],
)
def test_musicxml_in_archives(name: str, data: bytes, tmp_path: Path) -> None:
    """Two voices and a triplet."""
    found = sorted(rows(read_score(save(tmp_path, name, data))))
    assert [pytest.approx(row) for row in sorted(VOICES)] == found


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (archive(a_png=b"\x89PNG"), "an archive without MusicXML"),
        (archive(s_xml=PARTWISE.format("UTF-8"))[:300], "an archive that cannot be unpacked"),
        (archive(s_xml="<score-partwise>"), "XML that cannot be parsed"),
        (archive(s_xml="<rss/>"), "cannot parse"),
    ],
)
def test_archives_without_a_score(data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_score(save(tmp_path, "a.mxl", data))


TIMEWISE = """<?xml version="1.0" encoding="UTF-8"?>
<score-timewise version="3.1"><part-list>
<score-part id="P1"><part-name>a</part-name></score-part><score-part id="P2"><part-name>b</part-name></score-part>
</part-list>
<measure number="1"><part id="P1">METERNOTE</part><part id="P2">METERLOW</part></measure>
<measure number="2"><part id="P1">NOTE</part></measure>
<measure number="3"><part id="P1">NOTE</part><part id="P2">LOW</part></measure></score-timewise>
"""
METER = "<attributes><divisions>1</divisions><time><beats>2</beats><beat-type>4</beat-type></time></attributes>"
NOTE = "<note><pitch><step>C</step><octave>{}</octave></pitch><duration>2</duration><type>half</type></note>"


def test_musicxml_of_measures_that_hold_parts(tmp_path: Path) -> None:
    """A part that a measure leaves out is silent there; the file may be packed, or in UTF-16."""
    text = TIMEWISE.replace("METER", METER).replace("NOTE", NOTE.format(5)).replace("LOW", NOTE.format(3))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("score.xml", text)
    for name, data in (
        ("a.musicxml", text.encode()),
        ("b.xml", text.replace("UTF-8", "UTF-16").encode("utf-16")),
        ("c.mxl", packed.getvalue()),
    ):
        found = sorted(rows(read_score(save(tmp_path, name, data))))
        assert found == [[0, 2, 48], [0, 2, 72], [2, 2, 72], [4, 2, 48], [4, 2, 72]]
