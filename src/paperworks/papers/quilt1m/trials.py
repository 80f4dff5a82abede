"""What the studies repeat with several seeds: a lecture through the curation, and encoders through training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paperworks.inputs.video import decode_frames
from paperworks.papers.quilt1m.assembly import write_dataset
from paperworks.papers.quilt1m.chunks import fixed_windows
from paperworks.papers.quilt1m.correction import LETTERS
from paperworks.papers.quilt1m.curator import CurationSettings, VideoTextCurator
from paperworks.papers.quilt1m.filters import ACCEPTED, ColorTextureFilter
from paperworks.papers.quilt1m.lectures import (
    CURSOR,
    FPS,
    OTHERS,
    Lecture,
    Scene,
    filter_examples,
    random_crops,
    slide,
    write_lecture,
)
from paperworks.papers.quilt1m.pairing import PairSettings
from paperworks.papers.quilt1m.vocabulary import Concept, Vocabulary
from paperworks.runs.files import remove

TERMS = ("pagoda", "dahlia", "balcony", "petal", "eaves", "floret", "column", "stamen", "cornice", "sepal")
DOMAIN_SCENES = 5
SPOKEN = (
    "Here you see the {c}, and it looks quite typical in this picture.",
    "The {c} is darker at its edge than it is in the middle part.",
    "Compare this {c} with the one that we have seen in the book.",
)
WORDS_PER_SECOND = 2.5


def trial_lecture(seed: int) -> Lecture:
    """Five scenes of random parts of the photographs, each with three sentences of its own, and slides between them.

    Two of them follow each other without a slide. 2.5 words are spoken in a second.
    """
    rng = np.random.default_rng([seed, 7])
    pictures = random_crops(DOMAIN_SCENES, rng)
    scenes: list[Scene] = []
    for number, picture in enumerate(pictures):
        if number != 3:
            sentence, lines = OTHERS[number % len(OTHERS)]
            kind: Any = "text" if lines else "blank"
            scenes.append(Scene(kind, slide(lines), sentence, float(rng.integers(40, 60)) / 10))
        words = " ".join(sentence.format(c=TERMS[number]) for sentence in SPOKEN)
        scenes.append(Scene("domain", picture, words, round(0.6 + len(words.split()) / WORDS_PER_SECOND, 1)))
    sentence, lines = OTHERS[-1]
    return Lecture(f"lecture{seed}", (*scenes, Scene("text", slide(lines), sentence, 6.0)))


def lecture_trial(seed: int, folder: Path) -> dict[str, float]:
    """A lecture curated, and compared with what was put into it and with windows of ten seconds."""
    remove(folder)
    lecture = trial_lecture(seed)
    video = write_lecture(lecture, folder / "videos")
    accepts = ColorTextureFilter().fit(*filter_examples(seed))
    vocabulary = Vocabulary(Concept(term, f"T{i}") for i, term in enumerate(TERMS))
    settings = CurationSettings(min_duration=10)
    curator = VideoTextCurator(settings, accepts=accepts, vocabulary=vocabulary)
    one = curator.run(folder / "videos", cache=folder / "cache")[0]
    data = write_dataset(folder / "data", [one])
    watched = one.watched
    assert watched is not None
    cuts = lecture.starts[1:]
    found = [int(np.abs(watched.times - cut).argmin()) for cut in cuts]
    kinds = [scene.kind == "domain" for scene in lecture.scenes]
    assigned = [bool(watched.positive[i]) for i in [0, *found]]
    counts = np.zeros(len(kinds), int)
    for still in watched.stills:
        if still.file:
            counts[lecture.scene_at((still.start + still.end) / 2)] += 1
    result: dict[str, float] = {
        "cut_error_frames": max(abs(float(watched.times[i]) - cut) * FPS for i, cut in zip(found, cuts, strict=True)),
        "scenes": len(kinds),
        "scenes_right": sum(a == b for a, b in zip(assigned, kinds, strict=True)),
        "domain_scenes": sum(kinds),
        "one_median": sum(bool(k) and c == 1 for k, c in zip(kinds, counts, strict=True)),
    }
    result |= _errors(lecture, video, watched.folder, [s for s in watched.stills if s.file])
    result |= _alignment(lecture, video, data.pairs, accepts)
    tight = CurationSettings(min_duration=10, pair=PairSettings(text_pad=0.0))
    again = VideoTextCurator(tight, accepts=accepts, vocabulary=vocabulary).run(
        folder / "videos", cache=folder / "cache"
    )
    rows = write_dataset(folder / "tight", again).pairs
    result["precision_no_pad"] = _alignment(lecture, video, rows, accepts)["precision"]
    return {name: float(value) for name, value in result.items()}


def _errors(lecture: Lecture, video: Path, folder: Path, stills: Sequence[Any]) -> dict[str, float]:
    """Errors of medians and of single frames to the pictures that were put in."""
    gains, medians, singles, blocks, single_blocks, largest, single_largest = [], [], [], [], [], [], []
    for still in stills:
        clean = lecture.scenes[lecture.scene_at((still.start + still.end) / 2)].picture.astype(float)
        median = np.abs(np.asarray(Image.open(folder / still.file)).astype(float) - clean)
        frames = [
            np.abs(frame.rgb().astype(float) - clean)
            for frame in decode_frames(video, start=still.start + 0.2, end=still.end - 0.2)
        ]
        best = min(float(frame.mean()) for frame in frames)
        gains.append(best - float(median.mean()))
        medians.append(float(median.mean()))
        singles.append(best)
        blocks.append(_worst_block(median))
        single_blocks.append(float(np.median([_worst_block(frame) for frame in frames])))
        largest.append(float(median.max()))
        single_largest.append(min(float(frame.max()) for frame in frames))
    return {
        "mae_gain_smallest": min(gains),
        "mae_median": float(np.mean(medians)),
        "mae_single_best": float(np.mean(singles)),
        "worst_block": max(blocks),
        "worst_block_single": min(single_blocks),
        "max_median": max(largest),
        "max_single": min(single_largest),
    }


def _worst_block(error: np.ndarray) -> float:
    """The largest mean over squares of the cursor's size, at every fourth place."""
    grey = error.mean(2)
    table = np.pad(grey.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = table[CURSOR:, CURSOR:] - table[:-CURSOR, CURSOR:] - table[CURSOR:, :-CURSOR] + table[:-CURSOR, :-CURSOR]
    return float(sums[::4, ::4].max()) / CURSOR**2


def _alignment(lecture: Lecture, video: Path, pairs: Sequence[dict[str, Any]], accepts: Any) -> dict[str, float]:
    """Share of pairs whose sentence belongs to the scene of the picture; and that of windows of ten seconds."""
    places = {cue.text: lecture.scene_at(cue.start) for cue in lecture.cues()}
    right: list[bool] = []
    captioned: dict[str, bool] = {}
    for row in pairs:
        scene = lecture.scene_at(sum(row["shown"]) / 2)
        right.append(places.get(row["text"]) == scene)
        captioned[row["image"]] = captioned.get(row["image"], False) or right[-1]
    cues = [(cue, lecture.scene_at(cue.start)) for cue in lecture.cues()]
    fixed: list[bool] = []
    filtered: list[bool] = []
    for start, end in fixed_windows(lecture.duration):
        frame = next(iter(decode_frames(video, start=start)))
        shown = lecture.scene_at(start)
        accepted = float(accepts([Image.fromarray(frame.rgb())])[0]) >= ACCEPTED
        for cue, scene in cues:
            inside = min(cue.end, end) - max(cue.start, start)
            if lecture.scenes[scene].kind == "domain" and inside >= 0.5 * (cue.end - cue.start):
                fixed.append(scene == shown)
                filtered += [scene == shown] if accepted else []
    spoken = [cue.text for cue, scene in cues if lecture.scenes[scene].kind == "domain"]
    hit = {row["text"] for row, good in zip(pairs, right, strict=True) if good}
    return {
        "sentences": len(spoken),
        "recall": len(hit & set(spoken)) / len(spoken),
        "recall_fixed": sum(fixed) / len(spoken),
        "pictures": len(captioned),
        "captioned": sum(captioned.values()),
        "pairs": len(right),
        "precision": float(np.mean(right)) if right else 0.0,
        "precision_fixed": float(np.mean(fixed)) if fixed else 0.0,
        "precision_fixed_filtered": float(np.mean(filtered)) if filtered else 0.0,
    }


def misspelt(word: str, errors: int, rng: np.random.Generator) -> str:
    """A word with so many letters replaced, left out, added or swapped, never the first; it differs from the word."""
    wrong = word
    while wrong == word:
        wrong = word
        for _ in range(errors):
            place, kind = int(rng.integers(1, len(wrong) - 1)), int(rng.integers(4))
            letter = LETTERS[int(rng.integers(26))]
            parts = (
                wrong[:place] + letter + wrong[place + 1 :],
                wrong[:place] + wrong[place + 1 :],
                wrong[:place] + letter + wrong[place:],
                wrong[:place] + wrong[place + 1] + wrong[place] + wrong[place + 2 :],
            )
            wrong = parts[kind]
    return wrong


def encoder_trial(seed: int, epochs: float = 30, held_out: int = 500) -> dict[str, Any]:
    """Two encoders trained on digits, with the right and with shuffled captions, and evaluated on 500 others."""
    from paperworks.metrics import recall_at_k
    from paperworks.papers.quilt1m.encoders import EncoderSettings, train_dual_encoder
    from paperworks.papers.quilt1m.encoders_report import raw_pixels
    from paperworks.papers.quilt1m.pairdata import DIGIT_NAMES, DIGIT_TEMPLATES, digit_pairs, digit_pictures
    from paperworks.papers.quilt1m.scoring import class_vectors, probe_fractions, zero_shot
    from paperworks.training import TrainSettings

    pairs, (pictures, labels) = digit_pairs(seed), digit_pictures()
    order = np.random.default_rng([seed, 5]).permutation(len(pairs))
    test, train = order[:held_out], order[held_out:]
    steps = round(epochs * len(train) / 128)
    training = TrainSettings(
        steps=steps,
        batch_size=128,
        learning_rate=2e-3,
        weight_decay=0.1,
        betas=(0.9, 0.98),
        schedule="cosine",
        warmup_steps=max(1, steps // 10),
        device="cpu",
        seed=seed,
    )
    shots = []
    seen = pairs.take(train)
    shuffled = replace(seen, texts=[seen.texts[i] for i in np.random.default_rng([seed, 6]).permutation(len(seen))])
    for number, data in enumerate((seen, shuffled)):
        encoders, _, _ = train_dual_encoder(data, EncoderSettings(), training)
        vectors = encoders.image_vectors(pictures)
        by_template = class_vectors(encoders, DIGIT_NAMES, DIGIT_TEMPLATES)
        shots.append(zero_shot(vectors[test], labels[test], by_template, DIGIT_TEMPLATES, DIGIT_NAMES))
        if number == 0:
            images, texts = vectors, encoders.text_vectors([pairs.texts[i][0] for i in test])
    pixels = raw_pixels(pictures, 8)
    probes = [
        probe_fractions((x[train], labels[train]), (x[test], labels[test]), seeds=3, seed=seed)
        for x in (images, pixels)
    ]
    scores, own = images[test] @ texts.T, np.eye(len(test), dtype=bool)
    return {
        "zero_shot": shots[0].accuracy.estimate,
        "zero_shot_single": float(np.mean(shots[0].by_template)),
        "zero_shot_shuffled": shots[1].accuracy.estimate,
        "probe": {str(float(f)): interval.estimate for f, interval in probes[0].items()},
        "raw": {str(float(f)): interval.estimate for f, interval in probes[1].items()},
        "retrieval": {
            "to_text": recall_at_k(scores, own, 10),
            "to_image": recall_at_k(scores.T, own, 10),
            "chance": 10 / len(test),
        },
    }
