"""Encoders: what turns items (texts, images) into vectors, whatever is behind it.

encoder = load_text_encoder("folder-of-sentence-transformers")     # or a Hugging Face folder, a callable, nothing
vectors = encoder.encode(texts)                                    # float32 [n, d]
vectors = encode_to_file(encoder, texts, "vectors.npy")            # memory-mapped; goes on after a kill
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from paperworks.errors import InputError
from paperworks.runs import Progress, no_progress

if TYPE_CHECKING:
    from paperworks.embedding.image_encoders import ImageEncoder
    from paperworks.embedding.text import SentenceEncoder
    from paperworks.embedding.text_encoders import TextEncoder

SHARD_ITEMS = 2048
"""Items that ``encode_to_file`` encodes between two marks of what is done."""


class TruncationWarning(UserWarning):
    """Some texts are longer than what an encoder reads; the rest of each was left out."""


@runtime_checkable
class Encoder(Protocol):
    """Anything with ``encode``.

    ``encode(items)`` takes n items (texts for a text encoder; PIL images, arrays [h, w, c] or paths for an image
    encoder) and returns float32 [n, d], one row for each item in the order given.
    """

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """Vectors of items: float32 [n, d]."""
        ...


class CallableEncoder:
    """A function from a list of items to vectors [n, d], as an ``Encoder``.

    Parameters
    ----------
    function : returns an array or tensor [n, d] of real numbers.
    batch_size : items that it gets at a time.
    """

    def __init__(self, function: Callable[[list[Any]], Any], batch_size: int = 256) -> None:
        if batch_size < 1:
            raise InputError("batch_size", batch_size, "1 or more")
        self.function, self.batch_size = function, batch_size
        self.name = str(getattr(function, "name", getattr(function, "__name__", type(function).__name__)))

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """Vectors of items: float32 [n, d]. Raises InputError where the function returns anything else."""
        parts: list[np.ndarray] = []
        for start in range(0, len(items), self.batch_size):
            batch = list(items[start : start + self.batch_size])
            found = self.function(batch)
            found = found.detach().cpu().numpy() if hasattr(found, "detach") else np.asarray(found)
            if found.ndim != 2 or len(found) != len(batch) or found.dtype.kind not in "fiub":
                raise InputError(
                    f"encoder {self.name}", f"{found.dtype} {found.shape} for {len(batch)} items", f"[{len(batch)}, d]"
                )
            if parts and found.shape[1] != parts[0].shape[1]:
                raise InputError(f"encoder {self.name}", f"{found.shape[1]} columns", f"{parts[0].shape[1]}, as before")
            parts.append(found.astype(np.float32, copy=False))
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def load_text_encoder(
    source: str | Path | Encoder | Callable[[list[str]], Any] | None = None, **options: Any
) -> Encoder | SentenceEncoder | TextEncoder:
    """A text encoder from what the user has.

    Parameters
    ----------
    source : a sentence-transformers folder (with ``modules.json``), a Hugging Face folder (``config.json``, weights and
        tokenizer), an ``Encoder`` (returned as it is), a function from texts to vectors, or None for the bundled
        all-MiniLM-L6-v2.
    options : of ``TextEncoder``, for folders.

    Raises
    ------
    InputError : a folder that is not there or not whole, options for what takes none, or the bundled encoder's extra is
        not installed.
    """
    if isinstance(source, (str, Path)):
        from paperworks.embedding.text_encoders import TextEncoder

        return TextEncoder(source, **options)
    _no_options(source, options)
    if source is None:
        from paperworks.embedding.text import sentence_encoder

        found = sentence_encoder(required=True)
        assert found is not None
        return found
    return _as_encoder(source)


def load_image_encoder(
    source: str | Path | Encoder | Callable[[list[Any]], Any], **options: Any
) -> Encoder | ImageEncoder:
    """An image encoder: a Hugging Face folder (CLIP, SigLIP, DINOv2, ViT, ...), an ``Encoder`` or a function."""
    if isinstance(source, (str, Path)):
        from paperworks.embedding.image_encoders import ImageEncoder

        return ImageEncoder(source, **options)
    _no_options(source, options)
    return _as_encoder(source)


def _no_options(source: Any, options: dict[str, Any]) -> None:
    if options:
        raise InputError(next(iter(options)), "an option of encoder folders", f"no options for {type(source).__name__}")


def _as_encoder(source: Any) -> Encoder:
    if isinstance(source, Encoder):
        return source
    if callable(source):
        return CallableEncoder(source)
    raise InputError("encoder", repr(source), "a folder, a function from items to vectors, or an object with encode")


def encode_to_file(
    encoder: Encoder,
    items: Sequence[Any],
    path: Path | str,
    *,
    shard_items: int = SHARD_ITEMS,
    progress: Progress = no_progress,
) -> np.ndarray:
    """Encode into a ``.npy`` file, which may be larger than memory, and map it.

    What is encoded is marked shard by shard beside the file. Called again after a kill with the same items and encoder,
    it goes on from there; the file appears under its name when it is whole.

    Parameters
    ----------
    items : texts, paths, or anything whose ``repr`` tells it from others; for arrays and images, their bytes count.
    path : the file; must not exist.
    shard_items : items that are encoded between two marks.

    Returns
    -------
    float32 [n, d], memory-mapped, read only.

    Raises
    ------
    InputError : the file exists, or there are no items.
    """
    path = Path(path)
    if path.exists():
        raise InputError("path", f"{path}, which exists", "a new name (nothing is overwritten)")
    if not len(items):
        raise InputError("items", "none", "one item or more")
    if shard_items < 1:
        raise InputError("shard_items", shard_items, "1 or more")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, marks = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.partial.json")
    identity = _identity(encoder, items, shard_items)
    done = _done(marks, identity) if aside.exists() else 0
    out = np.load(aside, mmap_mode="r+") if done else None
    starts = range(done, len(items), shard_items)
    for start in progress(starts, "encoding", len(starts)):
        vectors = encoder.encode(items[start : start + shard_items])
        if out is None:
            out = np.lib.format.open_memmap(aside, "w+", np.float32, (len(items), vectors.shape[1]))
        out[start : start + len(vectors)] = vectors
        out.flush()
        _mark(marks, identity, start + len(vectors))
    del out
    os.replace(aside, path)
    marks.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r")


def _identity(encoder: Encoder, items: Sequence[Any], shard_items: int) -> str:
    """A digest of the encoder's name and settings, the shard size and every item."""
    known = str(getattr(encoder, "identity", getattr(encoder, "name", type(encoder).__name__)))
    digest = hashlib.sha256(f"{known}\0{shard_items}\0{len(items)}".encode())
    for item in items:
        if hasattr(item, "tobytes"):
            size = getattr(item, "shape", getattr(item, "size", ""))
            digest.update(f"{size}".encode() + item.tobytes())
        else:
            digest.update(repr(item).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _done(marks: Path, identity: str) -> int:
    try:
        record = json.loads(marks.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    return int(record.get("done", 0)) if record.get("identity") == identity else 0


def _mark(marks: Path, identity: str, done: int) -> None:
    from paperworks.runs.files import write_text

    write_text(marks, json.dumps({"identity": identity, "done": done}))
