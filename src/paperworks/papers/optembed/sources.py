"""Click tables from files: any table with a label, the layouts of Criteo, Avazu and KDD12, and word pairs of a text.

Large text files and Parquet files are read in chunks, twice for the vocabularies and once for the ids; what stays in
memory is four bytes a cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from paperworks.errors import InputError
from paperworks.inputs.delimited import delimited_chunks
from paperworks.inputs.options import TableOptions
from paperworks.papers.optembed.encoding import FieldEncoder, Numbers, several_columns
from paperworks.papers.optembed.fitting import Clicks
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

Layout = Literal["table", "criteo", "avazu", "kdd12"]

CHUNK_ROWS = 200_000
LARGE_BYTES = 64 << 20
"""Text files from this size on are read in chunks."""

CRITEO = ["label", *(f"I{i}" for i in range(1, 14)), *(f"C{i}" for i in range(1, 27))]
KDD12 = [
    "Click",
    "Impression",
    "DisplayURL",
    "AdID",
    "AdvertiserID",
    "Depth",
    "Position",
    "QueryID",
    "KeywordID",
    "TitleID",
    "DescriptionID",
    "UserID",
]

Chunks = Callable[[], Iterator[pd.DataFrame]]


@dataclass(frozen=True)
class ClickTable:
    """A click table as ids.

    Attributes
    ----------
    clicks : ids and labels of all rows.
    encoder : the fields.
    names : their names. positive : the label's value that is 1. notes : how the table was understood.
    """

    clicks: Clicks
    encoder: FieldEncoder
    positive: str
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The fields' names."""
        return [f.name for f in self.encoder.fields_]


def read_clicks(
    source: Any,
    label: str | None = None,
    *,
    layout: Layout = "table",
    positive: str | None = None,
    min_count: int = 2,
    numbers: Numbers = "auto",
    several: tuple[str, ...] = (),
    separator: str = "|",
    most_values: int = 16,
    options: TableOptions | None = None,
    chunk_rows: int = CHUNK_ROWS,
    limit: int | None = None,
    progress: Progress = no_progress,
) -> ClickTable:
    """Read a click table.

    Parameters
    ----------
    source : a path, a frame or an array, as ``paperworks.inputs.tables.read_table`` takes.
    label : the label's column; it needs two different values. The layouts know theirs.
    layout : "criteo" (tab-separated, no header: label, 13 counts, which "auto" puts into buckets of "log", and 26
        categories), "avazu" (with header; ``hour`` becomes weekday, weekend and hour of the day, ``id`` goes), "kdd12"
        (tab-separated, no header, clicks first), or "table".
    positive : the label's value that counts as 1; by default the rarer one of two, or 1 of 0 and 1.
    min_count : values seen less often share an id; ``numbers``, ``several``, ``separator``, ``most_values`` : see
        ``FieldEncoder``.
    options : how columns are read: ``categorical``, ``drop``, ``missing`` and so on.
    chunk_rows : rows of a chunk. limit : the most rows.
    """
    options = options or TableOptions()
    path = Path(source) if isinstance(source, (str, Path)) and Path(source).is_file() else None
    notes: list[str] = []
    if layout != "table":
        if path is None:
            raise InputError("data", str(source), f"a file in the layout of {layout}")
        chunks, label, categorical = _known(path, layout, chunk_rows)
        if layout == "criteo" and numbers == "auto":  # also where counts are few or negative
            numbers = "log"
    elif path is not None and _is_large(path):
        chunks, categorical = _in_chunks(path, options, chunk_rows), options.categorical
        notes.append(f"{path.name} is read in chunks of {chunk_rows:,} rows.")
        if label is None:
            raise InputError("label", None, "the name of the column to predict")
    else:
        lists = _columns_of_lists(path if path is not None else source)
        table = options.read_table(source if lists is None else lists.rest, label)
        notes += table.notes
        if table.label is None:
            raise InputError("label", None, f"the name of the column to predict: {', '.join(table.features.columns)}")
        frame = table.features.assign(**{str(table.label.name): table.label})
        if lists is not None:
            frame = frame.assign(**{c: lists.lists[c].to_numpy() for c in lists.lists if c not in options.drop})
        label, categorical = str(table.label.name), table.categorical

        def chunks() -> Iterator[pd.DataFrame]:
            yield frame

    return _encoded(
        chunks,
        label,
        FieldEncoder(
            categorical=categorical,
            min_count=min_count,
            numbers=numbers,
            several=several,
            separator=separator,
            most_values=most_values,
        ),
        drop=options.drop,
        positive="1" if positive is None and layout != "table" else positive,
        limit=limit,
        notes=notes,
        progress=progress,
    )


def word_pairs(text: str, pairs: int, seed: int, *, vocabulary: int = 10_000, min_count: int = 2) -> ClickTable:
    """Word pairs of a text as a click table: is the second word the one that follows the first?

    Half of the rows are neighbours of the text; in the others the second word is another word of the text, drawn as
    often as it is there. Fields: both words, both lengths in letters. Words beyond the most frequent ``vocabulary``
    are unknown.
    """
    check_seed("seed", seed)
    codes, words = pd.factorize(np.array(re.findall(r"[a-z']+", text.lower()), dtype=object))
    if len(codes) < 100:
        raise InputError("data", f"{len(codes)} words", "a text of at least 100 words")
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(codes) - 1, pairs)
    label = rng.random(pairs) < 0.5
    second = np.where(label, first + 1, rng.integers(0, len(codes), pairs))
    lengths = np.array([len(word) for word in words])
    rank = np.empty(len(words), dtype=np.int64)
    rank[np.argsort(-np.bincount(codes), kind="stable")] = np.arange(len(words))
    shown = np.where(rank < vocabulary, words, "?")
    frame = pd.DataFrame({"first word": shown[codes[first]], "second word": shown[codes[second]]})
    frame["length of first"], frame["length of second"] = lengths[codes[first]], lengths[codes[second]]
    encoder = FieldEncoder(min_count=min_count, numbers="values").fit(frame)
    return ClickTable(
        Clicks(encoder.transform(frame), label.astype(np.int8)), encoder, "neighbours", (f"{pairs:,} word pairs.",)
    )


def split_clicks(clicks: Clicks, seed: int, shares: tuple[float, float] = (0.8, 0.1)) -> tuple[Clicks, Clicks, Clicks]:
    """Training, validation and test rows at random, by default 8:1:1 as in the paper; each must have both labels."""
    check_seed("seed", seed)
    order = np.random.default_rng(seed).permutation(len(clicks))
    ends = [round(share * len(clicks)) for share in (shares[0], shares[0] + shares[1])]
    parts = [Clicks(clicks.ids[part], clicks.labels[part]) for part in np.split(order, ends)]
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if not 0 < part.labels.sum() < len(part):
            rarer = min(int(clicks.labels.sum()), len(clicks) - int(clicks.labels.sum()))
            raise InputError(
                "label",
                f"{rarer:,} of {len(clicks):,} rows with its rarer value, and the {name} rows all alike",
                "both values in the training, validation and test rows: more rows of the rarer one, or another seed",
            )
    return parts[0], parts[1], parts[2]


def _encoded(
    chunks: Chunks,
    label: str | None,
    encoder: FieldEncoder,
    *,
    drop: tuple[str, ...],
    positive: str | None,
    limit: int | None,
    notes: list[str],
    progress: Progress,
) -> ClickTable:
    assert label is not None
    counts: dict[str, int] = {}
    rows = 0
    for chunk in progress(_first(chunks(), limit), "looking at the columns"):
        _require_label(chunk, label)
        for value, count in chunk[label].map(_text, na_action="ignore").value_counts(dropna=False).items():
            name = MISSING_LABEL if pd.isna(value) else str(value)
            counts[name] = counts.get(name, 0) + int(count)
        if encoder.columns is None:
            encoder.columns = [str(c) for c in chunk.columns if c != label and c not in drop]
        encoder.look(chunk)
        rows += len(chunk)
    if MISSING_LABEL in counts:
        raise InputError(f"column {label!r}", f"{counts[MISSING_LABEL]:,} rows without a label", "a label in every row")
    if len(counts) != 2:
        shown = ", ".join(sorted(counts)[:5])
        raise InputError(f"label {label!r}", f"{len(counts)} values ({shown})", "two: clicked and not")
    chosen = _positive(counts, positive, label)
    encoder.decide()
    for chunk in progress(_first(chunks(), limit), "counting values"):
        encoder.count(chunk)
    encoder.finish()
    ids, labels = np.empty((rows, sum(encoder.slots_)), np.int32), np.empty(rows, np.int8)
    at = 0
    for chunk in progress(_first(chunks(), limit), "encoding rows"):
        ids[at : at + len(chunk)] = encoder.transform(chunk)
        labels[at : at + len(chunk)] = (chunk[label].map(_text) == chosen).to_numpy()
        at += len(chunk)
    share = counts[chosen] / rows
    for f in encoder.fields_:
        if f.kind == "several":
            notes.append(f"{f.name} has up to {f.slots} values a row.")
    notes.insert(0, f"{rows:,} rows, {len(encoder.fields_)} fields; {label} is {chosen!r} in {share:.1%} of them.")
    return ClickTable(Clicks(ids, labels), encoder, chosen, tuple(notes))


MISSING_LABEL = "\0"


def _positive(counts: dict[str, int], positive: str | None, label: str) -> str:
    if positive is not None:
        if positive not in counts:
            raise InputError("positive", repr(positive), f"a value of {label}: {', '.join(sorted(counts))}")
        return positive
    if set(counts) == {"0", "1"}:
        return "1"
    return min(sorted(counts), key=lambda value: counts[value])


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _require_label(chunk: pd.DataFrame, label: str) -> None:
    if label not in chunk.columns:
        raise InputError(
            "label", repr(label), f"a column of the table; it has {', '.join(map(str, chunk.columns[:12]))}"
        )


def _first(chunks: Iterator[pd.DataFrame], limit: int | None) -> Iterator[pd.DataFrame]:
    left = limit
    for chunk in chunks:
        if left is None:
            yield chunk
        elif left > 0:
            yield chunk.iloc[:left]
            left -= len(chunk)
        else:
            return


def _is_large(path: Path) -> bool:
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return int(pq.read_metadata(path).num_rows) > CHUNK_ROWS
        except (OSError, pa.ArrowException):  # read_table says what is wrong with the file
            return False
    return path.stat().st_size > LARGE_BYTES


def _in_chunks(path: Path, options: TableOptions, rows: int) -> Chunks:
    """Chunks of a large table, missing cells as NaN; the first lines say how a text is written, as for a small one."""
    markers = ["", *options.missing]

    def chunks() -> Iterator[pd.DataFrame]:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            parts: Iterator[pd.DataFrame] = (
                batch.to_pandas() for batch in pq.ParquetFile(path).iter_batches(batch_size=rows)
            )
        else:
            parts = delimited_chunks(path, options.delimiter, rows=rows)
        for part in parts:
            yield without_markers(part, markers)

    return chunks


def without_markers(frame: pd.DataFrame, markers: list[str]) -> pd.DataFrame:
    """A frame whose cells with a marker are missing. Columns of lists stay as they are."""
    plain = [c for c in frame.columns if str(c) not in set(several_columns(frame))]
    return frame.assign(**{str(c): frame[c].mask(frame[c].isin(markers)) for c in plain})


@dataclass(frozen=True)
class _Lists:
    """Columns of lists of a table, and its other columns: ``read_table`` would take a list for its text."""

    lists: pd.DataFrame
    rest: pd.DataFrame


def _columns_of_lists(source: Any) -> _Lists | None:
    if isinstance(source, Path):
        if source.suffix != ".parquet":
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
            if not any(kind(one.type) for one in pq.read_schema(source) for kind in kinds):
                return None
            source = pd.read_parquet(source)
        except (OSError, pa.ArrowException):  # read_table says what is wrong with the file
            return None
    if not isinstance(source, pd.DataFrame):
        return None
    frame = source.set_axis([str(c) for c in source.columns], axis=1)
    names = [] if frame.columns.duplicated().any() else several_columns(frame)
    return _Lists(frame[names], frame.drop(columns=names)) if names else None


def _known(path: Path, layout: Layout, rows: int) -> tuple[Chunks, str, tuple[str, ...]]:
    """Chunks, label and categories of a benchmark's own file."""
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""], "chunksize": rows}
    if layout == "avazu":
        return (
            lambda: (_avazu(chunk) for chunk in pd.read_csv(path, **options)),
            "click",
            tuple(c for c in _avazu(next(pd.read_csv(path, **{**options, "chunksize": 2}))).columns if c != "click"),
        )
    names, categories = (CRITEO, tuple(CRITEO[14:])) if layout == "criteo" else (KDD12, tuple(KDD12[1:]))
    width = len(path.open(encoding="utf-8", errors="replace").readline().split("\t"))
    if width != len(names):
        raise InputError("data", f"{path}, with {width} columns", f"{len(names)}, tab-separated, as {layout} has")

    def chunks() -> Iterator[pd.DataFrame]:
        for chunk in pd.read_csv(path, sep="\t", header=None, names=names, **options):
            if layout == "kdd12":
                chunk["Click"] = (chunk["Click"] != "0").astype(int).astype(str)
            yield chunk

    return chunks, names[0], categories


def _avazu(chunk: pd.DataFrame) -> pd.DataFrame:
    for name in ("id", "click", "hour"):
        if name not in chunk.columns:
            raise InputError("data", f"no column {name!r}", "the header of Avazu: id, click, hour, ...")
    time = pd.to_datetime(chunk["hour"], format="%y%m%d%H")
    chunk = chunk.drop(columns=["id", "hour"])
    weekday = time.dt.weekday
    return chunk.assign(
        weekday=weekday.astype(str), weekend=(weekday >= 5).astype(int).astype(str), hour=time.dt.hour.astype(str)
    )
