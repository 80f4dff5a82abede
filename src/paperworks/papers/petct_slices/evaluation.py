"""How well slices were marked: figures with intervals over patients, by center and disease, per scan and by lesion."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.metrics import Interval, bootstrap_interval, roc_auc
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    import pandas as pd

NOTICE = "Research software, not a medical device."
RANKING = ("AUROC", "AUPRC")
AT_THRESHOLD = ("sensitivity", "specificity", "PPV", "NPV", "accuracy", "balanced accuracy", "F1", "MCC")
CALIBRATION = ("Brier score", "calibration slope")
METRICS = (*RANKING, *AT_THRESHOLD, *CALIBRATION)
_LEAST_CLUSTERS = 2


@dataclass(frozen=True)
class Evaluation:
    """Figures of labelled slices.

    Attributes
    ----------
    metrics : name -> figure; NaN where it is undefined (one class only).
    intervals : name -> interval over patients; of the metrics for which one could be computed.
    slices, positive, patients, cases : how many were evaluated.
    by_group : a row per center, per disease and for all together.
    per_case : a row per scan with positive slices: its sensitivity.
    strata : sensitivity by what lesions are like: edge or inner slices, area, SUV.
    """

    metrics: dict[str, float]
    intervals: dict[str, Interval]
    slices: int
    positive: int
    patients: int
    cases: int
    by_group: pd.DataFrame
    per_case: pd.DataFrame
    strata: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content; what is undefined is None."""
        content = {
            "notice": NOTICE,
            "slices": self.slices,
            "positive": self.positive,
            "patients": self.patients,
            "scans": self.cases,
            "metrics": self.metrics,
            "intervals": {name: asdict(interval) for name, interval in self.intervals.items()},
            "by_group": self.by_group.to_dict("records"),
            "per_scan": self.per_case.to_dict("records"),
            "strata": self.strata.to_dict("records"),
        }
        return _without_nan(content)

    def to_markdown(self) -> str:
        """The figures as a page of Markdown."""
        share = self.positive / self.slices
        lines = [
            "# Slices that cut a lesion",
            "",
            f"{NOTICE} {self.slices:,} slices of {self.cases} scans of {self.patients} patients; "
            f"{self.positive:,} positive ({share:.1%}).",
            "",
            "| figure | value | 95 % interval over patients |",
            "| --- | --- | --- |",
        ]
        for name, value in self.metrics.items():
            interval = self.intervals.get(name)
            ends = "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"
            lines.append(f"| {name} | {value:.3f} | {ends} |")
        lines += ["", "| slices of | patients | slices | positive | AUROC | AUPRC | sensitivity | specificity |"]
        lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for row in self.by_group.to_dict("records"):
            cells = [row["name"], row["patients"], row["slices"], row["positive"]]
            cells += [f"{row[name]:.3f}" for name in (*RANKING, "sensitivity", "specificity")]
            lines.append(f"| {' | '.join(map(str, cells))} |")
        return "\n".join(lines) + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def slice_metrics(labels: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """All figures of some slices, without intervals.

    Parameters
    ----------
    labels : 0 or 1 ``[n]``. probabilities : ``[n]``; a slice is positive from ``threshold`` on.

    Returns
    -------
    AUROC, AUPRC (average precision), sensitivity, specificity, PPV, NPV, accuracy, balanced accuracy, F1, MCC, Brier
    score, and the calibration slope: of the logistic regression of the label on the logit, 1 where probabilities are
    as spread as they should be. NaN where a figure is undefined.
    """
    y, p = np.asarray(labels).astype(bool), np.asarray(probabilities, dtype=np.float64)
    found = {"AUROC": roc_auc(y, p), "AUPRC": average_precision(y, p)}
    found |= threshold_metrics(y, p >= threshold)
    found["Brier score"] = float(((p - y) ** 2).mean()) if len(p) else math.nan
    found["calibration slope"] = calibration(y, p)[0]
    return found


def threshold_metrics(labels: np.ndarray, marked: np.ndarray) -> dict[str, float]:
    """The figures of yes and no."""
    y, m = np.asarray(labels).astype(bool), np.asarray(marked).astype(bool)
    tp, fp = float((y & m).sum()), float((~y & m).sum())
    fn, tn = float((y & ~m).sum()), float((~y & ~m).sum())
    sensitivity, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    spread = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "PPV": _ratio(tp, tp + fp),
        "NPV": _ratio(tn, tn + fn),
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "balanced accuracy": (sensitivity + specificity) / 2,
        "F1": _ratio(2 * tp, 2 * tp + fp + fn),
        "MCC": _ratio(tp * tn - fp * fn, spread),
    }


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under precision and recall, as scikit-learn's ``average_precision_score``; NaN without positive rows."""
    y = np.asarray(labels).astype(bool)
    positives = int(y.sum())
    if not positives:
        return math.nan
    order = np.argsort(-np.asarray(scores), kind="stable")
    hits, ordered = y[order], np.asarray(scores)[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # the end of every run of equal scores
    true = np.cumsum(hits)[last]
    precision, recall = true / (last + 1), true / positives
    return float((np.diff(recall, prepend=0) * precision).sum())


def calibration(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of the label on the logit; NaN where there is none."""
    y = np.asarray(labels, dtype=np.float64)
    p = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-9, 1 - 1e-9)
    x = np.log(p / (1 - p))
    if len(set(y.tolist())) < 2 or np.ptp(x) == 0:
        return math.nan, math.nan
    positive, negative = x[y == 1], x[y == 0]
    if positive.min() > negative.max() or positive.max() < negative.min():
        return math.nan, math.nan  # the classes are separated: no finite slope
    design, weights = np.stack([x, np.ones_like(x)], 1), np.array([1.0, 0.0])
    for _ in range(100):  # Newton's method
        fitted = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
        hessian = design.T @ (design * (fitted * (1 - fitted))[:, None])
        try:
            step = np.linalg.solve(hessian, design.T @ (y - fitted))
        except np.linalg.LinAlgError:
            return math.nan, math.nan
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def evaluate(
    rows: pd.DataFrame,
    probabilities: np.ndarray,
    *,
    threshold: float = 0.5,
    n_boot: int = 1000,
    seed: int = 0,
    labels: np.ndarray | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """All figures of labelled slices, with 95 % intervals that draw whole patients again.

    Parameters
    ----------
    rows : of a ``SliceTable``: patient_id, case_id, center, disease, label, and what is known of the lesions.
    n_boot : resamples of the patients; one on which a figure is undefined is skipped and counted. 0: no intervals.
    labels : other labels than those of ``rows``, such as ``SliceTable.labels_of(3)``.

    Raises
    ------
    InputError : slices without a label, lengths that differ, no slice.
    """
    check_seed("seed", seed)
    frame = rows.assign(_p=np.asarray(probabilities, dtype=np.float64)) if len(rows) == len(probabilities) else None
    if frame is None or not len(rows):
        raise InputError("probabilities", f"{len(probabilities)} for {len(rows)} slices", "one per slice, at least one")
    y = frame["label"].to_numpy() if labels is None else np.asarray(labels)
    if (y < 0).any():
        raise InputError("mask", f"{int((y < 0).sum())} slices without a label", "scans with a mask")
    frame["_y"] = y.astype(np.int64)
    p = frame["_p"].to_numpy()
    figures = slice_metrics(frame["_y"].to_numpy(), p, threshold)
    intervals = patient_intervals(frame, figures, threshold, n_boot, seed, progress) if n_boot else {}
    return Evaluation(
        figures,
        intervals,
        len(frame),
        int(frame["_y"].sum()),
        frame["patient_id"].nunique(),
        frame["case_id"].nunique(),
        _by_group(frame, threshold),
        _per_case(frame, threshold),
        _strata(frame, threshold),
    )


def patient_intervals(
    frame: pd.DataFrame, figures: dict[str, float], threshold: float, n_boot: int, seed: int, progress: Progress
) -> dict[str, Interval]:
    """Percentile intervals of every figure that is defined, from patients drawn with replacement."""
    patients = frame["patient_id"].to_numpy(dtype=str)
    if len(np.unique(patients)) < _LEAST_CLUSTERS:
        return {}
    y, p = frame["_y"].to_numpy(), frame["_p"].to_numpy()
    names = [name for name in METRICS if not math.isnan(figures[name])]
    found = {}
    for name in progress(names, "drawing patients again", len(names)):
        try:
            found[name] = bootstrap_interval(
                _statistic(name, threshold), y, p, clusters=patients, n_resamples=n_boot, seed=seed
            )
        except InputError:  # undefined on most resamples
            continue
    return found


def _statistic(name: str, threshold: float) -> Callable[[np.ndarray, np.ndarray], float]:
    if name == "AUROC":
        return roc_auc
    if name == "AUPRC":
        return average_precision
    if name == "Brier score":
        return lambda y, p: float(((p - y) ** 2).mean())
    if name == "calibration slope":
        return lambda y, p: calibration(y, p)[0]
    return lambda y, p: threshold_metrics(y, p >= threshold)[name]


def _by_group(frame: pd.DataFrame, threshold: float) -> pd.DataFrame:
    import pandas as pd

    parts = [("all", "all slices", frame)]
    for column in ("center", "disease"):
        if frame[column].astype(str).str.len().gt(0).any() and frame[column].nunique() > 1:
            parts += [(column, str(name), part) for name, part in frame.groupby(column)]
    return pd.DataFrame(
        [
            {
                "group": kind,
                "name": name,
                "patients": part["patient_id"].nunique(),
                "slices": len(part),
                "positive": int(part["_y"].sum()),
                "prevalence": float(part["_y"].mean()),
            }
            | slice_metrics(part["_y"].to_numpy(), part["_p"].to_numpy(), threshold)
            for kind, name, part in parts
        ]
    )


def _per_case(frame: pd.DataFrame, threshold: float) -> pd.DataFrame:
    import pandas as pd

    positive = frame[frame["_y"] == 1]
    return pd.DataFrame(
        [
            {
                "case_id": case,
                "center": part["center"].iloc[0],
                "positive": len(part),
                "sensitivity": _found(part, threshold),
            }
            for case, part in positive.groupby("case_id", sort=False)
        ],
        columns=["case_id", "center", "positive", "sensitivity"],
    )


def _strata(frame: pd.DataFrame, threshold: float) -> pd.DataFrame:
    import pandas as pd

    positive = frame[frame["_y"] == 1]
    edge = positive["edge"].astype(bool)
    rows = [("place in the lesion", name, positive[chosen]) for name, chosen in (("edge", edge), ("inner", ~edge))]
    for title, column, unit in (("lesion area", "area_mm2", "mm²"), ("lesion SUVmax", "suv_max", "")):
        values = positive[column].to_numpy(dtype=np.float64)
        if not np.isfinite(values).any():
            continue
        low, high = np.nanquantile(values, [1 / 3, 2 / 3])
        first, last = (f"{end:,.0f}" if end >= 100 else f"{end:.3g}" for end in (low, high))
        names = (f"up to {first} {unit}", f"to {last} {unit}", f"above {last} {unit}")
        for name, chosen in zip(names, (values <= low, (values > low) & (values <= high), values > high), strict=True):
            rows.append((title, name.strip(), positive[chosen]))
    return pd.DataFrame(
        [
            {"by": title, "slices of": name, "positive": len(part), "sensitivity": _found(part, threshold)}
            for title, name, part in rows
        ],
        columns=["by", "slices of", "positive", "sensitivity"],
    )


def _found(part: pd.DataFrame, threshold: float) -> float:
    return float((part["_p"] >= threshold).mean()) if len(part) else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
