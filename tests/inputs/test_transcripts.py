"""Transcripts: every format, faults of real files, and a peer on the same text."""

from __future__ import annotations

import codecs
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.inputs.transcripts import (
    Cue,
    Transcript,
    Word,
    collapse_repeats,
    decode_text,
    find_transcript,
    format_srt,
    format_webvtt,
    make_transcript,
    parse_srt,
    parse_transcript,
    parse_webvtt,
    read_transcript,
    split_sentences,
    write_srt,
    write_webvtt,
)

SRT = """1
00:00:01,000 --> 00:00:03,500
<i>Hello</i> there,
you &amp; me

2
00:00:04,250 --> 00:00:06,000 X1:10 X2:20 Y1:1 Y2:2
{\\an8}In 1984

it was.

3
00:00:07,5 --> 00:00:08,75
3
"""
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE 00:00:00.000 is not a cue
nor this

intro
00:01.000 --> 00:03.500 align:start position:0%
<v Ann><b>Hello</b> &lt;there&gt;

01:00:04.000 --> 01:00:06.000
one <01:00:04.500><c.loud>two</c> <01:00:05.000>three four
"""


def in_order(transcript: Transcript) -> bool:
    cues = transcript.cues
    return all(0 <= c.start < c.end and c.text for c in cues) and all(a.end <= b.start for a, b in pairwise(cues))


def test_srt_in_its_real_forms() -> None:
    assert parse_srt(SRT) == [
        Cue(1.0, 3.5, "Hello there, you & me"),
        Cue(4.25, 6.0, "In 1984 it was."),
        Cue(7.5, 8.75, "3"),
    ]
    assert parse_srt(SRT.replace("\n", "\r\n")) == parse_srt(SRT) == parse_srt(SRT.replace("\n", "\r"))
    no_numbers = re.sub(r"(?m)^\d\n(?=00)", "", SRT)
    assert [c.text for c in parse_srt(no_numbers)] == [c.text for c in parse_srt(SRT)]
    no_empty_lines = "1\n00:01,0 --> 00:02,0\nin 12\n2\n00:02,0 --> 00:03,0\nthen\n3\n00:03,0 --> 00:04,0\nend"
    assert [c.text for c in parse_srt(no_empty_lines)] == ["in 12", "then", "end"]


def test_webvtt_words_settings_and_blocks() -> None:
    first, second = parse_webvtt(VTT)
    assert first == Cue(1.0, 3.5, "Hello <there>")
    assert second.text == "one two three four"
    assert second.words == (
        Word(3604.0, 3604.5, "one"),
        Word(3604.5, 3605.0, "two"),
        Word(3605.0, 3605.5, "three"),
        Word(3605.5, 3606.0, "four"),
    )
    moved = VTT.replace("WEBVTT - a title", "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000")
    assert parse_webvtt(moved)[0].start == 11.0


def test_agrees_with_a_peer_on_real_forms(tmp_path: Path) -> None:
    webvtt = pytest.importorskip("webvtt")
    cues = [Cue(i * 2.0, i * 2.0 + 1.5, f"sentence {i} about a cell, with 10 of {i}") for i in range(30)]
    peer = webvtt.from_buffer(io.StringIO(format_webvtt(cues)), format="vtt")
    assert [(c.start_in_seconds, c.text) for c in peer] == [(int(c.start), c.text) for c in cues]
    peer_srt = webvtt.from_buffer(io.StringIO(format_srt(cues)), format="srt")
    assert [c.text for c in peer_srt] == [c.text for c in cues]
    theirs = webvtt.from_buffer(io.StringIO(VTT), format="vtt")
    assert [c.start for c in theirs] == ["00:00:01.000", "01:00:04.000"]
    write_srt(cues, tmp_path / "a.srt")
    converted = webvtt.from_srt(str(tmp_path / "a.srt")).content
    assert parse_webvtt(converted) == parse_srt(format_srt(cues)) == cues


def test_rolling_captions_are_read_once() -> None:
    """As automatic captions have them: two lines, the upper one is the lower one of before."""
    rolling = "WEBVTT\nKind: captions\nLanguage: en\n\n" + "\n\n".join(
        [
            "00:00:00.000 --> 00:00:02.000\n \nwe<00:00:00.500><c> look</c><00:00:01.000><c> at</c>",
            "00:00:02.000 --> 00:00:02.010\nwe look at\n ",
            "00:00:02.010 --> 00:00:04.000\nwe look at\nthis<00:00:03.000><c> gland</c>",
            "00:00:04.000 --> 00:00:04.010\nthis gland\n ",
            "00:00:04.010 --> 00:00:06.000\nthis gland\nand<00:00:05.000><c> this</c>",
        ]
    )
    transcript = parse_transcript(rolling)
    assert transcript.text == "we look at this gland and this"
    assert transcript.repairs == {"repeated text": 4}
    assert [w.text for w in transcript.words if w.start >= 2.9] == ["gland", "and", "this"]


def test_an_honest_repetition_stays() -> None:
    cues = [Cue(0, 1, "yes"), Cue(1, 2, "yes"), Cue(2, 4, "that is a cyst"), Cue(5, 6, "a cyst is seen")]
    assert make_transcript(cues).text == "yes yes that is a cyst a cyst is seen"
    assert collapse_repeats(make_transcript(cues)).text == "yes that is a cyst a cyst is seen"


def test_faults_are_mended_and_counted() -> None:
    cues = [
        Cue(5, 8, "late"),
        Cue(0, 3, "first"),
        Cue(2, 4, "over it"),
        Cue(9, 9, "no length"),
        Cue(10, 11, "   "),
        Cue(-4, -2, "before"),
        Cue(12, 13, "one"),
        Cue(12, 14, "at once"),
    ]
    mended = make_transcript(cues)
    assert in_order(mended)
    assert [c.text for c in mended.cues] == ["first", "over it", "late", "no length", "one at once"]
    assert mended.cues[0].end == 2
    assert mended.repairs == {
        "empty": 1,
        "before the beginning": 1,
        "out of order": 1,
        "overlapping": 2,
        "without length": 1,
    }
    with pytest.raises(InputError, match="cue 1"):
        make_transcript([Cue(0, float("nan"), "x")])


def test_a_transcript_longer_than_its_recording(tmp_path: Path) -> None:
    path = tmp_path / "talk.srt"
    path.write_text("00:01,0 --> 00:02,0\na\n\n00:03,0 --> 00:06,0\none two\n\n00:09,0 --> 00:10,0\nc\n")
    cut = read_transcript(path, duration=4.5)
    assert [c.end for c in cut.cues] == [2.0, 4.5]
    assert cut.repairs == {"beyond the end of the recording": 1, "cut at the end of the recording": 1}
    with pytest.raises(InputError, match=r"cues from 1\.0 s on, in a recording of 0\.5 s"):
        read_transcript(path, duration=0.5)
    assert [c.start for c in cut.shifted(-2.0).cues] == [1.0]


@pytest.mark.parametrize(
    ("encoding", "mark", "used"),
    [
        ("utf-8", b"", "utf-8"),
        ("utf-8", codecs.BOM_UTF8, "utf-8"),
        ("utf-16-le", codecs.BOM_UTF16_LE, "utf-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "utf-16"),
        ("utf-16-le", b"", "utf-16-le"),
        ("utf-32-le", codecs.BOM_UTF32_LE, "utf-32"),
        ("cp1252", b"", "cp1252"),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, mark: bytes, used: str) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes(mark + "1\r\n00:01,0 --> 00:02,0\r\nna\u00efve \u00e9pithelium\r\n".encode(encoding))
    transcript = read_transcript(path)
    assert (transcript.text, transcript.encoding) == ("na\u00efve \u00e9pithelium", used)


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes("00:01,0 --> 00:02,0\nклетка\n".encode("cp1251"))
    assert read_transcript(path, encoding="cp1251").text == "клетка"
    for wrong in ("utf-8", "no-such"):
        with pytest.raises(InputError):
            read_transcript(path, encoding=wrong)


WHISPER: dict[str, Any] = {
    "language": "en",
    "text": " a b c",
    "segments": [
        {
            "start": 0.0,
            "end": 2.0,
            "text": " skin punch 5",
            "words": [
                {"word": " skin", "start": 0.1, "end": 0.5, "probability": 0.9},
                {"word": " punch", "start": 0.5, "end": 1.0},
                {"word": " 5"},
            ],
        },
        {"start": 2.0, "end": 4.0, "text": " biopsy."},
    ],
}


def test_json_of_recognisers() -> None:
    def read(data: Any) -> Transcript:
        return parse_transcript(json.dumps(data), "x.json")

    whisper = read(WHISPER)
    assert (whisper.format, whisper.language, whisper.text) == ("whisper", "en", "skin punch 5 biopsy.")
    assert whisper.words[0] == Word(0.1, 0.5, "skin", 0.9)
    assert whisper.words[2] == Word(1.0, 2.0, "5", None)
    assert read(WHISPER["segments"]).text == whisper.text
    chunks = {
        "text": "",
        "chunks": [{"timestamp": [0.0, 1.5], "text": " one two"}, {"timestamp": [2.0, None], "text": "x"}],
    }
    assert [(c.start, c.end) for c in read(chunks).cues] == [(0.0, 1.5), (2.0, 2.4)]
    cpp = {"result": {"language": "de"}, "transcription": [{"offsets": {"from": 500, "to": 1500}, "text": " ja"}]}
    assert (read(cpp).cues, read(cpp).language) == ((Cue(0.5, 1.5, "ja"),), "de")
    words = [{"word": "one", "start": 0, "end": 0.4}, {"word": "two", "start": 0.4, "end": 1}, ["far", 9.0, 9.5]]
    assert [c.text for c in read(words).cues] == ["one two", "far"]
    assert read({"words": words}).words == read(words).words
    lines = "\n".join(json.dumps(w) for w in words)
    assert parse_transcript(lines).words == read(words).words


@pytest.mark.parametrize(
    "text",
    [
        *("", " \n", "hello", "[]", "{}", "[1, 2]", '{"a": 1}', '{"segments": [{"text": "x"}]}', "WEBVTT\n\nx", "{"),
        *("[[[[", '{"segments": [{"start": "x", "end": 1, "text": "a"}]}', '{"words": [{"start": 1}]}'),
        "00:xx --> 00:yy\nz",
        '{"chunks": [{"timestamp": [null, 1], "text": "a"}]}',
        '{"segments": [{"start": 1e999, "end": 1, "text": "a"}]}',
    ],
)
def test_what_is_no_transcript_is_refused_with_words(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_transcript(text, "file.srt")
    assert caught.value.field.startswith("file.srt")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    for name, data in {"a.srt": b"\x89PNG\x00\x01", "b.srt": bytes(range(256)) * 4, "c.srt": b"PK\x03\x04"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError):
            read_transcript(tmp_path / name)
    with pytest.raises(InputError, match="no readable file"):
        read_transcript(tmp_path / "none.srt")
    with pytest.raises(InputError):
        read_transcript(tmp_path)


def test_the_transcript_of_a_video(tmp_path: Path) -> None:
    video = tmp_path / "talk.mp4"
    assert find_transcript(video) is None
    for name in ("talk.json", "talk.en.vtt", "talker.srt", "talk.txt", "other.srt"):
        (tmp_path / name).touch()
    assert find_transcript(video) == tmp_path / "talk.json"
    (tmp_path / "talk.srt").touch()
    assert find_transcript(video) == tmp_path / "talk.srt"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "talk.en-GB.vtt").touch()
    assert find_transcript(video, tmp_path / "texts") == tmp_path / "texts" / "talk.en-GB.vtt"


def test_words_between_and_sentences() -> None:
    transcript = make_transcript([Cue(0, 4, "ab ab ab ab"), Cue(4, 6, "cd. Dr. X ef"), Cue(9, 10, "gh")])
    assert [w.start for w in transcript.words[:4]] == [0, 1, 2, 3]
    assert [w.text for w in transcript.between(1.0, 3.0)] == ["ab", "ab"]
    sentences = split_sentences(transcript.words)
    assert [s.text for s in sentences] == ["ab ab ab ab cd.", "Dr. X ef", "gh"]
    assert [(s.first, s.last) for s in sentences] == [(0, 5), (5, 8), (8, 9)]
    many = make_transcript([Cue(0, 100, "w " * 100)])
    assert [s.last - s.first for s in split_sentences(many.words, longest=40)] == [40, 40, 20]


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30)
CLEAN = TEXT.map(lambda t: " ".join(re.sub(r"[&<>{}\u200e\u200f\ufeff]|-->", "", t).split())).filter(bool)
GAPS = st.tuples(st.integers(0, 5000), st.integers(1, 5000))


@st.composite
def cue_lists(draw: st.DrawFn, texts: st.SearchStrategy[str] = CLEAN) -> list[Cue]:
    now, cues = 0, []
    for gap, length in draw(st.lists(GAPS, min_size=1, max_size=6)):
        now += gap
        cues.append(Cue(now / 1000, (now + length) / 1000, draw(texts)))
        now += length
    return cues


@settings(max_examples=40, deadline=None)
@given(cue_lists())
def test_what_is_written_is_read_back(cues: list[Cue]) -> None:
    assert parse_srt(format_srt(cues)) == cues
    assert parse_webvtt(format_webvtt(cues)) == cues


@settings(max_examples=60, deadline=None)
@given(cue_lists(TEXT.map(lambda t: " ".join(t.replace("\u200e", "").replace("\u200f", "").split())).filter(bool)))
def test_webvtt_keeps_every_text(cues: list[Cue]) -> None:
    assert parse_webvtt(format_webvtt(cues)) == cues


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-10, 100), st.floats(-10, 100), st.sampled_from(["a", "a b", "b c", "", "b"]))))
def test_any_cues_become_a_transcript(rows: list[tuple[float, float, str]]) -> None:
    transcript = make_transcript([Cue(*row) for row in rows])
    assert in_order(transcript)
    assert len(transcript.words) == len(transcript.text.split())
    again = make_transcript(transcript.cues)
    if again.repairs.get("repeated text"):  # texts that lie apart now, and return by chance, look as if they rolled
        assert len(again.words) < len(transcript.words)
    else:
        assert again.cues == transcript.cues


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(), st.binary().map(lambda b: b.decode("latin-1"))), st.sampled_from(["", "WEBVTT\n\n", "[", "{"])
)
def test_any_text_is_read_or_refused(text: str, head: str) -> None:
    for body in (head + text, head + "00:01.0 --> 00:02.0\n" + text):
        try:
            transcript = parse_transcript(body, "any")
        except InputError:
            continue
        assert in_order(transcript)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    try:
        text, used = decode_text(data, "any")
    except InputError:
        return
    assert "\x00" not in text
    assert codecs.lookup(used)


def test_words_in_webvtt_and_no_overwriting(tmp_path: Path) -> None:
    cue = Cue(1, 3, "one two", (Word(1, 1.8, "one"), Word(1.8, 3, "two")))
    assert parse_webvtt(format_webvtt([cue], words=True)) == [cue]
    write_webvtt([cue], tmp_path / "a.vtt")
    with pytest.raises(InputError):
        write_webvtt([cue], tmp_path / "a.vtt")
    for bad in (Cue(1, 1, "x"), Cue(1, 2, " "), Cue(-1, 2, "x")):
        with pytest.raises(InputError):
            format_srt([bad])


def test_a_file_of_a_known_kind_is_no_text_in_another_encoding(tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(InputError, match="a numpy array"):
        read_transcript(tmp_path / "a.npy")
