"""Metadata mode: predicates on true columns, ranked by what they do to the error. No text embedding is needed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.papers.ladder.slices import holm, reaches, two_proportion_p
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    import pandas as pd

    from paperworks.language.generation import Generator

Operator = Literal["=", ">=", "<"]
MOST_CATEGORIES = 200
QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Condition:
    """One test of a column: equal to a category, or at or above (below) a number. Missing cells never pass.

    Attributes
    ----------
    column : its name; operator : "=", ">=" or "<"; value : a category as text, or a number.
    """

    column: str
    operator: Operator
    value: str | float

    def __str__(self) -> str:
        value = f"{self.value:g}" if isinstance(self.value, float) else str(self.value)
        return f"{self.column} {self.operator} {value}"

    def passes(self, frame: pd.DataFrame) -> np.ndarray:
        """Which rows pass, bool ``[n]``."""
        cells = frame[self.column]
        if self.operator == "=":
            return np.asarray(cells.astype(object).map(category_text).to_numpy(object) == str(self.value), bool)
        numbers = _numbers(cells)
        with np.errstate(invalid="ignore"):
            return numbers >= float(self.value) if self.operator == ">=" else numbers < float(self.value)


@dataclass(frozen=True)
class PredicateSlice:
    """A conjunction of conditions, and the error inside and outside of it.

    Attributes
    ----------
    conditions : one or two.
    n : rows inside; support : their share.
    error, error_outside, error_all : shares of wrong predictions inside, outside, and of all rows.
    p, p_holm : of inside against outside (two proportions), and after Holm's correction over all predicates tested.
    confirmed : whether the error inside is above that of all rows by the margin.
    """

    conditions: tuple[Condition, ...]
    n: int
    support: float
    error: float
    error_outside: float
    error_all: float
    p: float
    p_holm: float
    confirmed: bool

    @property
    def gap(self) -> float:
        """Error inside minus error outside: what predicates are ranked by."""
        return self.error - self.error_outside

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions))

    def passes(self, frame: pd.DataFrame) -> np.ndarray:
        """Which rows of a table are inside, bool ``[n]``."""
        return np.logical_and.reduce([c.passes(frame) for c in self.conditions])


class MetadataBackend:
    """All predicates on the columns of a table, ranked by the error inside minus the error outside.

    Parameters
    ----------
    min_support : least share of rows inside.
    quantiles : thresholds of numeric columns, as shares of the rows.
    conjunctions : add conjunctions of two conditions on different columns.
    margin : see ``PredicateSlice.confirmed``.
    generator : a language model that proposes predicates from samples written as dictionaries; they are tested on the
        true columns like the others, which are then not enumerated.
    examples : samples of each kind (right, wrong) in its prompt.
    random_state : seed of their choice.
    """

    def __init__(
        self,
        *,
        min_support: float = 0.05,
        quantiles: Sequence[float] = QUANTILES,
        conjunctions: bool = False,
        margin: float = 0.1,
        generator: Generator | None = None,
        examples: int = 20,
        random_state: int = 0,
    ) -> None:
        check_seed("random_state", random_state)
        if not 0 < min_support < 1:
            raise InputError("min_support", min_support, "a share between 0 and 1")
        if not all(0 < q < 1 for q in quantiles):
            raise InputError("quantiles", tuple(quantiles), "shares between 0 and 1")
        self.min_support, self.quantiles, self.conjunctions = min_support, tuple(quantiles), conjunctions
        self.margin, self.generator, self.examples = margin, generator, examples
        self.random_state = random_state

    def find(self, table: pd.DataFrame | Mapping[str, Any], wrong: Any, n: int | None = None) -> list[PredicateSlice]:
        """The predicates with the largest gap, largest first, ties by name.

        Parameters
        ----------
        table : metadata, a column per attribute; text columns are categories, numbers get thresholds (and, with ten
            values or fewer, equality).
        wrong : whether each row was predicted wrongly, bool ``[n]``.
        n : predicates returned at most; None: all.
        """
        frame, errors = as_frame(table), np.asarray(wrong)
        if errors.shape != (len(frame),):
            raise InputError("table and wrong", f"{len(frame)} rows and shape {errors.shape}", "one flag per row")
        if errors.dtype.kind not in "b" and not np.isin(errors, (0, 1)).all():
            raise InputError("wrong", f"type {errors.dtype}", "True for each wrong prediction, else False")
        errors = errors.astype(bool)
        if errors.all() or not errors.any():
            raise InputError("wrong", "all alike", "right and wrong predictions: without both there is no slice")
        conditions = self._proposed(frame, errors) if self.generator is not None else self.conditions(frame)
        inside = np.array([c.passes(frame) for c in conditions]).reshape(len(conditions), len(frame))
        made = self._measured([(c,) for c in conditions], inside.sum(axis=1), (inside & errors).sum(axis=1), errors)
        if self.conjunctions and len(conditions) > 1:
            wide = inside.astype(np.float32)
            counts, hits = wide @ wide.T, (wide * errors) @ wide.T
            pairs = [
                (a, b)
                for a, b in itertools.combinations(range(len(conditions)), 2)
                if conditions[a].column != conditions[b].column
            ]
            if pairs:
                at = tuple(np.array(pairs).T)
                together = [(conditions[a], conditions[b]) for a, b in pairs]
                made += self._measured(together, counts[at].round(), hits[at].round(), errors)
        adjusted = holm([s.p for s in made])
        made = [replace(s, p_holm=float(p)) for s, p in zip(made, adjusted, strict=True)]
        made.sort(key=lambda s: (-round(s.gap, 12), str(s)))
        return made if n is None else made[:n]

    def conditions(self, frame: pd.DataFrame) -> list[Condition]:
        """Every single condition on a table, whatever its support."""
        import pandas as pd

        found: list[Condition] = []
        for column in frame.columns:
            cells = frame[column]
            numeric = pd.api.types.is_numeric_dtype(cells.dtype) and not pd.api.types.is_bool_dtype(cells.dtype)
            if numeric:
                numbers = _numbers(cells)
                present = numbers[~np.isnan(numbers)]
                with np.errstate(invalid="ignore"):  # between a number and infinity there is no quantile
                    cuts = np.unique(np.quantile(present, self.quantiles)) if len(present) else np.empty(0)
                for cut in cuts[np.isfinite(cuts)]:
                    found += [Condition(column, ">=", float(cut)), Condition(column, "<", float(cut))]
                if len(np.unique(present)) > 10:
                    continue
            values = cells.map(category_text).dropna().value_counts()
            if len(values) <= MOST_CATEGORIES:
                found += [Condition(column, "=", value) for value in sorted(values.index)]
        if not found:
            raise InputError("table", f"columns {', '.join(map(str, frame.columns))}", "a column with several values")
        return found

    def _measured(
        self, conditions: Sequence[tuple[Condition, ...]], counts: Any, hits: Any, errors: np.ndarray
    ) -> list[PredicateSlice]:
        rows, wrong = len(errors), int(errors.sum())
        found = []
        for those, count, hit in zip(conditions, np.asarray(counts, int), np.asarray(hits, int), strict=True):
            inside, wrong_inside = int(count), int(hit)
            if not reaches(inside / rows, self.min_support) or inside == rows:
                continue
            outside = rows - inside
            error = wrong_inside / inside
            p = two_proportion_p(inside - wrong_inside, inside, outside - wrong + wrong_inside, outside)
            found.append(
                PredicateSlice(
                    those,
                    inside,
                    inside / rows,
                    error,
                    (wrong - wrong_inside) / outside,
                    wrong / rows,
                    p,
                    1.0,
                    reaches(error - wrong / rows, self.margin),
                )
            )
        return found

    def _proposed(self, frame: pd.DataFrame, errors: np.ndarray) -> list[Condition]:
        from paperworks.language.generation import GenerationSettings

        assert self.generator is not None
        prompt = metadata_prompt(frame, errors, self.examples, np.random.default_rng(self.random_state))
        answer = self.generator.generate([prompt], GenerationSettings(max_new_tokens=1024))[0][0]
        return parse_predicates(answer, frame)


def metadata_prompt(frame: pd.DataFrame, errors: np.ndarray, examples: int, draw: np.random.Generator) -> str:
    """The request for predicates: samples as dictionaries, right ones and wrong ones apart."""
    import json

    def listed(rows: np.ndarray) -> str:
        some = np.sort(draw.permutation(rows)[:examples])
        kept = [
            {str(c): category_text(v) for c, v in frame.iloc[i].items() if category_text(v) is not None} for i in some
        ]
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in kept)

    return (
        "A classifier was tested. Below are samples with their metadata as dictionaries.\n\n"
        f"Classified correctly:\n{listed(np.flatnonzero(~errors))}\n\n"
        f"Classified wrongly:\n{listed(np.flatnonzero(errors))}\n\n"
        "Propose predicates on the metadata that may hold for samples that are classified wrongly, and not for the "
        "others. Use only keys and values as above. Answer with JSON alone, in this form:\n"
        '{"predicates": [{"column": "...", "operator": "=" or ">=" or "<", "value": ...}, ...]}'
    )


def parse_predicates(answer: str, frame: pd.DataFrame) -> list[Condition]:
    """Conditions of an answer in JSON whose columns are in the table. Nothing of it is executed."""
    from paperworks.papers.ladder.backends.generated import answer_mapping

    items = answer_mapping(answer).get("predicates")
    if not isinstance(items, list):
        raise InputError("answer", repr(answer)[:80], "JSON with a list of predicates")
    found = []
    for item in items:
        if not isinstance(item, Mapping) or item.get("column") not in frame.columns:
            continue
        operator, value = item.get("operator"), item.get("value")
        if operator == "=" and isinstance(value, (str, int, float, bool)):
            found.append(Condition(str(item["column"]), "=", str(category_text(value))))
        elif operator in (">=", "<") and isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append(Condition(str(item["column"]), operator, float(value)))
    if not found:
        raise InputError("answer", repr(answer)[:80], "predicates on columns of the table")
    return list(dict.fromkeys(found))


def as_frame(table: Any) -> pd.DataFrame:
    """A data frame from a frame (pandas, polars, Arrow), a dictionary of columns, or a list of rows."""
    import pandas as pd

    if hasattr(table, "to_pandas"):
        table = table.to_pandas()
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)
    if frame.empty:
        raise InputError("table", f"{frame.shape[0]} rows and {frame.shape[1]} columns", "at least one of each")
    return frame.reset_index(drop=True)


def require_columns(frame: pd.DataFrame, field: str, columns: Sequence[str]) -> None:
    """Raise InputError for a column that the table lacks."""
    for column in columns:
        if column not in frame.columns:
            raise InputError(field, repr(column), f"a column of the table{nearest(column, map(str, frame.columns))}")


def category_text(cell: Any) -> str | None:
    """A cell as a category; None where it is missing. Whole numbers have no decimals."""
    import pandas as pd

    if cell is None or cell is pd.NA or cell is pd.NaT:
        return None
    if isinstance(cell, (float, np.floating)):
        return None if np.isnan(cell) else str(int(cell)) if float(cell).is_integer() else str(cell)
    return str(cell)


def _numbers(cells: pd.Series) -> np.ndarray:
    import pandas as pd

    return pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
