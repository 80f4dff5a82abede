"""The report of a run: the found network beside others of its cost."""

from __future__ import annotations

from dataclasses import dataclass

from paperworks import runs
from paperworks.metrics import wilson_interval
from paperworks.papers.tas.config import Config
from paperworks.papers.tas.estimator import TransformableSearch
from paperworks.papers.tas.figures import search_figure, widths_figure
from paperworks.papers.tas.space import Genotype, SearchSpace, kept_widths
from paperworks.papers.tas.traced import TracedSpace
from paperworks.pruning.images import ImageTask


@dataclass(frozen=True)
class Row:
    """One trained network: its cost as a share of the full one's, parameters, and share of right test images."""

    name: str
    share: float
    parameters: int
    accuracy: float
    training: str


def report(
    config: Config,
    task: ImageTask,
    finder: TransformableSearch,
    rows: list[Row],
    files: list[runs.ReportFile],
    notes: list[str],
    genotype: Genotype,
    space: SearchSpace,
) -> runs.Report:
    """Headline, tables and figures."""
    count = len(task.test)
    full, found = rows[0], rows[1]
    unit = "multiply-accumulates" if config.cost == "macs" else "parameters"
    interval = wilson_interval(round(full.accuracy * count), count)
    lead = [task.notes[0], _where(config, finder)]
    if found.accuracy < interval.low:
        lead.append("The loss of accuracy is more than the uncertainty of the test: train longer, or keep more.")
    best = max(rows[1:], key=lambda row: row.accuracy)
    if best is not found and best.accuracy > found.accuracy:
        lead.append(f"At the same cost, '{best.name}' is as good or better on these images ({best.accuracy:.1%}).")
    metrics = {
        "accuracy of the found network": found.accuracy,
        "accuracy of the full network": full.accuracy,
        "share of the cost": found.share,
        f"{unit} of the found network": space.cost_of(genotype),
        f"{unit} of the full network": space.full_cost,
    }
    names = {row.name: row for row in rows}
    for name, label in (
        ("found, without the teacher", "accuracy without the teacher"),
        ("one share for all widths", "accuracy with one share for all widths"),
    ):
        if name in names:
            metrics[label] = names[name].accuracy
    return runs.Report(
        headline=f"The found network needs {found.share:.1%} of the {unit} and gets {found.accuracy:.1%} of {count:,} "
        f"test images right; the full one, {full.accuracy:.1%}.",
        metrics=metrics,
        tables=[
            runs.Table(
                "Networks",
                ["network", "share of the cost", "parameters", "accuracy", "trained on"],
                [[row.name, row.share, row.parameters, row.accuracy, row.training] for row in rows],
                f"Accuracy on {count:,} test images; one training of {config.training_epochs} epochs each. Differences "
                f"within {interval.low:.3f} to {interval.high:.3f}, the 95% interval of the full network, say nothing.",
            ),
            runs.Table(
                "The found network",
                ["choice", "full", "found", "probability"],
                _choices(finder, genotype),
                "Widths, and numbers of blocks by stage. 0: the block leaves. Probability: at the end of the search.",
            ),
        ],
        figures=[
            runs.Figure(
                "Widths and depth that were found",
                widths_figure(finder.candidates_, genotype),
                "Grey: the full network. Blue: what is kept.",
            ),
            runs.Figure(
                "The search",
                search_figure(finder.history_, config.target, config.tolerance),
                "Cost of the most probable network by epoch, the mean cost of all networks, and the band around the "
                "target. Right: accuracy of drawn networks on the half that the weights do not see.",
            ),
        ],
        files=files,
        notes=[*_left_out(space), *notes, *task.notes[1:]],
        lead=lead,
    )


def _where(config: Config, finder: TransformableSearch) -> str:
    found = finder.found_
    if found.epoch:
        return f"The network is that of epoch {found.epoch} of {config.epochs}: the most accurate within the band."
    return (
        f"No epoch ended within {config.tolerance:.0%} of the target, so the least certain choices were moved until "
        "the cost was. More epochs, or a higher --architecture-lr, let the search end there by itself."
    )


def _choices(finder: TransformableSearch, genotype: Genotype) -> list[list[str | float | int | None]]:
    chosen, left = {**genotype["widths"], **genotype["depths"]}, {**kept_widths(genotype), **genotype["depths"]}
    rows: list[list[str | float | int | None]] = []
    for name, known in finder.candidates_.items():
        value = chosen[name]
        chance = finder.probabilities_[name][known.index(value)] if value in known else None
        rows.append([name, max(known), left[name], chance if left[name] else None])
    return rows


def _left_out(space: SearchSpace) -> list[str]:
    if not isinstance(space, TracedSpace) or not space.left_out:
        return []
    return [f"Not searched: {name}, since {why}." for name, why in space.left_out.items()]
