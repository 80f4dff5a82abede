"""JSON that speech recognition writes: Whisper and its kin, and lists of words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from paperworks.errors import InputError
from paperworks.inputs.transcripts.cues import Cue, Word, join_words

FORMS = (
    "segments of Whisper, faster-whisper or WhisperX, chunks of transformers, transcription of whisper.cpp, or words "
    "with word, start and end"
)
_TEXT_KEYS = ("word", "text", "punctuated_word", "w", "value")
_START_KEYS = ("start", "start_time", "startTime", "from", "begin", "s")
_END_KEYS = ("end", "end_time", "endTime", "to", "stop", "e")
_SHORTEST_WORD = 40
"""Milliseconds: where times are whole numbers and half of the words last longer, they are no seconds."""
_SURE_KEYS = ("probability", "confidence", "score", "conf", "p")


class Parsed(NamedTuple):
    """Cues, the name of the form, and the language where the file has it."""

    cues: list[Cue]
    format: str
    language: str | None


def parse_json(data: Any) -> Parsed:
    """Cues out of decoded JSON, in the order of the file.

    Raises
    ------
    InputError : a form that is not known, or an entry without text or times.
    """
    language = None
    if isinstance(data, Mapping):
        raw = data.get("language") or (data.get("result") or {} if isinstance(data.get("result"), Mapping) else {})
        language = raw if isinstance(raw, str) else raw.get("language") if isinstance(raw, Mapping) else None
        for name, reader in (
            ("segments", _segments),
            ("chunks", _chunks),
            ("transcription", _whisper_cpp),
            ("words", _words),
            ("word_segments", _words),
            ("result", _words),
        ):
            entries = data.get(name)
            if isinstance(entries, Sequence) and not isinstance(entries, str) and entries:
                cues = reader(entries)
                if reader is _segments:
                    cues = _with_words(cues, data.get("words"))
                return Parsed(cues, "words" if reader is _words else "whisper", language)
        if data.get("segments") == []:
            return Parsed([], "whisper", language)
    elif isinstance(data, Sequence) and not isinstance(data, str) and data:
        if all(isinstance(row, Sequence) and not isinstance(row, str) for row in data):
            data = [_named(row) for row in data]
        first = data[0]
        texts = [str(row["text"]).strip() for row in data if isinstance(row, Mapping) and "text" in row]
        if isinstance(first, Mapping) and ("words" in first or any(" " in text for text in texts)):
            return Parsed(_segments(data), "whisper", language)
        if isinstance(first, Mapping) and "timestamp" in first:
            return Parsed(_chunks(data), "whisper", language)
        if isinstance(first, (Mapping, Sequence)) and not isinstance(first, str):
            return Parsed(_words(data), "words", language)
    raise InputError("transcript", _shape(data), FORMS)


def _named(row: Sequence[Any]) -> Any:
    """A row as an object: times stand right before the text, or right behind it if it is first.

    ``[1.0, 1.5, "word", 0.9]`` and ``["word", 1.0, 1.5]`` are words. faster-whisper's segments were rows once, with id
    and position before the times, and words of the first kind.
    """
    at = next((i for i, part in enumerate(row) if isinstance(part, str)), 1)
    times = row[1:3] if at == 0 else row[max(at - 2, 0) : at]
    if len(times) != 2:
        return row
    sure = row[at + 1] if at == 2 and len(row) > 3 else None
    named = {"text": row[at], "start": times[0], "end": times[1], "confidence": sure}
    words = next(
        (part for part in row[at + 1 :] if isinstance(part, list) and part and isinstance(part[0], list)), None
    )
    return named if words is None else {**named, "words": words}


def _with_words(cues: list[Cue], words: Any) -> list[Cue]:
    """Segments with the words that OpenAI's API lists beside them, where these are the segments' own text."""
    if not isinstance(words, Sequence) or isinstance(words, str) or not words or any(cue.words for cue in cues):
        return cues
    timed = [word for cue in _words(words) for word in cue.words]
    found, place = [], 0
    for cue in cues:
        count = len(cue.text.split())
        own = timed[place : place + count]
        place += count
        spoken = zip(cue.text.split(), own, strict=False)
        if len(own) < count or any(_letters(text) != _letters(word.text) for text, word in spoken):
            return cues
        named = (word._replace(text=text) for text, word in zip(cue.text.split(), own, strict=True))
        found.append(cue._replace(words=tuple(named)))
    return found


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _segments(entries: Sequence[Any]) -> list[Cue]:
    cues = []
    for number, entry in enumerate(entries):
        where = f"segment {number + 1}"
        mapping = _mapping(entry, where)
        text = mapping.get("text", "")
        words = mapping.get("words") or []
        if not isinstance(text, str) or not isinstance(words, Sequence):
            raise InputError(where, _shape(entry), "text, and words in a list")
        start, end = _time(mapping, _START_KEYS, where), _time(mapping, _END_KEYS, where)
        if start is None or end is None:
            raise InputError(where, "no times", "start and end in seconds")
        timed = _timed(words, start, end, where)
        cues.append(Cue(start, end, text.strip() or " ".join(w.text for w in timed), tuple(timed)))
    return cues


def _chunks(entries: Sequence[Any]) -> list[Cue]:
    """Of the pipeline of transformers: the last end may be missing."""
    cues: list[Cue] = []
    for number, entry in enumerate(entries):
        where = f"chunk {number + 1}"
        mapping = _mapping(entry, where)
        times = mapping.get("timestamp")
        if not isinstance(times, Sequence) or len(times) != 2 or times[0] is None:
            raise InputError(where, _shape(entry), "a timestamp of start and end")
        start = _number(times[0], where)
        text = str(mapping.get("text", ""))
        end = start + 0.4 * max(1, len(text.split())) if times[1] is None else _number(times[1], where)
        cues.append(Cue(start, end, text))
    if cues and all(len(cue.text.split()) <= 1 for cue in cues):
        return join_words([Word(cue.start, cue.end, cue.text.strip()) for cue in cues if cue.text.strip()])
    return cues


def _whisper_cpp(entries: Sequence[Any]) -> list[Cue]:
    cues = []
    for number, entry in enumerate(entries):
        where = f"transcription {number + 1}"
        mapping = _mapping(entry, where)
        offsets = _mapping(mapping.get("offsets"), where)
        start, end = (_number(offsets.get(name), where) / 1000 for name in ("from", "to"))
        cues.append(Cue(start, end, str(mapping.get("text", ""))))
    return cues


def _words(entries: Sequence[Any]) -> list[Cue]:
    rows = [_row(entry, f"word {number + 1}") for number, entry in enumerate(entries)]
    known = [row for row in rows if row[0] is not None]
    if not known:
        raise InputError("words", "no times", "start and end of words, in seconds")
    words = _filled(rows, float(known[0][0] or 0), float(known[-1][1] or known[-1][0] or 0))
    whole = all(word.start.is_integer() and word.end.is_integer() for word in words)
    if whole and median(word.end - word.start for word in words) > _SHORTEST_WORD:  # of AssemblyAI and others
        words = [word._replace(start=word.start / 1000, end=word.end / 1000) for word in words]
    backwards = any(b.start < a.start for a, b in pairwise(words))
    return join_words(sorted(words) if backwards else words)


def _timed(entries: Sequence[Any], start: float, end: float, where: str) -> list[Word]:
    return _filled([_row(entry, f"{where}, word {n + 1}") for n, entry in enumerate(entries)], start, end)


Row = tuple[float | None, float | None, str, float | None]


def _row(entry: Any, where: str) -> Row:
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        entry = _named(entry)
    mapping = _mapping(entry, where)
    text = next((mapping[key] for key in _TEXT_KEYS if isinstance(mapping.get(key), str)), None)
    if text is None:
        raise InputError(where, _shape(entry), "a word, start and end")
    sure = next((mapping[key] for key in _SURE_KEYS if isinstance(mapping.get(key), (int, float))), None)
    return (
        _time(mapping, _START_KEYS, where),
        _time(mapping, _END_KEYS, where),
        text.strip(),
        None if sure is None else float(sure),
    )


def _filled(rows: Sequence[Row], start: float, end: float) -> list[Word]:
    """Words whose times are missing (WhisperX has none for numerals) share the time between their neighbours."""
    words: list[Word] = []
    at = start
    place = 0
    while place < len(rows):
        begin, stop, text, sure = rows[place]
        if begin is not None:
            at = begin if stop is None else stop
            words.append(Word(begin, at, text, sure))
            place += 1
            continue
        run = place
        while run < len(rows) and rows[run][0] is None:
            run += 1
        until = rows[run][0] if run < len(rows) else end
        step = max(0.0, (until if until is not None else end) - at) / (run - place)
        for i, (_, _, missing, missing_sure) in enumerate(rows[place:run]):
            words.append(Word(at + i * step, at + (i + 1) * step, missing, missing_sure))
        place = run
    return [word for word in words if word.text]


def _time(mapping: Mapping[str, Any], keys: Sequence[str], where: str) -> float | None:
    value = next((mapping[key] for key in keys if mapping.get(key) is not None), None)
    return None if value is None else _number(value, where)


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise InputError(where, f"a time of {str(value)[:40]!r}", "seconds")
    return number


def _mapping(entry: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping):
        raise InputError(where, _shape(entry), FORMS)
    return entry


def _shape(data: Any) -> str:
    if isinstance(data, Mapping):
        return f"an object with {', '.join(map(str, list(data)[:6])) or 'nothing'}"
    if isinstance(data, Sequence) and not isinstance(data, str):
        return f"a list of {type(data[0]).__name__}" if data else "an empty list"
    return f"{type(data).__name__} {str(data)[:40]!r}"
