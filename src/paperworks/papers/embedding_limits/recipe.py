"""The limits of an index on the user's own result sets, and the recall of encoders beside them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from paperworks import runs
from paperworks.papers.embedding_limits.config import Config
from paperworks.runs.files import write_text

if TYPE_CHECKING:
    from paperworks.papers.embedding_limits.capacity import CapacityReport
    from paperworks.papers.embedding_limits.ceiling import Ceiling
    from paperworks.papers.embedding_limits.critical import CriticalN
    from paperworks.papers.embedding_limits.datasets import RetrievalData
    from paperworks.papers.embedding_limits.evaluation import Evaluation
    from paperworks.papers.embedding_limits.qrels import QrelStats
    from paperworks.papers.embedding_limits.retrievers import EmbeddingRetriever, VectorRetriever

__all__ = ["Config", "run"]

LARGE = 100


def run(config: Config, run: runs.Run) -> runs.Report:
    """How many result sets an index of d dimensions can return, what is proved about it, and what encoders return."""
    import numpy as np

    from paperworks.papers.embedding_limits.capacity import capacity_report
    from paperworks.papers.embedding_limits.ceiling import result_set_ceiling
    from paperworks.papers.embedding_limits.qrels import qrel_stats
    from paperworks.papers.embedding_limits.tasks import load_task

    run.step(f"reading {config.data}")
    data = load_task(config)
    systems = _systems(config, data)
    notes = list(data.notes)
    fitted = data
    if data.qrels.shape[0] > config.most_queries:
        rows = np.sort(run.rng("queries").permutation(data.qrels.shape[0])[: config.most_queries])
        fitted = data.take_queries(rows)
        notes.append(
            f"{config.most_queries:,} of {data.qrels.shape[0]:,} queries were drawn for the fits and the bounds: all "
            "of them may need more dimensions."
        )
    run.step("result sets and bounds")
    stats, capacity = qrel_stats(data.qrels), capacity_report(fitted.qrels, gamma=config.gamma)
    run.step("vectors fitted to the result sets")
    ceiling = result_set_ceiling(
        fitted.qrels,
        config.dims,
        ks=_ks(config, data),
        state=run.state,
        progress=run.progress,
        n_init=config.starts,
        max_iter=config.max_iter,
        seed=config.seed,
        device=_solver_device(config),
    )
    evaluations, found_notes = _evaluations(config, run, data, systems)
    critical = _critical(config, run)
    return runs.Report(
        headline=_headline(config, fitted, ceiling, evaluations),
        metrics=_metrics(stats, capacity, ceiling, evaluations),
        tables=_tables(config, fitted, stats, capacity, ceiling, evaluations, critical),
        figures=_figures(capacity, ceiling, evaluations, critical, _ks(config, data)[0]),
        files=_save(config, run, data, fitted, ceiling, evaluations),
        notes=[*notes, *found_notes, *(s.sentence for s in capacity.statements), _meaning(ceiling)],
    )


def _ks(config: Config, data: RetrievalData) -> tuple[int, ...]:
    n = data.qrels.shape[1]
    wanted = config.recall_at or (2, 10, 100 if n > LARGE else 20)
    return tuple(k for k in dict.fromkeys(wanted) if k <= n) or (1,)


def _solver_device(config: Config) -> str:
    """Small matrices are fitted faster by the processor; a GPU is used where it is asked for."""
    return "cpu" if config.device == "auto" else config.device


def _systems(config: Config, data: RetrievalData) -> list[Any]:
    """Every system that the options and the data allow; what cannot be read is refused before the work."""

    from paperworks.errors import InputError
    from paperworks.inputs.kinds import whole_array
    from paperworks.papers.embedding_limits import retrievers

    systems: list[Any] = []
    if config.query_vectors is not None and config.document_vectors is not None:
        loaded = []
        for name in ("query_vectors", "document_vectors"):
            path = Path(getattr(config, name)).expanduser()
            try:
                loaded.append(whole_array(path))
            except (OSError, ValueError, EOFError, BadZipFile) as error:
                raise InputError(name, f"{path} ({error})", "a .npy file [texts, d]") from None
        own = retrievers.VectorRetriever(loaded[0], loaded[1], config.similarity)
        own.embed(data)
        systems.append(own)
    if data.has_texts:
        if config.encoder != "none":
            systems.append(_encoder(config))
        if config.token_encoder is not None:
            systems.append(retrievers.TokenRetriever(config.token_encoder, device=config.device))
        systems.append(retrievers.BM25())
        if data.items is not None:
            systems.append(retrievers.ItemMatch())
    return systems


def _evaluations(
    config: Config, run: runs.Run, data: RetrievalData, systems: list[Any]
) -> tuple[list[Evaluation], list[str]]:
    """The recall of every system."""
    from paperworks.embedding import TruncationWarning
    from paperworks.papers.embedding_limits import retrievers
    from paperworks.papers.embedding_limits.evaluation import evaluate

    notes = [] if systems else ["The data have no texts: encoders and BM25 were not tested."]
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for system in systems:
            run.step(f"recall of {system.name}")
            if isinstance(system, retrievers.EmbeddingRetriever):
                system = _embedded(system, run, data)
            cut = config.truncate if hasattr(system, "embed") else ()
            found.append(
                evaluate(system, data, _ks(config, data), cut, matryoshka=config.matryoshka, progress=run.progress)
            )
    kinds: tuple[type[Warning], ...] = (retrievers.NormWarning, TruncationWarning)
    notes += list(
        dict.fromkeys(
            f"{str(w.message)[:1].upper()}{str(w.message)[1:]}." for w in caught if issubclass(w.category, kinds)
        )
    )
    return found, notes


def _encoder(config: Config) -> Any:
    from paperworks.papers.embedding_limits.retrievers import EmbeddingRetriever

    options: dict[str, Any] = {"device": config.device}
    if config.pooling != "auto":
        options["pooling"] = config.pooling
    return EmbeddingRetriever(
        None if config.encoder == "minilm" and not Path("minilm").exists() else config.encoder,
        similarity=config.similarity,
        query_prompt=config.query_prompt,
        document_prompt=config.document_prompt,
        **options,
    )


def _embedded(system: EmbeddingRetriever, run: runs.Run, data: RetrievalData) -> VectorRetriever:
    """The system's vectors; those that an earlier attempt of this run made are read."""
    from paperworks.papers.embedding_limits.retrievers import VectorRetriever

    queries, documents = system.embed(data, run.progress, folder=run.state / "encoder")
    return VectorRetriever(queries, documents, system.similarity, system.name)


def _critical(config: Config, run: runs.Run) -> list[CriticalN]:
    from paperworks.papers.embedding_limits.critical import critical_n

    found = []
    for d in config.critical:
        run.step(f"critical number of documents in {d} dimensions")
        found.append(
            critical_n(
                d,
                n_init=config.starts,
                seed=42 + config.seed,
                max_iter=config.max_iter,
                device=_solver_device(config),
                cache=run.state / "critical.json",
                progress=run.progress,
            )
        )
    return found


# -- the report ---------------------------------------------------------------------------------------------------


def _headline(config: Config, data: RetrievalData, ceiling: Ceiling, evaluations: list[Evaluation]) -> str:
    import pandas as pd

    m, name = data.qrels.shape[0], Path(config.data).name
    if ceiling.least is not None:
        text = f"{name}: {_dimensions(ceiling.least)} can return all {m:,} result sets"
    else:
        most = ceiling.table.loc[ceiling.table["sets returned"].idxmax()]
        width = _dimensions(int(most["dimensions"]))
        text = f"{name}: vectors fitted in {width} return {int(most['sets returned']):,} of {m:,} result sets"
    parts = []
    for one in evaluations:
        first = one.table.iloc[0]
        k = _first_k(one)
        width = "" if pd.isna(first["dimensions"]) else f" ({_dimensions(int(first['dimensions']))})"
        parts.append(f"{first['system']}{width} {first[f'recall@{k}']:.1f} %")
    return f"{text}. Recall at {_first_k(evaluations[0])}: {', '.join(parts)}" if parts else text


def _dimensions(count: int) -> str:
    return f"{count} dimension{'s' * (count > 1)}"


def _first_k(one: Evaluation) -> int:
    return int(next(c for c in one.table if c.startswith("recall@")).removeprefix("recall@"))


def _meaning(ceiling: Ceiling) -> str:
    return (
        "Fitted vectors show what an index of that dimension can do; that it can do no more is not proved. Encoders "
        "make vectors from texts, which is harder: what they miss below the ceiling of their own dimension is not due "
        "to the dimension."
    )


def _metrics(
    stats: QrelStats, capacity: CapacityReport, ceiling: Ceiling, evaluations: list[Evaluation]
) -> dict[str, float]:
    found: dict[str, float] = {
        "queries": stats.n_queries,
        "documents": stats.n_docs,
        "query graph density": stats.density_queries,
        "query strength": stats.query_strength,
        "dimensions proved to be enough": capacity.enough,
    }
    if ceiling.least is not None:
        found["dimensions that return all result sets"] = ceiling.least
    for one in evaluations:
        row = one.table.iloc[0]
        found |= {f"{c}, {row['system']}": float(row[c]) for c in one.table if c.startswith("recall@")}
    return found


def _tables(
    config: Config,
    data: RetrievalData,
    stats: QrelStats,
    capacity: CapacityReport,
    ceiling: Ceiling,
    evaluations: list[Evaluation],
    critical: list[CriticalN],
) -> list[runs.Table]:
    from paperworks.papers.embedding_limits.published import CRITICAL_N, DENSITY, SMALL_RECALL

    tables = [
        _frame_table(
            "What an index of d dimensions can return",
            ceiling.table.drop(columns=[c for c in ceiling.table if ceiling.table[c].isna().all()]),
            "A result set is returned when all its documents are strictly above all others. Margin: half of the "
            "smallest gap, where all sets are returned. By construction: what the moment curve returns in float32, "
            "without any fit; its gaps are tiny.",
        )
    ]
    if evaluations:
        import pandas as pd

        rows = pd.concat([one.table for one in evaluations], ignore_index=True)
        if (rows["truncated"] == "").all():
            rows = rows.drop(columns="truncated")
        tables.append(
            _frame_table(
                "Recall of retrievers (%)", rows, "Truncated: cut to the first dimensions and divided by the norm."
            )
        )
        if config.data == "limit-small" and config.pattern == "dense" and not config.synonyms and config.n_docs is None:
            published = [[name, d, *figures] for name, (d, *figures) in SMALL_RECALL.items()]
            tables.append(
                runs.Table(
                    "The paper's figures for its own LIMIT-small (%)",
                    ["system", "dimensions", "recall@2", "recall@10", "recall@20"],
                    published,
                    "Other items and names; the same relevance.",
                )
            )
    tables.append(_frame_table("What is proved about the dimension", capacity.table(), "The notes say each in words."))
    about: list[list[runs.report.Cell]] = [
        ["here", stats.n_queries, stats.n_docs, stats.distinct_sets, stats.density_queries, stats.query_strength]
    ]
    about += [[f"{name} (paper)", None, None, None, *figures] for name, figures in DENSITY.items()]
    tables.append(
        runs.Table(
            "How much result sets overlap",
            ["data", "queries", "documents", "different sets", "density", "strength"],
            about,
            "Density of the graph of queries that share a document; strength: mean sum of Jaccard similarities.",
        )
    )
    if critical:
        tables.append(
            runs.Table(
                "Documents of which all pairs are returned",
                ["dimensions", "here", "paper", "difference", "without margin (proved)"],
                [
                    [
                        one.d,
                        one.n,
                        CRITICAL_N.get(one.d),
                        one.n - CRITICAL_N[one.d] if one.d in CRITICAL_N else None,
                        "any number" if one.d >= 4 else "few",
                    ]
                    for one in critical
                ],
                "It measures a fit with softmax loss, unit vectors and early stopping. It is no geometric limit.",
            )
        )
    return tables


def _frame_table(title: str, frame: Any, note: str) -> runs.Table:
    import pandas as pd

    rows = [
        [None if pd.isna(cell) else cell.item() if hasattr(cell, "item") else cell for cell in row]
        for row in frame.itertuples(index=False)
    ]
    return runs.Table(title, [str(c) for c in frame.columns], rows, note)


def _figures(
    capacity: CapacityReport, ceiling: Ceiling, evaluations: list[Evaluation], critical: list[CriticalN], k: int
) -> list[runs.Figure]:
    from paperworks.papers.embedding_limits import figures

    found = [
        runs.Figure(
            "Result sets returned by dimensions",
            figures.draw_ceiling(ceiling.table, capacity.enough),
            "Vectors fitted to the result sets themselves: an index of that dimension can do at least this.",
        )
    ]
    if evaluations:
        found.append(
            runs.Figure(
                "Recall by dimensions",
                figures.draw_recall([one.table for one in evaluations], k, ceiling.table),
                "Dashed lines: systems without one vector per text.",
            )
        )
    if critical:
        found.append(
            runs.Figure(
                "Critical number of documents",
                figures.draw_critical(critical),
                "Left: the dimensions fitted here. Right: the paper's cubic up to the dimensions of real models.",
            )
        )
    return found


def _save(
    config: Config,
    run: runs.Run,
    data: RetrievalData,
    fitted: RetrievalData,
    ceiling: Ceiling,
    evaluations: list[Evaluation],
) -> list[runs.ReportFile]:
    import numpy as np
    import pandas as pd

    write_text(run.files / "ceiling.csv", ceiling.table.to_csv(index=False))
    files = [runs.ReportFile("ceiling.csv", "result sets and recall by dimensions")]
    np.savez(
        run.output("fitted_vectors.npz"),
        queries=ceiling.queries,
        documents=ceiling.documents,
        query_ids=np.array(fitted.query_ids),
        document_ids=np.array(fitted.document_ids),
    )
    files.append(runs.ReportFile("fitted_vectors.npz", f"vectors in {ceiling.dimensions} dimensions, and their ids"))
    if evaluations:
        parts = [
            one.hits.drop(columns="relevant").add_suffix(f", {one.table['system'].iloc[0]}") for one in evaluations
        ]
        frame = pd.concat([evaluations[0].hits["relevant"], *parts], axis=1)
        write_text(run.files / "hits.csv", frame.to_csv())
        files.append(runs.ReportFile("hits.csv", "relevant documents found, by query and system"))
    if data.items is not None:
        data.save_beir(run.output("data"))
        files.append(runs.ReportFile("data", "the LIMIT-style data in the layout of BEIR and MTEB"))
    return files
