"""Sets that are spread over many files, encoded and assigned to centres in parts: here, or on a Ray cluster.

A part is a range of one file (see ``parts.py``). The same function reads and works on a part whether it is called in
this process or by Ray Data on some node; parts come back in the order of the files, and every file is read where it
lies (all nodes must see it under its path). The extra ``ray`` is needed for ``engine="ray"`` only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperworks.embedding.encoders import Encoder
from paperworks.embedding.parts import PART_BYTES, TEXTS, VECTORS, Part, TextOf, list_parts, read_texts, read_vectors
from paperworks.embedding.rows import as_rows, read_rows
from paperworks.embedding.sharded_rows import MANIFEST, ShardedRows
from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.parameters import check_whole
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import replace_file, write_text

Engine = Literal["local", "ray"]


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
    """Works for Ray Data: one row of a batch is a part. An error of the input comes back as data; Ray wraps others."""

    def __init__(self, made: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.made, self.arguments = made, arguments

    @cached_property
    def work(self) -> Callable[[int, Part], Any]:
        return self.made(*self.arguments)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(batch["number"])
        found, errors = np.full(count, b"", object), np.full(count, "", object)
        for row, number in enumerate(batch["number"]):
            part = Part(str(batch["path"][row]), int(batch["start"][row]), int(batch["stop"][row]))
            try:
                found[row] = np.asarray(self.work(int(number), part), np.int32).tobytes()
            except InputError as error:
                errors[row] = json.dumps([error.field, str(error.found), error.expected])
        return {"number": np.asarray(batch["number"]), "found": found, "error": errors}


def part_file(number: int) -> str:
    """The file of an encoded part."""
    return f"part-{number:06d}.npy"


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

    ray.data.DataContext.get_current().enable_progress_bars = False  # ``progress`` shows it
    workers, cpus, gpus = room
    items = [{"number": number, **asdict(part)} for number, part in enumerate(parts)]
    found = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        OnRay,
        fn_constructor_args=(made, arguments),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    for batch in progress(found.iter_batches(batch_size=1, batch_format="numpy"), what, len(parts)):
        if batch["error"][0]:
            raise InputError(*json.loads(batch["error"][0]))
        yield int(batch["number"][0]), np.frombuffer(batch["found"][0], np.int32)
