"""What the runs report: accuracy by class, other names with overlays, and the cost beside the two-stage way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks import runs
from paperworks.papers.gkc.asking import Answer
from paperworks.papers.gkc.config import Config
from paperworks.papers.gkc.figures import loss_figure, overlay_figure
from paperworks.papers.gkc.paper_size import paper_cost
from paperworks.papers.gkc.prediction import SegmentQuality
from paperworks.papers.gkc.segments import Scene
from paperworks.papers.gkc.synonyms import SynonymTable, describe

if TYPE_CHECKING:
    import pandas as pd

    from paperworks.papers.gkc.run_input import RunInput
    from paperworks.papers.gkc.training_run import Scores
    from paperworks.papers.gkc.two_stage import Cost

MOST_ROWS = 40
GIGA = 1e9


def training_report(
    config: Config,
    data: RunInput,
    synonyms: SynonymTable,
    scores: Sequence[Scores],
    quality: SegmentQuality,
    cost: Cost | None,
    reply: Answer | None,
    losses: Sequence[float],
    table: pd.DataFrame,
    files: list[runs.ReportFile],
    notes: list[str],
    distillation: str,
) -> runs.Report:
    """The report of a run that trained."""
    own = scores[0].together
    assert own is not None
    metrics = {
        "mean IoU, trained classes": own.seen,
        "pixel accuracy": own.pixel_accuracy,
        "panoptic quality": quality.panoptic,
        "boundary IoU": quality.boundary,
    }
    trained, shapes = len(data.counted), len(data.unseen)
    headline = f"Mean IoU of the {trained} trained classes is {own.seen:.1%} on {len(data.test)} test images."
    if scores[0].base is not None and scores[0].novel is not None:
        metrics |= {"mean IoU, novel scenes": scores[0].novel, "mean IoU, base scenes": scores[0].base}
        metrics |= {"mean IoU, novel classes": own.unseen, "harmonic mean": own.harmonic}
        headline = (
            f"Mean IoU is {scores[0].base:.1%} for {trained} trained shapes, and {scores[0].novel:.1%} for {shapes} "
            "that were never trained, in scenes of their own."
        )
    if cost is not None:
        metrics["operations of the two-stage way, times"] = cost.flops_ratio
        metrics["operations of the two-stage way at the paper's size, times"] = paper_cost(16)[0].flops_ratio
        headline += f" The two-stage way needs {cost.flops_ratio:.1f} times as many operations here, "
        headline += f"{paper_cost(16)[0].flops_ratio:.1f} times at the paper's size."
    if reply is not None and reply.asked:
        headline += f" {_counts(reply)}."
    tables = [_accuracy_table(scores)]
    if cost is not None:
        tables.append(_cost_table(cost))
    if reply is not None:
        tables.append(_asked_table(reply))
    rows = [[row["class"], row["group"], _figure(row["intersection over union"])] for _, row in table.iterrows()]
    note = f"The first {MOST_ROWS}; all are in accuracy.csv." if len(rows) > MOST_ROWS else ""
    tables.append(runs.Table("Every class", ["class", "group", "IoU"], rows[:MOST_ROWS], note))
    if any(len(names) > 1 for names in synonyms.names.values()) or synonyms.dropped:
        listed: list[list[Any]] = describe(synonyms)[:MOST_ROWS]
        tables.append(runs.Table("Synonyms in training", ["class", "synonyms", "dropped"], listed))
    figures = []
    if reply is not None:
        figures.append(_overlays(reply, data.asked))
    figures.append(runs.Figure("Loss", loss_figure(losses), f"Distillation: {distillation}."))
    lead = [data.notes[-1]]
    if own.seen < 0.2:
        lead.append("The accuracy is low: train longer (--steps), on more images, or from trained weights (--start).")
    return runs.Report(
        headline=headline,
        metrics=metrics,
        tables=tables,
        figures=figures,
        files=files,
        notes=[*data.notes[:-1], *notes, *_notes(config)],
        lead=lead,
    )


def _notes(config: Config) -> list[str]:
    notes = []
    if config.start is None:
        notes.append(
            "It starts from a bundled trunk of 0.6 million weights, trained on made shapes. Give --start for more."
        )
    if config.towers is None:
        notes.append("Names are vectors of the bundled MiniLM, a sentence encoder. Give --towers for CLIP's.")
    return notes


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _accuracy_table(scores: Sequence[Scores]) -> runs.Table:
    worlds = any(one.base is not None for one in scores)
    rows: list[list[Any]] = []
    for one in scores:
        row: list[Any] = [one.name]
        if worlds:
            row += [one.base, one.novel]
        a = one.together
        together = [None] * 4 if a is None else [a.seen, a.unseen, a.harmonic, a.pixel_accuracy]
        rows.append([*row, *(None if value is None else _figure(value) for value in together)])
    columns = ["mean IoU", *(["base scenes", "novel scenes"] if worlds else [])]
    columns += ["all names: trained", "all names: novel", "harmonic mean", "pixel accuracy"]
    note = (
        "Base scenes are read with the trained names, novel scenes with the novel names and the backgrounds. "
        if worlds
        else ""
    )
    return runs.Table("Accuracy", columns, rows, note + "All names: every class competes on all test images.")


def _cost_table(cost: Cost) -> runs.Table:
    rows: list[list[Any]] = [
        ["this segmenter alone", cost.student_flops / GIGA, cost.student_seconds * 1000, 1.0],
        [
            f"two stages, {cost.crops} crops",
            cost.two_stage_flops / GIGA,
            cost.two_stage_seconds * 1000,
            cost.flops_ratio,
        ],
    ]
    paper, _ = paper_cost(16)
    rows += [
        ["at the paper's size, alone (counted)", paper.student_flops / GIGA, None, 1.0],
        [
            f"at the paper's size, two stages, {paper.crops} crops (counted)",
            paper.two_stage_flops / GIGA,
            None,
            paper.flops_ratio,
        ],
    ]
    columns = ["one image", "operations, 10^9", "time, ms", "operations, times"]
    note = "Operations by PyTorch's counter (a multiply and an add are two). The paper's size: RN50 at 512 x 512, 100 "
    note += "queries, ViT-B/16 on 224 x 224. The paper: 151 against 1165 (multiply-adds), 7.7 times."
    return runs.Table("Cost", columns, rows, note)


def _asked_table(found: Answer) -> runs.Table:
    rows: list[list[Any]] = [
        [name, found.images_with(n), found.share(n)] for n, name in enumerate(found.names[: len(found.asked)])
    ]
    others = found.names[len(found.asked) :]
    listed = ", ".join(others[:8]) + (f" and {len(others) - 8} more" if len(others) > 8 else "")
    note = f"Other names that competed: {listed}." if others else "No other name competed: every pixel is one of these."
    return runs.Table("Asked names", ["name", "images", "share of all pixels"], rows, note)


def _counts(found: Answer) -> str:
    """In how many images each asked name was found, the first six."""
    counts = ", ".join(f"{name} in {found.images_with(n)}" for n, name in enumerate(found.asked[:6]))
    return f"Of {len(found.maps)} images: {counts}"


def _overlays(found: Answer, scenes: Sequence[Scene]) -> runs.Figure:
    shown = len(found.asked) or len(found.names)
    caption = "Above: images that training did not see. Below: where the asked names were found."
    if not any(found.images_with(n) for n in range(shown)):
        shown = len(found.names)
        caption = (
            "Above: images that training did not see. No asked name was found in them; below is what they were read as."
        )
    return runs.Figure("Asked names", overlay_figure(scenes, found.classes, found.names, shown), caption)


def asking_report(
    found: Answer, scenes: Sequence[Scene], files: list[runs.ReportFile], notes: list[str]
) -> runs.Report:
    """The report of a run that asked a trained segmenter."""
    return runs.Report(
        headline=f"{_counts(found)}.",
        metrics={f"share of {name}": found.share(n) for n, name in enumerate(found.asked)},
        tables=[_asked_table(found)],
        figures=[_overlays(found, scenes)],
        files=files,
        notes=notes,
    )
