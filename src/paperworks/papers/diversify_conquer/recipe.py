"""A small part of the user's instruction data that is worth tuning on: clusters first, quality inside them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.embedding import KMeans
from paperworks.embedding.rows import read_at
from paperworks.errors import InputError
from paperworks.papers.diversify_conquer.allocation import resolve_budget
from paperworks.papers.diversify_conquer.config import Config, MethodName
from paperworks.papers.diversify_conquer.coverage import near_duplicates, nearest_distances
from paperworks.papers.diversify_conquer.methods import CLUSTERED, QUADRATIC, select
from paperworks.papers.diversify_conquer.output import cluster_table, write_chosen, write_clusters, write_subset
from paperworks.papers.diversify_conquer.prepare import Prepared, budget_of, prepare, save_arrays
from paperworks.papers.diversify_conquer.reporting import make_report
from paperworks.papers.diversify_conquer.selector import KMeansSelector, distances_to_own_center
from paperworks.papers.diversify_conquer.silhouette import choose_n_clusters, default_grid

__all__ = ["Config", "run"]

SILHOUETTE_UP_TO = 20_000
"""Samples up to which the option "auto" tries numbers of clusters."""
MANY_CLUSTERS = 1024
ROWS_PER_CLUSTER = 256
"""Rows per cluster that the centres are computed from, where there are more (as in faiss)."""


@dataclass
class Clusters:
    """Labels int32 [n], centres [k, d], distances float32 [n], rows that may be chosen bool [n], tried numbers."""

    labels: np.ndarray
    centers: np.ndarray
    distances: np.ndarray
    eligible: np.ndarray
    tried: dict[int, float]


@dataclass
class Choice:
    """Chosen positions (ascending), the round of each, weights before and after each round, and a row per round."""

    indices: np.ndarray
    rounds: np.ndarray
    weights: np.ndarray | None
    by_round: list[dict[str, Any]]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Choose the part of your instruction data to tune on: diverse first, good second."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they would say stands in the report
        data = prepare(config, run)
        clusters = _clusters(config, run, data)
        count = resolve_budget(budget_of(config), int(clusters.eligible.sum()))
        if len(clusters.centers) == 1 and not config.clusters.isdigit():
            data.notes.append("The vectors do not fall into 2 clusters or more: 1 cluster is taken.")
        if count < len(clusters.centers):
            data.notes.append(
                f"The budget, {count:,}, is below the number of clusters, {len(clusters.centers):,}: some give "
                "nothing. Fewer clusters suit such a budget better."
            )
        choice = _choose(config, run, data, clusters, count)
        comparison = _comparison(config, run, data, clusters, choice)
        files, table = _save(config, run, data, clusters, choice)
        run.step("drawing the map")
        return make_report(config, data, clusters, choice, comparison, files, table)


def _clusters(config: Config, run: runs.Run, data: Prepared) -> Clusters:
    kept = run.state / "clusters.npz"
    if kept.is_file():
        with np.load(kept) as stored:
            tried = {int(k): float(v) for k, v in zip(stored["tried"], stored["values"], strict=True)}
            return Clusters(stored["labels"], stored["centers"], stored["distances"], stored["eligible"], tried)
    count = len(data.rows)
    options: dict[str, Any] = {
        "n_init": config.restarts,
        "spherical": config.normalize,
        "max_rows_per_cluster": ROWS_PER_CLUSTER,
        "random_state": config.seed % 2**32,
    }
    number, tried = _number_of_clusters(config, run, data, options)
    run.step(f"{number:,} clusters of {count:,} samples")
    fitted = KMeans(number, progress=run.progress, **options).fit(data.vectors)
    distances = distances_to_own_center(data.vectors, fitted.labels_, fitted.cluster_centers_, config.normalize)
    eligible = np.ones(count, bool)
    if config.near_duplicates is not None:
        run.step("near duplicates")
        eligible = ~near_duplicates(data.vectors, fitted.labels_, config.near_duplicates)
    save_arrays(
        kept,
        labels=fitted.labels_,
        centers=fitted.cluster_centers_,
        distances=distances,
        eligible=eligible,
        tried=np.array(list(tried), np.int64),
        values=np.array(list(tried.values())),
    )
    return Clusters(fitted.labels_, fitted.cluster_centers_, distances, eligible, tried)


def _number_of_clusters(
    config: Config, run: runs.Run, data: Prepared, options: dict[str, Any]
) -> tuple[int, dict[int, float]]:
    """The number, and the silhouette or inertia of those that were tried."""
    count, wanted = len(data.rows), config.clusters
    if wanted == "auto":
        wanted = "silhouette" if count <= SILHOUETTE_UP_TO else str(min(MANY_CLUSTERS, count))
    if not wanted.isdigit():
        run.step("trying numbers of clusters")
        grid = default_grid(resolve_budget(budget_of(config), count))
        criterion: Any = wanted
        return choose_n_clusters(data.vectors, grid, criterion=criterion, progress=run.progress, **options)
    if int(wanted) > count:
        raise InputError("clusters", int(wanted), f"at most {count}, the samples that can be chosen")
    return int(wanted), {}


def _selector(config: Config, data: Prepared, clusters: Clusters, count: int) -> KMeansSelector:
    selector = KMeansSelector(
        len(clusters.centers),
        CLUSTERED.get(config.method, "random"),
        count,
        config.allocation,
        quality_temperature=config.quality_temperature,
        kmeans={"spherical": config.normalize},
        random_state=config.seed % 2**32,
    )
    return selector.use_clusters(
        data.vectors, clusters.labels, clusters.centers, data.quality, eligible=clusters.eligible
    )


def _choose(config: Config, run: runs.Run, data: Prepared, clusters: Clusters, count: int) -> Choice:
    run.step(f"choosing {count:,} of {int(clusters.eligible.sum()):,} samples by {config.method}")
    selector = _selector(config, data, clusters, count)
    if config.rounds > 1:
        from paperworks.papers.diversify_conquer.refine import refine

        state, rows = refine(config, run, data, selector)
        order = np.argsort(state.selected, kind="stable")
        rounds = np.repeat(np.arange(1, len(state.batches) + 1), [len(b) for b in state.batches])
        return Choice(state.selected[order], rounds[order], np.array(state.weight_history), rows)
    if config.method in CLUSTERED:
        chosen = selector.indices_
    else:
        many = len(data.rows) > config.represented and config.method in QUADRATIC
        if many:
            data.notes.append(f"{config.method} sums over {config.represented:,} random samples in place of all.")
        chosen = select(
            data.vectors,
            count,
            config.method,
            quality=data.quality,
            eligible=clusters.eligible,
            threshold=config.deita_threshold,
            alpha=config.qdit_alpha,
            represented=config.represented,
            random_state=config.seed % 2**32,
            progress=run.progress,
        )
    if len(chosen) < count:
        data.notes.append(
            f"deita took {len(chosen):,} of {count:,}: all others are nearer than {config.deita_threshold:g} "
            "(squared) to one that is taken."
        )
    return Choice(np.sort(chosen), np.ones(len(chosen), np.int64), None, [])


def _comparison(config: Config, run: runs.Run, data: Prepared, clusters: Clusters, choice: Choice) -> list[list[Any]]:
    """Rows of the table: the choice beside random, kM-Random and the best quality, at the same budget."""
    count = len(choice.indices)
    names: list[MethodName] = ["random", "km-random"]
    if data.quality is not None:
        names.append("top-quality")
    chosen = {"this choice": choice.indices}
    for name in names:
        if name == config.method and config.rounds == 1:
            continue
        selector = _selector(config, data, clusters, count)
        chosen[name] = select(
            data.vectors,
            count,
            name,
            quality=data.quality,
            selector=selector,
            eligible=clusters.eligible,
            random_state=config.seed % 2**32 + 1,
        )
    table: list[list[Any]] = []
    for title, rows in run.progress(chosen.items(), "coverage", len(chosen)):
        squared = nearest_distances(data.vectors, rows)
        hit = len(np.unique(clusters.labels[rows]))
        quality = float("nan") if data.quality is None else float(np.nanmean(data.quality[rows]))
        method = config.method + (f", {config.rounds} rounds" if config.rounds > 1 else "")
        label = f"{method} (chosen)" if title == "this choice" else title
        table.append([label, len(rows), float(squared.mean()), float(np.sqrt(squared.max())), hit, quality])
    return table


def _save(
    config: Config, run: runs.Run, data: Prepared, clusters: Clusters, choice: Choice
) -> tuple[list[runs.ReportFile], list[list[Any]]]:
    run.step("writing the subset")
    rows = data.rows[choice.indices]
    name = write_subset(data.pool, rows, run, config.output)
    quality = None if data.quality is None else data.quality[choice.indices]
    write_chosen(data.pool, rows, clusters.labels[choice.indices], quality, choice.rounds, run)
    weights = None
    if choice.weights is not None:
        weights = choice.weights[-1] / np.maximum(choice.weights[0], 1e-12)
    table = cluster_table(
        data.pool, data.rows, clusters.labels, clusters.distances, choice.indices, data.quality, weights
    )
    write_clusters(table, run)
    files = [
        runs.ReportFile(name, "the chosen samples, ready for training"),
        runs.ReportFile("ids.txt", "their ids, one a line"),
        runs.ReportFile("selected.csv", "row, id, cluster, quality and round of each"),
        runs.ReportFile("clusters.csv", "every cluster: most typical samples, size, chosen, mean quality, weight"),
    ]
    if config.keep_embeddings and config.embeddings is None:
        path = run.output("embeddings.npy")
        if len(data.rows) == len(data.pool):
            _copy(run.state / "embeddings.npy", path)
        else:  # one row per sample, so that the file goes with the data; rows that were left out are zeros
            out = np.lib.format.open_memmap(path, "w+", np.float32, (len(data.pool), data.vectors.shape[1]))
            for start in range(0, len(data.rows), 10_000):
                part = np.arange(start, min(start + 10_000, len(data.rows)))
                out[data.rows[part]] = read_at(data.vectors, part, "embeddings")
            out.flush()
        files.append(runs.ReportFile("embeddings.npy", "float32, one row per sample of the data: option embeddings"))
    return files, table


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copyfile(source, target)
