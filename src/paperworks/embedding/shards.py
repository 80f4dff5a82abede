"""Sets that are spread over many files, encoded and assigned to centres in parts: here, or on a Ray cluster.

A part is a range of one file: bytes of JSON lines, row groups of Parquet, rows of ``.npy``. The same function reads and
works on a part whether it is called in this process or by Ray Data on some node; parts come back in the order of the
files, and every file is read where it lies (all nodes must see it under its path). The extra ``ray`` is needed for
``engine="ray"`` only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperworks.embedding.encoders import Encoder
from paperworks.embedding.rows import as_rows, read_rows
from paperworks.embedding.sharded_rows import MANIFEST, ShardedRows, map_file
from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.parameters import check_whole
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import replace_file, write_text

TEXTS, VECTORS = (".jsonl", ".ndjson", ".parquet"), (".npy", ".parquet")
PART_BYTES = 64 * 2**20
"""About what a part has of a file."""

Engine = Literal["local", "ray"]
TextOf = str | Callable[[dict[str, Any]], str]


@dataclass(frozen=True)
class Part:
    """A range of a file: bytes (a line belongs to the part in which it begins), row groups, or rows."""

    path: str
    start: int
    stop: int

    @property
    def kind(self) -> str:
        return Path(self.path).suffix.lower()


def list_parts(source: str | Path | Sequence[str | Path], kinds: Sequence[str], size: int = PART_BYTES) -> list[Part]:
    """The parts of a file, of the files of a folder in the order of their names, or of a list of files.

    Raises InputError where a file is missing, of another kind, or cannot be read, or where there is none.
    """
    check_whole("part_bytes", size, 1)
    given = [source] if isinstance(source, (str, Path)) else list(source)
    files: list[Path] = []
    for path in (Path(one).expanduser().resolve() for one in given):
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in kinds) if path.is_dir() else [path]
        files += [file for file in found if not file.name.startswith(".")]
        for file in found:
            if not file.is_file() or file.suffix.lower() not in kinds:
                raise InputError("source", str(file), f"an existing file of {', '.join(kinds)}")
    if not files:
        raise InputError("source", f"no file in {', '.join(map(str, given))}", f"files of {', '.join(kinds)}")
    parts = [part for file in files for part in _parts_of(file, size)]
    if not parts:
        raise InputError("source", f"{len(files)} files without rows", "one row or more")
    return parts


class EncodePart:
    """Encodes the texts of a part into a ``.npy`` file; one per worker, so that the model is loaded once.

    Parameters
    ----------
    make_encoder : makes the encoder on the worker.
    text : the column with the text, or a function from a record (dict) to its text.
    folder : where the files go.
    """

    def __init__(self, make_encoder: Callable[[], Encoder], text: TextOf, folder: str | Path) -> None:
        self.encoder, self.text, self.folder = make_encoder(), text, Path(folder)

    def __call__(self, number: int, part: Part) -> int:
        """Write part ``number`` (nothing to do where its file is there); returns how many rows it has."""
        place = self.folder / part_file(number)
        if not place.is_file():
            texts = list(read_texts(part, self.text))
            vectors = np.asarray(self.encoder.encode(texts), np.float32) if texts else np.empty((0, 0), np.float32)
            if len(vectors) != len(texts) or vectors.ndim != 2:
                raise InputError("make_encoder", f"vectors of shape {vectors.shape} for {len(texts)} texts", "[n, d]")
            with replace_file(place) as aside, aside.open("wb") as out:
                np.save(out, vectors)
        return int(np.load(place, mmap_mode="r").shape[0])


class AssignPart:
    """Gives each vector of a part its nearest centre.

    Parameters
    ----------
    centers : float32 [k, d].
    vector : the column with the vectors, in Parquet files.
    """

    def __init__(self, centers: np.ndarray, vector: str = "vector") -> None:
        import faiss

        # distances from the centres' mean: rounding in float32 is relative to the distance from there
        self.mean = centers.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.index = faiss.IndexFlatL2(centers.shape[1])
        self.index.add(np.ascontiguousarray(centers - self.mean, np.float32))
        self.vector = vector

    def __call__(self, number: int, part: Part) -> np.ndarray:
        """Labels of the part's rows: int32 [n]."""
        vectors = read_vectors(part, self.vector)
        if len(vectors) and vectors.shape[1] != self.index.d:
            raise InputError("centers", f"{self.index.d} columns", f"{vectors.shape[1]}, as {part.path} has")
        if not len(vectors):
            return np.empty(0, np.int32)
        return self.index.search(vectors - self.mean, 1)[1][:, 0].astype(np.int32)


def encode_shards(
    source: str | Path | Sequence[str | Path],
    make_encoder: Callable[[], Encoder],
    folder: str | Path,
    *,
    text: TextOf = "text",
    engine: Engine = "local",
    workers: int = 2,
    cpus_per_worker: float = 1,
    gpus_per_worker: float = 0,
    part_bytes: int = PART_BYTES,
    progress: Progress = no_progress,
) -> ShardedRows:
    """Encode the texts of JSON lines or Parquet files into a folder of ``.npy`` files.

    A call that was stopped goes on where it was, with the same files, text and encoder: a part that has its file is not
    encoded again.

    Parameters
    ----------
    source : a file, a folder of files, or a list of files; blank lines of JSON lines are no rows.
    make_encoder : makes the encoder, such as ``functools.partial(load_text_encoder, "my-encoder")``; called once here,
        or once on each worker of Ray, so that it must be importable there.
    folder : for the files; all nodes must see it.
    text : the column with the text, or a function from a record (dict) to its text. A missing text is an empty one.
    engine : "local" is this process; "ray" is Ray Data on the cluster of ``ray.init`` or ``RAY_ADDRESS``.
    workers : of Ray, each with ``cpus_per_worker`` and ``gpus_per_worker`` of its node.
    part_bytes : about what a worker reads at a time.

    Returns
    -------
    The vectors of all rows in their order, memory-mapped; ``as_rows(folder)`` opens them again, so that the folder
    stands wherever a ``.npy`` file of vectors does.

    Raises
    ------
    InputError : bad files or records, a folder with other content, or the extra ``ray`` is not installed.
    """
    _check_engine(engine, workers)
    place = Path(folder).expanduser().resolve()
    parts = list_parts(source, TEXTS, part_bytes)
    _claim(place, parts, f"{_named(make_encoder)}|{_named(text)}")
    arguments = (make_encoder, text, str(place))
    room = (workers, cpus_per_worker, gpus_per_worker)
    for _ in _mapped(EncodePart, arguments, parts, engine, room, progress, "encoding parts"):
        pass
    return ShardedRows(place)


def assign_shards(
    source: str | Path | Sequence[str | Path],
    centers: Any,
    *,
    vector: str = "vector",
    engine: Engine = "local",
    workers: int = 2,
    cpus_per_worker: float = 1,
    part_bytes: int = PART_BYTES,
    progress: Progress = no_progress,
) -> np.ndarray:
    """The nearest centre of every vector of ``.npy`` or Parquet files: int32 [n], in the order of the files.

    Parameters
    ----------
    source : a file, a folder (such as that of ``encode_shards``), or a list of files.
    centers : [k, d], such as ``KMeans.cluster_centers_``.
    vector : the column with the vectors, in Parquet files.
    engine, workers, cpus_per_worker, part_bytes : see ``encode_shards``.

    Raises
    ------
    InputError : bad files, NaN, vectors of another length than the centres, or the extra ``ray`` is not installed.
    """
    _check_engine(engine, workers)
    parts = list_parts(_vector_files(source), VECTORS, part_bytes)
    arguments = (read_rows(as_rows(centers, "centers"), slice(None), "centers"), vector)
    found = _mapped(AssignPart, arguments, parts, engine, (workers, cpus_per_worker, 0), progress, "assigning parts")
    return np.concatenate([labels for _, labels in sorted(found, key=lambda one: one[0])])


class OnRay:
    """A worker of Ray Data: one row of a batch is a part."""

    def __init__(self, made: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.work = made(*arguments)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        numbers, found = [], np.empty(len(batch["number"]), object)
        for row, number in enumerate(batch["number"]):
            numbers.append(int(number))
            part = Part(str(batch["path"][row]), int(batch["start"][row]), int(batch["stop"][row]))
            found[row] = np.asarray(self.work(int(number), part), np.int32).tobytes()
        return {"number": np.array(numbers), "found": found}


def part_file(number: int) -> str:
    """The file of an encoded part."""
    return f"part-{number:06d}.npy"


def read_texts(part: Part, text: TextOf) -> Iterator[str]:
    """The texts of a part. Raises InputError that names the file and the record."""
    for where, record in _records(part, text):
        if callable(text):
            value: Any = text(record)
        elif text in record:
            value = record[text]
        else:
            columns = ", ".join(list(record)[:12]) or "no column"
            raise InputError("text", f"{where}: {columns}", f"the column {text!r}")
        if value is None or (isinstance(value, float) and value != value):
            value = ""
        if not isinstance(value, str):
            raise InputError("text", f"{where}: {type(value).__name__}", "a text")
        yield value


def read_vectors(part: Part, column: str = "vector") -> np.ndarray:
    """The vectors of a part: float32 [n, d]. Raises InputError for what is none, and for NaN."""
    if part.kind == ".npy":
        return read_rows(map_file(part.path, "source"), slice(part.start, part.stop), part.path)
    values = _column(part, column)
    try:
        vectors = np.stack([np.asarray(value, np.float32) for value in values]) if values else np.empty((0, 0))
    except (ValueError, TypeError) as error:
        raise InputError(part.path, f"column {column!r} ({error})", "vectors of one length") from None
    if vectors.ndim != 2:
        raise InputError(part.path, f"column {column!r} of shape {vectors.shape}", "a vector in each row")
    return read_rows(vectors, slice(None), part.path) if len(vectors) else np.empty((0, 0), np.float32)


def _parts_of(path: Path, size: int) -> list[Part]:
    kind = path.suffix.lower()
    if kind == ".npy":
        rows = map_file(path, "source")
        step = max(1, size // max(rows.shape[1] * rows.dtype.itemsize, 1))
        return [Part(str(path), at, min(at + step, len(rows))) for at in range(0, len(rows), step)]
    if kind == ".parquet":
        found, begin, held = [], 0, 0
        about = _parquet(path).metadata
        for group in range(about.num_row_groups):
            held += about.row_group(group).total_byte_size
            if held >= size or group == about.num_row_groups - 1:
                found.append(Part(str(path), begin, group + 1))
                begin, held = group + 1, 0
        return found
    total = path.stat().st_size
    return [Part(str(path), at, min(at + size, total)) for at in range(0, total, size)]


def _records(part: Part, text: TextOf) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records of a part with the place of each in words."""
    if part.kind == ".parquet":
        if isinstance(text, str):
            for number, value in enumerate(_column(part, text)):
                yield f"{part.path}, row {number} of row group {part.start}", {text: value}
            return
        for number, record in enumerate(_table(part).to_pylist()):
            yield f"{part.path}, row {number} of row group {part.start}", record
        return
    with open(part.path, "rb") as file:
        if part.start:
            file.seek(part.start - 1)
            file.readline()  # what began in the part before
        while (at := file.tell()) < part.stop and (line := file.readline()):
            line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            where = f"{part.path}, line at byte {at}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError("source", f"{where}: not JSON ({error})", "an object in each line") from None
            if not isinstance(record, dict):
                raise InputError("source", f"{where}: {type(record).__name__}", "an object in each line")
            yield where, record


def _parquet(path: str | Path) -> Any:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        return pq.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise InputError("source", f"{path}, which cannot be read ({error})", "a Parquet file") from None


def _table(part: Part, columns: list[str] | None = None) -> Any:
    return _parquet(part.path).read_row_groups(list(range(part.start, part.stop)), columns=columns)


def _column(part: Part, name: str) -> list[Any]:
    names = _parquet(part.path).schema_arrow.names
    if name not in names:
        raise InputError("source", f"{part.path} with columns {', '.join(names[:12])}", f"the column {name!r}")
    return _table(part, [name]).column(0).to_pylist()


def _vector_files(source: Any) -> Any:
    """The files of a folder of ``encode_shards``, which must be whole; anything else as it is."""
    if isinstance(source, (str, Path)) and (Path(source).expanduser() / MANIFEST).is_file():
        return ShardedRows(source).files
    return source


def _claim(folder: Path, parts: Sequence[Part], how: str) -> None:
    """Note what a folder is for. Raises InputError where it holds something else."""
    about = [[part.path, part.start, part.stop, Path(part.path).stat().st_size] for part in parts]
    digest = hashlib.sha256(json.dumps([about, how]).encode()).hexdigest()
    note = folder / MANIFEST
    if note.is_file():
        if json.loads(note.read_text(encoding="utf-8")).get("of") != digest:
            raise InputError("folder", f"{folder}, of other files, parts, texts or encoder", "a new folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("folder", f"{folder}, which exists and is not empty", "a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    content = {"of": digest, "files": [part_file(n) for n in range(len(parts))], "parts": [asdict(p) for p in parts]}
    write_text(note, json.dumps(content, indent=1) + "\n")


def _named(what: Any) -> str:
    """A function, with its arguments, in words that are the same in every process."""
    if isinstance(what, partial):
        return f"{_named(what.func)}{what.args!r}{sorted(what.keywords.items())!r}"
    if isinstance(what, str):
        return what
    return f"{getattr(what, '__module__', '')}.{getattr(what, '__qualname__', type(what).__qualname__)}"


def _check_engine(engine: str, workers: int) -> None:
    if engine not in ("local", "ray"):
        raise InputError("engine", repr(engine), "'local' or 'ray'")
    check_whole("workers", workers, 1)
    if engine == "ray":
        require_extra("ray", "encoding and assignment on many machines")


def _mapped(
    made: Callable[..., Any],
    arguments: tuple[Any, ...],
    parts: Sequence[Part],
    engine: Engine,
    room: tuple[int, float, float],
    progress: Progress,
    what: str,
) -> Iterator[tuple[int, Any]]:
    """(number, what ``made(*arguments)`` returned) for each part, in any order."""
    if engine == "local":
        work = made(*arguments)
        for number, part in progress(enumerate(parts), what, len(parts)):
            yield number, work(number, part)
        return
    import ray.data

    workers, cpus, gpus = room
    items = [{"number": number, **asdict(part)} for number, part in enumerate(parts)]
    found = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        OnRay,
        fn_constructor_args=(made, arguments),
        batch_size=1,
        batch_format="numpy",
        concurrency=min(workers, len(items)),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    for batch in progress(found.iter_batches(batch_size=1, batch_format="numpy"), what, len(parts)):
        yield int(batch["number"][0]), np.frombuffer(batch["found"][0], np.int32)
