"""Train a vision-language model in its three stages, and ask it EntityGrid's questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.hires_llava.actions.answers import kept_answers
from paperworks.papers.hires_llava.actions.inputs import encoder_maker, entity_grid, the_tower
from paperworks.papers.hires_llava.characters import character_model
from paperworks.papers.hires_llava.config import Config
from paperworks.papers.hires_llava.conversations import read_conversations
from paperworks.papers.hires_llava.entitygrid.answerers import model_answerer
from paperworks.papers.hires_llava.entitygrid.evaluation import EDGE_TASKS, EntityGridResult, scored
from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid, llava_records
from paperworks.papers.hires_llava.figures import positions_figure
from paperworks.papers.hires_llava.llava import ADAPTER_FACTOR, FULL_FACTOR, LORA_FACTOR, HiResLlava
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings

TRAINING_IMAGES = 120
"""Images of EntityGrid that train where no records are given."""
ASKED = 18
"""Images of EntityGrid that are asked about afterwards, at most: generation is slow."""


def tune(config: Config, run: runs.Run) -> runs.Report:
    """Stages 1, 2 and 3, or one of them; the model is saved."""
    tower = the_tower(config, run)
    grid = entity_grid(config, tower.image_size)
    records, root, said = _records(config, run, grid)
    llm: Any = config.llm
    tokenizer = None
    if llm is None:
        llm, tokenizer = character_model(seed=config.seed)
    encoder = encoder_maker(config, sampler=config.sampler, window=config.window)(tower)
    model = HiResLlava(encoder, llm, tokenizer, seed=config.seed)
    stages = [1, 2, 3] if config.stage == "all" else [int(config.stage)]
    losses: dict[int, list[float]] = {}
    for stage in stages:
        run.step(f"stage {stage}: {config.steps} steps")
        lora = stage == 3 and config.lora_rank > 0 and config.llm is not None
        settings = TrainSettings(
            steps=config.steps,
            batch_size=min(config.batch_size, len(records)),
            learning_rate=config.learning_rate,
            schedule="cosine",
            device=config.device,
            seed=config.seed,
        )
        model.fit(
            records,
            root,
            stage,  # type: ignore[arg-type]
            peft_config={"r": config.lora_rank} if lora else None,
            # a language model of random weights has everything to learn: it gets the projector's own rate
            llm_factor=1.0 if config.llm is None else None,
            settings=settings,
            checkpoint_dir=run.state / f"stage-{stage}",
            progress=run.progress,
        )
        losses[stage] = model.result_.losses
    model.save_pretrained(run.output("model"))
    run.step("asking about EntityGrid")
    dataset = grid.dataset(min(ASKED, config.test_images))
    answers = kept_answers(model_answerer(model), dataset, run)
    asked = scored(dataset, answers, seed=config.seed, n_resamples=200)
    return _report(config, run, losses, asked, said)


def _records(config: Config, run: runs.Run, grid: EntityGrid) -> tuple[list[dict[str, Any]], Any, str]:
    if config.records is None:
        count = config.train_images or TRAINING_IMAGES
        run.step(f"drawing {count} training images of EntityGrid")
        dataset = grid.dataset(count, "train", progress=run.progress)
        return llava_records(dataset), dataset.images, f"{len(dataset):,} records of EntityGrid's training half"
    path = Path(config.records).expanduser()
    conversations = read_conversations(path)
    root = path.parent if config.images == "digits" else Path(config.images).expanduser()
    if not root.is_dir():
        raise InputError("images", str(root), "the folder of the records' images")
    content = (
        json.loads(path.read_text(encoding="utf-8"))
        if path.suffix != ".jsonl"
        else [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    )
    return content, root, f"{len(conversations):,} records of {path.name}, images in {root.name}"


def _report(
    config: Config, run: runs.Run, losses: dict[int, list[float]], asked: EntityGridResult, said: str
) -> runs.Report:
    tail = max(1, config.steps // 10)
    rows: list[list[runs.report.Cell]] = [
        [f"stage {stage}", float(np.mean(values[:tail])), float(np.mean(values[-tail:]))]
        for stage, values in losses.items()
    ]
    last = rows[-1]
    write_text(run.output("losses.json"), json.dumps({str(k): v for k, v in losses.items()}) + "\n")
    write_text(run.output("scores.json"), json.dumps(asked.to_dict(), indent=2) + "\n")
    inside, edge = asked.accuracy_of(EDGE_TASKS, (1, 3, 7, 9)), asked.accuracy_of(EDGE_TASKS, (2, 4, 6, 8))
    rates = f"adapter {ADAPTER_FACTOR:g}, LoRA {LORA_FACTOR:g}, whole language model {FULL_FACTOR:g} times the rate"
    return runs.Report(
        headline=f"Loss on answers {last[1]:.3f} at the start of the last stage and {last[2]:.3f} at its end; "
        f"{asked.accuracy:.0%} of EntityGrid's questions are answered rightly.",
        lead=[said],
        metrics={"accuracy": asked.accuracy, "unparsed": asked.unparsed, "final_loss": float(last[2] or 0)},
        tables=[
            runs.Table(
                "Loss on answers, nats a token",
                ["stage", "first tenth", "last tenth"],
                rows,
                note="1 trains sampler and projector on the whole view; 2 adds slices and the adapter; 3 the language "
                f"model. {rates}.",
            ),
            runs.Table(
                "EntityGrid",
                ["score", "value"],
                [
                    ["accuracy, all tasks", asked.accuracy],
                    ["identification and counting, inside", inside],
                    ["identification and counting, on a cut", edge],
                    ["answers that name no choice", asked.unparsed],
                ],
            ),
        ],
        figures=[
            runs.Figure(
                "EntityGrid: accuracy at the nine positions",
                positions_figure({"identification and counting": asked.by_position(EDGE_TASKS)}),
            )
        ],
        files=[
            runs.ReportFile("model", "HiResLlava.from_pretrained reads it; --answerer takes it"),
            runs.ReportFile("losses.json", "loss of every step, by stage"),
            runs.ReportFile("scores.json", "EntityGrid's scores"),
        ],
    )
