"""The data set out of curated videos: pictures, pairs, and the tables of the released data set."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from paperworks.papers.quilt1m.curator import CuratedVideo
from paperworks.papers.quilt1m.filters import as_picture
from paperworks.papers.quilt1m.outputs import (
    IMAGE_COLUMNS,
    IMAGES_TABLE,
    PAIRS,
    VIDEO_COLUMNS,
    VIDEOS_TABLE,
    write_datasets,
    write_lines,
    write_shards,
    write_table,
)
from paperworks.papers.quilt1m.pairing import PairedChunk


@dataclass(frozen=True)
class DataSet:
    """What was written: pairs, and numbers of rows by file."""

    folder: Path
    pairs: list[dict[str, Any]]
    pictures: int
    repeated: int
    image_rows: int
    shards: int


def write_dataset(
    folder: Path,
    videos: Sequence[CuratedVideo],
    *,
    formats: Sequence[str] = (),
    shard_size: int = 10_000,
    redact: Callable[[Image.Image], Image.Image] | None = None,
    magnification: Callable[[Image.Image], str] | None = None,
) -> DataSet:
    """Write ``images/``, ``pairs.jsonl``, the two tables, and further forms into a new folder.

    A pair of picture and sentence that overlapping chunks repeat is written once. Pairs are in order of video, chunk
    and time, so that the same input gives the same bytes.

    Parameters
    ----------
    folder : new or empty.
    formats : "webdataset", "datasets".
    redact : from a picture to the one that is written, to blur faces and names.
    magnification : from a picture to the column of that name (the released codes are 0, 1 and 2); empty without it.
    """
    used = [one for one in videos if one.paired is not None and one.folder is not None]
    (folder / "images").mkdir(parents=True)
    copied: set[str] = set()
    magnified: dict[str, str] = {}
    for one in used:
        assert one.paired is not None
        assert one.folder is not None
        for name in sorted({p.file for chunk in one.paired.chunks if _texts(chunk) for p in chunk.pictures}):
            source, target = one.folder / "images" / name, folder / "images" / name
            if redact is None:
                shutil.copyfile(source, target)
            else:
                redact(as_picture(source)).save(target)
            if magnification is not None:
                magnified[name] = str(magnification(as_picture(target)))
            copied.add(name)
    every = [row for one in used for row in pair_rows(one)]
    pairs = list({(row["video_id"], row["image"], row["text"]): row for row in reversed(every)}.values())[::-1]
    write_lines(folder / PAIRS, pairs)
    count = write_table(
        folder / IMAGES_TABLE, IMAGE_COLUMNS, (row for one in used for row in image_rows(one, magnified))
    )
    write_table(folder / VIDEOS_TABLE, VIDEO_COLUMNS, map(video_row, used))
    shards = 0
    if pairs and "webdataset" in formats:
        shards = len(write_shards(folder / "webdataset", folder, pairs, samples=shard_size))
    if pairs and "datasets" in formats:
        write_datasets(folder / "datasets", folder, pairs)
    return DataSet(folder, pairs, len(copied), len(every) - len(pairs), count, shards)


def pair_rows(one: CuratedVideo) -> Iterator[dict[str, Any]]:
    """A row for each picture and sentence of each chunk, with where both come from."""
    assert one.paired is not None
    for number, chunk in enumerate(one.paired.chunks):
        texts = _texts(chunk)
        for picture in chunk.pictures:
            for text, kind, entities in texts:
                yield {
                    "image": f"images/{picture.file}",
                    "text": text,
                    "kind": kind,
                    "video_id": one.paired.video_id,
                    "chunk_id": number,
                    "start": chunk.start,
                    "end": chunk.end,
                    "shown": [round(picture.start, 3), round(picture.end, 3)],
                    "picture": picture.kind,
                    "hash": picture.hash,
                    "entities": [list(entity) for entity in entities],
                    "source": one.path.name,
                }


def _texts(chunk: PairedChunk) -> list[tuple[str, str, list[tuple[str, str, float]]]]:
    region = set(chunk.roi_text)
    rows = [
        (text, "medical and roi" if text in region else "medical", entities)
        for text, entities in zip(chunk.medical_text, chunk.entities, strict=True)
    ]
    return rows + [(text, "roi", []) for text in chunk.roi_text if text not in set(chunk.medical_text)]


def image_rows(one: CuratedVideo, magnified: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Rows of the released table: one per picture of a chunk, and one without a picture where a chunk has none."""
    assert one.paired is not None
    assert one.watched is not None
    fps = one.info.fps if one.info is not None else None
    for number, chunk in enumerate(one.paired.chunks):
        texts = list(dict.fromkeys([*chunk.medical_text, *chunk.roi_text]))
        whole = {
            "video_id": one.paired.video_id,
            "chunk_id": number,
            "pathology": list(one.topics),
            "medical_text": chunk.medical_text,
            "roi_text": chunk.roi_text,
            "combined_caption": " ".join(texts),
            "noisy_text": chunk.noisy_text,
            "corrected_text": chunk.corrected_text,
            "med_umls_ids": [
                [{"entity": e, "concept_id": i, "confidence": c} for e, i, c in some] for some in chunk.entities
            ],
            "magnification": "",
            "video_duration": round(one.watched.duration, 4),
            "pair_chunk_time": one.paired.chunk_time,
            "fps": "" if fps is None else fps,
        }
        for picture in chunk.pictures:
            size = {"image_path": picture.file, "height": picture.height, "width": picture.width}
            pair = int(bool(texts))
            yield whole | size | {"it_pair": pair, "magnification": magnified.get(picture.file, "")}
        if not chunk.pictures:
            yield whole | {"image_path": "", "height": "", "width": "", "it_pair": 0}


def video_row(one: CuratedVideo) -> dict[str, Any]:
    """The row of a video in the second table; still segments are in whole seconds, as there."""
    assert one.paired is not None
    assert one.watched is not None
    fps = one.info.fps if one.info is not None else None
    stable = [
        {number: [(round(a), round(b)) for a, b in chunk.stable_times]}
        for number, chunk in enumerate(one.paired.chunks)
    ]
    return {
        "video_id": one.paired.video_id,
        "video_duration": round(one.watched.duration, 4),
        "fps": "" if fps is None else fps,
        "pair_chunk_time": one.paired.chunk_time,
        "key_frame_times": [round(float(t), 4) for t in one.watched.times],
        "predictions": [int(p) for p in one.watched.positive],
        "stable_times": stable,
    }
