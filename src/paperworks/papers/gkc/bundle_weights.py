"""Train the bundled weights again: ``python -m paperworks.papers.gkc.bundle_weights --out FOLDER``.

The trunk learns the shape world as a closed-set Mask2Former: the 12 base shapes and the 2 backgrounds, each with a
random vector for a name, so that it knows no text. The teacher learns crops of all 16 shapes beside their texts, as
CLIP has seen more than a segmenter's classes. It also hears the synonyms, as CLIP's captions have them: a teacher that
knows the plain names alone gives every synonym a score of 0. Names that are held out for the test it never hears. A
stopped training goes on when the command is given again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import save_file

from paperworks.papers.gkc.criterion import LossWeights
from paperworks.papers.gkc.fitting import fit_segmenter
from paperworks.papers.gkc.segmenter import GKCConfig, GKCForOpenVocabularySegmentation, small_trunk
from paperworks.papers.gkc.segments import crops_of
from paperworks.papers.gkc.shape_world import COMBINATIONS, EVERY, TRAINED, make_scenes, synonyms_of
from paperworks.papers.gkc.synonyms import PROMPT, SynonymTable
from paperworks.papers.gkc.towers import CropEncoder, Towers, load_towers, train_crop_encoder
from paperworks.papers.gkc.vocabulary import PLAIN, encode_names
from paperworks.runs.files import new_folder
from paperworks.training import TrainSettings

T = TypeVar("T")
TRUNK_SEED, TEACHER_SEED = 1001, 1002
TRUNK_STEPS, TEACHER_STEPS = 2000, 800
SCENES = 3000
WIDTH = 384


def random_names(texts: list[str]) -> np.ndarray:
    """A random unit vector of each text, the same each time: names without meaning."""
    rows = [np.random.default_rng(list(text.encode())).normal(size=WIDTH) for text in texts]
    return np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)


def train_trunk(state: Path, steps: int = TRUNK_STEPS) -> GKCForOpenVocabularySegmentation:
    """A closed-set Mask2Former of the shape world."""

    def say(step: int, loss: float, rate: float) -> None:
        if step % 50 == 0:
            print(f"step {step}: loss {loss:.3f}, rate {rate:.1e}", flush=True)

    def every(iterable: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        yield from iterable

    torch.manual_seed(TRUNK_SEED)
    model = GKCForOpenVocabularySegmentation(GKCConfig(small_trunk(), WIDTH))
    settings = TrainSettings(
        steps=steps,
        batch_size=16,
        learning_rate=1e-3,
        weight_decay=0.05,
        clip_norm=1.0,
        warmup_steps=50,
        checkpoint_every=50,
        seed=TRUNK_SEED,
        device="cpu",
    )
    fit_segmenter(
        model,
        make_scenes(SCENES, TRUNK_SEED, class_names=TRAINED),
        SynonymTable({name: (name,) for name in TRAINED}),
        Towers("random vectors", random_names),
        settings,
        diversification="off",
        distillation="off",
        weights=LossWeights(grounding=0),
        points=512,
        backbone_rate=1.0,
        checkpoint_dir=state,
        progress=every,
        on_step=say,
    )
    return model


def train_teacher(steps: int = TEACHER_STEPS) -> CropEncoder:
    """The image tower, on crops of all shapes beside MiniLM's vectors of their names, with a prompt and without."""
    scenes = make_scenes(SCENES, TEACHER_SEED, COMBINATIONS)
    crops = crops_of(scenes, CropEncoder.SIZE)
    labels = np.array([segment.label for scene in scenes for segment in scene.segments])
    names = [synonyms_of(name) for name in EVERY]
    words = [prompt.format(name) for prompt in (*PLAIN, PROMPT) for row in names for name in row]
    texts = torch.from_numpy(encode_names(words, load_towers().encode_text))
    most, count = max(map(len, names)), len(words) // 2
    first = np.cumsum([0, *map(len, names)])
    own = np.array([first[n] + np.resize(np.arange(len(row)), most) for n, row in enumerate(names)])
    return train_crop_encoder(crops, texts, np.hstack([own, own + count])[labels], steps=steps, seed=TEACHER_SEED)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new folder for the weights")
    parser.add_argument("--teacher", action="store_true", help="the teacher alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    state = options.out.with_name(options.out.name + ".state")
    trunk = None if options.teacher else train_trunk(state).trunk
    teacher = train_teacher()
    with new_folder(options.out, "out") as folder:
        if trunk is not None:
            trunk.half().save_pretrained(folder / "trunk")
        weights = {name: value.contiguous() for name, value in teacher.state_dict().items()}
        save_file(
            {n: v.half() if v.is_floating_point() else v for n, v in weights.items()}, folder / "teacher.safetensors"
        )


if __name__ == "__main__":
    main()
