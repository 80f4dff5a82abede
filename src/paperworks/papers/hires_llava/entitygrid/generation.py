"""Images of the benchmark, questions about them, and records of what is right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.hires_llava.entitygrid.entities import EntitySet, load_entities
from paperworks.papers.hires_llava.entitygrid.positions import NAMES, POSITIONS, box_at
from paperworks.parameters import check_seed, check_whole
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder

Task = Literal["identification", "position", "counting"]
TASKS: tuple[Task, ...] = ("identification", "position", "counting")
Split = Literal["train", "test"]


@dataclass(frozen=True)
class EntityRecord:
    """One question about one image.

    Attributes
    ----------
    image : file name within the folder.
    task : identification, position or counting.
    question, choices, answer : in words.
    position : 1 to 9, of the object that is asked about (of an absent one: of the first object).
    positions, entities, entity_ids : of all objects on the image.
    canvas, entity_side : pixels.
    split : train or test; they have no object in common.
    """

    image: str
    task: Task
    question: str
    choices: tuple[str, ...]
    answer: str
    position: int
    positions: tuple[int, ...]
    entities: tuple[str, ...]
    entity_ids: tuple[str, ...]
    canvas: int
    entity_side: int
    split: Split


@dataclass(frozen=True)
class EntityDataset:
    """Images uint8 ``[c, c, 3]`` by name, and the records that ask about them."""

    images: dict[str, np.ndarray]
    records: list[EntityRecord]

    def __len__(self) -> int:
        return len(self.records)

    def image(self, record: EntityRecord) -> Any:
        """The image of a record as a PIL image in RGB."""
        from PIL import Image

        return Image.fromarray(self.images[record.image])


class EntityGrid:
    """Generates the benchmark.

    Parameters
    ----------
    entities : see ``load_entities``: digits, glyphs, a folder with a folder per category, or pairs.
    canvas : side of the square image in pixels, an even number: twice the side of a model's slice.
    entity_side : longer side of an object, at most canvas / 2; default three quarters of a slice.
    most_entities : objects on an image, 1 or 2.
    n_choices : choices of identification, the right one among them.
    seed : of objects, positions and choices.

    Raises
    ------
    InputError : an odd canvas, an object larger than a slice, fewer categories than choices, a category of one object.
    """

    def __init__(
        self,
        entities: Any = "digits",
        *,
        canvas: int = 448,
        entity_side: int | None = None,
        most_entities: int = 2,
        n_choices: int = 4,
        per_category: int | None = None,
        seed: int = 0,
    ) -> None:
        self.seed = check_seed("seed", seed)
        check_whole("canvas", canvas, 8)
        if canvas % 2:
            raise InputError("canvas", canvas, "an even number: two slices along each side")
        self.canvas, self.slice_side = canvas, canvas // 2
        self.entity_side = max(1, self.slice_side * 3 // 4) if entity_side is None else entity_side
        if not 1 <= check_whole("entity_side", self.entity_side, 1) <= self.slice_side:
            found = f"{self.entity_side} pixels"
            raise InputError("entity_side", found, f"at most {self.slice_side}, so that corners stay within a slice")
        check_whole("most_entities", most_entities, 1, 2)
        self.most_entities = most_entities
        self.entities = load_entities(entities, seed=seed, per_category=per_category)
        check_whole("n_choices", n_choices, 2, len(self.entities.names))
        self.n_choices = n_choices
        self.train, self.test = self.entities.split(seed)
        self._fitted: dict[tuple[str, int], np.ndarray] = {}

    def part(self, split: Split) -> EntitySet:
        """The objects of a split."""
        if split not in ("train", "test"):
            raise InputError("split", repr(split), "train or test")
        return self.train if split == "train" else self.test

    def fitted(self, row: int, split: Split = "test") -> np.ndarray:
        """Object ``row`` of a split at the size at which it is placed, uint8 ``[h, w, 3 or 4]``."""
        if (split, row) not in self._fitted:
            self._fitted[split, row] = self.part(split).fitted(row, self.entity_side)
        return self._fitted[split, row]

    def draw(self, placed: Sequence[tuple[int, int]], split: Split = "test") -> np.ndarray:
        """A canvas uint8 ``[c, c, 3]`` with objects at positions: pairs (row of the split's set, position)."""
        part = self.part(split)
        canvas = np.full((self.canvas, self.canvas, 3), part.background, np.uint8)
        for row, position in placed:
            image = self.fitted(row, split)
            left, top, right, bottom = box_at(position, self.slice_side, *image.shape[:2])
            if image.shape[2] == 4:
                alpha = image[:, :, 3:].astype(np.float32) / 255
                under = canvas[top:bottom, left:right]
                image = np.rint(image[:, :, :3] * alpha + under * (1 - alpha)).astype(np.uint8)
            canvas[top:bottom, left:right] = image
        return canvas

    def batch(
        self, n: int, rng: np.random.Generator, split: Split = "train", positions: Sequence[int] = POSITIONS
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``n`` images of one object: canvases uint8 ``[n, c, c, 3]``, categories and positions int64 ``[n]``."""
        part = self.part(split)
        rows, places = rng.integers(len(part), size=n), rng.choice(np.asarray(positions), size=n)
        canvases = [self.draw([(int(row), int(place))], split) for row, place in zip(rows, places, strict=True)]
        return np.stack(canvases), part.labels[rows], places.astype(np.int64)

    def dataset(self, n: int, split: Split = "test", *, progress: Progress = no_progress) -> EntityDataset:
        """``n`` images with three questions each; every position is as frequent as any other (up to one image)."""
        check_whole("n", n, 1)
        part = self.part(split)
        images, records = dict[str, np.ndarray](), list[EntityRecord]()
        rng = np.random.default_rng([self.seed, 1 if split == "train" else 2])
        order = [int(p) for _ in range(-(-n // 9)) for p in rng.permutation(POSITIONS)]
        for number in progress(range(n), f"drawing {split} images", n):
            first = order[number]
            others = [p for p in POSITIONS if p != first]
            count = int(rng.integers(1, self.most_entities + 1))
            places = [first, *rng.choice(others, size=count - 1, replace=False).tolist()]
            rows = rng.integers(len(part), size=count).tolist()
            if count == 2 and rng.random() < 0.5:  # two of one category, so that counts of 2 are as frequent as of 1
                rows[1] = int(rng.choice(np.flatnonzero(part.labels == part.labels[rows[0]])))
            name = f"{split}-{number:05d}.png"
            images[name] = self.draw(list(zip(rows, places, strict=True)), split)
            records += self._records(name, rows, places, part, rng, split)
        return EntityDataset(images, records)

    def generate(
        self, out_dir: str | Path, n: int = 180, *, n_train: int = 0, progress: Progress = no_progress
    ) -> Path:
        """Write ``n`` test images (and ``n_train`` training images) with their questions to a new folder.

        ``images/*.png``; ``test.jsonl`` and ``train.jsonl`` with a record a line; ``train.json`` in LLaVA's format.
        """
        with new_folder(Path(out_dir), "out_dir") as out:
            (out / "images").mkdir()
            parts: list[tuple[int, Split]] = [(n, "test"), (n_train, "train")]
            for count, split in parts:
                if count:
                    dataset = self.dataset(count, split, progress=progress)
                    write_dataset(dataset, out, split)
        return Path(out_dir)

    def _records(
        self, name: str, rows: list[int], places: list[int], part: EntitySet, rng: np.random.Generator, split: Split
    ) -> Iterator[EntityRecord]:
        labels = part.labels[rows].tolist()
        names = tuple(part.names[label] for label in labels)
        common: dict[str, Any] = {
            "image": name,
            "positions": tuple(places),
            "entities": names,
            "entity_ids": tuple(part.ids[row] for row in rows),
            "canvas": self.canvas,
            "entity_side": self.entity_side,
            "split": split,
        }
        absent = [c for c in range(len(part.names)) if c not in labels]
        wrong = rng.choice(absent, size=min(self.n_choices - 1, len(absent)), replace=False).tolist()
        choices = tuple(part.names[c] for c in rng.permutation([labels[0], *wrong]))
        question = "What is the object in the image?" if len(rows) == 1 else "Which of these is in the image?"
        yield EntityRecord(
            task="identification",
            question=question,
            choices=choices,
            answer=names[0],
            position=places[0],
            **common,
        )
        if len(rows) == 1 or labels[0] != labels[1]:  # of two alike it is not clear which is meant
            yield EntityRecord(
                task="position",
                question=f"Where is the {names[0]}?",
                choices=NAMES,
                answer=NAMES[places[0] - 1],
                position=places[0],
                **common,
            )
        asked = labels[0] if rng.random() < 0.75 or not absent else int(rng.choice(absent))
        yield EntityRecord(
            task="counting",
            question=f"How many objects of the kind {part.names[asked]} are there?",
            choices=("0", "1", "2"),
            answer=str(labels.count(asked)),
            position=places[0],
            **common,
        )


def write_dataset(dataset: EntityDataset, folder: Path, split: str) -> None:
    """Write images and records into a folder with ``images``; training records in LLaVA's format as well."""
    from PIL import Image

    for name, pixels in dataset.images.items():
        Image.fromarray(pixels).save(folder / "images" / name)
    lines = [json.dumps(asdict(record)) for record in dataset.records]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if split == "train":
        content = json.dumps(llava_records(dataset), indent=1)
        (folder / "train.json").write_text(content + "\n", encoding="utf-8")


def read_dataset(folder: str | Path, split: Split = "test") -> EntityDataset:
    """What ``EntityGrid.generate`` wrote. Raises InputError for a folder of something else, naming the line."""
    from paperworks.papers.hires_llava.pixels import as_rgb

    path = Path(folder).expanduser()
    file = path / f"{split}.jsonl"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("dataset", f"{file} ({error})", "a folder that EntityGrid.generate wrote") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
            for name in ("choices", "positions", "entities", "entity_ids"):
                content[name] = tuple(content[name])
            record = EntityRecord(**content)
            if record.task not in TASKS or record.position not in POSITIONS or record.answer not in record.choices:
                raise ValueError(f"task {record.task!r}, position {record.position}, answer {record.answer!r}")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("dataset", f"line {number} of {file} ({error})", "a record of EntityGrid") from None
        records.append(record)
    if not records:
        raise InputError("dataset", f"{file}, empty", "at least one record")
    names = dict.fromkeys(record.image for record in records)
    return EntityDataset({name: as_rgb(path / "images" / name, i)[0] for i, name in enumerate(names)}, records)


def prompt_of(question: str, choices: Sequence[str]) -> str:
    """A question with its choices as one text."""
    return f"{question} Answer with one of: {', '.join(choices)}."


def llava_records(dataset: EntityDataset) -> list[dict[str, Any]]:
    """The records in LLaVA's format: id, image, conversations of human and gpt."""
    return [
        {
            "id": f"{Path(record.image).stem}-{record.task}",
            "image": record.image,
            "conversations": [
                {"from": "human", "value": f"<image>\n{prompt_of(record.question, record.choices)}"},
                {"from": "gpt", "value": record.answer},
            ],
        }
        for record in dataset.records
    ]
