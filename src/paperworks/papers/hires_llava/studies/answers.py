"""From image to answer: a small language model of characters learns answers, is saved, and answers again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.hires_llava.characters import character_model
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.entitygrid.generation import EntityDataset, EntityGrid, llava_records, prompt_of
from paperworks.papers.hires_llava.llava import HiResLlava
from paperworks.papers.hires_llava.restoration import PIXEL_MEAN, PIXEL_STD, stand_in_tower
from paperworks.papers.hires_llava.towers import VisionTower
from paperworks.runs import Finding, Run
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings

SEEDS, IMAGES, STEPS = 3, 20, 60


@runs.study(
    claims=["from-image-to-answer"], title="Twenty generated images and a language model of characters", minutes=1
)
def answers(run: Run, fast: bool) -> Iterator[Finding]:
    """Three seeds: all three stages of training on 20 images; loss on answers; answers before and after saving.

    The loss falls by the form of the answers alone. What the model takes from the image is what it loses with another
    one, on 20 images that were held out.
    """
    rows: list[list[float]] = []
    for seed in run.progress(range(2 if fast else SEEDS), "training, one seed after the other"):
        kept = run.state / f"answers-{seed}.json"
        if not kept.is_file():
            write_text(kept, json.dumps(_train(seed, 4 if fast else STEPS)))
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
    table = np.array(rows)
    yield Finding(
        "from-image-to-answer",
        "loss on the answers to the images trained on, at the end as a share of that at the start",
        "empirical",
        mean_interval(table[:, 1] / table[:, 0]),
        "<",
        0.5,
        baseline=float(table[:, 0].mean()),
        baseline_name="loss at the start, nats a token",
        detail=f"{IMAGES} images, {STEPS} steps in each of three stages; at the end {table[:, 1].mean():.3f}",
    )
    yield Finding(
        "from-image-to-answer",
        f"loss on the answers to {IMAGES} images held out, less that with another one of them in its place",
        "empirical",
        mean_interval(table[:, 3] - table[:, 4]),
        "<",
        0.0,
        baseline=float(table[:, 4].mean()),
        baseline_name="with another image, nats a token",
        unit="nats a token",
        detail=f"with its own image {table[:, 3].mean():.3f}; of the images trained on with its own "
        f"{table[:, 5].mean():.3f}, with another {table[:, 6].mean():.3f}",
    )
    yield Finding(
        "from-image-to-answer",
        "answers that differ after the model was saved and loaded",
        "exact",
        float(table[:, 2].sum()),
        "==",
        0,
        detail="four questions for each seed",
    )


def _train(seed: int, steps: int) -> list[float]:
    """Loss at the start and the end, answers that saving changed, loss with own and other images (held out, not)."""
    grid = EntityGrid("digits", canvas=32, seed=seed)
    tower = VisionTower(stand_in_tower(grid, steps=min(steps, 150), seed=seed), mean=PIXEL_MEAN, std=PIXEL_STD)
    encoder = HiResVisionEncoder(tower, sra_layers="all", window=2, seed=seed)
    llm, tokenizer = character_model(seed=seed)
    model = HiResLlava(encoder, llm, tokenizer, seed=seed)
    dataset = grid.dataset(IMAGES, "train")
    records = llava_records(dataset)
    losses: list[float] = []
    for stage in (1, 2, 3):
        settings = TrainSettings(
            steps=steps, batch_size=12, learning_rate=3e-3, schedule="cosine", device="cpu", seed=seed
        )
        model.fit(records, dataset.images, stage, settings=settings, llm_factor=1.0)  # type: ignore[arg-type]
        losses += model.result_.losses
    asked = dataset.records[:4]
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "model")
        again = HiResLlava.from_pretrained(Path(folder) / "model")
        different = 0
        for record in asked:
            prompt = prompt_of(record.question, record.choices)
            said = [one.generate(dataset.image(record), prompt, max_new_tokens=12) for one in (model, again)]
            different += said[0] != said[1]
    tail = min(5, len(losses))
    compared = [loss for part in (grid.dataset(IMAGES, "test"), dataset) for loss in _with_images(model, part)]
    return [float(np.mean(losses[:tail])), float(np.mean(losses[-tail:])), different, *compared]


def _with_images(model: HiResLlava, dataset: EntityDataset) -> tuple[float, float]:
    """Nats a token of the answers, with each record's own image and with the next one of the set."""
    records, names = llava_records(dataset), list(dataset.images)
    following = dict(zip(names, names[1:] + names[:1], strict=True))
    other = [{**record, "image": following[record["image"]]} for record in records]
    return model.answer_loss(records, dataset.images), model.answer_loss(other, dataset.images)
