"""Transcript files: their encoding, their format by content, and which belongs to a video."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path

from paperworks.errors import InputError
from paperworks.inputs.kinds import SIGNATURES, binary_kind
from paperworks.inputs.transcripts.cues import Transcript, make_transcript
from paperworks.inputs.transcripts.json_forms import FORMS, parse_json
from paperworks.inputs.transcripts.subtitles import parse_srt, parse_webvtt

TRANSCRIPT_SUFFIXES = (".srt", ".vtt", ".webvtt", ".json")
EXPECTED = "a transcript: SubRip (.srt), WebVTT (.vtt), or JSON of Whisper or of words"
_MARKUP = re.compile(r"\[(?:[A-Za-z]|\d+:\d)|\{\d+\}")
"""How subtitles of other kinds begin, which are no JSON: ``[Script Info]``, ``[00:01.00]``, ``{25}{50}``."""
_BEYOND = re.compile(rb"[\x80-\xff]+")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_transcript(path: str | Path, *, duration: float | None = None, encoding: str | None = None) -> Transcript:
    """Read a transcript file.

    Parameters
    ----------
    path : SubRip, WebVTT, JSON of Whisper, faster-whisper, WhisperX, whisper.cpp or transformers, or JSON of words.
    duration : of the recording, seconds: what lies beyond it is left out, and counted in ``repairs``.
    encoding : of the file. By default its byte order mark tells, else UTF-8 (with a few broken letters, too), else
        UTF-16 without a mark, else Windows-1252, if letters beyond ASCII stand among others as in its languages.

    Raises
    ------
    InputError : no such file, no text or text of an encoding that its bytes do not tell, no known format, no cue; or
        all cues lie beyond ``duration``.
    """
    path = Path(path).expanduser()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(str(path), f"no readable file ({error.strerror or error})", EXPECTED) from None
    text, used = decode_text(data, path.name, encoding)
    transcript = parse_transcript(text, path.name, encoding=used)
    if duration is None:
        return transcript
    inside = transcript.within(duration)
    if not inside.cues:
        found = f"cues from {transcript.cues[0].start:.1f} s on, in a recording of {duration:.1f} s"
        raise InputError(str(path), found, "the transcript of this recording")
    return inside


def parse_transcript(text: str, source: str = "", *, encoding: str = "utf-8") -> Transcript:
    """A transcript out of text in any of the formats; see ``read_transcript``."""
    head = text.lstrip("\ufeff \t\r\n")
    if not head:
        raise InputError(source or "transcript", "an empty file", EXPECTED)
    language = None
    try:
        if head.startswith("WEBVTT"):
            cues, form = parse_webvtt(head), "webvtt"
        elif head[0] in "[{" and "-->" not in head[:200] and not _MARKUP.match(head):
            cues, form, language = parse_json(_decoded(head, source))
        elif "-->" in text:
            cues, form = parse_srt(text), "srt"
        else:
            raise InputError("transcript", f"text that begins {head[:30]!r}", EXPECTED)
    except InputError as error:
        if not source or error.field.startswith(source):
            raise
        where = source if error.field == "transcript" else f"{source}, {error.field}"
        raise InputError(where, error.found, error.expected) from None
    transcript = make_transcript(cues, source, form, encoding, language)
    if not transcript.cues:
        raise InputError(source or "transcript", "no cue with text and time", EXPECTED)
    return transcript


def _decoded(text: str, source: str) -> object:
    try:
        return json.loads(text, parse_constant=float)
    except (ValueError, RecursionError) as error:
        rows = [line for line in text.splitlines() if line.strip()]
        try:
            if len(rows) > 1:
                return [json.loads(row) for row in rows]
        except (ValueError, RecursionError):
            pass
        raise InputError(source or "transcript", f"no JSON ({error})", FORMS) from None


def decode_text(data: bytes, source: str, encoding: str | None = None, expected: str = EXPECTED) -> tuple[str, str]:
    """Text of a file's bytes, and the encoding that was used; see ``read_transcript``.

    Raises InputError for what is no text, an unknown encoding, or bytes that the named encoding does not have.
    """
    if encoding is not None:
        try:
            return data.decode(encoding), codecs.lookup(encoding).name
        except LookupError:
            raise InputError("encoding", repr(encoding), "a name such as utf-8, utf-16, cp1252 or shift_jis") from None
        except UnicodeError as error:
            raise InputError(source, f"bytes that are no {encoding} ({error})", "the file's own encoding") from None
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    tries = [marked] if marked else ["utf-8"]
    known = next((words for start, words in SIGNATURES if data.startswith(start)), "")
    if known and encoding is None:
        raise InputError(source, known, expected)
    if not marked and b"\x00" in data[:4096]:
        even, odd = data[0:4096:2].count(0), data[1:4096:2].count(0)
        tries = ["utf-16-le" if odd > even else "utf-16-be"]
    for name in tries:
        try:
            text = data.decode(name)
        except UnicodeError:
            continue
        if "\x00" not in text and not binary_kind(text[:4096].encode("utf-8")):
            return text, "utf-8" if name == "utf-8-sig" else name
    kind = binary_kind(data[:4096])
    if kind or marked:
        raise InputError(source, kind or f"bytes that are no {marked}", expected)
    lenient = data.decode("utf-8", "replace")
    broken = lenient.count("\ufffd")
    if sum(ord(c) > 127 for c in lenient) > 2 * broken:  # UTF-8 with a letter cut in two, as whisper.cpp writes it
        return lenient, "utf-8"
    if not _is_western(data):
        found = "text in another encoding, such as GBK, Shift-JIS or Windows-1251"
        raise InputError(source, found, "UTF-8: an editor saves it so, or iconv -f GB18030 -t UTF-8 (-l lists others)")
    try:
        return data.decode("cp1252"), "cp1252"
    except UnicodeError:
        return data.decode("latin-1"), "latin-1"


def _is_western(data: bytes) -> bool:
    """Whether most bytes beyond ASCII are alone or in twos, as letters with accents are.

    Words of Cyrillic and Greek letters, and of the two bytes that others take, are long runs. An ellipsis is none.
    """
    runs = [set(run[0]) for run in _BEYOND.finditer(data)]
    return 2 * sum(len(run) for run in runs if len(run) > 2) <= sum(map(len, runs))


def find_transcript(video: Path, folder: Path | None = None) -> Path | None:
    """The transcript of a video: a file with its stem (``talk.srt``, ``talk.en.vtt``) in ``folder`` or beside it.

    Exact stems win over those with a language code; SubRip and WebVTT win over JSON. None if there is none.
    """
    place = video.parent if folder is None else folder
    if not place.is_dir():
        return None
    found = []
    for path in sorted(place.iterdir()):
        suffix = path.suffix.lower()
        if suffix not in TRANSCRIPT_SUFFIXES or not path.is_file():
            continue
        exact = path.stem == video.stem or path.stem == video.name
        coded = path.stem.startswith(f"{video.stem}.") and len(path.stem) <= len(video.stem) + 9
        if exact or coded:
            found.append((not exact, TRANSCRIPT_SUFFIXES.index(suffix), path.name, path))
    return min(found)[3] if found else None
