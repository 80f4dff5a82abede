"""The user's click table with a smaller embedding table, beside the full one and others of the same size."""

from __future__ import annotations

import json

import numpy as np
import torch

from paperworks import runs
from paperworks.errors import InputError
from paperworks.language import bundled_text
from paperworks.metrics import auc_interval
from paperworks.papers.optembed.classifier import OptEmbedClassifier
from paperworks.papers.optembed.config import Config
from paperworks.papers.optembed.evolution import Evolution
from paperworks.papers.optembed.figures import fields_figure, search_figure, thresholds_figure
from paperworks.papers.optembed.fitting import ClickTraining, predict_logits, scores_of
from paperworks.papers.optembed.sources import ClickTable, read_clicks, split_clicks, word_pairs
from paperworks.papers.optembed.workbench import DENSE, OTHERS, Bench
from paperworks.runs.files import write_text

__all__ = ["Config", "run"]

OURS = "OptEmbed"
DEFAULT_SPARSITY = 0.5


def run(config: Config, run: runs.Run) -> runs.Report:
    """Find which rows and dimensions of an embedding table are needed, and write the smaller table."""
    run.step(f"reading {config.data}")
    table = _read(config, run)
    seed = config.seed % 2**31
    train, validation, test = split_clicks(table.clicks, seed)
    sparsity = DEFAULT_SPARSITY if config.sparsity is None and config.budget is None else config.sparsity
    training = ClickTraining(
        learning_rate=config.learning_rate,
        l2=config.l2,
        threshold_lr=config.threshold_lr,
        alpha=config.alpha,
        epochs=config.epochs,
        batch_size=config.batch_size,
        patience=config.patience,
    )
    classifier = OptEmbedClassifier(
        config.model,
        dim=config.dim,
        hidden=config.hidden,
        dropout=config.dropout,
        sparsity=sparsity,
        budget=config.budget,
        threshold=config.threshold,
        norm=1 if config.norm == "1" else 2,
        scale_norm=config.scale_norm,
        pruned=config.pruned,
        fresh=config.fresh,
        pooling=config.pooling,
        eight_bits=config.eight_bits,
        training=training,
        evolution=Evolution(
            generations=config.generations,
            parents=config.parents,
            mutations=config.mutations,
            crossovers=config.crossovers,
            mutation_probability=config.mutation_probability,
        ),
        device=config.device,
        random_state=seed,
        folder=run.state / "stages",
        progress=run.progress,
    )
    classifier.encoder_ = table.encoder
    classifier.classes_ = torch.tensor([0, 1]).numpy()
    run.step(f"{len(train):,} rows to train on; {sum(table.encoder.field_dims_):,} rows of {config.dim} in the table")
    classifier.fit_clicks(train, validation)
    scores = scores_of(classifier.model_, test)
    difference = _difference(classifier, test.ids)
    bench = Bench(
        train,
        validation,
        test,
        table.encoder.field_dims_,
        config.model,
        config.dim,
        config.hidden,
        training,
        seed,
        config.dropout,
        config.device,
        table.encoder.bags(config.pooling),
    )
    rows = _compare(config, run, classifier, bench)
    classifier.save(run.output("model"))
    write_text(run.files / "fields.json", json.dumps(classifier.report_, indent=1))
    certainty = certainty_said(test.labels, predict_logits(classifier.model_, test.ids))
    return _report(config, table, classifier, scores, difference, rows, len(test), certainty)


def certainty_said(labels: np.ndarray, logits: np.ndarray) -> str:
    """How far an AUC on test rows with labels 0 and 1 may be from that on many."""
    least = int(np.bincount(labels, minlength=2).min())
    if least < 2:
        return f"With {least} test row of the rarer label an AUC says nothing."
    found = auc_interval(labels, logits)
    between = f"{found.low:.4f} to {found.high:.4f} (95%, DeLong)"
    return f"On {len(labels):,} test rows the AUC of {OURS} is known from {between}."


def _read(config: Config, run: runs.Run) -> ClickTable:
    if config.data == "word-pairs":
        if config.layout != "table" or config.label is not None:
            raise InputError("data", "word-pairs, with a label or layout", "a file of your own with those")
        return word_pairs(bundled_text("train"), config.pairs, config.seed, min_count=config.min_count)
    return read_clicks(
        config.data,
        config.label,
        layout=config.layout,
        positive=config.positive,
        min_count=config.min_count,
        numbers=config.numbers,
        several=config.several,
        separator=config.separator,
        most_values=config.most_values,
        options=config,
        limit=config.limit,
        progress=run.progress,
    )


def _difference(classifier: OptEmbedClassifier, ids: object) -> float:
    """Largest difference of a logit between the masked model and the compact one."""
    masked = predict_logits(classifier.search_.model, ids[:1000])  # type: ignore[index]
    compact = predict_logits(classifier.model_, ids[:1000])  # type: ignore[index]
    return float(abs(masked - compact).max())


def _compare(
    config: Config, run: runs.Run, classifier: OptEmbedClassifier, bench: Bench
) -> dict[str, tuple[int, dict[str, float]]]:
    if not config.compare:
        return {}
    cache = run.state / "compared.json"
    done = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else {}
    for name in (DENSE, *OTHERS):
        if name in done:
            continue
        run.step(f"training for comparison: {name}")
        try:
            folder = run.state / name.replace(" ", "-")
            done[name] = bench.baseline(name, classifier.search_.table, folder, run.progress)
        except InputError as error:
            if error.field != "budget":
                raise
            done[name] = None  # no table of that kind is as small
        write_text(cache, json.dumps(done))
    return {name: (value[0], value[1]) for name, value in done.items() if value is not None}


def _report(
    config: Config,
    table: ClickTable,
    classifier: OptEmbedClassifier,
    scores: dict[str, float],
    difference: float,
    rows: dict[str, tuple[int, dict[str, float]]],
    tested: int,
    certainty: str,
) -> runs.Report:
    report, search = classifier.report_, classifier.search_
    share = report["parameters"] / report["parameters_full"]
    dense = rows.get(DENSE)
    beside = "" if dense is None else f"; the full table has {dense[1]['auc']:.4f}"
    kept = sum(f["rows_kept"] for f in report["fields"])
    total = sum(f["rows"] for f in report["fields"])
    lead = list(table.notes)
    if kept == total:
        lead.append(
            "No row was pruned: the thresholds stayed below all norms. A larger --threshold-lr or --alpha prunes rows; "
            "the last picture shows how far norms and thresholds are apart."
        )
    if any(f["rows_kept"] == 0 for f in report["fields"]):
        gone = ", ".join(f["field"] for f in report["fields"] if f["rows_kept"] == 0)
        lead.append(f"All rows were pruned of: {gone}. The model does not read these fields through the table.")
    better = [name for name, (_, s) in rows.items() if name != DENSE and s["auc"] > scores["auc"]]
    if better:
        lead.append(f"Better here than OptEmbed at no more parameters: {', '.join(better)}.")
    larger = [name for name in OTHERS if name not in rows]
    if config.compare and larger:
        lead.append(f"Not compared, since no table of that kind is as small: {', '.join(larger)}.")
    compared = [
        [OURS, report["parameters"], share, scores["auc"], scores["log_loss"]],
        *([name, size, size / report["parameters_full"], s["auc"], s["log_loss"]] for name, (size, s) in rows.items()),
    ]
    linear = sum(classifier.encoder_.field_dims_) if config.model in ("fm", "deepfm") else 0
    return runs.Report(
        headline=f"The embedding table holds {report['parameters']:,} numbers instead of {report['parameters_full']:,} "
        f"({share:.1%}), and the AUC on {tested:,} unseen rows is {scores['auc']:.4f}{beside}.",
        metrics={
            "AUC": scores["auc"],
            "log loss": scores["log_loss"],
            "parameters": float(report["parameters"]),
            "share of the full table": share,
            "rows kept": float(kept),
            "largest difference of a logit": difference,
            **({"AUC, full table": dense[1]["auc"]} if dense else {}),
        },
        labels={
            "AUC": "AUC on unseen rows",
            **({"AUC, full table": "AUC of the full table"} if dense else {}),
            "parameters": "numbers in the table",
            "share of the full table": "of the full table",
        },
        tables=[
            runs.Table(
                "Tables compared",
                ["table", "parameters", "of the full table", "AUC", "log loss, nats"],
                compared,
                f"One training each from the same seed, which another seed would move. {certainty}"
                + (f" The linear term has {linear:,} weights besides, in every row." if linear else ""),
            ),
            runs.Table(
                "Fields",
                ["field", "values", "rows kept", "dimension", "parameters"],
                [[f["field"], f["rows"], f["rows_kept"], f["dimension"], f["parameters"]] for f in report["fields"]],
            ),
            runs.Table(
                "Stages, on the validation rows",
                ["stage", "AUC", "log loss, nats"],
                [[name, s["auc"], s["log_loss"]] for name, s in report["stages"].items()],
            ),
        ],
        figures=[
            runs.Figure(
                "What was kept of every field",
                fields_figure(report["fields"], config.dim),
                "Grey: the full table. Blue: rows above their threshold. Orange: the dimension that the search chose.",
            ),
            runs.Figure(
                "The search",
                search_figure(search.found_, None),
                "Each point is a candidate (a dimension for every field), judged by the trained supernet.",
            ),
            *(
                [
                    runs.Figure(
                        "Norms and thresholds",
                        thresholds_figure(search.history_, int(config.norm)),
                        "A row whose norm is below the threshold of its field is pruned.",
                    )
                ]
                if search.history_
                else []
            ),
        ],
        files=[
            runs.ReportFile(
                "model", "compact table, other weights, vocabularies and options; OptEmbedClassifier.load reads it"
            ),
            runs.ReportFile("fields.json", "rows kept, dimension and parameters of every field; AUC by stage"),
        ],
        notes=[
            f"The compact model's logits differ from the masked model's by {difference:.2g} at most"
            + (": the table is in eight bits." if config.eight_bits else "."),
            f"The search scored {len(search.found_.scored)} candidates with one trained supernet.",
        ],
        lead=lead,
    )
