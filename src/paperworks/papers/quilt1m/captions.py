"""Pictures that come with captions (figures of papers, posts): through the same filter and the same choice of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.transcripts import Cue, make_transcript, split_sentences
from paperworks.papers.quilt1m.columns import named_column, text_columns
from paperworks.papers.quilt1m.filters import ACCEPTED, FrameFilter, as_picture
from paperworks.papers.quilt1m.likeness import perceptual_hash
from paperworks.papers.quilt1m.outputs import PAIRS, write_datasets, write_lines, write_shards
from paperworks.papers.quilt1m.pairing import Correct, Split
from paperworks.papers.quilt1m.vocabulary import Vocabulary
from paperworks.runs import Progress, no_progress


@dataclass
class CaptionedPairs:
    """Pairs of captioned pictures, why others were left out -> how many, and the number of shards written."""

    pairs: list[dict[str, object]] = field(default_factory=list)
    pictures: int = 0
    shards: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str) -> None:
        """Count a picture that is left out."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def read_captions(path: Path, folder: Path, field: str = "captions") -> list[tuple[Path, str]]:
    """Rows of a table with the columns ``image`` (a file below ``folder``) and ``caption``; errors name ``field``.

    Raises InputError for a missing column, a row without a file or a caption, and files outside of the folder.
    """
    columns = text_columns(path, field)
    images = named_column(columns, ("image", "image_path", "file", "path", "file_name"), field)
    texts = named_column(columns, ("caption", "text", "title"), field)
    rows = []
    root = folder.resolve()
    for number, (image, text) in enumerate(zip(images, texts, strict=True), 2):
        if not image or not text:
            raise InputError(f"{field}, row {number}", f"{image!r}, {text!r}", "a file and a caption")
        file = folder / image
        if not file.resolve().is_relative_to(root):
            raise InputError(f"{field}, row {number}", repr(image), f"a file in {folder}")
        rows.append((file, text))
    if not rows:
        raise InputError(field, "no rows", "one row or more")
    return rows


def pair_captions(
    images: Path,
    captions: Path,
    out: Path,
    accepts: FrameFilter,
    *,
    correct: Correct | None,
    split: Split,
    vocabulary: Vocabulary | None,
    formats: Sequence[str] = (),
    shard_size: int = 10_000,
    progress: Progress = no_progress,
) -> CaptionedPairs:
    """Pair pictures with the sentences of their captions; writes ``images/`` and ``pairs.jsonl`` into ``out``.

    A picture that several rows name is one picture with the sentences of all of them.
    """
    if not images.is_dir():
        raise InputError("images", f"{images}, which is no folder", "a folder of pictures")
    found = CaptionedPairs()
    (out / "images").mkdir(parents=True)
    by_file: dict[Path, list[str]] = {}
    for file, caption in read_captions(captions, images):
        by_file.setdefault(file, []).append(caption)
    for number, (file, some) in enumerate(progress(by_file.items(), "pairing captions", len(by_file))):
        try:
            picture = as_picture(file)
        except InputError:
            found.drop("no readable picture")
            continue
        if float(accepts([picture])[0]) < ACCEPTED:
            found.drop("does not show the domain")
            continue
        words = [make_transcript([Cue(0.0, 1.0, caption)]).words for caption in some]
        sentences = [s.text for spoken in words for s in split_sentences(spoken)]
        texts = split([correct(s).text if correct else s for s in sentences], vocabulary)
        if not texts.medical and not texts.roi:
            found.drop("no sentence with a term")
            continue
        name = f"images/{number:06d}.png"
        picture.save(out / name, compress_level=1)
        found.pictures += 1
        region = set(texts.roi)
        for text in dict.fromkeys([*texts.medical, *texts.roi]):
            kind = ("medical and roi" if text in region else "medical") if text in texts.medical else "roi"
            found.pairs.append(
                {
                    "image": name,
                    "text": text,
                    "kind": kind,
                    "video_id": file.stem,
                    "chunk_id": number,
                    "start": 0.0,
                    "end": 0.0,
                    "hash": f"{perceptual_hash(np.asarray(picture)):016x}",
                    "source": str(file.relative_to(images)),
                }
            )
    if not found.pairs:
        words_of = "; ".join(f"{count} {reason}" for reason, count in found.left_out.items())
        raise InputError("images", f"no pair: {words_of}", "pictures of the domain with captions about it")
    write_lines(out / PAIRS, found.pairs)
    if "webdataset" in formats:
        found.shards = len(write_shards(out / "webdataset", out, found.pairs, samples=shard_size))
    if "datasets" in formats:
        write_datasets(out / "datasets", out, found.pairs)
    return found
