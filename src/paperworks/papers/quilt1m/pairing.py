"""Pairs of a video: the pictures of each chunk with the texts of its window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from paperworks.inputs.transcripts import Sentence, Transcript, split_sentences
from paperworks.inputs.video import still
from paperworks.papers.quilt1m.chunks import Chunk, chunk_length, text_window, time_chunks, window_words
from paperworks.papers.quilt1m.correction import Correction
from paperworks.papers.quilt1m.likeness import PATCH, embed, perceptual_hash, ssim
from paperworks.papers.quilt1m.vocabulary import SplitText, Vocabulary
from paperworks.papers.quilt1m.watching import Watched, copy_still

Correct = Callable[[str], Correction]
Split = Callable[[Sequence[str], Vocabulary | None], SplitText]
Dedup = Literal["ssim", "phash", "embed"]
NOVEL = {"ssim": 0.02, "phash": 10.0, "embed": 0.95}
"""A frame is new if its structural similarity to the last one is below 0.02, if more than 10 of 64 bits of the hash
differ, or if the cosine is below 0.95."""


@dataclass(frozen=True)
class PairSettings:
    """Options of ``pair_video``.

    Attributes
    ----------
    words_per_chunk : words spoken in one chunk length.
    shortest_chunk, longest_chunk : bounds of the chunk length in seconds; 0 and None leave it as it is.
    speech_rate : "video" divides words by the video's duration, as the released data do; "speech" by the time spoken.
    text_pad : chunk lengths added to either end of a chunk for its text.
    flush_tail : also pair the run that is open at the end of the video.
    shortest_still : seconds of a still segment within a chunk.
    fallback : take key frames where a chunk has no still.
    dedup : how key frames are compared then.
    image_size : side in pixels of the pictures written; None keeps them as they are.
    """

    words_per_chunk: int = 20
    shortest_chunk: float = 0.0
    longest_chunk: float | None = None
    speech_rate: Literal["video", "speech"] = "video"
    text_pad: float = 0.5
    flush_tail: bool = True
    shortest_still: float = 3.0
    fallback: bool = True
    dedup: Dedup = "phash"
    image_size: int | None = None


@dataclass
class Picture:
    """A picture of a chunk: file below ``images``, seconds, size, and whether it is a median or a key frame."""

    file: str
    start: float
    end: float
    height: int
    width: int
    kind: Literal["median", "key frame"]
    hash: str


@dataclass
class PairedChunk:
    """A chunk with its pictures and texts."""

    start: float
    end: float
    window: tuple[float, float]
    stable_times: list[tuple[float, float]]
    pictures: list[Picture]
    noisy_text: str
    corrected_text: str
    medical_text: list[str]
    roi_text: list[str]
    entities: list[list[tuple[str, str, float]]]


@dataclass
class PairedVideo:
    """Chunks of a video, and what was done to its text."""

    video_id: str
    chunk_time: float
    chunks: list[PairedChunk] = field(default_factory=list)
    changes: list[tuple[str, str]] = field(default_factory=list)
    repeated: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content."""
        return asdict(self)


def pair_video(
    video: Path,
    watched: Watched,
    transcript: Transcript,
    images: Path,
    settings: PairSettings,
    *,
    correct: Correct | None,
    split: Split,
    vocabulary: Vocabulary | None,
) -> PairedVideo:
    """Cut a video into chunks and give each its pictures and texts. Pictures are written into ``images``.

    Raises
    ------
    InputError : a transcript without words.
    """
    spoken = transcript.speech_time() if settings.speech_rate == "speech" else watched.duration
    length = chunk_length(len(transcript.text.split()), spoken, settings.words_per_chunk)
    length = max(settings.shortest_chunk, min(length, settings.longest_chunk or length))
    chunks = time_chunks(
        watched.times.tolist(),
        watched.positive.tolist(),
        length,
        flush_tail=settings.flush_tail,
        end=watched.duration if settings.flush_tail else None,
    )
    paired = PairedVideo(video.stem, length)
    sentences = split_sentences(transcript.words)
    corrected = [correct(s.text) if correct else Correction(s.text, ()) for s in sentences]
    paired.changes = [change for one in corrected for change in one.changes]
    named: dict[int, str] = {}
    for number, chunk in enumerate(chunks):
        window = text_window(chunk, length, watched.duration, settings.text_pad)
        inside = sentences_in(sentences, window)
        texts = split([corrected[i].text for i in inside], vocabulary)
        pictures, times = _pictures(video, watched, chunk, number, images, settings, named)
        noisy = " ".join(word.text for word in window_words(transcript, window))
        paired.chunks.append(
            PairedChunk(
                round(chunk.start, 3),
                round(chunk.end, 3),
                (round(window[0], 3), round(window[1], 3)),
                times,
                pictures,
                noisy,
                " ".join(corrected[i].text for i in inside),
                texts.medical,
                texts.roi,
                [[(e.entity, e.concept_id, e.confidence) for e in some] for some in texts.entities],
            )
        )
    return paired


def sentences_in(sentences: Sequence[Sentence], window: tuple[float, float]) -> list[int]:
    """Places of the sentences of which at least half lies in a window."""
    found = []
    for place, one in enumerate(sentences):
        inside = min(one.end, window[1]) - max(one.start, window[0])
        if inside > 0 and inside >= 0.5 * (one.end - one.start):
            found.append(place)
    return found


def _pictures(
    video: Path,
    watched: Watched,
    chunk: Chunk,
    number: int,
    images: Path,
    settings: PairSettings,
    named: dict[int, str],
) -> tuple[list[Picture], list[tuple[float, float]]]:
    """Medians of the still segments within a chunk that show the domain, else some of its key frames.

    A segment in two chunks is one file, named by the first chunk and its interval there.
    """
    times: list[tuple[float, float]] = []
    pictures: list[Picture] = []
    for place, one in enumerate(watched.stills):
        start, end = max(one.start, chunk.start), min(one.end, chunk.end)
        if end - start < min(settings.shortest_still, one.end - one.start):
            continue
        times.append((round(start, 3), round(end, 3)))
        if one.file:
            name = named.setdefault(place, f"{video.stem}_chunk{number:04d}_still{len(times) - 1:02d}.png")
            target = images / name
            if not target.exists():
                size = copy_still(watched, one, target, settings.image_size)
            else:
                with Image.open(target) as opened:
                    size = opened.height, opened.width
            pictures.append(Picture(name, one.start, one.end, size[0], size[1], "median", one.hash))
    if pictures or not settings.fallback:
        return pictures, times
    return _key_frames(video, watched, chunk, number, images, settings), times


def _key_frames(
    video: Path, watched: Watched, chunk: Chunk, number: int, images: Path, settings: PairSettings
) -> list[Picture]:
    pictures: list[Picture] = []
    last: np.ndarray | None = None
    for place in [i for i in chunk.frames if watched.positive[i]]:
        found = still(video, float(watched.times[place])).pixels
        if last is not None and not is_new(last, found, settings.dedup):
            continue
        last = found
        name = f"{video.stem}_chunk{number:04d}_frame{len(pictures):02d}.png"
        picture = Image.fromarray(found)
        if settings.image_size is not None:
            picture = picture.resize((settings.image_size,) * 2, Image.Resampling.LANCZOS)
        picture.save(images / name, compress_level=1)
        time = float(watched.times[place])
        digest = f"{perceptual_hash(found):016x}"
        pictures.append(Picture(name, time, time, picture.height, picture.width, "key frame", digest))
    return pictures


def is_new(last: np.ndarray, picture: np.ndarray, dedup: Dedup) -> bool:
    """Whether a picture differs from the last one that was kept; see ``NOVEL``.

    ``ssim`` compares the mean over a fixed grid of patches, both resized to 512 x 512.
    """
    if dedup == "phash":
        return (perceptual_hash(last) ^ perceptual_hash(picture)).bit_count() > NOVEL[dedup]
    if dedup == "embed":
        return float(embed(last) @ embed(picture)) < NOVEL[dedup]
    first, second = (np.asarray(Image.fromarray(p).convert("L").resize((512, 512))) for p in (last, picture))
    places = range(0, 512, 2 * PATCH)
    scores = [
        ssim(first[y : y + PATCH, x : x + PATCH], second[y : y + PATCH, x : x + PATCH]) for y in places for x in places
    ]
    return float(np.mean(scores)) < NOVEL[dedup]
