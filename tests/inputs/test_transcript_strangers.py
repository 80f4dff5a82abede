"""Transcripts as other programs write them: each gives the cues that it means, or is refused with words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from paperworks.errors import InputError
from paperworks.inputs.transcripts import Transcript, parse_transcript, read_transcript

CUES = [(1.0, 2.5, "Hello there."), (3.0, 4.0, "Two lines")]
FIRST = {"id": 0, "start": 1.0, "end": 2.5, "text": " Hello there."}
SECOND = {"id": 1, "start": 3.0, "end": 4.0, "text": " Two lines"}
WORDS = [(1.0, 1.2, "Hello"), (1.9, 2.5, "there"), (3.0, 3.2, "Two"), (3.2, 4.0, "lines")]
LISTED = [{"word": text, "start": start, "end": end} for start, end, text in WORDS]


def cues(found: Transcript) -> list[tuple[float, float, str]]:
    return [(cue.start, cue.end, cue.text) for cue in found.cues]


def timed(found: Transcript) -> list[tuple[float, float, str]]:
    return [(word.start, word.end, word.text) for cue in found.cues for word in cue.words]


@pytest.mark.parametrize(
    "text",
    [
        "1\n00:00:01:000 --> 00:00:02:500\nHello there.\n\n2\n00:00:03:000 --> 00:00:04:000\nTwo lines\n",
        "1\n-00:00:03,000 --> -00:00:02,000\nGone\n\n2\n00:00:01,0 --> 00:00:02,5\nHello there.\n\n"
        "3\n00:03 --> 00:04\nTwo\nlines\n",
        json.dumps([[1, 0, 1.0, 2.5, " Hello there.", [5, 6], -0.2], [2, 9, 3.0, 4.0, " Two lines", [7], -0.2]]),
        json.dumps([[1.0, 2.5, "Hello there."], [3.0, 4.0, "Two lines"]]),
    ],
    ids=["colons before milliseconds", "shifted below 0", "faster-whisper's rows", "rows"],
)
def test_cues_of_other_programs(text: str) -> None:
    assert cues(parse_transcript(text)) == CUES


def test_a_time_that_begins_before_zero_is_cut() -> None:
    found = parse_transcript("1\n-00:00:01,000 --> 00:00:02,500\nHello\n")
    assert cues(found) == [(0.0, 2.5, "Hello")]


def test_a_line_of_times_that_cannot_be_read_is_not_taken_for_text() -> None:
    text = "1\n00:00:01,000 --> 00:00:02,500\nHello --> there.\n\n2\n00:00:03,000 --> 00:04,5:00\nTwo lines\n"
    with pytest.raises(InputError, match=r"a.srt, line 6: found '00:00:03,000 --> 00:04,5:00'; expected times such as"):
        parse_transcript(text, "a.srt")
    assert parse_transcript(text.replace("04,5:00", "00:04,000")).cues[0].text == "Hello --> there."


@pytest.mark.parametrize("segments", [None, []])
def test_words_alone(segments: Any) -> None:
    found = parse_transcript(json.dumps({"text": "x", "words": LISTED, "segments": segments}))
    assert timed(found) == WORDS


def test_words_beside_the_segments_are_theirs() -> None:
    """OpenAI's API lists words without punctuation. Words of another text are left."""
    data = {"language": "english", "segments": [FIRST, SECOND], "words": LISTED}
    found = parse_transcript(json.dumps(data))
    assert cues(found) == CUES
    assert timed(found) == [(s, e, "there." if text == "there" else text) for s, e, text in WORDS]
    assert not timed(parse_transcript(json.dumps({**data, "words": LISTED[1:]})))
    assert not timed(parse_transcript(json.dumps({**data, "words": [{**LISTED[0], "word": "Bye"}, *LISTED[1:]]})))


def test_words_of_vosk_and_words_in_milliseconds() -> None:
    vosk = {"result": [{"conf": 1.0, **word} for word in LISTED], "text": "x"}
    thousandths = [{"text": text, "start": int(s * 1000), "end": int(e * 1000)} for s, e, text in WORDS]
    for data in (vosk, {"words": thousandths}):
        assert timed(parse_transcript(json.dumps(data))) == WORDS
    for start, end in ((1.5, 91.25), (3, 28)):  # long words, of seconds: milliseconds are whole, and a word has more
        long = parse_transcript(json.dumps([{"text": "mm", "start": start, "end": end}]))
        assert cues(long) == [(start, end, "mm")]


def test_rows_of_words() -> None:
    for rows in ([[s, e, text, 0.9] for s, e, text in WORDS], [[text, s, e] for s, e, text in WORDS]):
        assert timed(parse_transcript(json.dumps(rows))) == WORDS


@pytest.mark.parametrize("text", ["[Script Info]\nTitle: x\n", "[00:01.00]Hello\n", "{25}{50}Hello\n"])
def test_subtitles_of_other_kinds_are_not_called_json(text: str) -> None:
    with pytest.raises(InputError, match=r"found text that begins .*; expected a transcript"):
        parse_transcript(text, "a.ass")


def test_a_broken_letter_does_not_make_utf8_another_encoding(tmp_path: Any) -> None:
    """whisper.cpp cuts letters of several bytes in two."""
    path = tmp_path / "a.srt"
    path.write_bytes("1\n00:00:01,000 --> 00:00:02,500\n你好 你".encode()[:-1] + b"\n")
    assert cues(read_transcript(path)) == [(1.0, 2.5, "你好 \ufffd")]
    path.write_bytes("1\n00:00:01,000 --> 00:00:02,500\nCafé, où\n".encode("cp1252"))
    found = read_transcript(path)
    assert (cues(found), found.encoding) == ([(1.0, 2.5, "Café, où")], "cp1252")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("你好，世界。", "gb18030"),
        ("The cell 细胞 divides, as you can see here 分裂", "gbk"),
        ("これは細胞です", "shift_jis"),
        ("клетка делится", "cp1251"),
        ("세포가 나뉜다", "euc_kr"),
    ],
)
def test_text_in_an_encoding_that_its_bytes_do_not_tell_is_refused(text: str, encoding: str, tmp_path: Any) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes(f"1\n00:00:01,000 --> 00:00:02,500\n{text}\n".encode(encoding))
    with pytest.raises(InputError, match=r"a.srt: found text in another encoding, .*; expected UTF-8: .* iconv"):
        read_transcript(path)
    assert read_transcript(path, encoding=encoding).text == text


@pytest.mark.parametrize("text", ["Où ça, «été»… — ¿qué?", "ÄRGER ÜBER ÖL", "“naïve”", "Ça va ……… bien"])
def test_western_text_is_read_without_a_mark(text: str, tmp_path: Any) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes(f"1\n00:00:01,000 --> 00:00:02,500\n{text}\n".encode("cp1252"))
    assert read_transcript(path).text == text
