"""Simulated narrated videos: steps of written procedures at known times, speech about them, chatter between them.

Features stand in for what a camera sees: the vector of the step's text with noise while the step goes on, and noise
alone between the steps. They let the network be trained where no video can be had; they are no pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from paperworks.papers.sieve_swap.procedures import Procedure
from paperworks.papers.sieve_swap.sentences import VideoTranscript
from paperworks.papers.sieve_swap.steps_dataset import StepDataset, VideoSteps

FILLERS = ("um", "okay so", "you know", "like", "right", "and then", "so now", "just")
DROPPED_SHARE = 0.15
SECONDS_PER_WORD = 0.4
LONGEST_SPOKEN = 60


@dataclass(frozen=True)
class SimulatedVideo:
    """A video that never was: its true steps, and what is said in it."""

    id: str
    procedure: str
    steps: VideoSteps
    transcript: VideoTranscript


def spoken(step: str, rng: np.random.Generator) -> str:
    """A written step as someone might say it: lower case, 15 % of the words left out, fillers put in."""
    words = step.lower().rstrip(".").split()[:LONGEST_SPOKEN]
    kept = [word for word in words if rng.random() >= DROPPED_SHARE] or words
    for _ in range(1 + len(kept) // 8):
        kept.insert(int(rng.integers(len(kept) + 1)), FILLERS[int(rng.integers(len(FILLERS)))])
    return " ".join(kept)


def simulate_video(
    name: str,
    procedure: Procedure,
    chatter: Sequence[str],
    rng: np.random.Generator,
    *,
    steps: tuple[int, int] = (4, 8),
    seconds: tuple[float, float] = (12.0, 24.0),
    gap: tuple[float, float] = (4.0, 14.0),
    chatter_share: float = 0.7,
) -> SimulatedVideo:
    """Some consecutive steps of a procedure, each at its time, with chatter in some of the gaps.

    Parameters
    ----------
    chatter : sentences to draw from.
    steps : least and most number of steps.
    seconds, gap : least and most length of a step, and of what lies between.
    chatter_share : of the gaps, so many have a sentence of chatter.
    """
    count = min(len(procedure.steps), int(rng.integers(steps[0], steps[1] + 1)))
    first = int(rng.integers(len(procedure.steps) - count + 1))
    at, cues, times = 0.0, [], []
    for step in procedure.steps[first : first + count]:
        pause = rng.uniform(*gap)
        if rng.random() < chatter_share:
            text = chatter[int(rng.integers(len(chatter)))]
            length = min(pause - 2.0, SECONDS_PER_WORD * len(text.split()))
            if length > 0.5:
                cues.append((at + 0.5, at + 0.5 + length, text))
        at += pause
        length = rng.uniform(*seconds)
        cues.append((at, at + length, spoken(step, rng) + "."))
        times.append((at, at + length))
        at += length
    duration = at + rng.uniform(*gap)
    texts = tuple((text,) for text in procedure.steps[first : first + count])
    return SimulatedVideo(
        name,
        procedure.id,
        VideoSteps(duration, tuple(times), texts),
        VideoTranscript.of(name, cues, duration),
    )


def simulate_videos(
    procedures: Sequence[Procedure],
    count: int,
    chatter: Sequence[str],
    seed: int,
    *,
    prefix: str = "video",
    **options: Any,
) -> list[SimulatedVideo]:
    """``count`` videos of procedures drawn with replacement; see ``simulate_video``."""
    rng = np.random.default_rng([seed, 1])
    long = [p for p in procedures if len(p.steps) >= 4]
    return [
        simulate_video(f"{prefix}-{n:04}", long[int(rng.integers(len(long)))], chatter, rng, **options)
        for n in range(count)
    ]


def truth_of(videos: Sequence[SimulatedVideo]) -> StepDataset:
    """The true steps."""
    return StepDataset({video.id: video.steps for video in videos})


def simulate_features(
    dataset: StepDataset,
    encoder: Any,
    seed: int,
    *,
    rows: int = 64,
    noise: float = 0.05,
    vectors: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Features float32 ``[rows, w]`` of videos with known steps.

    Parameters
    ----------
    encoder : of texts, with ``encode``.
    noise : standard deviation of every column; a text's vector has length 1.
    vectors : of texts, in place of the encoder's.
    """
    texts = list(dict.fromkeys(alternatives[0] for steps in dataset.values() for alternatives in steps.sentences))
    known = dict(zip(texts, encoder.encode(texts), strict=True)) if vectors is None else vectors
    out = {}
    for number, (video, steps) in enumerate(dataset.items()):
        rng = np.random.default_rng([seed, 2, number])
        width = len(next(iter(known.values())))
        found = rng.normal(scale=noise, size=(rows, width)).astype(np.float32)
        middles = (np.arange(rows) + 0.5) / rows * steps.duration
        for (start, end), alternatives in zip(steps.timestamps, steps.sentences, strict=True):
            found[(middles >= start) & (middles < end)] += known[alternatives[0]]
        out[video] = found
    return out


def uniform_steps(duration: float, count: int, text: str) -> list[dict[str, Any]]:
    """The baseline that looks at nothing: ``count`` equal segments with one sentence."""
    ends = np.linspace(0, duration, count + 1)
    return [{"start": float(a), "end": float(b), "text": text, "score": 1.0} for a, b in pairwise(ends)]
