"""One row per slice, and the slices themselves, resized once and kept beside each other on disk or in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.scans import Case, read_case, read_cases
from paperworks.papers.petct_slices.preprocessing import display, resize, resize_mask
from paperworks.papers.petct_slices.slice_features import slice_features
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder

if TYPE_CHECKING:
    import pandas as pd

IMAGES = ("pet", "ct", "mask")
_TEXTS = ("patient_id", "case_id", "center", "disease")


@dataclass(frozen=True)
class _Shard:
    """The slices of one scan: arrays ``[Z, size, size]`` by name, memory-mapped or in memory."""

    arrays: dict[str, np.ndarray]


class SliceTable:
    """Slices of scans.

    Attributes
    ----------
    rows : data frame with a row per slice: ``patient_id``, ``case_id``, ``center``, ``disease``, ``row`` (of the table
        of cases, from 1), ``slice`` (from the feet), ``slices`` (of its scan), ``z_mm``, ``thickness_mm``; ``label`` (1
        if any voxel of the slice is lesion, -1 without a mask), ``n_voxels``, ``area_mm2``, ``suv_max``,
        ``components`` and ``edge`` (first or last slice of a run of positive slices); ``feature_*``, which the
        baselines read.
    size : pixels of the stored slices along each side.
    notes : what a user should know about how the scans were read; no identifiers.
    """

    def __init__(self, rows: pd.DataFrame, shards: list[_Shard], size: int, notes: Sequence[str] = ()) -> None:
        self.rows, self.size, self.notes = rows.reset_index(drop=True), size, list(notes)
        self._shards = shards
        self._place = self.rows[["shard", "slice"]].to_numpy()

    @classmethod
    def from_cases(
        cls,
        cases: Any,
        *,
        size: int = 224,
        store: str | Path | None = None,
        spacing: Sequence[float | None] | None = None,
        structures: str | None = None,
        resample_masks: bool = False,
        require_masks: bool = True,
        dtype: str = "float32",
        progress: Progress = no_progress,
    ) -> Self:
        """Read scans and keep their slices.

        Parameters
        ----------
        cases : a table of cases (CSV, data frame, rows; columns pet, ct, mask, patient_id, case_id, center, disease), a
            folder of scans, or ``Case`` objects.
        size : pixels that slices are resized to along each side.
        store : folder for the slices, a folder per scan; what it holds is used again, and refused where it is of other
            scans or was read in another way. None keeps them in memory.
        spacing : mm of the grid that scans are brought to; None keeps the PET's for an axis.
        require_masks : refuse scans without a mask; without, such slices have no label.
        dtype : float32, or float16 for half the room (SUV to three digits).

        Raises
        ------
        InputError : naming the row of the table, for a scan that does not read; for masks that are all empty.
        """
        import pandas as pd

        if dtype not in ("float16", "float32"):
            raise InputError("dtype", repr(dtype), "float16 or float32")
        if size < 8:
            raise InputError("size", size, "8 pixels or more")
        sources = _sources(cases)
        options = {"spacing": spacing, "structures": structures, "resample_masks": resample_masks}
        folder = None if store is None else Path(store)
        tables, shards, notes = [], [], list[str]()
        for number, source in enumerate(progress(sources, "reading scans", len(sources))):
            kept = None if folder is None else folder / f"scan-{number:05d}"
            of = "" if kept is None else _identity(source, options | {"dtype": dtype})
            if kept is None or not kept.is_dir():
                case = _read(source, number, options)
                if require_masks and case.mask is None:
                    raise InputError("cases", f"row {number + 1} without a mask", "a mask for every scan")
                rows, arrays, own = _slices_of(case, number, size, np.dtype(dtype))
                if kept is not None:
                    _keep(kept, rows, arrays, own, of)
            if kept is not None:
                rows, arrays, own = _kept(kept, size, of)
            tables.append(rows)
            shards.append(_Shard(arrays))
            notes += [f"Scan {number + 1}: {note}." for note in own]
        table = cls(pd.concat(tables, ignore_index=True), shards, size, notes)
        table._check(require_masks)
        return table

    def _check(self, require_masks: bool) -> None:
        labelled = self.rows["label"] >= 0
        if require_masks and not (self.rows["label"] == 1).any():
            raise InputError("mask", "empty masks for all scans", "at least one scan with lesion voxels")
        if labelled.any() and not (self.rows.loc[labelled, "label"] == 1).any():
            self.notes.append("No slice is positive: the masks are empty.")
        centers = self.rows.groupby("patient_id")["center"].nunique()
        if (centers > 1).any():
            self.notes.append(f"{int((centers > 1).sum())} patient(s) were scanned at several centers.")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray:
        """1 for slices that cut a lesion, 0 for others, -1 where there is no mask; int64 ``[n]``."""
        return self.rows["label"].to_numpy(np.int64)

    def labels_of(self, min_voxels: int = 1) -> np.ndarray:
        """Labels where a slice is positive only with so many lesion voxels: what edge slices do to the figures."""
        labels = self.labels
        return np.where(labels < 0, -1, (self.rows["n_voxels"].to_numpy() >= min_voxels).astype(np.int64))

    @property
    def patients(self) -> np.ndarray:
        """The patient of every slice: the groups of every split and of every interval."""
        return self.rows["patient_id"].to_numpy(dtype=str)

    @property
    def statistics(self) -> np.ndarray:
        """Mean and standard deviation of the SUV of the patient's scans, float32 ``[n, 2]``."""
        sums = self.rows.drop_duplicates("case_id").groupby("patient_id")[["pet_n", "pet_sum", "pet_squares"]].sum()
        mean = sums["pet_sum"] / sums["pet_n"]
        deviation = np.sqrt(np.maximum(sums["pet_squares"] / sums["pet_n"] - mean**2, 0))
        of = self.rows["patient_id"]
        return np.stack([of.map(mean), of.map(deviation)], 1).astype(np.float32)

    def has(self, name: str) -> bool:
        """Whether every scan has ``pet``, ``ct`` or ``mask``."""
        return all(name in self._shards[i].arrays for i in self.rows["shard"].unique())

    def images(self, name: str, rows: Iterable[int] | np.ndarray | slice) -> np.ndarray:
        """Slices ``[n, size, size]``: ``pet`` in SUV or ``ct`` in HU (float32), ``mask`` (bool).

        Raises InputError naming ``cases`` if a scan has none.
        """
        chosen = self._place[rows if isinstance(rows, slice) else np.asarray(list(rows), dtype=np.int64)]
        out = np.empty((len(chosen), self.size, self.size), dtype=bool if name == "mask" else np.float32)
        for shard in np.unique(chosen[:, 0]):
            arrays = self._shards[int(shard)].arrays
            if name not in arrays:
                raise InputError(
                    "cases", f"scan {int(shard) + 1} without {name.upper()}", f"{name.upper()} for all scans"
                )
            mine = chosen[:, 0] == shard
            out[mine] = arrays[name][chosen[mine, 1]]
        return out

    def subset(self, rows: np.ndarray) -> Self:
        """The table of some rows (numbers, or a mask), which shares the stored slices."""
        return type(self)(self.rows.iloc[np.flatnonzero(rows) if rows.dtype == bool else rows], self._shards, self.size)


def _sources(cases: Any) -> list[Any]:
    if isinstance(cases, Case):
        return [cases]
    if not isinstance(cases, (str, Path)) and not hasattr(cases, "to_dict"):
        given = list(cases)
        if given and isinstance(given[0], Case):
            return given
        cases = given
    return list(read_cases(cases))


def _read(source: Any, number: int, options: dict[str, Any]) -> Case:
    """The scan of a row. Messages name the row: paths and file names may hold a name."""
    if isinstance(source, Case):
        return source if options["spacing"] is None else source.with_spacing(options["spacing"])
    try:
        return read_case(**{name: value for name, value in source.items() if value}, **options)
    except InputError as error:
        found = error.found
        for path in (source.get(name) for name in IMAGES):
            if path:
                found = found.replace(path, "the file").replace(Path(path).name, "the file")
        raise InputError(f"row {number + 1}: {error.field}", found, error.expected) from None


def _slices_of(
    case: Case, number: int, size: int, dtype: np.dtype[Any]
) -> tuple[pd.DataFrame, dict[str, np.ndarray], tuple[str, ...]]:
    rows = slice_features(case)
    for name in _TEXTS:
        rows[name] = getattr(case, name)
    rows["shard"], rows["row"] = number, number + 1
    values = case.pet.array.astype(np.float64)
    rows["pet_n"], rows["pet_sum"], rows["pet_squares"] = values.size, values.sum(), (values**2).sum()
    arrays = {"pet": _planes(case.pet.array, size).astype(dtype)}
    if case.ct is not None:
        arrays["ct"] = _planes(case.ct.array, size).astype(dtype)
    if case.mask is not None:
        arrays["mask"] = resize_mask(np.moveaxis(display(case.mask.array), 2, 0), size)
    return rows, arrays, case.notes


def _planes(array: np.ndarray, size: int) -> np.ndarray:
    return resize(np.moveaxis(display(array), 2, 0), size)


def _identity(source: Any, options: dict[str, Any]) -> str:
    """A digest of a scan and of how it is read: its values, or its files with their sizes and times."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode())
    if isinstance(source, Case):
        volumes = [getattr(source, name) for name in IMAGES]
        digest.update(repr([getattr(source, name) for name in _TEXTS]).encode())
        for volume in volumes:
            digest.update(b"none" if volume is None else volume.geometry.describe().encode() + volume.array.tobytes())
        return digest.hexdigest()
    facts = []
    for name in IMAGES:
        place = Path(source[name]).expanduser() if source.get(name) else None
        state = None if place is None or not place.exists() else place.stat()
        facts.append(None if state is None else (state.st_size, state.st_mtime_ns))
    digest.update(json.dumps([dict(source), facts], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _keep(folder: Path, rows: pd.DataFrame, arrays: dict[str, np.ndarray], notes: Sequence[str], of: str) -> None:
    with new_folder(folder) as out:
        for name, array in arrays.items():
            np.save(out / f"{name}.npy", array)
        content = {"of": of, "notes": list(notes), "rows": rows.to_dict("list")}
        (out / "rows.json").write_text(json.dumps(content), encoding="utf-8")


def _kept(folder: Path, size: int, of: str) -> tuple[pd.DataFrame, dict[str, np.ndarray], tuple[str, ...]]:
    import pandas as pd

    content = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in IMAGES if (folder / f"{name}.npy").is_file()
    }
    if arrays["pet"].shape[1:] != (size, size):
        found = f"{folder.parent}, with slices of {arrays['pet'].shape[1]} pixels"
        raise InputError("store", found, f"slices of {size} pixels, or an empty folder")
    if content.get("of", of) != of:
        found = f"{folder.parent}, with slices of another scan, or of one that was read in another way"
        raise InputError("store", found, "an empty folder, or the same scans with the same options")
    return pd.DataFrame(content["rows"]), arrays, tuple(content["notes"])
