"""The export that serving engines want beside a pruned checkpoint: equal widths, the stock class, the same budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError
from paperworks.language import load_model
from paperworks.pruning.source import TARGET_FILE
from paperworks.pruning.tables import before_and_after
from paperworks.runs import Report, ReportFile, Run
from paperworks.runs.files import new_folder, write_text
from paperworks.structure import TaylorScores, uniform_within, units_of
from paperworks.structure.scores import Scores
from paperworks.structure.units import kinds_of

if TYPE_CHECKING:
    import torch

    from paperworks.pruning.quality import Figures
    from paperworks.structure import Units

UNIFORM = "model-uniform"
"""The folder of the export among the files of a run."""
RANKED = ("ffn", "kv_group", "expert", "expert_channel")
FAILED = "uniform-refused.json"


def export_uniform(
    run: Run,
    source: Path,
    scores: Callable[[Any, Units], Scores],
    *,
    multiple_of: int,
    dtype: torch.dtype,
    device: str,
) -> Path | None:
    """Save ``source`` with one common width in all layers, inside the run's budget; None where that is impossible.

    What is impossible is warned of, and does not touch the pruned checkpoint, which is saved by then. A run that goes
    on finds what was made.

    Parameters
    ----------
    source : the dense checkpoint, or the pruned one where training came between.
    scores : of units of the kinds ``RANKED`` of a model in float32, by which they are ranked at the new width.
    """
    folder, refused = run.files / UNIFORM, run.state / FAILED
    if folder.exists():
        return folder
    if refused.exists():
        return None
    run.step("choosing one width for all layers")
    model, tokenizer = load_model(source, "float32", device)
    target = int(json.loads((run.state / TARGET_FILE).read_text(encoding="utf-8")))
    try:
        units = units_of(model, [kind for kind in RANKED if kind in kinds_of(model)])
        uniform = uniform_within(model, target, scores(model, units), multiple_of=multiple_of)
    except InputError as error:
        run.log.warning(f"no uniform model was saved: {error}")
        write_text(refused, json.dumps(str(error)))
        return None
    with new_folder(folder) as out:
        uniform.to(dtype).save_pretrained(out)
        tokenizer.save_pretrained(out)
    return folder


def taylor_ranking(
    batches: Iterable[Mapping[str, torch.Tensor]],
) -> Callable[[Any, Units], Scores]:
    """Scores of the first order, sum of |w g|, on batches of ``input_ids`` and what goes with them."""

    def scores(model: Any, units: Units) -> Scores:
        device = next(model.parameters()).device
        with TaylorScores(model, units) as found:
            for batch in batches:
                found.add({name: value.to(device) for name, value in batch.items()})
            return found.scores("param_first")

    return scores


def with_uniform(run: Run, report: Report, figures: Mapping[str, Figures]) -> Report:
    """The report with the figures of the uniform model, or with the reason why there is none; else as it is."""
    refused = run.state / FAILED
    if "uniform" in figures:
        rows = [[name, value, figures["uniform"].get(name)] for name, value in figures["dense"].items()]
        note = f"{UNIFORM}: the stock class, one width in all layers, inside the same budget."
        table = replace(before_and_after(["dense", "uniform"], rows, note), title="The uniform model")
        made = ReportFile(UNIFORM, "equal widths inside the same budget, in the stock class")
        return replace(report, tables=[*report.tables, table], files=[*report.files, made])
    if refused.exists():
        said = f"No uniform model was saved: {json.loads(refused.read_text(encoding='utf-8'))}"
        return replace(report, notes=[*report.notes, said])
    return report
