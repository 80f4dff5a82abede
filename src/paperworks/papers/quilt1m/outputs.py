"""What users take away: pairs as JSON lines, the tables of the released data set, shards, and a folder of datasets."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.runs.files import new_file, new_folder, replace_file

IMAGE_COLUMNS = (
    "video_id",
    "it_pair",
    "chunk_id",
    "pathology",
    "image_path",
    "medical_text",
    "roi_text",
    "combined_caption",
    "noisy_text",
    "corrected_text",
    "med_umls_ids",
    "magnification",
    "video_duration",
    "pair_chunk_time",
    "height",
    "width",
    "fps",
)
"""Columns of the released table of images; lists are written as Python lists, as there."""
VIDEO_COLUMNS = (
    "video_id",
    "video_duration",
    "fps",
    "pair_chunk_time",
    "key_frame_times",
    "predictions",
    "stable_times",
)
IMAGES_TABLE, VIDEOS_TABLE, PAIRS = "quilt_data.csv", "quilt_recon.csv", "pairs.jsonl"


def write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> int:
    """A CSV file (UTF-8), replaced in one step; returns its number of rows."""
    with replace_file(path) as aside, aside.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        count = 0
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """JSON lines, replaced in one step; returns their number."""
    with replace_file(path) as aside, aside.open("w", encoding="utf-8") as out:
        count = 0
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``pairs.jsonl`` (or of the folder that has it); ``image`` is made a whole path.

    Raises InputError for a file that is missing, has other lines, or names pictures that are not there.
    """
    file = path / PAIRS if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError("pairs", f"{file} ({error})", f"a folder with {PAIRS}, as the curation writes") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("image"), str) or not isinstance(row.get("text"), str):
            raise InputError(f"pairs, line {number}", line[:60], "an object with image and text")
        row["image"] = str(file.parent / row["image"])
        if not Path(row["image"]).is_file():
            raise InputError(
                f"pairs, line {number}", f"{row['image']}, which is not there", "a picture beside the file"
            )
        rows.append(row)
    if not rows:
        raise InputError("pairs", f"{file}, without lines", "one pair or more")
    return rows


def write_shards(
    folder: Path, root: Path, rows: Sequence[dict[str, Any]], *, samples: int = 10_000, size: int = 10**9
) -> list[str]:
    """WebDataset shards ``pairs-000000.tar``, ...: ``<key>.png``, ``<key>.txt`` and ``<key>.json`` for each pair.

    A shard has at most ``samples`` pairs and about ``size`` bytes. The same pairs give the same bytes.
    """
    names: list[str] = []
    with new_folder(folder) as aside:
        for part in _parts(root, rows, samples, size):
            name = f"pairs-{len(names):06d}.tar"
            with tarfile.open(aside / name, "w", format=tarfile.USTAR_FORMAT) as out:
                for number, row in part:
                    image = (root / row["image"]).read_bytes()
                    facts = json.dumps({k: v for k, v in row.items() if k != "image"}, ensure_ascii=False)
                    key = f"{number:09d}"
                    suffix = Path(row["image"]).suffix
                    files = ((suffix, image), (".txt", row["text"].encode()), (".json", facts.encode()))
                    for ending, data in files:
                        entry = tarfile.TarInfo(key + ending)
                        entry.size = len(data)
                        out.addfile(entry, io.BytesIO(data))
            names.append(name)
    return names


def _parts(
    root: Path, rows: Sequence[dict[str, Any]], samples: int, size: int
) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    part: list[tuple[int, dict[str, Any]]] = []
    held = 0
    for number, row in enumerate(rows):
        weight = (root / row["image"]).stat().st_size + len(row["text"])
        if part and (len(part) >= samples or held + weight > size):
            yield part
            part, held = [], 0
        part.append((number, row))
        held += weight
    if part:
        yield part


def write_datasets(folder: Path, root: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A folder of ``datasets`` (``load_from_disk``): columns ``image`` (pictures inside), ``text`` and the facts.

    Raises InputError where ``datasets`` is not installed, or the folder has files in it.
    """
    try:
        from datasets import Dataset, Features, Image, Value
    except ImportError:
        raise InputError("formats", "datasets, which is not installed", "pip install datasets") from None
    columns = ("text", "kind", "video_id", "chunk_id", "start", "end")
    types = {"chunk_id": "int64", "start": "float64", "end": "float64"}
    content: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in columns}
    pictures = [{"bytes": (root / row["image"]).read_bytes(), "path": Path(row["image"]).name} for row in rows]
    features = Features({"image": Image()} | {name: Value(types.get(name, "string")) for name in columns})
    with new_folder(folder) as aside:
        Dataset.from_dict({"image": pictures, **content}, features=features).save_to_disk(str(aside))


def write_captions(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """A new CSV of images and captions, as ``read_captions`` reads it."""
    with new_file(path) as aside, aside.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("image", "caption"))
        writer.writerows(rows)
