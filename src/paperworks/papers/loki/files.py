"""Label spaces and probabilities in files of the user, and label spaces saved."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.inputs.kinds import whole_array
from paperworks.papers.loki.graphs import GraphSpace, TreeSpace, from_edges, ordinal
from paperworks.papers.loki.spaces import (
    ComputedSpace,
    EmbeddingSpace,
    GridSpace,
    Label,
    LabelSpace,
    MatrixSpace,
    complete,
    cycle,
)

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["auto", "edges", "distances", "embeddings"]
SHAPES = ("ordinal", "cycle", "complete")
TEXT = (".csv", ".tsv", ".txt", ".parquet")


def load_space(
    source: str | Path,
    labels: Sequence[Label] | None = None,
    *,
    kind: Kind = "auto",
    leaves_only: bool = False,
    weight: str | None = None,
    spanning_tree: bool = False,
    distance: Literal["euclidean", "cosine"] = "euclidean",
    metric: bool = True,
) -> LabelSpace:
    """Read a label space.

    Parameters
    ----------
    source : ``ordinal``, ``cycle`` or ``complete`` (with ``labels``); or a file:

        - .csv, .tsv, .txt, .parquet with two or three columns: edges (parent, child[, weight]);
        - the same with a column of names and one column per name: a matrix of distances;
        - the same with a column of names and other columns of numbers: embeddings;
        - .npy ``[N, N]`` with a zero diagonal: distances; any other .npy ``[N, m]``: embeddings (both need ``labels``,
          or number the labels);
        - .npz that ``save_space`` wrote.
    labels : the labels of the rows of an array.
    kind : what the file holds, where its form does not tell.
    leaves_only, weight, spanning_tree : see ``from_edges``.
    distance : see ``EmbeddingSpace``.
    metric : False for costs that are no metric.

    Raises
    ------
    InputError : naming the file and what is wrong with it.
    """
    name = str(source)
    if name in SHAPES and not Path(name).exists():
        if labels is None:
            raise InputError("labels", "nothing", f"the labels, in order, for the space {name!r}")
        named: dict[str, Callable[[list[Label]], LabelSpace]] = {
            "ordinal": ordinal,
            "cycle": cycle,
            "complete": complete,
        }
        return named[name](list(labels))
    path = Path(source)
    if not path.is_file():
        expected = f"a file, or one of {', '.join(SHAPES)}{nearest(name, SHAPES)}"
        raise InputError("space", f"{name}, which is {'a folder' if path.is_dir() else 'not there'}", expected)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _load_saved(path)
    if suffix == ".npy":
        return _from_array(path, _load_array(path), labels, kind, distance, metric)
    if suffix not in TEXT and not name.endswith((".csv.gz", ".tsv.gz")):
        raise InputError("space", f"{name}, a file of another kind", f"one of {', '.join((*TEXT, '.npy', '.npz'))}")
    frame = read_frame(path)
    if kind == "edges" or (kind == "auto" and len(frame.columns) in (2, 3)):
        return from_edges(frame, leaves_only=leaves_only, weight=weight, spanning_tree=spanning_tree)
    names = [x.item() if isinstance(x, np.generic) else x for x in frame.iloc[:, 0].tolist()]
    values = _matrix(frame.iloc[:, 1:], name)
    square = values.shape[0] == values.shape[1] and sorted(map(str, names)) == sorted(map(str, frame.columns[1:]))
    if kind == "distances" and not square:
        found = f"{name}, {values.shape[0]} rows and {values.shape[1]} columns"
        raise InputError("space", found, "a column of names, then one column per name")
    if square and kind != "embeddings":
        place = {str(c): i for i, c in enumerate(frame.columns[1:])}
        return MatrixSpace(values[:, [place[str(x)] for x in names]], names, metric=metric)
    return EmbeddingSpace(values, names, distance=distance)


def read_frame(path: Path) -> pd.DataFrame:
    """A table's columns: numbers (whole ones as integers) or text. Empty cells are missing."""
    from paperworks.inputs.tables import read_table

    frame = read_table(path).features
    for column in frame.columns:
        values = frame[column]
        if values.dtype == np.float64 and not values.isna().any() and bool((values % 1 == 0).all()):
            frame[column] = values.astype(np.int64)
    return frame


def read_probabilities(path: Path, truth: str | None = None) -> tuple[np.ndarray, list[Label], list[Any] | None]:
    """Probabilities of observed labels: a table with a column per label, or a .npz.

    Parameters
    ----------
    path : .csv, .tsv, .txt, .parquet: columns named by the labels; or .npz with ``probabilities`` [B, K],
        ``classes`` [K] and, if known, ``labels`` [B].
    truth : the column with the true label of each row, if the table has one. It is found by the names ``label`` and
        ``truth`` otherwise.

    Returns
    -------
    values float64 ``[B, K]``, the K labels, and the true labels or None.
    """
    if not path.is_file():
        raise InputError("probabilities", f"{path}, which is not there", "a .csv, .tsv, .parquet or .npz file")
    if path.suffix.lower() == ".npz":
        arrays = _load_npz(path, "probabilities")
        for name in ("probabilities", "classes"):
            if name not in arrays:
                raise InputError(
                    "probabilities",
                    f"{path} with {', '.join(arrays) or 'nothing'}",
                    "arrays probabilities [B, K] and classes [K], and labels [B] if known",
                )
        labels = arrays.get("labels")
        return (
            np.asarray(arrays["probabilities"], dtype=np.float64),
            arrays["classes"].tolist(),
            None if labels is None else labels.tolist(),
        )
    frame = read_frame(path)
    names = [str(c) for c in frame.columns]
    if truth is not None and truth not in names:
        raise InputError("label", repr(truth), f"a column of {path}{nearest(truth, names)}")
    column = truth or next((n for n in names if n.lower() in ("label", "truth")), None)
    labels = None
    if column is not None:
        labels = frame.iloc[:, names.index(column)].tolist()
        frame = frame.drop(columns=frame.columns[names.index(column)])
    return _matrix(frame, str(path), "probabilities"), [str(c) for c in frame.columns], labels


def save_space(space: LabelSpace, path: Path) -> None:
    """Write a label space as .npz (arrays, and the labels as JSON text); ``load_space`` reads it back."""
    from paperworks.runs.files import require_free, write_bytes

    arrays: dict[str, np.ndarray] = {}
    if isinstance(space, TreeSpace):
        arrays = {"parent": space.parent, "length": space.length, "node": space.node}
    elif isinstance(space, GraphSpace):
        matrix = space.adjacency
        arrays = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "node": space.node}
    elif isinstance(space, MatrixSpace):
        arrays = {"matrix": space.matrix}
    elif isinstance(space, EmbeddingSpace):
        arrays = {"points": space.points}
    elif isinstance(space, GridSpace):
        arrays = {"shape": np.array(space.shape)}
    about = {"kind": space.kind, "metric": space.metric, "labels": list(space.labels)}
    try:
        text = json.dumps(about)
    except TypeError:
        raise InputError("labels", "labels that are neither text nor numbers", "text, numbers or tuples") from None
    require_free(path, "path")
    buffer = io.BytesIO()
    arrays["about"] = np.frombuffer(text.encode(), dtype=np.uint8)
    save: Any = np.savez_compressed
    save(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def _load_saved(path: Path) -> LabelSpace:
    arrays = _load_npz(path, "space")
    if "about" not in arrays:
        raise InputError("space", f"{path}, with arrays {', '.join(arrays) or 'none'}", "a file that save_space wrote")
    about = json.loads(arrays["about"].tobytes())
    labels = [tuple(x) if isinstance(x, list) else x for x in about["labels"]]
    kind = about["kind"]
    if kind == "tree":
        return TreeSpace(arrays["parent"], arrays["length"], labels, arrays["node"])
    if kind == "graph":
        from scipy import sparse

        n = len(arrays["indptr"]) - 1
        matrix = sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n, n))
        return GraphSpace(matrix, labels, arrays["node"])
    if kind == "matrix":
        return MatrixSpace(arrays["matrix"], labels, metric=about["metric"])
    if kind == "embedding":
        return EmbeddingSpace(arrays["points"], labels)
    if kind == "grid":
        return GridSpace(arrays["shape"].tolist(), labels)
    return ComputedSpace(kind, labels)


def _from_array(
    path: Path,
    array: np.ndarray,
    labels: Sequence[Label] | None,
    kind: Kind,
    distance: Literal["euclidean", "cosine"],
    metric: bool,
) -> LabelSpace:
    if kind == "edges":
        return from_edges(array.tolist())
    square = array.ndim == 2 and array.shape[0] == array.shape[1] and bool((np.diag(array) == 0).all())
    if kind == "distances" or (kind == "auto" and square):
        return MatrixSpace(array, labels, metric=metric)
    if array.ndim != 2:
        raise InputError("space", f"{path} of shape {array.shape}", "distances [N, N] or embeddings [N, m]")
    return EmbeddingSpace(array, labels, distance=distance)


def _load_array(path: Path) -> np.ndarray:
    try:
        found = whole_array(path)
        if np.iscomplexobj(found):
            raise ValueError("complex numbers")
        return np.asarray(found, dtype=np.float64)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise InputError("space", f"{path}, which is no array of numbers ({error})", "a .npy file") from None


def _load_npz(path: Path, field: str) -> dict[str, np.ndarray]:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(field, f"{path}, which cannot be read ({error})", "a .npz file without objects") from None


def _matrix(frame: pd.DataFrame, name: str, field: str = "space") -> np.ndarray:
    try:
        return frame.to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        for column in frame.columns:
            for row, cell in enumerate(frame[column].tolist()):
                try:
                    float(cell)
                except (TypeError, ValueError):
                    raise InputError(
                        field, f"{cell!r} in column {str(column)!r}, row {row + 1} of {name}", "a number"
                    ) from None
        raise
