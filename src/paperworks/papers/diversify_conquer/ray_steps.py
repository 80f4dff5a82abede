"""Past one machine: embedding and assignment on Ray Data. The extra ``ray`` brings it.

Files are written by the workers into a folder that all machines see; each row keeps its position, so that the parts can
be put together in the order of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.extras import require_extra

POSITION, TEXT, VECTOR, LABEL = "position", "text", "vector", "label"


class EncodeBatch:
    """Encodes batches of ``text`` into ``vector``; one per worker, so that the model is loaded once."""

    def __init__(self, make_encoder: Callable[[], Any]) -> None:
        self.encoder = make_encoder()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        vectors = self.encoder.encode([str(t) for t in batch[TEXT]])
        return {POSITION: batch[POSITION], VECTOR: np.asarray(vectors, np.float32)}


class AssignBatch:
    """Gives each ``vector`` of a batch the ``label`` of its nearest centre."""

    def __init__(self, centers: np.ndarray) -> None:
        import faiss

        # distances from the centres' mean: rounding in float32 is relative to the distance from there
        self.mean = centers.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.index = faiss.IndexFlatL2(centers.shape[1])
        self.index.add(np.ascontiguousarray(centers - self.mean, np.float32))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        vectors = np.ascontiguousarray(np.stack(list(batch[VECTOR])), np.float32) - self.mean
        return {POSITION: batch[POSITION], LABEL: self.index.search(vectors, 1)[1][:, 0].astype(np.int32)}


def encode_on_ray(
    texts: Sequence[str],
    make_encoder: Callable[[], Any],
    folder: str | Path,
    *,
    workers: int = 2,
    batch_size: int = 512,
    gpus_per_worker: float = 0,
) -> Any:
    """Encode texts on a Ray cluster into Parquet files of position and vector; returns their Ray data set.

    Parameters
    ----------
    texts : of the whole pool.
    make_encoder : makes an ``Encoder`` on a worker, such as ``functools.partial(load_text_encoder, folder)``.
    folder : a new or empty folder that all machines see.
    """
    data = _ray_data()
    place = _free(folder)
    source = data.from_items([{POSITION: i, TEXT: text} for i, text in enumerate(texts)])
    encoded = source.map_batches(
        EncodeBatch,
        fn_constructor_args=(make_encoder,),
        batch_size=batch_size,
        concurrency=workers,
        num_gpus=gpus_per_worker,
        batch_format="numpy",
    )
    encoded.write_parquet(str(place))
    return data.read_parquet(str(place))


def assign_on_ray(vectors: Any, centers: np.ndarray, *, workers: int = 2, batch_size: int = 4096) -> np.ndarray:
    """The nearest centre of every row of a Ray data set with position and vector: int32 [n], by position."""
    _ray_data()
    found = vectors.map_batches(
        AssignBatch,
        fn_constructor_args=(np.asarray(centers, np.float32),),
        batch_size=batch_size,
        concurrency=workers,
        batch_format="numpy",
    )
    return by_position(found.iter_batches(batch_format="numpy"), vectors.count())


def by_position(batches: Any, count: int) -> np.ndarray:
    """Labels in the order of the data. Raises InputError where a position is missing or repeats."""
    labels = np.full(count, -1, np.int32)
    for batch in batches:
        positions = np.asarray(batch[POSITION], np.int64)
        if len(positions) and (positions.min() < 0 or positions.max() >= count or (labels[positions] >= 0).any()):
            raise InputError("vectors", "positions that repeat or do not exist", f"each of 0 to {count - 1} once")
        labels[positions] = batch[LABEL]
    if (labels < 0).any():
        raise InputError("vectors", f"no row of position {int((labels < 0).argmax())}", f"0 to {count - 1}, once each")
    return labels


def _ray_data() -> Any:
    require_extra("ray", "embedding and assignment on many machines")
    from ray import data

    return data


def _free(folder: str | Path) -> Path:
    from paperworks.runs.files import require_free

    place = Path(folder).expanduser().resolve()
    require_free(place, "folder")
    return place
