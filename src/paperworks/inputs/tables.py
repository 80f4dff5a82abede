"""Tables of the user: CSV and its kin, Parquet, and frames and arrays, read into one form with declared column types.

A ``Table`` has numeric columns as float64 and categorical ones as text, missing cells as NaN, and the label apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError, nearest
from paperworks.inputs.cell_forms import Commas, plain_numbers, text_note
from paperworks.inputs.delimited import Delimited, first_line, first_twice, read_delimited
from paperworks.inputs.row_numbers import find_row_numbers, names_of, row_number_note

if TYPE_CHECKING:
    import pandas as pd

MISSING_MARKERS = ("", "?", "NA", "N/A", "NaN", "nan", "NULL", "null")
"""Text that stands for a missing cell, unless other markers are given."""

MOSTLY_NUMBERS = 0.9
"""From this share of numbers on, the text among them is worth a note."""

DATA_VARIABLE = "PAPERWORKS_DATA"
"""Environment variable with a folder of tables, ``NAME.csv``, which is looked at before all other places."""

BUNDLED = {"breast-cancer": "load_breast_cancer", "wine": "load_wine", "digits": "load_digits"}
"""Tables that scikit-learn carries along: they need neither a file nor the network."""


@dataclass(frozen=True)
class Table:
    """A table ready for a learner.

    Attributes
    ----------
    features : n rows; float64 for numeric columns (NaN missing), text or mixed objects for the others (NaN missing).
    label : the label per row, None if no label column was named. Text where it came from a text file.
    numeric, categorical : the features' names by type. A numeric column that was declared so but holds text beside
        numbers stays a column of objects: floats and strings.
    name : where it came from, for messages.
    notes : what a user should know about how it was read.
    """

    features: pd.DataFrame
    label: pd.Series | None
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.features)


def read_table(
    source: Any,
    label: str | None = None,
    *,
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    missing: Iterable[str] = MISSING_MARKERS,
    delimiter: str | None = None,
    row_numbers: bool = True,
) -> Table:
    """Read a table.

    Raises InputError that names the file, and the line or column.

    Parameters
    ----------
    source : a path (.csv, .tsv, .txt, each also .gz; .parquet), a pandas, polars or Arrow table, a 2-d array (columns
        ``x0``, ``x1``, ...), or the name of a bundled table (see ``BUNDLED``).
    label : the label's column.
    numeric, categorical : declared types. Other columns of a text file are numeric if all their present cells are
        numbers; in a frame the column's own type decides, and text that is all numbers stays text.
    drop : columns to leave out, such as row numbers.
    missing : text that stands for a missing cell.
    delimiter : of a text file, a blank for runs of blanks; found in its first lines if not given. Lines above the
        header are left out, with a note; a header may begin with ``#``. Cells such as ``1.234,5`` are numbers where the
        delimiter is no comma.
    row_numbers : False leaves out columns that number the rows, with a note (see ``row_numbers.find_row_numbers``).
    """
    import pandas as pd

    markers = tuple(missing)
    text: Delimited | None = None
    notes: list[str] = []
    if isinstance(source, (str, os.PathLike)):
        name = str(source)
        if name in BUNDLED and not Path(name).exists():
            frame, label = _bundled(name, label)
        else:
            frame, text = _read_file(Path(name), delimiter)
            notes += text.notes if text is not None else []
    else:
        name = type(source).__name__
        frame = _as_frame(source)
    from_text, first_row = text is not None, text.above + 1 if text is not None else 0
    _check_columns(frame, name)
    names = [str(column) for column in frame.columns]
    frame = frame.set_axis(names, axis=1)
    for option, wanted in (("numeric", numeric), ("categorical", categorical), ("drop", drop)):
        if isinstance(wanted, str):
            raise InputError(option, repr(wanted), "a list of column names")
        for column in wanted:
            if column not in names:
                raise InputError(option, f"column {column!r}", f"a column of {name}{nearest(column, names)}")
    both = [column for column in numeric if column in categorical]
    if both:
        raise InputError("numeric", f"column {both[0]!r}, which is in categorical too", "each column in one list")
    target = None
    if label is not None:
        if label not in names:
            known = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise InputError("label", repr(label), f"a column of {name}{nearest(label, names)}; it has {known}")
        if label in drop:
            raise InputError("drop", f"the label column {label!r}", "columns other than the label")
        target = _label(frame[label], markers, name, first_row)
    features: dict[str, pd.Series] = {}
    kinds: dict[str, bool] = {}
    with_commas: dict[Commas, list[str]] = {}
    for column in names:
        if column == label or column in drop:
            continue
        declared = True if column in numeric else False if column in categorical else None
        cells = frame[column]
        plain = _numbers_alone(cells, markers) if from_text and declared is not False else None
        if plain is not None:
            features[column], kinds[column] = plain, True
            continue
        gone = _missing(cells, markers)
        if from_text and _is_unnamed(column) and gone.all():
            continue  # a separator at the end of each line
        if text is not None and declared is not False:
            cells, commas = plain_numbers(cells, gone, text.commas)
            if commas:
                with_commas.setdefault(commas, []).append(column)
        features[column], kinds[column] = _column(cells, declared, markers, from_text, notes)
    for commas, columns in with_commas.items():
        read = "Decimal commas are read as numbers" if commas == "decimal" else "Commas are read as between thousands"
        notes.append(f"{read} in {names_of(columns)}.")
    if not features:
        raise InputError(name, "no column besides the label and those dropped", "at least one")
    for column, is_numeric in kinds.items():
        if is_numeric:
            _require_finite(features[column], name, first_row)
    left = [] if row_numbers else find_row_numbers(pd.DataFrame(features), [c for c in kinds if c in numeric])
    if left and len(left) < len(features):
        notes.insert(0, row_number_note(left))
        features = {c: v for c, v in features.items() if c not in left}
        kinds = {c: k for c, k in kinds.items() if c not in left}
    undeclared = [c for c in features if from_text and not kinds[c] and c not in categorical]
    notes += [note for c in undeclared if (note := text_note(c, features[c])) is not None]
    if all(values.isna().all() for values in features.values()):
        raise InputError(name, "no value in any column besides the label", "a column with values")
    return Table(
        features=pd.DataFrame(features),
        label=target,
        numeric=tuple(c for c, is_numeric in kinds.items() if is_numeric),
        categorical=tuple(c for c, is_numeric in kinds.items() if not is_numeric),
        name=name,
        notes=tuple(notes),
    )


def find_table(name: str, folder: str | os.PathLike[str] | None = None) -> Path | None:
    """The file of a known table (``adult``, ``mushroom``, ...), or None if it is not on this machine.

    Looked for in ``folder``, in the folder that the environment variable PAPERWORKS_DATA names, and among the fetched
    inputs.
    """
    for place in (folder, os.environ.get(DATA_VARIABLE)):
        if place:
            for suffix in (".csv", ".csv.gz", ".parquet"):
                path = Path(place) / f"{name}{suffix}"
                if path.is_file():
                    return path
    import paperworks.inputs as inputs

    locate = getattr(inputs, "path", None)
    if locate is None:
        return None
    try:
        found = Path(locate(name))
    except InputError:
        return None
    if found.is_dir():
        files = [p for p in sorted(found.iterdir()) if p.suffix in (".csv", ".gz", ".parquet")]
        return files[0] if len(files) == 1 else None
    return found


def _bundled(name: str, label: str | None) -> tuple[pd.DataFrame, str | None]:
    from sklearn import datasets

    loaded = getattr(datasets, BUNDLED[name])(as_frame=True)
    frame = loaded.frame.copy()
    names = [str(n) for n in loaded.target_names]
    frame["target"] = [names[i] for i in loaded.target]
    return frame, "target" if label is None else label


def _as_frame(source: Any) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return source
    if hasattr(source, "to_pandas"):
        return source.to_pandas()
    array = np.asarray(source)
    if array.ndim != 2:
        raise InputError("table", f"an array of {array.ndim} dimensions", "two: rows and columns")
    return pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])


def _read_file(path: Path, delimiter: str | None) -> tuple[pd.DataFrame, Delimited | None]:
    """The file's columns; and, where it is a text file, how it was read."""
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        bundled = ", ".join(BUNDLED)
        raise InputError(
            "data",
            f"{path}, which does not exist",
            f"a file, or one of {bundled}{nearest(path.name, [*beside, *BUNDLED])}",
        )
    if path.is_dir():
        raise InputError("data", f"{path}, a folder", "a .csv, .tsv, .txt (or .gz of these) or .parquet file")
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(path).to_pandas(), None
        except (pa.ArrowException, OSError) as error:
            raise InputError(str(path), first_line(error), "a Parquet file") from None
    text = read_delimited(path, delimiter)
    return text.frame, text


def _is_unnamed(column: str) -> bool:
    return re.fullmatch(r"column \d+", column) is not None


def _place(row: int, first_row: int) -> str:
    """Where a row is, in words: its line in a text file whose first row is in line ``first_row``, else its number."""
    return f"line {row + first_row}" if first_row else f"row {row}"


def _require_finite(values: pd.Series, name: str, first_row: int) -> None:
    """Learners compute in 32 or 64 bits: an infinity, or a number beyond float32, is refused with its place."""
    import numpy as np

    numbers = values if values.dtype != object else values[[isinstance(v, float) for v in values]]
    large = np.abs(numbers.to_numpy(dtype=np.float64)) > np.finfo(np.float32).max
    if large.any():
        row = int(numbers.index[large.argmax()])
        raise InputError(
            f"{name}, {_place(row, first_row)}, column {values.name!r}",
            f"{numbers[row]:g}",
            "a number within 3.4e38; name text for missing values in missing",
        )


def _check_columns(frame: pd.DataFrame, name: str) -> None:
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise InputError(name, f"{frame.shape[0]} rows and {frame.shape[1]} columns", "at least one of each")
    frame_names = [str(column) for column in frame.columns]
    twice = first_twice(frame_names)
    if twice is not None:
        raise InputError(name, f"two columns named {twice!r}", "one column per name")


def _label(values: pd.Series, markers: Sequence[str], name: str, first_row: int) -> pd.Series:
    gone = _missing(values, markers)
    if gone.any():
        row = int(gone.to_numpy().argmax())
        where = _place(row, first_row)
        raise InputError(f"{name}, {where}, column {values.name!r}", "no label", "a label in every row")
    return values.reset_index(drop=True)


def _missing(values: pd.Series, markers: Sequence[str]) -> pd.Series:
    gone = values.isna()
    if values.dtype == object or str(values.dtype) in ("str", "string", "category"):
        gone |= values.isin(list(markers))
    return gone.reset_index(drop=True)


def _column(
    values: pd.Series, declared: bool | None, markers: Sequence[str], from_text: bool, notes: list[str]
) -> tuple[pd.Series, bool]:
    """A column in its final form, and whether it is numeric."""
    import numpy as np
    import pandas as pd

    values = values.reset_index(drop=True)
    gone = _missing(values, markers)
    is_bool = pd.api.types.is_bool_dtype(values.dtype)
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or pd.api.types.is_timedelta64_dtype(values.dtype):
        raise InputError(
            f"column {values.name!r}",
            str(values.dtype),
            "numbers or text, such as days since a date; drop leaves it out",
        )
    if values.dtype == object:
        first = next(iter(values[~gone]), None)
        if isinstance(first, (list, tuple, set, dict, np.ndarray)):
            kind = "records" if isinstance(first, dict) else "lists"
            raise InputError(f"column {values.name!r}", f"{kind} in its cells", "numbers or text; drop leaves it out")
    if pd.api.types.is_numeric_dtype(values.dtype) and not is_bool and declared is not False:
        return pd.Series(values.to_numpy(dtype=np.float64, na_value=np.nan), name=values.name), True
    if declared is False or is_bool or not (from_text or declared):
        text = values.map(_text, na_action="ignore").astype(object)
        return text.mask(gone, np.nan), False
    present = values[~gone].astype(str)
    numbers = _numbers(present)
    if not numbers.isna().any():
        whole = pd.Series(np.nan, index=values.index, name=values.name)
        whole[~gone] = numbers
        return whole, len(present) > 0 or bool(declared)
    if declared:
        mixed = values.astype(object).mask(gone, np.nan)
        mixed[numbers.index[numbers.notna()]] = numbers.dropna().astype(object)
        return mixed, True
    share = float(numbers.notna().mean())
    if share >= MOSTLY_NUMBERS:
        first = present[numbers.isna()].iloc[0]
        notes.append(
            f"column {values.name!r} is read as categorical: {share:.1%} of it are numbers, but not {first!r}. "
            "Declare it numeric, or that text as missing, if it measures something."
        )
    return values.mask(gone, np.nan), False


def _numbers_alone(cells: pd.Series, markers: Sequence[str]) -> pd.Series | None:
    """A text column of numbers and missing cells alone; None for any other.

    What ``_column`` gives, in a tenth of the time: tables of measurements have thousands of these.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.array(cells.to_numpy(dtype=object), type=pa.string())
    gone = pc.is_in(text, value_set=pa.array(markers, type=pa.string()))
    try:
        numbers = pc.cast(pc.if_else(gone, None, text), pa.float64())
    except pa.ArrowInvalid:
        return None
    values = numbers.to_numpy(zero_copy_only=False)
    if numbers.null_count == len(values) or np.isnan(values).sum() > numbers.null_count:
        return None
    return pd.Series(values, name=cells.name)


def _numbers(present: pd.Series) -> pd.Series:
    """Text as numbers, rounded correctly; NaN where it is none."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        parsed = pc.cast(pa.array(present, type=pa.string()), pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        parsed = np.array([_number(text) for text in present], dtype=np.float64)
    return pd.Series(parsed, index=present.index)


def _number(text: str) -> float:
    try:
        return float("nan" if "_" in text else text)
    except ValueError:
        return float("nan")


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))  # whole numbers with gaps arrive as floats
    return str(value)
