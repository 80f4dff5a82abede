"""Transcripts as sentences with times: captions are too short alone, and what is no speech is taken out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.transcripts import (
    TRANSCRIPT_SUFFIXES,
    Cue,
    Sentence,
    Transcript,
    collapse_repeats,
    find_transcript,
    make_transcript,
    read_transcript,
    split_sentences,
)
from paperworks.papers.sieve_swap.words import tokens

PAUSE_SECONDS = 0.9
"""A longer silence ends a sentence."""
MOST_WORDS = 40
LEAST_WORDS = 3
UNPUNCTUATED_WORDS = 16
"""Most words of a piece where a transcript has next to no punctuation."""
PUNCTUATED_SHARE = 0.02
TOLERANCE_SECONDS = 0.5
"""Speech may end so much, or 1 % of the duration, after the video."""
_END = re.compile(r"[.!?\u2026\u3002]\W*$")
_SOUND = re.compile(
    r"\[[^\]]*\]|\((?:music|applause|laugh\w*|silence|inaudible)[^)]*\)|[\u266a\u266b\u266c]+|^\s*>>+\s*", re.IGNORECASE
)
_NAME = re.compile(r"\.(?:[a-z]{2}(?:-[a-z]{2,4})?|whisper|words)$", re.IGNORECASE)


@dataclass(frozen=True)
class VideoTranscript:
    """The speech of a video.

    Attributes
    ----------
    id : of the video.
    transcript : cues with times in seconds.
    duration : of the video in seconds; None takes the end of the last cue.
    title : of the video; may be empty.
    """

    id: str
    transcript: Transcript
    duration: float | None = None
    title: str = ""

    @classmethod
    def of(
        cls, id: str, cues: Iterable[tuple[float, float, str]], duration: float | None = None, title: str = ""
    ) -> VideoTranscript:
        """From (start, end, text) in seconds.

        Raises
        ------
        InputError : a start below 0, or an end before its start.
        """
        found = [Cue(float(start), float(end), text) for start, end, text in cues]
        for number, cue in enumerate(found, 1):
            if not (0 <= cue.start <= cue.end < math.inf):
                raise InputError(
                    f"transcript {id}, cue {number}",
                    f"from {cue.start:g} to {cue.end:g} s",
                    "a start of 0 or more, and an end that is not before it",
                )
        return cls(id, make_transcript(found, id), duration, title)

    @property
    def seconds(self) -> float:
        """The duration.

        Raises
        ------
        InputError : no cue, a duration that is none, or speech that goes on after the end of the video.
        """
        if not self.transcript.cues:
            raise InputError(f"transcript {self.id}", "no speech", "at least one caption")
        last = self.transcript.duration
        if self.duration is None:
            return last
        if not 0 < self.duration < math.inf:
            raise InputError(f"transcript {self.id}", f"a duration of {self.duration:g} s", "more than 0 seconds")
        if last > self.duration + max(TOLERANCE_SECONDS, 0.01 * self.duration):
            raise InputError(
                f"transcript {self.id}",
                f"speech until {last:.1f} s",
                f"none after the end of the video, {self.duration:.1f} s: the transcript of this video",
            )
        return self.duration

    def sentences(self) -> list[Sentence]:
        """Captions merged and split into sentences, at punctuation and pauses.

        Sounds in brackets and music signs are no speech; a line that a recogniser repeats is one. Where there is next
        to no punctuation, a piece has 16 words at most and ends at its longest pause. Pieces of fewer than 3 words
        join the sentence before.
        """
        cues = (
            cue._replace(text=" ".join(_SOUND.sub(" ", cue.text).split()), words=()) if _SOUND.search(cue.text) else cue
            for cue in self.transcript.cues
        )
        spoken = collapse_repeats(make_transcript(cue for cue in cues if tokens(cue.text)))
        words = spoken.words
        ends = sum(bool(_END.search(word.text)) for word in words)
        punctuated = ends >= PUNCTUATED_SHARE * len(words)
        return split_sentences(
            words,
            pause=PAUSE_SECONDS,
            longest=MOST_WORDS if punctuated else UNPUNCTUATED_WORDS,
            shortest=LEAST_WORDS,
        )


def speech_stream(video: VideoTranscript, encoder: Any, rows: int) -> np.ndarray:
    """What is said, as ProcX's text stream takes it: of each part of the video the vector of the sentence spoken there.

    Parameters
    ----------
    encoder : an object with ``encode(texts) -> float32 [n, w]``.
    rows : parts of equal length.

    Returns
    -------
    float32 ``[rows, w]``; zeros where nobody speaks.
    """
    sentences = video.sentences()
    vectors = np.asarray(encoder.encode([s.text for s in sentences] or [""]), np.float32)
    middles = (np.arange(rows) + 0.5) / rows * video.seconds
    out = np.zeros((rows, vectors.shape[1]), np.float32)
    for sentence, vector in zip(sentences, vectors, strict=False):
        out[(middles >= sentence.start) & (middles < sentence.end)] = vector
    return out


def read_transcripts(
    source: str | Path, *, videos: str | Path | None = None, durations: dict[str, float] | None = None
) -> list[VideoTranscript]:
    """The transcripts of a folder, or one file; with videos beside them, their durations are known.

    Parameters
    ----------
    source : a transcript (SRT, WebVTT, JSON of Whisper or of words), or a folder of them. The file's name without its
        suffix and language code is the id of the video.
    videos : a video or a folder of videos; those without a transcript in ``source`` are left out.
    durations : seconds by id, where there are no videos.

    Raises
    ------
    InputError : no transcript, two of one video, or a file that is none.
    """
    path = Path(source).expanduser()
    known = dict(durations or {})
    if videos is not None:
        return _beside_videos(Path(videos).expanduser(), path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in TRANSCRIPT_SUFFIXES and p.is_file())
    elif path.is_file():
        files = [path]
    else:
        raise InputError(
            "transcripts", f"{path}, which is not there", f"a folder, or a file ({', '.join(TRANSCRIPT_SUFFIXES)})"
        )
    if not files:
        raise InputError("transcripts", f"{path}, without a transcript", f"files {', '.join(TRANSCRIPT_SUFFIXES)}")
    found: dict[str, VideoTranscript] = {}
    for file in files:
        name = _NAME.sub("", file.stem)
        if name in found:
            raise InputError("transcripts", f"two of the video {name!r} ({file.name})", "one for each video")
        found[name] = VideoTranscript(name, read_transcript(file), known.get(name), _title(name))
    return list(found.values())


def _beside_videos(videos: Path, transcripts: Path) -> list[VideoTranscript]:
    from paperworks.inputs.video import find_videos, probe_video

    found = []
    for video in find_videos(videos):
        file = transcripts if transcripts.is_file() else find_transcript(video, transcripts)
        if file is not None:
            seconds = probe_video(video).duration
            found.append(VideoTranscript(video.stem, read_transcript(file), seconds, _title(video.stem)))
    if not found:
        raise InputError("transcripts", f"{transcripts}, without one of the videos", "files with the videos' names")
    return found


def _title(stem: str) -> str:
    """A file's name as a title, if it is words: ids of video sites are not."""
    words = [word for word in re.split(r"[\s_\-]+", stem) if word.isalpha()]
    return " ".join(words) if len(words) >= 2 else ""
