"""A folder with a manifest and the adapters that it names: written, cut, erased, read.

::

    manifest.json
    records-3f2a....bin                where every record is
    receipts.jsonl                     the deletions, a line each
    base/                              the frozen network, where it is not a folder of the user's
    shards/0-0/2-0-1/                  shard 0, first training; the sequence 2, 0, 1
        adapter_config.json, adapter_model.safetensors    live layers and their head: PeftModel.from_pretrained reads it
        stage-1.safetensors, ...       the head after each live stage, and what the stage was trained on

Nothing here needs torch. The manifest is replaced in one step and is the truth; ``reconcile`` then makes the files
agree with it. A process that is killed before the step leaves the old state, after it the new one, and the next that
opens the folder finishes the erasure.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.s3t.manifest import (
    ADAPTER,
    ADAPTER_CONFIG,
    MANIFEST,
    Manifest,
    TrainedSequence,
    sequence_folder,
    stage_file,
    with_deleted,
)
from paperworks.papers.s3t.receipts import JOURNAL, DeletionReceipt, Journal, JournalHead, leftover
from paperworks.papers.s3t.records import PREFIX, IndexHead, RecordIndex, write_index
from paperworks.runs.files import PARTIAL, remove, replace_file, write_text

Tensors = Mapping[str, np.ndarray]
LOCK, RETRAIN_LOCK = ".lock", ".retrain.lock"
RETRAINING = "retraining"
"""Where shards that are trained again are written, until they take their place."""
_LOCK_SECONDS = 60


class Folder:
    """A saved system on disk.

    Parameters
    ----------
    path : the folder.
    key : secret of the manifest's HMAC; None is a plain digest, which whoever can write the folder can also renew.
    """

    def __init__(self, path: str | Path, key: bytes | None = None) -> None:
        self.path, self.key = Path(path).expanduser(), key

    def read(self) -> Manifest:
        """The manifest. Raises InputError where there is none, or one that was edited.

        Records are looked up in their file when they are asked for.
        """
        manifest, index, head = self._head()
        if index is None or head is None:
            return manifest  # of format 1, which has both in itself
        try:
            journal = Journal.read(self.path, head)
        except InputError:
            if self._head()[2] == head:
                raise
            return self.read()  # another process replaced it in the meantime
        return manifest.model_copy(update={"records": RecordIndex(self.path, index), "journal": journal})

    def _head(self) -> tuple[Manifest, IndexHead | None, JournalHead | None]:
        file = self.path / MANIFEST
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                "folder", f"{self.path}, whose {MANIFEST} cannot be read ({reason})", "a folder of fit"
            ) from None
        return Manifest.from_json(text, str(file), self.key)

    def commit(self, manifest: Manifest) -> None:
        """Bring new records and receipts to the disk, then replace the manifest in one step: the decision."""
        records = manifest.records
        own = isinstance(records, RecordIndex) and records.path.parent == self.path
        index = records.head if own and isinstance(records, RecordIndex) else write_index(self.path, records)
        manifest.journal.append_to(self.path)
        write_text(self.path / MANIFEST, manifest.to_json(index, self.key))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time. Raises InputError for a folder without a manifest."""
        if not (self.path / MANIFEST).is_file():
            self.read()
        with self._holding(LOCK, _LOCK_SECONDS):
            yield

    @contextmanager
    def retraining(self) -> Iterator[Folder]:
        """A folder to train shards again in. There is one retraining at a time; deletions go on beside it."""
        aside = self.path / RETRAINING
        if not (self.path / MANIFEST).is_file():
            self.read()
        with self._holding(RETRAIN_LOCK, 0):
            try:
                remove(aside)
                aside.mkdir()
                yield Folder(aside, self.key)
            finally:
                remove(aside)

    def exchange(self, before: Manifest, changed: Manifest, shards: Sequence[int], aside: Folder) -> bool:
        """Put shards that were trained again in the place of the old ones, in one step.

        False, and nothing is changed, where a record of these shards was deleted since the manifest ``before``.
        """
        with self.locked():
            now = self.read()
            since = now.log[before.journal.head.receipts :]
            if now.generations != before.generations or any(s in shards for r in since for s, _ in r.slices):
                return False
            for shard in shards:
                place = f"shards/{shard}-{changed.generations[shard]}"
                remove(self.path / place)
                (self.path / "shards").mkdir(exist_ok=True)
                os.rename(aside.path / place, self.path / place)

            def merged(old: Sequence[Any], new: Sequence[Any]) -> tuple[Any, ...]:
                return tuple(new[s] if s in shards else old[s] for s in range(now.system.n_shards))

            manifest = now.model_copy(
                update={
                    "records": changed.records,
                    "system": changed.system,
                    "dead": merged(now.dead, changed.dead),
                    "slice_digests": merged(now.slice_digests, changed.slice_digests),
                    "sequences": merged(now.sequences, changed.sequences),
                    "generations": changed.generations,
                }
            )
            self.commit(manifest)
            self.reconcile(self.read())
        return True

    def stamp(self) -> tuple[int, int, int]:
        """What changes with every commit: identity, time and size of the manifest's file; zeros where there is none."""
        try:
            found = (self.path / MANIFEST).stat()
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size

    @contextmanager
    def _holding(self, name: str, seconds: float) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / name)
        try:
            lock.acquire(timeout=seconds)
        except Timeout:
            raise InputError("folder", f"{self.path}, in use by another process", "one writer at a time") from None
        try:
            yield
        finally:
            lock.release()

    def _abandoned(self) -> bool:
        """Whether a retraining was killed."""
        if not (self.path / RETRAINING).exists():
            return False
        try:
            with self._holding(RETRAIN_LOCK, 0):
                return True
        except InputError:
            return False

    def delete(
        self, records: Sequence[str], *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> DeletionReceipt:
        """Deactivate what was trained on some records, and erase it. All of the ids or, if one is unknown, none."""
        with self.locked():
            manifest = self.read()
            changed, receipt = with_deleted(manifest, records, now().isoformat(timespec="milliseconds"))
            self.commit(changed)
            self.reconcile(changed)
        return receipt

    def recover(self) -> list[str]:
        """Finish what a killed process left undone; return the files that were erased or rewritten.

        The folder is locked only where something is left.
        """
        if not self.unfinished(self.read()):
            return []
        with self.locked():
            return self.reconcile(self.read())

    def unfinished(self, manifest: Manifest) -> list[str]:
        """Files that the manifest does not name, and sequences whose adapter still holds stages that are gone."""
        return self.stray(manifest) + [
            sequence_folder(manifest, shard, sequence.order)
            for shard, sequences in enumerate(manifest.sequences)
            for sequence in sequences
            if sequence.depth and not self.is_cut(manifest, shard, sequence)
        ]

    def reconcile(self, manifest: Manifest) -> list[str]:
        """Make the files agree with the manifest: erase what it does not name."""
        changed = []
        for file in self.stray(manifest):
            if file == JOURNAL:
                manifest.journal.append_to(self.path)  # cuts off what does not count
            else:
                remove(self.path / file)
            changed.append(file)
        for shard, sequences in enumerate(manifest.sequences):
            for sequence in sequences:
                if sequence.depth and not self.is_cut(manifest, shard, sequence):
                    self._cut(manifest, shard, sequence)
                    folder = sequence_folder(manifest, shard, sequence.order)
                    changed += [f"{folder}/{ADAPTER}", f"{folder}/{ADAPTER_CONFIG}"]
        return changed

    def stray(self, manifest: Manifest) -> list[str]:
        """Files and folders that the manifest does not name: of stages that are gone, or left by a killed process.

        The journal is among them where it holds more than the receipts that the manifest counts.
        """
        named: dict[str, set[str]] = {}
        for shard, sequences in enumerate(manifest.sequences):
            for sequence in sequences:
                if sequence.depth:
                    stages = {stage_file(stage) for stage in range(1, sequence.depth + 1)}
                    named[sequence_folder(manifest, shard, sequence.order)] = {ADAPTER, ADAPTER_CONFIG, *stages}
        parents = {folder.rpartition("/")[0] for folder in named}
        own = manifest.records.path.name if isinstance(manifest.records, RecordIndex) else ""
        found = [
            entry.name
            for entry in self.path.iterdir()
            if entry.name.endswith(PARTIAL) or (entry.name.startswith(PREFIX) and own and entry.name != own)
        ]
        found += [RETRAINING] if self._abandoned() else []
        found += [JOURNAL] if leftover(self.path, manifest.journal.head) else []
        shards = self.path / "shards"
        for shard_folder in sorted(shards.iterdir()) if shards.is_dir() else []:
            place = f"shards/{shard_folder.name}"
            if place not in parents:
                found.append(place)
                continue
            for folder in sorted(shard_folder.iterdir()):
                inside = f"{place}/{folder.name}"
                if inside not in named:
                    found.append(inside)
                    continue
                found += [
                    f"{inside}/{file.name}" for file in sorted(folder.iterdir()) if file.name not in named[inside]
                ]
        return found

    def is_cut(self, manifest: Manifest, shard: int, sequence: TrainedSequence) -> bool:
        """Whether a sequence's adapter holds tensors of its live stages only, and its configuration names no others."""
        folder = self.path / sequence_folder(manifest, shard, sequence.order)
        live = [name for stage in range(1, sequence.depth + 1) for name in manifest.system.stage_tensors(stage)]
        adapters = {name for name in tensor_names(folder / ADAPTER) if ".lora_" in name}
        modules = {m for stage in range(1, sequence.depth + 1) for m in manifest.system.stage_modules(stage)}
        try:
            config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError("folder", f"{folder / ADAPTER_CONFIG} ({error})", "a file as fit wrote it") from None
        if not isinstance(config, dict):
            raise InputError("folder", f"{folder / ADAPTER_CONFIG}, which is no object", "a file as fit wrote it")
        return adapters <= set(live) and set(config.get("target_modules", ())) <= modules

    def write_sequence(
        self, folder: Path, manifest: Manifest, sequence: TrainedSequence, tensors: Tensors, heads: Sequence[Tensors]
    ) -> None:
        """Write the files of a sequence into a folder: the adapters of its stages, and the head after each."""
        for number, (stage, head) in enumerate(zip(sequence.stages, heads, strict=True), 1):
            about = {
                "stage": str(number),
                "order": json.dumps(sequence.order),
                "trained_on": json.dumps(stage.trained_on),
            }
            write_tensors(folder / stage_file(number), head, about)
        write_tensors(folder / ADAPTER, {**tensors, **heads[-1]}, {"format": "pt"})
        self._write_config(folder, manifest, sequence)

    def read_sequence(
        self, manifest: Manifest, shard: int, sequence: TrainedSequence, depth: int | None = None
    ) -> dict[str, np.ndarray]:
        """Adapters and head of the first stages of a sequence, all live ones by default."""
        depth = sequence.depth if depth is None else depth
        if not 1 <= depth <= sequence.depth:
            raise InputError("depth", depth, f"1 to {sequence.depth}, the live stages of the sequence")
        folder = self.path / sequence_folder(manifest, shard, sequence.order)
        live = {name for stage in range(1, depth + 1) for name in manifest.system.stage_tensors(stage)}
        tensors = {name: value for name, value in read_tensors(folder / ADAPTER).items() if name in live}
        return {**tensors, **read_tensors(folder / stage_file(depth))}

    def _cut(self, manifest: Manifest, shard: int, sequence: TrainedSequence) -> None:
        folder = self.path / sequence_folder(manifest, shard, sequence.order)
        write_tensors(folder / ADAPTER, self.read_sequence(manifest, shard, sequence), {"format": "pt"})
        self._write_config(folder, manifest, sequence)

    def adapter_config(self, manifest: Manifest, sequence: TrainedSequence) -> dict[str, Any]:
        """The content of a sequence's ``adapter_config.json``."""
        modules = [m for stage in range(1, sequence.depth + 1) for m in manifest.system.stage_modules(stage)]
        return {**manifest.adapter, "target_modules": sorted(modules)}

    def _write_config(self, folder: Path, manifest: Manifest, sequence: TrainedSequence) -> None:
        content = self.adapter_config(manifest, sequence)
        write_text(folder / ADAPTER_CONFIG, json.dumps(content, indent=2, sort_keys=True) + "\n")


def stage_digest(adapters: Tensors, head: Tensors) -> str:
    """SHA-256 over names, types, shapes and bytes of a stage's tensors."""
    found = hashlib.sha256()
    for part in (adapters, head):
        for name in sorted(part):
            value = np.ascontiguousarray(part[name])
            found.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
            found.update(value.tobytes())
    return found.hexdigest()


def write_tensors(path: Path, tensors: Tensors, about: Mapping[str, str]) -> None:
    """Write a safetensors file in one step."""
    from safetensors.numpy import save_file

    with replace_file(path) as aside:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, aside, metadata=dict(about))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError("folder", f"{path}, which does not load ({error})", "a file as fit wrote it") from None


def tensor_names(path: Path) -> list[str]:
    """Names of the tensors of a safetensors file, read from its header."""
    return list(_header(path)) if path.exists() else []


def about_tensors(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    return dict(_header(path, metadata=True))


def _header(path: Path, *, metadata: bool = False) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as stored:
            return (stored.metadata() or {}) if metadata else dict.fromkeys(stored.keys(), "")
    except (OSError, SafetensorError) as error:
        raise InputError("folder", f"{path}, which does not load ({error})", "a file as fit wrote it") from None
