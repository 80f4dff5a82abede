"""Transcripts with times: SRT, WebVTT, Whisper's JSON and word lists, read into one form and written as subtitles.

``read_transcript(path)`` recognises the format by the file's content. Faults that real files have (overlapping cues,
cues out of order, rolling captions, another encoding) are mended, and counted in ``Transcript.repairs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.inputs.transcripts.cues import Cue, Transcript, Word, collapse_repeats, join_words, make_transcript
    from paperworks.inputs.transcripts.files import (
        TRANSCRIPT_SUFFIXES,
        decode_text,
        find_transcript,
        parse_transcript,
        read_transcript,
    )
    from paperworks.inputs.transcripts.json_forms import parse_json
    from paperworks.inputs.transcripts.segmenting import Sentence, split_sentences
    from paperworks.inputs.transcripts.subtitles import (
        format_srt,
        format_webvtt,
        parse_srt,
        parse_webvtt,
        write_srt,
        write_webvtt,
    )
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "TRANSCRIPT_SUFFIXES",
    "Cue",
    "Sentence",
    "Transcript",
    "Word",
    "collapse_repeats",
    "decode_text",
    "find_transcript",
    "format_srt",
    "format_webvtt",
    "join_words",
    "make_transcript",
    "parse_json",
    "parse_srt",
    "parse_transcript",
    "parse_webvtt",
    "read_transcript",
    "split_sentences",
    "write_srt",
    "write_webvtt",
]
