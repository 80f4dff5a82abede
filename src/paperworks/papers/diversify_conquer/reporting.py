"""The report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks import runs
from paperworks.embedding.rows import read_rows
from paperworks.papers.diversify_conquer.config import Config
from paperworks.papers.diversify_conquer.figures import (
    clusters_figure,
    map_figure,
    project,
    quality_figure,
    weights_figure,
)
from paperworks.papers.diversify_conquer.methods import METHODS
from paperworks.papers.diversify_conquer.output import short
from paperworks.papers.diversify_conquer.pool import prompt_text
from paperworks.papers.diversify_conquer.prepare import Prepared

if TYPE_CHECKING:
    from paperworks.papers.diversify_conquer.recipe import Choice, Clusters

LABELS = {
    "chosen": "samples chosen",
    "clusters": "clusters of the data",
    "clusters_reached": "clusters with a chosen sample",
    "mean_squared_distance": "mean squared distance to the nearest chosen sample",
    "mean_squared_distance_random": "that distance for a random choice of the same size",
    "mean_quality": "mean quality of the chosen samples",
}
"""Metrics that the first cards of the report show, in words; distances are in units of the vectors."""
SHOWN = 20
"""Clusters in the report's table, and at most so many names on the map."""


def make_report(
    config: Config,
    data: Prepared,
    clusters: Clusters,
    choice: Choice,
    comparison: list[list[Any]],
    files: list[runs.ReportFile],
    table: list[list[Any]],
) -> runs.Report:
    """Headline, tables and figures of a choice."""
    k, count = len(clusters.centers), len(choice.indices)
    chosen, random = comparison[0], next((row for row in comparison if row[0] == "random"), comparison[0])
    source = Path(config.data).name
    counts = dict(data.counts)
    if config.near_duplicates is not None:
        counts[f"near duplicates (cosine {config.near_duplicates:g})"] = int((~clusters.eligible).sum())
    counts["chosen"] = count
    headline = (
        f"{count:,} of {data.counts['samples']:,} samples of {source}, by {METHODS[config.method].split(' (')[0]}: "
        f"they come from {chosen[4]:,} of {k:,} clusters (as many random ones: {random[4]:,})"
        + ("." if data.quality is None else f"; mean quality {chosen[5]:.3g} (random: {random[5]:.3g}).")
    )
    labels = {name: words for name, words in LABELS.items() if name != "mean_quality" or data.quality is not None}
    return runs.Report(
        headline=headline,
        labels=labels,
        metrics={
            "chosen": count,
            "clusters": k,
            "clusters_reached": int(chosen[4]),
            "mean_squared_distance": chosen[2],
            "mean_squared_distance_random": random[2],
            "largest_distance": chosen[3],
            "mean_quality": chosen[5],
            "duplicates": data.counts["duplicates"],
            "empty": data.counts["empty"],
        },
        tables=_tables(config, clusters, choice, comparison, table, counts),
        figures=_figures(config, data, clusters, choice),
        files=files,
        notes=[*data.notes, *_notes(config, choice)],
    )


def _tables(
    config: Config,
    clusters: Clusters,
    choice: Choice,
    comparison: list[list[Any]],
    table: list[list[Any]],
    counts: dict[str, int],
) -> list[runs.Table]:
    tables = [
        runs.Table(
            "The choice beside others of the same size",
            ["method", "samples", "mean squared distance", "largest distance", "clusters", "mean quality"],
            comparison,
            "Distances are of a sample (at most 5,000 are looked at) to the nearest chosen one: smaller covers better. "
            f"Quality: {_quality_name(config)}.",
        ),
        runs.Table("Samples", ["samples", "number"], [[name, number] for name, number in counts.items()]),
    ]
    if choice.by_round:
        rows = [
            [i, r["added"], r["scored"], r["mean"], r["zero"], r["missing"], r["ratio"]]
            for i, r in enumerate(choice.by_round, 1)
        ]
        tables.append(
            runs.Table(
                "Rounds",
                ["round", "added", "scored", "mean score", "scores of 0", "no score", "weights apart"],
                rows,
                f"Score: {config.scorer} of the given answer less that of the model's own answer (Eq. 4). Weights "
                "apart: the largest change of a cluster's weight over the smallest, since the start.",
            )
        )
    largest = sorted(table, key=lambda row: -row[2])[:SHOWN]
    columns = ["cluster", "most typical samples", "size", "chosen", "mean quality"]
    if choice.weights is not None:
        columns.append("weight / first")
    tables.append(
        runs.Table(
            "Clusters",
            columns,
            [row[: len(columns)] for row in largest],
            f"The {len(largest)} largest of {len(table)}; clusters.csv has all. Typical: nearest to the centre.",
        )
    )
    return tables


def _figures(config: Config, data: Prepared, clusters: Clusters, choice: Choice) -> list[runs.Figure]:
    figures = []
    names = _names(data, clusters)
    if config.map_points:
        seed = config.seed % 2**32
        chosen = np.zeros(len(data.rows), bool)
        chosen[choice.indices] = True
        which = np.arange(len(data.rows))
        if len(which) > config.map_points:
            which = np.sort(np.random.default_rng(seed).choice(len(which), config.map_points, replace=False))
        points = project(read_rows(data.vectors, which, "embeddings"), seed)
        figures.append(
            runs.Figure(
                "Map of the data",
                map_figure(points, chosen[which], clusters.labels[which], names),
                f"{len(which):,} samples; near points have like texts (t-SNE: far distances mean little). Names are "
                "the most typical samples of large clusters.",
            )
        )
    if data.quality is not None:
        known = ~np.isnan(data.quality)
        inside = np.zeros(len(data.rows), bool)
        inside[choice.indices] = True
        figures.append(
            runs.Figure(
                "Quality of the pool and of the choice",
                quality_figure(
                    data.quality[known], inside[known], config.quality if len(config.quality) < 20 else "file"
                ),
                "Each histogram has area 1; the outermost half per cent is put into the end bins.",
            )
        )
    if choice.weights is not None:
        figures.append(
            runs.Figure(
                "Weights of the clusters",
                weights_figure(choice.weights, names),
                "Relative to the first round. Named are the clusters that moved most.",
            )
        )
    if clusters.tried:
        measure, caption = "silhouette", "The highest silhouette is taken."
        if config.clusters == "elbow":
            measure = "inertia"
            caption = "The elbow is taken: the point farthest below the line between the ends, both axes logarithmic."
        figures.append(runs.Figure("Number of clusters", clusters_figure(clusters.tried, measure), caption))
    return figures


def _names(data: Prepared, clusters: Clusters) -> dict[int, str]:
    """A short name for each of the largest clusters: its most typical sample."""
    k = len(clusters.centers)
    order = np.lexsort((clusters.distances, clusters.labels))
    starts = np.searchsorted(clusters.labels[order], np.arange(k))
    sizes = np.bincount(clusters.labels, minlength=k)
    largest = np.argsort(-sizes, kind="stable")[: max(SHOWN, k if k <= 64 else 0)]
    names = {}
    for cluster in largest:
        if sizes[cluster]:
            record = data.pool.records.take([int(data.rows[order[starts[cluster]]])])[0]
            names[int(cluster)] = short(prompt_text(record), 28)
    return names


def _quality_name(config: Config) -> str:
    words = {
        "compression": "minus the deviation of the text's compression ratio from that of like texts (0 is best)",
        "length": "log of the answer's length",
        "likelihood": "mean log-likelihood of the answer, nats per token",
        "reward": "reward",
        "deita": "complexity times quality, 1 to 36",
        "none": "none",
    }
    return words.get(config.quality, "your own scores")


def _notes(config: Config, choice: Choice) -> list[str]:
    notes = []
    if choice.by_round:
        zero = max(row["zero"] for row in choice.by_round)
        if zero > 0.5:
            notes.append(
                f"{zero:.0%} of the scores of a round are 0: the model gives the given answers back, and the feedback "
                "moves little. --feedback probe scores samples that it was not trained on."
            )
        if config.scorer == "perplexity":
            notes.append(
                "Perplexity feedback (Eq. 7) favours clusters that surprise the model, noise included; the scorer "
                "likelihood has the other sign."
            )
    return notes
