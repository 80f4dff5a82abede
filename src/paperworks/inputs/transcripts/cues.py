"""What a transcript is: cues and words with times in seconds, in order, without overlaps."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from paperworks.errors import InputError

SHORTEST = 0.001
"""Seconds of a cue whose file gives it no length: the resolution of subtitle files."""
TOUCHING = 0.05
"""Seconds between two captions that follow each other at once."""


class Word(NamedTuple):
    """A spoken word (what stands between spaces) with its times in seconds; ``confidence`` in [0, 1] where known."""

    start: float
    end: float
    text: str
    confidence: float | None = None


class Cue(NamedTuple):
    """A piece of a transcript: times in seconds, text on one line, and its words where the file has their times."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """The cues of a recording, in order and without overlaps.

    Attributes
    ----------
    cues : with ``0 <= start < end <= the next start``.
    source : the file's name.
    format : "srt", "webvtt", "whisper", "words", or another form's name.
    encoding : in which the file was read.
    language : code, where the file says it.
    repairs : what had to be mended -> how often.
    """

    cues: tuple[Cue, ...]
    source: str = ""
    format: str = ""
    encoding: str = "utf-8"
    language: str | None = None
    repairs: Mapping[str, int] = field(default_factory=dict)

    @property
    def duration(self) -> float:
        """The end of the last cue, seconds; 0 without cues."""
        return self.cues[-1].end if self.cues else 0.0

    @property
    def text(self) -> str:
        """All text, cues joined by spaces."""
        return " ".join(cue.text for cue in self.cues)

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """Every word with times: the file's own, or a cue's time shared out by the length of its words."""
        return tuple(word for cue in self.cues for word in (cue.words or spread_words(cue)))

    def between(self, start: float, end: float) -> list[Word]:
        """The words whose middle lies in ``[start, end)``, seconds."""
        middles = self._middles
        return list(self.words[bisect_left(middles, start) : bisect_left(middles, end)])

    @cached_property
    def _middles(self) -> list[float]:
        return [(word.start + word.end) / 2 for word in self.words]

    def speech_time(self) -> float:
        """Seconds that cues cover."""
        return sum(cue.end - cue.start for cue in self.cues)

    def within(self, duration: float) -> Transcript:
        """Only what lies within a recording of ``duration`` seconds.

        Cues that begin later are left out, one that ends later is cut; both are counted in ``repairs``.
        """
        if not duration > 0:
            raise InputError("duration", duration, "more than 0 seconds")
        kept = [cue for cue in self.cues if cue.start < duration]
        repairs = Counter(self.repairs)
        repairs["beyond the end of the recording"] += len(self.cues) - len(kept)
        if kept and kept[-1].end > duration:
            repairs["cut at the end of the recording"] += 1
            last = kept[-1]
            words = tuple(w._replace(end=min(w.end, duration)) for w in last.words if w.start < duration)
            kept[-1] = Cue(last.start, duration, " ".join(w.text for w in words) or last.text, words)
        return replace(self, cues=tuple(kept), repairs=+repairs)

    def shifted(self, seconds: float) -> Transcript:
        """The same, later by ``seconds``; cues that would begin before 0 are cut or left out."""
        moved = [
            Cue(
                cue.start + seconds,
                cue.end + seconds,
                cue.text,
                tuple(w._replace(start=w.start + seconds, end=w.end + seconds) for w in cue.words),
            )
            for cue in self.cues
        ]
        return make_transcript(moved, self.source, self.format, self.encoding, self.language, self.repairs)


def make_transcript(
    cues: Iterable[Cue],
    source: str = "",
    format: str = "",
    encoding: str = "utf-8",
    language: str | None = None,
    repairs: Mapping[str, int] | None = None,
) -> Transcript:
    """A transcript of cues in any state: sorted, without overlaps, without empty or rolling text; repairs are counted.

    Raises
    ------
    InputError : a time that is not a finite number.
    """
    counted = Counter(repairs or {})
    found = [_checked(cue, number, source, counted) for number, cue in enumerate(cues)]
    spoken = [cue for cue in found if cue.text]
    counted["empty"] += len(found) - len(spoken)
    timed = [cue._replace(start=max(0.0, cue.start)) for cue in spoken if cue.end > 0 or cue.start >= 0]
    counted["before the beginning"] += len(spoken) - len(timed)
    counted["out of order"] += sum(b.start < a.start for a, b in pairwise(timed))
    ordered = sorted(timed, key=lambda cue: cue.start)
    if _rolls(ordered):
        ordered = _without_rolling(ordered, counted)
    return Transcript(tuple(_apart(ordered, counted)), source, format, encoding, language, dict(+counted))


def _checked(cue: Cue, number: int, source: str, counted: Counter[str]) -> Cue:
    if not (math.isfinite(cue.start) and math.isfinite(cue.end)):
        raise InputError(f"{source or 'transcript'}, cue {number + 1}", f"{cue.start} to {cue.end}", "finite seconds")
    text = " ".join(cue.text.split())
    words = tuple(w._replace(text=" ".join(w.text.split())) for w in cue.words if w.text.strip())
    if words and "".join("".join(w.text for w in words).split()) != "".join(text.split()):
        counted["words unlike their text"] += 1
        words = ()
    end = cue.end
    if end <= cue.start and cue.text.strip():
        counted["without length"] += 1
        end = cue.start + SHORTEST
    return Cue(cue.start, end, text, words)


def _rolls(ordered: Sequence[Cue]) -> bool:
    """Whether captions roll: most cues show the line before them again, as those of live and automatic captions do."""
    again = sum(_touch(a, b) and _fresh_part(a.text, b.text, 2) is not None for a, b in pairwise(ordered))
    return again >= max(2, 0.3 * len(ordered))


def _touch(first: Cue, second: Cue) -> bool:
    return second.start - first.end < TOUCHING


def _without_rolling(ordered: Sequence[Cue], counted: Counter[str]) -> list[Cue]:
    result: list[Cue] = []
    for cue in ordered:
        fresh = _fresh_part(result[-1].text, cue.text, 1) if result and _touch(result[-1], cue) else None
        if fresh is None:
            result.append(cue)
            continue
        counted["repeated text"] += 1
        last = result[-1]
        if fresh:
            result.append(Cue(cue.start, cue.end, fresh, _last_words(cue, fresh)))
        elif cue.end > last.end:  # the same line stays: the next one touches it
            result[-1] = last._replace(end=cue.end)
    return result


def _apart(ordered: Sequence[Cue], counted: Counter[str]) -> list[Cue]:
    """Cues that follow each other: where two share time, the later one wins it."""
    result: list[Cue] = []
    for cue in ordered:
        last = result[-1] if result else None
        if last is not None and cue.start < last.end:
            if cue.start < last.end - 1e-9:
                counted["overlapping"] += 1
            if cue.text == last.text and cue.start < last.end - 1e-9:
                result[-1] = last._replace(end=max(last.end, cue.end))
                continue
            if cue.start - last.start < SHORTEST:  # both at once
                words = last.words + cue.words if last.words and cue.words else ()
                result[-1] = Cue(last.start, max(last.end, cue.end), f"{last.text} {cue.text}", words)
                continue
            result[-1] = last._replace(end=cue.start)
        result.append(cue)
    return [_words_inside(cue) for cue in result]


def _fresh_part(before: str, text: str, least: int) -> str | None:
    """What a rolling caption adds to the one before; None where it does not begin with the end of that one.

    ``least`` is how many words must be the same, if the caption before has so many.
    """
    words, old = text.split(), before.split()
    for length in range(min(len(words), len(old)), 0, -1):
        if old[-length:] == words[:length]:
            return " ".join(words[length:]) if length >= least or length == len(old) else None
    return None


def _last_words(cue: Cue, text: str) -> tuple[Word, ...]:
    count = len(text.split())
    kept = cue.words[-count:] if count else ()
    if " ".join(w.text for w in kept) != text:
        return ()
    return (kept[0]._replace(start=cue.start), *kept[1:])


def _words_inside(cue: Cue) -> Cue:
    """Words in order and within their cue."""
    words: list[Word] = []
    at = cue.start
    for word in cue.words:
        start = min(max(word.start, at), cue.end)
        words.append(word._replace(start=start, end=min(max(word.end, start), cue.end)))
        at = start
    return cue._replace(words=tuple(words))


def spread_words(cue: Cue) -> list[Word]:
    """The words of a cue, its time shared out in proportion to their letters (and one for the pause behind each)."""
    texts = cue.text.split()
    weights = [len(text) + 1 for text in texts]
    whole = sum(weights)
    words, done = [], 0
    for text, weight in zip(texts, weights, strict=True):
        start = cue.start + (cue.end - cue.start) * done / whole
        done += weight
        words.append(Word(start, cue.start + (cue.end - cue.start) * done / whole, text))
    return words


def join_words(words: Sequence[Word], *, pause: float = 0.8, longest: float = 7.0, letters: int = 84) -> list[Cue]:
    """Cues of at most ``longest`` seconds and ``letters`` letters, broken at pauses of ``pause`` seconds."""
    cues: list[Cue] = []
    held: list[Word] = []

    def close() -> None:
        if held:
            cues.append(Cue(held[0].start, held[-1].end, " ".join(w.text for w in held), tuple(held)))
            held.clear()

    for word in words:
        if held and (
            word.start - held[-1].end >= pause
            or word.end - held[0].start > longest
            or sum(len(w.text) + 1 for w in held) + len(word.text) > letters
        ):
            close()
        held.append(word)
    close()
    return cues


def collapse_repeats(transcript: Transcript, most: int = 1) -> Transcript:
    """Runs of equal cues cut to ``most``: speech recognition repeats a line where nobody speaks. They are counted."""
    kept: list[Cue] = []
    run = 0
    for cue in transcript.cues:
        same = bool(kept) and cue.text.casefold() == kept[-1].text.casefold()
        run = run + 1 if same else 1
        if run <= most:
            kept.append(cue)
    repairs = Counter(transcript.repairs)
    repairs["repeated cues"] += len(transcript.cues) - len(kept)
    return replace(transcript, cues=tuple(kept), repairs=dict(+repairs))
