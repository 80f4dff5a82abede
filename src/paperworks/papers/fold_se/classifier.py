"""FOLD-SE as a scikit-learn estimator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from paperworks.errors import InputError
from paperworks.papers.fold_se.columns import Cells, choose_numeric, rank_codes, to_frame
from paperworks.papers.fold_se.explain import Explanation, explain_row
from paperworks.papers.fold_se.learn import Learner, Rows, minimum_cover
from paperworks.papers.fold_se.rules import Rule, simplify
from paperworks.papers.fold_se.ruleset import RuleSet
from paperworks.papers.fold_se.views import RuleViews

Columns = Sequence[str] | Sequence[int]


class FoldSEClassifier(RuleViews, ClassifierMixin, BaseEstimator):
    """Learns a short list of default rules with exceptions from a table of mixed columns (FOLD-SE, arXiv 2208.07912).

    No encoding, scaling or imputation is needed: numeric and categorical columns and missing values are read as they
    are. Two classes give rules for one of them (``positive_label``), all else is the other; more classes give an
    ordered list of rules (FOLD-SE-M).

    Parameters
    ----------
    ratio : in [0, 1]. A rule stops growing, and exceptions are learned, when its false positives are at most this share
        of its true positives. 0 forces pure rules.
    tail : in [0, 1). A rule that newly covers fewer than ``floor(tail * rows)`` training rows is dropped while
        learning, at every depth. 0 drops none.
    numeric : ``"auto"`` (columns that hold numbers) or the columns, by name or position, whose cells are read as
        numbers where they can be; all others are then categorical.
    categorical : columns that are categorical although they hold numbers, such as codes.
    positive_label : the class that the rules conclude, for two classes; default the more frequent one.
    heuristic : ``"mgi"``, the Magic Gini Impurity of FOLD-SE, or ``"ig"``, the information gain of FOLD-R++.
    literals : ``"complete"``, with the exact negations of ``<=`` and ``>``, or ``"foldrpp"``, without.
    multiclass : ``"auto"`` learns an ordered list for more than two classes, ``"ordered"`` for two as well (as
        FOLD-RM).
    unmatched : what an ordered list predicts where no rule applies: ``"majority"``, the most frequent class of the
        training rows that no rule covers, or ``"none"``, None.
    feature_names : names of the columns when X is an array.
    allow_missing_columns : whether a column that is absent when predicting counts as missing values, not as an error.

    Attributes
    ----------
    rules_ : tuple of ``Rule``, simplified, in order. ``flat_rules_`` : the rules of the program, with exceptions by
        name.
    n_rules_, n_literals_ : of the program, exceptions included (literals do not count ``not abK``).
    program_ : the ``RuleSet``, which works without this estimator.
    classes_, n_features_in_, feature_names_in_ : as everywhere in scikit-learn.
    n_selections_ : how many times the best literal was looked for.
    minimum_cover_ : ``floor(tail * rows)``. ``newly_covered_`` : what each kept rule, at every depth, newly covered of
        its own positives when it was learned.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> model = FoldSEClassifier().fit(X, y)
    >>> print(model.rules_[0])  # doctest: +SKIP
    """

    program_: RuleSet
    classes_: np.ndarray

    def __init__(
        self,
        ratio: float = 0.5,
        tail: float = 0.005,
        *,
        numeric: Literal["auto"] | Columns = "auto",
        categorical: Columns | None = None,
        positive_label: Any = None,
        heuristic: Literal["mgi", "ig"] = "mgi",
        literals: Literal["complete", "foldrpp"] = "complete",
        multiclass: Literal["auto", "ordered"] = "auto",
        unmatched: Literal["majority", "none"] = "majority",
        feature_names: Sequence[str] | None = None,
        allow_missing_columns: bool = False,
    ) -> None:
        self.ratio = ratio
        self.tail = tail
        self.numeric = numeric
        self.categorical = categorical
        self.positive_label = positive_label
        self.heuristic = heuristic
        self.literals = literals
        self.multiclass = multiclass
        self.unmatched = unmatched
        self.feature_names = feature_names
        self.allow_missing_columns = allow_missing_columns

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FoldSEClassifier:
        """Learn rules from ``X`` (n rows) and labels ``y`` (n,).

        ``X`` is a pandas, polars or Arrow table or an array of numbers or objects. NaN, None, NA and ``""`` are
        missing. ``sample_weight`` (n,), not negative, stands for repeated rows. Raises InputError naming the parameter,
        the column or ``y`` when they cannot be used.
        """
        self._check_parameters()
        frame = self._table(X, reset=True)
        labels = column_or_1d(y, warn=True)
        if len(labels) != len(frame):
            raise InputError("y", f"{len(labels)} labels", f"one per row of X ({len(frame)})")
        if pd.isna(labels).any():
            raise InputError("y", f"no label in row {int(np.argmax(pd.isna(labels)))}", "a label in every row")
        y_codes, found = pd.factorize(labels, sort=False)
        check_classification_targets(found)
        if sample_weight is None:
            weights = np.ones(len(frame), dtype=np.int64)
        else:
            weights = _check_sample_weight(sample_weight, frame, dtype=np.float64, ensure_non_negative=True)
            kept = weights > 0
            frame, y_codes, weights = frame[kept], y_codes[kept], weights[kept]
            if (weights == np.floor(weights)).all():
                weights = weights.astype(np.int64)
        found = found[np.unique(y_codes)]
        self.classes_, order = np.unique(found, return_inverse=True)
        y_codes = order[np.unique(y_codes, return_inverse=True)[1]]
        if len(self.classes_) < 2:
            raise InputError(
                "y", f"one class only ({', '.join(map(repr, self.classes_.tolist()))})", "two classes or more"
            )
        numeric = choose_numeric(frame, self.numeric, self.categorical)
        table = rank_codes(frame, numeric)
        mixed = tuple(
            a for a, c in zip(table.attributes, table.categories, strict=True) if a in numeric and set(c) - {""}
        )
        learner = Learner(
            table,
            ratio=self.ratio,
            minimum=minimum_cover(self.tail, float(weights.sum())),
            complete=self.literals == "complete",
            gini=self.heuristic == "mgi",
        )
        rows = Rows(np.arange(len(frame), dtype=np.int32), weights)
        if len(self.classes_) == 2 and self.multiclass == "auto":
            positive = self._positive(y_codes, weights)
            is_positive = y_codes == positive
            learned = [(positive, r) for r in learner.learn_rules(rows.take(is_positive), rows.take(~is_positive))]
        else:
            if self.positive_label is not None:
                raise InputError(
                    "positive_label",
                    f"{self.positive_label!r} for an ordered list over {len(self.classes_)} classes",
                    "None, or a y with two classes (such as y == label)",
                )
            positive = None
            learned = learner.learn_ordered(rows, y_codes)
        self.n_selections_ = learner.selections
        self.minimum_cover_, self.newly_covered_ = learner.minimum, tuple(learner.newly_covered)
        attributes = tuple(str(name) for name in frame.columns)
        rules = [(label, simplify(learner.decode(rule))) for label, rule in learned]
        # Rows are decided with the same code that predicts, not with the learner's.
        cells = Cells(frame, numeric, coded=table)
        self.program_ = self._count(rules, positive, cells, y_codes, weights, attributes, numeric, mixed)
        if not rules:
            warnings.warn(
                "no rule was learned: no literal is right more often than wrong, or none covers enough rows. "
                "Try the other class as positive_label, or a smaller tail.",
                UserWarning,
                stacklevel=2,
            )
        return self

    def _check_parameters(self) -> None:
        for name, low, high, bounds in (("ratio", 0, 1, "[0, 1]"), ("tail", 0, np.nextafter(1, 0), "[0, 1)")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not low <= value <= high:
                raise InputError(name, repr(value), f"a number in {bounds}")
        for name, known in (
            ("heuristic", ("mgi", "ig")),
            ("literals", ("complete", "foldrpp")),
            ("multiclass", ("auto", "ordered")),
            ("unmatched", ("majority", "none")),
        ):
            if getattr(self, name) not in known:
                raise InputError(name, repr(getattr(self, name)), f"one of {', '.join(map(repr, known))}")

    def _table(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """X as a frame whose columns have the names of the model's attributes; checks names and counts."""
        if isinstance(X, pd.DataFrame) or hasattr(X, "to_pandas"):
            frame = to_frame(X)
            if not reset and self.allow_missing_columns and hasattr(self, "feature_names_in_"):
                frame = frame.reindex(columns=self.feature_names_in_)
                X = frame
            validate_data(self, X, reset=reset, skip_check_array=True)
            if frame.shape[0] == 0 or frame.shape[1] == 0:
                raise InputError("X", f"{frame.shape[0]} rows and {frame.shape[1]} columns", "at least one of each")
            return frame
        if isinstance(X, (list, tuple)):
            array = np.asarray(X)
            # Numbers beside strings would all become strings.
            X = np.array(X, dtype=object) if array.dtype.kind in "US" else array
        X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=False)
        names = self.program_.attributes if not reset else self.feature_names
        if names is not None and len(names) != X.shape[1]:
            raise InputError("feature_names", f"{len(names)} names", f"one per column of X ({X.shape[1]})")
        return to_frame(X, names)

    def _positive(self, y_codes: np.ndarray, weights: np.ndarray) -> int:
        if self.positive_label is None:
            totals = np.bincount(y_codes, weights=weights, minlength=2)
            return int(totals[1] >= totals[0])
        matches = np.flatnonzero(self.classes_ == self.positive_label)
        if len(matches) != 1:
            known = ", ".join(map(repr, self.classes_.tolist()))
            raise InputError("positive_label", repr(self.positive_label), f"one of the labels in y: {known}")
        return int(matches[0])

    def _count(
        self,
        rules: list[tuple[int, Rule]],
        positive: int | None,
        cells: Cells,
        y_codes: np.ndarray,
        weights: np.ndarray,
        attributes: tuple[str, ...],
        numeric: Sequence[str],
        mixed: tuple[str, ...],
    ) -> RuleSet:
        classes = tuple(self.classes_.tolist())
        first = np.full(len(cells), -1, dtype=np.int64)
        for number, (_, rule) in enumerate(rules):
            first[(first < 0) & rule.covers(cells)] = number
        # Row k of the table: training rows per class that rule k decides; the last row: those that none covers.
        flat = np.where(first < 0, len(rules), first) * len(classes) + y_codes
        table = np.bincount(flat, weights=weights, minlength=(len(rules) + 1) * len(classes))
        table = table.reshape(len(rules) + 1, len(classes))
        if positive is not None:
            default = classes[1 - positive]
        else:
            default = classes[int(np.argmax(table[-1] if table[-1].any() else table.sum(axis=0)))]
        return RuleSet(
            rules=tuple(
                Rule(rule.body, rule.exceptions, classes[label], tuple(table[number].tolist()))
                for number, (label, rule) in enumerate(rules)
            ),
            classes=classes,
            positive=None if positive is None else classes[positive],
            default=default,
            default_counts=tuple(table[-1].tolist()),
            attributes=attributes,
            numeric=tuple(numeric),
            mixed=mixed,
            label_dtype=str(self.classes_.dtype),
        )

    def _cells(self, X: Any) -> Cells:
        program = self._fitted()
        if isinstance(X, Cells):
            return X
        return Cells(self._table(X, reset=False), program.numeric, absent_is_missing=self.allow_missing_columns)

    def predict(self, X: Any) -> np.ndarray:
        """The label per row, ``(n,)``: that of the first rule that covers it, else the default (see ``unmatched``)."""
        program = self._fitted()
        return program.label_of(self.covering_rule(X), default=program.binary or self.unmatched == "majority")

    def predict_proba(self, X: Any) -> np.ndarray:
        """Shares of the classes ``(n, classes)`` among the *training* rows that the same rule decides.

        This is the training precision of the deciding rule, the same for all rows it decides: not a calibrated
        probability, and for a weak rule the largest share need not be the predicted class. Raises InputError if the
        rules were edited and their counts left out.
        """
        first = self.covering_rule(X)
        table = np.zeros((len(self.rules_) + 1, len(self.classes_)))
        for number, counts in enumerate([*(rule.counts for rule in self.rules_), self.program_.default_counts]):
            if counts is None:
                raise InputError("counts", f"none for rule {number + 1}", "counts of training rows per class (see fit)")
            if sum(counts) > 0:
                table[number] = np.array(counts) / sum(counts)
            else:
                rule_label = self.program_.default if number == len(self.rules_) else self.rules_[number].label
                table[number, list(self.program_.classes).index(rule_label)] = 1.0
        return table[first]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy; a row without a prediction counts as wrong."""
        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

    def covering_rule(self, X: Any) -> np.ndarray:
        """The position in ``rules_`` of the first rule that covers each row, ``(n,)`` int64; -1 where none does."""
        return self._fitted().first_cover(self._cells(X))

    def decision_path(self, X: Any) -> np.ndarray:
        """Which rules cover which rows, ``(n, len(rules_))`` bool."""
        return self._fitted().coverage(self._cells(X))

    def explain(self, row: Any) -> Explanation:
        """Why one row gets its label: a proof tree, printed as text by ``print``.

        ``row`` is a mapping from attribute to value, a pandas Series, a table or array with one row, or a 1-d array.
        """
        program = self._fitted()
        if isinstance(row, np.ndarray) and row.ndim == 1:
            row = row.reshape(1, -1)
        if isinstance(row, (list, tuple)) and not (row and isinstance(row[0], (list, tuple, np.ndarray))):
            row = np.array(row, dtype=object).reshape(1, -1)
        cells = program.cells(row, absent_is_missing=self.allow_missing_columns)
        if len(cells) != 1:
            raise InputError("row", f"{len(cells)} rows", "one row")
        return explain_row(program, cells, 0, self.predict(cells)[0])

    def report(self, X: Any, y: Any) -> pd.DataFrame:
        """Per rule, on these rows: how many it covers, how many it decides, how many of those rightly.

        Columns: rule, label, text, covered, decided, correct, precision (correct / decided, NaN if it decides none) and
        coverage (decided / rows). The last line is the default.
        """
        cells = self._cells(X)
        path, first, labels = self.decision_path(cells), self.covering_rule(cells), np.asarray(y)
        lines = []
        for number, rule in enumerate([*self.rules_, None]):
            decided = first == (number if rule is not None else -1)
            label = self.program_.default if rule is None else rule.label
            correct = int((labels[decided] == label).sum())
            lines.append(
                {
                    "rule": f"rule{number + 1}" if rule is not None else "otherwise",
                    "label": label,
                    "text": str(rule) if rule is not None else "no rule applies",
                    "covered": int(path[:, number].sum()) if rule is not None else int(decided.sum()),
                    "decided": int(decided.sum()),
                    "correct": correct,
                    "precision": correct / decided.sum() if decided.any() else float("nan"),
                    "coverage": decided.mean(),
                }
            )
        return pd.DataFrame(lines)

    def _fitted(self) -> RuleSet:
        check_is_fitted(self, "program_")
        return self.program_

    @classmethod
    def from_json(cls, text: str, **parameters: Any) -> FoldSEClassifier:
        """A fitted classifier from ``to_json``'s text, edited or not; ``parameters`` as in the constructor.

        Raises InputError naming the field that cannot be used.
        """
        model = cls(**parameters)
        model.program_ = RuleSet.from_json(text)
        model.classes_ = np.array(model.program_.classes, dtype=np.dtype(model.program_.label_dtype))
        model.n_features_in_ = len(model.program_.attributes)
        if model.program_.attributes != tuple(f"x{i}" for i in range(model.n_features_in_)):
            model.feature_names_in_ = np.array(model.program_.attributes, dtype=object)
        return model
