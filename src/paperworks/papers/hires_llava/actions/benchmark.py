"""Make EntityGrid-QA in a folder and ask an answerer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paperworks import runs
from paperworks.errors import InputError
from paperworks.papers.hires_llava.actions.answers import kept_answers
from paperworks.papers.hires_llava.actions.inputs import STAND_IN_SIDE, entity_grid
from paperworks.papers.hires_llava.config import ANSWERERS, Config
from paperworks.papers.hires_llava.entitygrid.answerers import (
    OracleAnswerer,
    RandomAnswerer,
    TemplateAnswerer,
    endpoint_answerer,
    model_answerer,
)
from paperworks.papers.hires_llava.entitygrid.evaluation import EDGE_TASKS, AnswerFunction, EntityGridResult, scored
from paperworks.papers.hires_llava.entitygrid.generation import TASKS, EntityDataset, EntityGrid, read_dataset
from paperworks.papers.hires_llava.entitygrid.positions import POSITIONS
from paperworks.papers.hires_llava.figures import canvas_figure, positions_figure
from paperworks.runs.files import write_text

MOST_TEMPLATE_WORK = 2e9
"""Objects times pixels times images: some minutes."""


def benchmark(config: Config, run: runs.Run) -> runs.Report:
    """Write the benchmark, ask every question, and score by task and position."""
    model = _model(config)
    side = model.encoder.tower.image_size if model is not None else _side(config)
    grid = entity_grid(config, side)
    folder = run.state / "entitygrid"
    if not folder.exists():
        run.step(f"drawing {config.test_images + config.train_images:,} images of {grid.canvas} x {grid.canvas} pixels")
        grid.generate(folder, config.test_images, n_train=config.train_images, progress=run.progress)
    dataset = read_dataset(folder)
    answer, name = _answerer(config, grid, dataset, model)
    run.step(f"asking {name}, {len(dataset):,} questions")
    answers = kept_answers(answer, dataset, run)
    boxes = None
    if model is not None:
        part = model.encoder.prepare([dataset.image(dataset.records[0])])
        boxes = part.placements[0].slice_boxes()
    result = scored(dataset, answers, slice_boxes=boxes, seed=config.seed)
    return _report(config, run, grid, dataset, result, name, folder)


def _side(config: Config) -> int:
    return STAND_IN_SIDE if config.endpoint is None else 336


def _model(config: Config) -> Any:
    if config.endpoint is not None or config.answerer in ANSWERERS:
        return None
    from paperworks.papers.hires_llava.llava import HiResLlava

    return HiResLlava.from_pretrained(Path(config.answerer), device=config.device)


def _answerer(config: Config, grid: EntityGrid, dataset: EntityDataset, model: Any) -> tuple[AnswerFunction, str]:
    if config.endpoint is not None:
        from paperworks.language.generation import EndpointGenerator

        generator = EndpointGenerator(config.endpoint, config.endpoint_model or "")
        return endpoint_answerer(generator), f"{config.endpoint_model} at {config.endpoint}"
    if model is not None:
        return model_answerer(model), f"the model in {Path(config.answerer).name}"
    if config.answerer == "oracle":
        return OracleAnswerer(dataset), "the records themselves"
    if config.answerer == "random":
        return RandomAnswerer(config.seed), "chance"
    if len(grid.test) * grid.canvas**2 * config.test_images > MOST_TEMPLATE_WORK:
        found = f"{len(grid.test):,} objects on {config.test_images:,} canvases of {grid.canvas} pixels"
        raise InputError("answerer", found, "for templates: fewer objects or images, or a smaller canvas")
    scope: Any = config.answerer.removeprefix("template-")
    where = "the whole image" if scope == "image" else "one slice at a time"
    return TemplateAnswerer(grid.test, grid.entity_side, scope), f"templates, {where}"


def _report(
    config: Config,
    run: runs.Run,
    grid: EntityGrid,
    dataset: EntityDataset,
    result: EntityGridResult,
    name: str,
    folder: Path,
) -> runs.Report:
    import shutil

    shutil.copytree(folder, run.output("entitygrid"))
    lines = [
        json.dumps(
            {
                "image": r.image,
                "task": r.task,
                "question": r.question,
                "said": said,
                "read_as": parsed,
                "right": r.answer,
            }
        )
        for (said, parsed), r in zip(result.answers, dataset.records, strict=True)
    ]
    write_text(run.output("answers.jsonl"), "\n".join(lines) + "\n")
    write_text(run.output("scores.json"), json.dumps(result.to_dict(), indent=2) + "\n")
    write_text(run.output("scores.md"), result.to_markdown())
    words = {1: "inside", 2: "on a cut", 5: "at the center"}
    inside, edge, center = (result.accuracy_of(EDGE_TASKS, p) for p in ((1, 3, 7, 9), (2, 4, 6, 8), (5,)))
    return runs.Report(
        headline=f"{name[:1].upper()}{name[1:]}: {result.accuracy:.0%} right; objects inside slices {inside:.0%}, "
        f"on a cut {edge:.0%}, where all slices meet {center:.0%}.",
        metrics={
            "accuracy": result.accuracy,
            "inside": inside,
            "edge": edge,
            "center": center,
            "unparsed": result.unparsed,
        },
        lead=result.warnings,
        tables=[
            runs.Table(
                "Accuracy by task and position",
                ["task", "all", *(str(p) for p in POSITIONS)],
                [[task, _cell(result, task), *(_cell(result, task, p) for p in POSITIONS)] for task in TASKS],
                note="Positions are numbered row by row: corners (1, 3, 7, 9) are whole, 2, 4, 6, 8 are cut once, 5 by "
                f"all. Answers that name no choice: {result.unparsed:.1%}.",
            ),
            runs.Table(
                "Discrepancies of identification and counting",
                ["score", "value", "from", "to"],
                [
                    ["Disc1, corners less edges", *_ends(result.disc1)],
                    ["Disc2, corners less center", *_ends(result.disc2)],
                ],
                note="95% bootstrap over images. A reader that is bad everywhere has discrepancies of 0: read them "
                "beside the accuracy.",
            ),
        ],
        figures=[
            runs.Figure(
                "Canvases with their cuts",
                canvas_figure([grid.draw([(i, p)]) for i, p in enumerate(words)], [*words.values()]),
            ),
            runs.Figure(
                "Accuracy at the nine positions",
                positions_figure(
                    {
                        "identification and counting": result.by_position(EDGE_TASKS),
                        "position": result.by_position(("position",)),
                    }
                ),
                "The cuts run through the middle row and the middle column.",
            ),
        ],
        files=[
            runs.ReportFile(
                "entitygrid", "the benchmark: images, test.jsonl, and train.json in LLaVA's format if asked for"
            ),
            runs.ReportFile("answers.jsonl", "every question with what was said and what it was read as"),
            runs.ReportFile("scores.json", "accuracy by task and position, and discrepancies"),
            runs.ReportFile("scores.md", "the same as a table in Markdown"),
        ],
    )


def _cell(result: EntityGridResult, task: str, position: int | None = None) -> float | None:
    value = result.accuracy_of((task,), POSITIONS if position is None else (position,))
    return None if value != value else value


def _ends(interval: Any) -> list[float | None]:
    return [None, None, None] if interval is None else [interval.estimate, interval.low, interval.high]
