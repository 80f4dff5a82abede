"""Metadata mode of the recipe: which predicates on a table's columns go with errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks import runs
from paperworks.errors import InputError, nearest
from paperworks.inputs.tables import read_table
from paperworks.papers.ladder import figures
from paperworks.papers.ladder.backends.predicates import MetadataBackend, PredicateSlice, category_text
from paperworks.papers.ladder.config import Config
from paperworks.papers.ladder.files import LABEL_COLUMNS, pick_column
from paperworks.runs.files import write_text

if TYPE_CHECKING:
    import pandas as pd

LEAST_ROWS = 20


def audit_metadata(config: Config, run: runs.Run) -> runs.Report:
    """Predicates, over all rows and class by class, ranked by the error inside minus the error outside."""
    run.step(f"reading {config.metadata}")
    frame, label, predicted, notes = _read(config, run)
    wrong = label != predicted
    if wrong.all() or not wrong.any():
        raise InputError("prediction", "all wrong" if wrong.all() else "no error", "right and wrong predictions")
    backend = MetadataBackend(min_support=config.min_support, conjunctions=config.conjunctions, margin=config.margin)
    found: dict[str, list[PredicateSlice]] = {}
    parts = {"all": np.ones(len(label), bool)} | {str(c): label == c for c in np.unique(label)}
    for name, rows in run.progress(parts.items(), "testing predicates", len(parts)):
        some = wrong[rows]
        if rows.sum() < LEAST_ROWS or some.all() or not some.any():
            notes.append(f"Class {name!r} is left out: {int(some.sum())} errors in {int(rows.sum())} rows.")
            continue
        found[name] = backend.find(frame[rows], some)
    return _report(config, run, found, len(label), float(wrong.mean()), notes)


def _read(config: Config, run: runs.Run) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, list[str]]:
    source = Path(config.metadata or "").expanduser()
    if source.is_dir():
        frame = _from_headers(config, run, source)
        notes = [f"{len(frame)} DICOM files of {source}."]
    else:
        if config.predictions is not None:
            raise InputError("predictions", config.predictions, "a folder of DICOM files as metadata")
        table = read_table(source)
        frame, notes = table.features, [f"{len(table)} rows of {source}.", *table.notes]
    label = pick_column(frame, config.label, LABEL_COLUMNS, "label")
    given = [label] if config.prediction is None else [label, pick_column(frame, config.prediction, (), "prediction")]
    known = frame[given].notna().all(axis=1).to_numpy()
    if not known.any():
        raise InputError("label", "no row with a label and a prediction", "rows that have both")
    if not known.all():
        notes.append(f"{int((~known).sum())} rows without a label or a prediction are left out.")
        frame = frame[known].reset_index(drop=True)
    truth = _classes(frame[label])
    if len(np.unique(truth)) < 2:
        raise InputError("label", f"one class only, {truth[0]!r}", "two classes or more")
    rest = frame.drop(columns=[label])
    if config.prediction is not None:
        name = given[1]
        if name == label:
            raise InputError("prediction", repr(name), "another column than the label")
        rest = rest.drop(columns=[name])
        guess = _classes(frame[name])
        if not np.isin(guess, truth).any():
            raise InputError("prediction", f"values such as {guess[0]!r}", f"labels such as {truth[0]!r}")
    else:
        guess = _predicted(config, rest, truth, run)
        notes.append("Predictions are those of a logistic model on the columns, five folds.")
    if rest.shape[1] == 0:
        raise InputError("metadata", "no column besides label and prediction", "at least one")
    return rest, truth, guess, notes


def _classes(cells: pd.Series) -> np.ndarray:
    """Labels as text; a column of whole numbers has no decimals, though one beside it was read as decimal numbers."""
    return cells.astype(object).map(category_text).to_numpy(str)


def _from_headers(config: Config, run: runs.Run, folder: Path) -> pd.DataFrame:
    from paperworks.papers.ladder.files import read_frame
    from paperworks.papers.ladder.headers import read_dicom_headers

    if config.predictions is None:
        raise InputError("predictions", "nothing", "a table with columns file, label and prediction")
    headers = read_dicom_headers(folder, progress=run.progress)
    given = read_frame(Path(config.predictions).expanduser(), "predictions")
    if "file" not in given.columns:
        raise InputError("predictions", f"columns {', '.join(map(str, given.columns))}", "a column file")
    joined = headers.merge(given, on="file", how="inner", validate="one_to_one")
    if joined.empty:
        raise InputError("predictions", f"files such as {given['file'].iloc[0]!r}", "paths below the folder")
    return joined.drop(columns=["file"])


def _predicted(config: Config, frame: pd.DataFrame, truth: np.ndarray, run: runs.Run) -> np.ndarray:
    """Out-of-fold predictions of a logistic model on the columns that it may see."""
    from sklearn.model_selection import StratifiedKFold

    for name in config.hide:
        if name not in frame.columns:
            raise InputError("hide", repr(name), f"a column of the table{nearest(name, map(str, frame.columns))}")
    seen = frame.drop(columns=list(config.hide))
    if seen.shape[1] == 0:
        raise InputError("hide", "all columns", "some columns for the model to see")
    if min(np.unique(truth, return_counts=True)[1]) < 5:
        raise InputError("label", "a class of fewer than 5 rows", "at least 5 rows of each class, for five folds")
    guess = np.empty(len(truth), dtype=object)
    folds = StratifiedKFold(5, shuffle=True, random_state=config.seed % 2**32)
    for train, test in run.progress(list(folds.split(seen, truth)), "training a logistic model"):
        model = logistic_model(seen)
        guess[test] = model.fit(seen.iloc[train], truth[train]).predict(seen.iloc[test])
    return guess.astype(str)


def logistic_model(frame: pd.DataFrame) -> Any:
    """A pipeline for mixed columns: numbers imputed and standardised, categories one-hot, logistic regression."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numeric = [c for c in frame.columns if pd.api.types.is_numeric_dtype(frame[c].dtype)]
    other = [c for c in frame.columns if c not in numeric]
    filled = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="(missing)"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), numeric),
        (filled, other),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=300))


def _report(
    config: Config, run: runs.Run, found: dict[str, list[PredicateSlice]], rows: int, error: float, notes: list[str]
) -> runs.Report:
    import pandas as pd

    every = [
        {
            "class": name,
            "predicate": str(s),
            "rows": s.n,
            "support": s.support,
            "error_inside": s.error,
            "error_outside": s.error_outside,
            "gap": s.gap,
            "p": s.p,
            "p_holm": s.p_holm,
            "confirmed": s.confirmed,
        }
        for name, slices in found.items()
        for s in slices
    ]
    write_text(run.files / "predicates.csv", pd.DataFrame(every).to_csv(index=False))
    tables = [
        runs.Table(
            "All rows" if name == "all" else f"Class {name}",
            ["predicate", "rows", "error inside", "error outside", "gap", "p (Holm)", "confirmed"],
            [
                [str(s), s.n, s.error, s.error_outside, s.gap, s.p_holm, "yes" if s.confirmed else "no"]
                for s in slices[: config.n_hypotheses]
            ],
            f"Every predicate with at least {config.min_support:.0%} of the rows was tested: {len(slices)}.",
        )
        for name, slices in found.items()
        if slices
    ]
    whole = found.get("all", [])
    best = whole[0] if whole else None
    headline = (
        f"No predicate has {config.min_support:.0%} of the rows."
        if best is None
        else f"Where {best}, {best.error:.1%} of {best.n:,} predictions are wrong; elsewhere {best.error_outside:.1%} "
        f"(all {rows:,} rows: {error:.1%})."
    )
    drawn = []
    if whole:
        drawn.append(
            runs.Figure(
                "Predicates with the largest rise of the error",
                figures.predicates_figure(whole, error),
                "All rows. A star marks predicates whose error is above that of all rows by the margin.",
            )
        )
    metrics: dict[str, float] = {"rows": rows, "error": error, "predicates tested": len(whole)}
    labels = {"rows": "rows", "error": "share of wrong predictions"}
    if best is not None:
        metrics |= {"largest gap": best.gap, "confirmed": sum(s.confirmed for s in whole)}
        labels |= {"largest gap": "largest rise of the error inside a slice", "confirmed": "slices confirmed"}
    return runs.Report(
        headline=headline,
        metrics=metrics,
        labels=labels,
        tables=tables,
        figures=drawn,
        files=[runs.ReportFile("predicates.csv", "every predicate tested, over all rows and by class")],
        notes=notes[1:],
        lead=notes[:1],
    )
