"""Figures of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paperworks.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracy_figure(results: dict[str, Interval], teacher: Interval) -> Figure:
    """Accuracies with their intervals, one line each."""
    from matplotlib.figure import Figure

    names = list(results)[::-1]
    figure = Figure(figsize=(7, 0.45 * len(names) + 1.2))
    axes = figure.subplots()
    for place, name in enumerate(names):
        one = results[name]
        axes.errorbar(
            one.estimate,
            place,
            xerr=[[one.estimate - one.low], [one.high - one.estimate]],
            fmt="o",
            color="#30588c",
            capsize=3,
        )
    axes.axvline(teacher.estimate, color="#888888", linestyle="--", label="teacher")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("accuracy")
    axes.legend(loc="lower left")
    return figure


def class_figure(rows: list[list[Any]], most: int = 40) -> Figure:
    """Share of each class that is kept, of the first classes."""
    from matplotlib.figure import Figure

    some = rows[:most]
    figure = Figure(figsize=(7, 3))
    axes = figure.subplots()
    axes.bar(range(len(some)), [kept / max(count, 1) for _, count, kept, *_ in some], color="#30588c")
    axes.set_xticks(range(len(some)), [str(row[0]) for row in some], rotation=90 if len(some) > 10 else 0)
    axes.set_ylabel("share kept")
    return figure
