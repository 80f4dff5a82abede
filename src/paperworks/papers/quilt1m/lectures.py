"""Narrated videos of which every answer is known: real photographs shown and spoken about, slides, a moving cursor.

Videos of the field cannot be redistributed. These are made from two photographs of scikit-learn (a pagoda at a lake, a
dahlia), so that the pipeline runs offline and what it finds can be compared with what was put in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paperworks.inputs.transcripts import Cue, write_srt
from paperworks.inputs.video import write_video
from paperworks.papers.quilt1m.topics import Topic
from paperworks.papers.quilt1m.vocabulary import Concept, Vocabulary

BUNDLED = "bundled-lectures"
WIDTH, HEIGHT, FPS, CURSOR = 320, 240, 10.0, 12


class Scene(NamedTuple):
    """A scene: what is shown (uint8 ``[h, w, 3]``), what is said (sentences), and for how many seconds."""

    kind: Literal["domain", "text", "blank"]
    picture: np.ndarray
    sentence: str
    seconds: float


@dataclass(frozen=True)
class Lecture:
    """Scenes that follow each other."""

    name: str
    scenes: tuple[Scene, ...]

    @property
    def starts(self) -> list[float]:
        """Seconds at which each scene begins."""
        ends = np.cumsum([scene.seconds for scene in self.scenes])
        return [0.0, *(float(end) for end in ends[:-1])]

    @property
    def duration(self) -> float:
        """Seconds in all."""
        return float(sum(scene.seconds for scene in self.scenes))

    def scene_at(self, time: float) -> int:
        """The place of the scene on screen at ``time``."""
        return int(np.searchsorted(self.starts, time + 1e-6, side="right")) - 1

    def cues(self) -> list[Cue]:
        """The transcript: the sentences of each scene, from 0.3 s after its beginning to 0.3 s before its end.

        Each sentence has a cue, and time in proportion to its words.
        """
        cues = []
        for scene, start in zip(self.scenes, self.starts, strict=True):
            sentences = re.findall(r"[^.?!]+[.?!]", scene.sentence)
            rate = (scene.seconds - 0.6) / max(1, len(scene.sentence.split()))
            at = start + 0.3
            for sentence in sentences:
                end = at + rate * len(sentence.split())
                cues.append(Cue(at, end, sentence.strip()))
                at = end
        return cues


def write_lecture(
    lecture: Lecture, folder: Path, *, fps: float = FPS, cursor: bool = True, bit_rate: int = 2_000_000
) -> Path:
    """Write ``<name>.mp4`` and ``<name>.srt`` into a folder; returns the video's path."""
    folder.mkdir(parents=True, exist_ok=True)
    video = folder / f"{lecture.name}.mp4"
    write_video(video, lecture_frames(lecture, fps, cursor), fps=fps, bit_rate=bit_rate)
    write_srt(lecture.cues(), folder / f"{lecture.name}.srt")
    return video


def lecture_frames(lecture: Lecture, fps: float = FPS, cursor: bool = True) -> Iterator[np.ndarray]:
    """The frames; over domain scenes a black square of 12 pixels moves in every one."""
    number = 0
    for scene, start in zip(lecture.scenes, lecture.starts, strict=True):
        while number < round((start + scene.seconds) * fps):
            frame = scene.picture
            if cursor and scene.kind == "domain":
                frame = frame.copy()
                top, left = cursor_place(number, frame.shape[0], frame.shape[1])
                frame[top : top + CURSOR, left : left + CURSOR] = 0
            yield frame
            number += 1


def cursor_place(frame: int, height: int, width: int) -> tuple[int, int]:
    """Top and left of the cursor in a frame: on a curve that comes back to a place only after many seconds."""
    across = (np.sin(frame * 0.37) + 1) / 2
    down = (np.cos(frame * 0.23 + 0.5) + 1) / 2
    return int(down * (height - CURSOR)), int(across * (width - CURSOR))


@cache
def photographs() -> tuple[np.ndarray, np.ndarray]:
    """The pagoda and the dahlia, uint8 ``[427, 640, 3]`` each."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg"), load_sample_image("flower.jpg")


def crop(photo: int, left: int, top: int, width: int) -> np.ndarray:
    """A part of a photograph, 4:3, as 320 x 240 pixels."""
    part = photographs()[photo][top : top + width * 3 // 4, left : left + width]
    return np.asarray(Image.fromarray(part).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def random_crops(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Parts of the photographs with enough in them (the spread of brightness is above 25), in turn from each."""
    found: list[np.ndarray] = []
    while len(found) < count:
        width = int(rng.integers(140, 330))
        left, top = int(rng.integers(0, 640 - width)), int(rng.integers(0, 427 - width * 3 // 4))
        part = crop(len(found) % 2, left, top, width)
        if part.std() > 25:
            found.append(part)
    return found


def slide(lines: Sequence[str], ink: int = 20, paper: int = 245) -> np.ndarray:
    """A slide of text; without lines, a blank one."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (paper, paper, paper))
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        size = 22 if number == 0 else 15
        draw.text((18, 24 + number * 30), line, fill=(ink, ink, ink), font=ImageFont.load_default(size))
    return np.asarray(picture)


def random_slides(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Blank slides and slides of a few random words, light and dark."""
    words = ("summary", "review", "questions", "agenda", "outline", "methods", "results", "thanks", "chapter")
    found = []
    for number in range(count):
        lines = [" ".join(rng.choice(words, 3)) for _ in range(int(rng.integers(1, 7)))] if number % 3 else []
        dark = bool(rng.integers(2))
        paper = int(rng.integers(0, 60)) if dark else int(rng.integers(200, 256))
        found.append(slide(lines, 235 if dark else 20, paper))
    return found


def filter_examples(seed: int = 0, count: int = 20) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures to fit a frame filter on: ``count`` random parts of the photographs, and as many slides."""
    rng = np.random.default_rng([seed, 20])
    return random_crops(count, rng), random_slides(count, rng)


PARTS: tuple[tuple[str, int, int, int, int, str], ...] = (
    ("roof", 0, 84, 22, 250, "Here you see the upper roof of the pagoda, with its golden tiles and a round finial."),
    ("balcony", 0, 70, 160, 270, "Notice the balcony here, where red columns carry the second roof."),
    ("lake", 0, 318, 190, 230, "This is the lake, with small boats and an island on the left."),
    ("cypress", 0, 480, 132, 160, "Look at this cypress, which is darker than the shrubs below it."),
    ("eaves", 0, 60, 262, 200, "The lower eaves of the pagoda turn upward at each corner."),
    ("dahlia", 1, 150, 70, 330, "This is the whole flower head of a dahlia, about ten centimetres wide."),
    ("florets", 1, 236, 150, 150, "In the centre you can see the youngest florets, which are still rolled up."),
    ("petals", 1, 168, 110, 150, "Notice the outer petals here, they are open and paler at the edge."),
    ("bloom", 1, 232, 315, 148, "A second bloom of the same dahlia opens below."),
)
"""The parts that the bundled lectures show: name, photograph, left, top, width, and what is said about each."""

SPEECH_ERRORS = {"finial": "finyal", "dahlia": "dahlya", "petals": "pettals", "cypress": "cypres"}
"""What the transcripts have instead, once each, as recognised speech would."""

ORDERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("pavilion", ("roof", "balcony", "lake", "cypress")),
    ("garden", ("dahlia", "florets", "petals", "bloom")),
    ("review", ("eaves", "bloom", "roof", "petals")),
)
OTHERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Welcome back everyone, please find a seat and open your notes.", ("Lecture", "Please take notes")),
    ("Before we go on, let me say a word on the reading for next week.", ("Reading", "Chapter four", "Chapter five")),
    ("Are there any questions so far, or shall we continue?", ()),
    ("Let me just find the right file, one moment please.", ()),
    ("That is all for today, thank you very much and see you soon.", ("Thank you", "Questions?")),
)


def bundled_lectures() -> list[Lecture]:
    """Three lectures of about a minute: parts of the photographs, with slides before, between and after."""
    parts = {name: (crop(*box), sentence) for name, *box, sentence in PARTS}
    heard = dict(SPEECH_ERRORS)
    lectures = []
    for number, (name, order) in enumerate(ORDERS):
        scenes: list[Scene] = []
        for place, part in enumerate(order):
            scenes.append(_other(place + number, 5.0))
            picture, sentence = parts[part]
            for right in [w for w in heard if w in sentence]:
                sentence = sentence.replace(right, heard.pop(right), 1)
            scenes.append(Scene("domain", picture, sentence, 8.0 + place % 3))
        lectures.append(Lecture(name, (*scenes, _other(4, 7.0))))
    return lectures


def _other(number: int, seconds: float) -> Scene:
    sentence, lines = OTHERS[number % len(OTHERS)]
    return Scene("text" if lines else "blank", slide(lines), sentence, seconds)


def bundled_vocabulary() -> Vocabulary:
    """The terms of the bundled lectures, with ids."""
    terms = {
        "P1": ("pagoda", "roof", "roof tile", "golden tile", "finial", "balcony", "column", "eaves"),
        "L1": ("lake", "boat", "island"),
        "T1": ("cypress", "shrub"),
        "D1": ("dahlia", "flower head", "floret", "petal", "outer petal", "bloom"),
    }
    return Vocabulary(Concept(t, f"{group}{i:02d}") for group, some in terms.items() for i, t in enumerate(some))


def bundled_topics() -> list[Topic]:
    """Topics for the bundled lectures."""
    return [
        Topic("architecture", "buildings, pagodas, roofs, columns and balconies"),
        Topic("botany", "flowers, petals, dahlias and how plants grow"),
        Topic("landscape", "lakes, islands, trees and views"),
        Topic("music", "instruments, melodies and harmony"),
    ]


def write_bundled(folder: Path) -> Path:
    """The bundled lectures as videos and SubRip files in ``folder``; what is there already stays."""
    for lecture in bundled_lectures():
        video, subtitles = (folder / f"{lecture.name}{suffix}" for suffix in (".mp4", ".srt"))
        if not (video.is_file() and subtitles.is_file()):
            video.unlink(missing_ok=True)
            subtitles.unlink(missing_ok=True)
            write_lecture(lecture, folder)
    return folder
