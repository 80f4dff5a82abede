"""SubRip (.srt) and WebVTT (.vtt): parsed as players do, and written."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from paperworks.errors import InputError
from paperworks.inputs.transcripts.cues import Cue, Word
from paperworks.runs.files import new_file

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:(?:[,.]|:(?=\d{3}\b))(\d{1,9}))?"
_TIMING = re.compile(rf"^\s*(-?){_TIME}\s*-->\s*(-?){_TIME}(?:\s+(.*))?$")
_LIKE_TIMING = re.compile(r"^\s*[\d:.,-]+\s*-->\s*[\d:.,-]")
_STAMP = re.compile(rf"<{_TIME}>")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|</?>")
_SRT_TAG = re.compile(r"</?(?:b|i|u|s|font|c|v|span|ruby|rt)\b[^<>]*>|\{\\[^{}]*\}|\{/?[biu]\}", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|#39|#x27);")
_MAP = re.compile(rf"X-TIMESTAMP-MAP=(?=.*LOCAL:{_TIME})(?=.*MPEGTS:(\d+))")


def seconds(hours: str | None, minutes: str, rest: str, fraction: str | None) -> float:
    """Seconds of the parts of a time stamp; any number of digits may follow the point."""
    whole = 3600 * int(hours or 0) + 60 * int(minutes) + int(rest)
    return float(f"{whole}.{fraction or 0}")  # the nearest number to what is written


def _signed(parts: Sequence[str]) -> float:
    return (-1 if parts[0] else 1) * seconds(*parts[1:])


def stamp(time: float, point: str = ".") -> str:
    """``HH:MM:SS.mmm`` of a time in seconds, rounded to a millisecond. Raises InputError below 0."""
    if not 0 <= time < 3_600_000 * 10:
        raise InputError("time", time, "0 seconds or more")
    milliseconds = round(time * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def parse_srt(text: str) -> list[Cue]:
    """The cues of a SubRip file, in the order of the file.

    A cue begins at its line of times; the number above it is optional. Commas and points, missing hours, empty lines
    inside of a text, coordinates after the times and tags are understood, and times before 0 of files that were
    shifted. Raises InputError for a text without cues, and for a line of times that cannot be read.
    """
    cues = [
        Cue(start, end, _clean(_ENTITY.sub(lambda m: html.unescape(m[0]), _SRT_TAG.sub("", " ".join(lines)))))
        for start, end, lines in _blocks(text.splitlines(), numbered=True)
    ]
    if not cues:
        raise InputError("transcript", "no cues", "SubRip: lines of times such as 00:00:01,000 --> 00:00:03,500")
    return cues


def parse_webvtt(text: str) -> list[Cue]:
    """The cues of a WebVTT file, in the order of the file, with the times of words where it has them.

    Comments, styles, regions, settings and identifiers are passed over; speakers (``<v Ann>``) are left out of the
    text. A header ``X-TIMESTAMP-MAP`` moves all times. Raises InputError without a header line or without cues.
    """
    lines = text.splitlines()
    if not lines or not re.match(r"^\ufeff?WEBVTT(\s|$)", lines[0]):
        raise InputError("transcript", repr(text[:20]), "WebVTT, which begins with the line WEBVTT")
    moved = 0.0
    for line in lines[:20]:
        found = _MAP.search(line)
        if found:
            moved = int(found[5]) / 90_000 - seconds(*found.groups()[:4])
    cues = []
    for start, end, body in _blocks(_without_blocks(lines[1:]), numbered=False):
        raw = " ".join(body)
        words = _stamped_words(raw, start, end)
        words = tuple(w._replace(start=w.start + moved, end=w.end + moved) for w in words)
        cues.append(Cue(start + moved, end + moved, _plain(raw), words))
    if not cues and any("-->" in line for line in lines):
        raise InputError("transcript", "lines of times in another form", "00:01.000 --> 00:03.500")
    if not cues:
        raise InputError("transcript", "no cues", "WebVTT: lines of times such as 00:01.000 --> 00:03.500")
    return cues


def _blocks(lines: Sequence[str], numbered: bool) -> Iterator[tuple[float, float, list[str]]]:
    """Times and text lines of every cue. In SubRip a cue's text goes on to the next number and line of times."""
    places = [(i, found) for i, line in enumerate(lines) if (found := _TIMING.match(line))]
    readable = {place for place, _ in places}
    for i, line in enumerate(lines):
        if places and i not in readable and _LIKE_TIMING.match(line):  # its text would go to the cue before it
            raise InputError(f"line {i + 1}", repr(line.strip()[:60]), "times such as 00:00:01,000 --> 00:00:03,500")
    for number, (place, found) in enumerate(places):
        end = places[number + 1][0] if number + 1 < len(places) else len(lines)
        body = list(lines[place + 1 : end])
        if numbered and number + 1 < len(places):
            body = _without_number(body, number + 2)
        if not numbered and "" in body:  # a line of spaces is text: automatic captions begin with one
            body = body[: body.index("")]
        parts = found.groups()
        yield _signed(parts[:5]), _signed(parts[5:10]), [line.strip() for line in body if line.strip()]


def _without_number(body: list[str], expected: int) -> list[str]:
    """Without the number above the next cue's times. A number right under a text is one only if it is the next."""
    if not body or not body[-1].strip().isdecimal():
        return body
    alone = len(body) == 1 or not body[-2].strip()
    return body[:-1] if alone or int(body[-1]) in (expected, expected - 1) else body


def _without_blocks(lines: Sequence[str]) -> list[str]:
    kept: list[str] = []
    inside = False
    for number, line in enumerate(lines):
        begins = number == 0 or not lines[number - 1].strip()
        if begins and re.match(r"^(NOTE|STYLE|REGION)(\s|$)", line) and "-->" not in line:
            inside = True
        if not line.strip():
            inside = False
        kept.append("" if inside else line)
    return kept


def _plain(raw: str) -> str:
    return _clean(html.unescape(_TAG.sub("", _STAMP.sub("", raw))))


def _clean(text: str) -> str:
    return " ".join(text.replace("\u200e", "").replace("\u200f", "").split())


def _stamped_words(raw: str, start: float, end: float) -> tuple[Word, ...]:
    """Words of a cue with time stamps inside (``one <00:00:01.500>two``); none where it has no stamp."""
    pieces = _STAMP.split(raw)
    if len(pieces) == 1:
        return ()
    times = [start, *(seconds(*pieces[i : i + 4]) for i in range(1, len(pieces), 5))]
    texts = [_plain(piece) for piece in pieces[::5]]
    words: list[Word] = []
    for number, text in enumerate(texts):
        begin = times[number]
        stop = times[number + 1] if number + 1 < len(times) else end
        parts = text.split()
        for i, part in enumerate(parts):
            step = (stop - begin) / len(parts)
            words.append(Word(begin + i * step, begin + (i + 1) * step, part))
    return tuple(words)


def format_srt(cues: Iterable[Cue]) -> str:
    """SubRip text of cues; read back, it gives the same cues to a millisecond.

    Raises InputError for a cue without text or without length.
    """
    blocks = []
    for number, cue in enumerate(cues, 1):
        text = _writable(cue, number)
        blocks.append(f"{number}\n{stamp(cue.start, ',')} --> {stamp(cue.end, ',')}\n{text}\n")
    return "\n".join(blocks)


def format_webvtt(cues: Iterable[Cue], *, words: bool = False) -> str:
    """WebVTT text of cues, with the times of words inside if asked for and known."""
    blocks = ["WEBVTT\n"]
    for number, cue in enumerate(cues, 1):
        text = html.escape(_writable(cue, number), quote=False)
        if words and cue.words:
            stamped = [html.escape(w.text, quote=False) for w in cue.words]
            inside = [f"<{stamp(w.start)}>" for w in cue.words[1:]]
            text = stamped[0] + "".join(f" {time}{word}" for time, word in zip(inside, stamped[1:], strict=True))
        blocks.append(f"{stamp(cue.start)} --> {stamp(cue.end)}\n{text}\n")
    return "\n".join(blocks)


def write_srt(cues: Iterable[Cue], path: Path) -> None:
    """A new SubRip file (UTF-8). Raises InputError if it exists."""
    _write(format_srt(cues), path)


def write_webvtt(cues: Iterable[Cue], path: Path, *, words: bool = False) -> None:
    """A new WebVTT file (UTF-8). Raises InputError if it exists."""
    _write(format_webvtt(cues, words=words), path)


def _write(text: str, path: Path) -> None:
    with new_file(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def _writable(cue: Cue, number: int) -> str:
    text = " ".join(cue.text.split())
    if not text:
        raise InputError(f"cue {number}", "no text", "text")
    if round(cue.end * 1000) <= round(cue.start * 1000):
        raise InputError(f"cue {number}", f"{cue.start} to {cue.end}", "an end after its start")
    return text
