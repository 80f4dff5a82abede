"""Images with masks on disk: folders of images and of integer masks with a JSON of names, or COCO's panoptic format."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from paperworks.errors import InputError
from paperworks.inputs.images import IMAGE_SUFFIXES, ImageDataset, read_images
from paperworks.papers.gkc.segments import Scene, Segment
from paperworks.papers.gkc.vocabulary import clean_name
from paperworks.runs import Progress, no_progress

MASK_ENDINGS = ("", "_mask", "-mask", "_label", "_labels", "_seg", "_gt")
"""What may follow the image's name in the name of its mask."""

SMALLEST = 32
"""Pixels of a side, as of what the segmenter takes."""

Instances = Literal["class", "components"]


@dataclass
class SceneFiles(ABC):
    """Labelled images on disk. ``scene(i)`` reads one.

    Attributes
    ----------
    images : the images that have a mask.
    class_names : the classes, whose positions are the segments' labels.
    stuff : classes without instances (COCO says which), whose segments of one image are one.
    notes : what was left aside, and how many.
    """

    images: ImageDataset
    class_names: list[str]
    stuff: tuple[int, ...] = ()
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    @abstractmethod
    def segments(self, index: int) -> list[Segment]:
        """The segments of image ``index``."""

    @cached_property
    def names(self) -> list[str]:
        """What each image is called: see ``scene_names``."""
        return scene_names([self.images.image_name(n) for n in range(len(self))])

    def scene(self, index: int) -> Scene:
        """Image ``index`` with its segments.

        Raises InputError where image and mask are not of one size, and for an image below 32 pixels a side.
        """
        image = image_of(self.images, index)
        segments = self.segments(index)
        for segment in segments:
            if segment.mask.shape != image.shape[:2]:
                shapes = f"{segment.mask.shape} for an image {image.shape[:2]}"
                raise InputError(f"mask of {self.images.image_name(index)}", shapes, "the image's own size")
        return require_size(Scene(self.names[index], image, tuple(segments)))


def scene_names(files: Sequence[str]) -> list[str]:
    """Paths without their endings; where two images differ in nothing else, with them."""
    stems = [_stem(file) for file in files]
    counts = Counter(stems)
    return [stem if counts[stem] == 1 else file for stem, file in zip(stems, files, strict=True)]


def require_size(scene: Scene) -> Scene:
    """The scene itself. Raises InputError for a side below 32 pixels."""
    height, width = scene.image.shape[:2]
    if min(height, width) < SMALLEST:
        raise InputError("images", f"{scene.name}, {width} x {height} pixels", f"sides of {SMALLEST} pixels or more")
    return scene


def image_of(images: ImageDataset, index: int) -> np.ndarray:
    """Image ``index`` in colour, uint8 ``[H, W, 3]``, whatever its mode and depth."""
    pixels = images.array([index], channels=3, dtype="uint8")[0]
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


@dataclass
class MaskFolder(SceneFiles):
    """A folder of integer masks beside the images.

    Attributes
    ----------
    masks : mask file of each image.
    class_of_id : class of each id that has a name.
    ignore : ids that are no class.
    instances : "class" makes one segment of all pixels of a class, "components" one of each connected part.
    """

    masks: list[Path] = field(default_factory=list)
    class_of_id: Mapping[int, int] = field(default_factory=dict)
    ignore: frozenset[int] = frozenset()
    instances: Instances = "class"

    def segments(self, index: int) -> list[Segment]:
        ids = read_mask(self.masks[index])
        found = []
        for value in np.unique(ids).tolist():
            if value in self.class_of_id:
                found += [Segment(self.class_of_id[value], part) for part in self._parts(ids == value)]
            elif value not in self.ignore:
                known = ", ".join(map(str, sorted(self.class_of_id)[:12]))
                found_ids = [v for v in np.unique(ids).tolist() if v not in self.class_of_id and v not in self.ignore]
                raise InputError(
                    "masks",
                    f"{self.masks[index].name} with the ids {found_ids[:8]}, which have no name",
                    f"ids that names has ({known}), or ids to ignore ({sorted(self.ignore)})",
                )
        return found

    def _parts(self, mask: np.ndarray) -> list[np.ndarray]:
        if self.instances == "class":
            return [mask]
        from scipy.ndimage import label

        numbers, count = label(mask)
        return [numbers == n + 1 for n in range(count)]


@dataclass
class CocoPanoptic(SceneFiles):
    """COCO's panoptic format: PNG files whose colours are segment ids (R + 256 G + 65536 B), and a JSON of segments."""

    masks: list[Path] = field(default_factory=list)
    info: list[list[tuple[int, int]]] = field(default_factory=list)

    def segments(self, index: int) -> list[Segment]:
        ids = read_mask(self.masks[index], colours=True)
        found = [Segment(cls, ids == identity) for identity, cls in self.info[index]]
        empty = [identity for (identity, _), s in zip(self.info[index], found, strict=True) if not s.mask.any()]
        if empty:
            found_ids = f"{self.masks[index].name}, without a pixel of segment {empty[0]}"
            raise InputError("masks", found_ids, "the PNG that the JSON describes")
        return found


def read_mask(file: Path, colours: bool = False) -> np.ndarray:
    """The ids of a mask's pixels, int64 ``[H, W]``: values of grey files of 8, 16 or 32 bits, or indices of a palette.

    ``colours`` reads RGB as R + 256 G + 65536 B. Raises InputError for a file that is no mask.
    """
    try:
        with Image.open(file) as image:
            image.load()
            mode = image.mode
            pixels = np.asarray(image.convert("RGB") if colours and mode in ("RGBA", "P") else image)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError("masks", f"{file.name} ({error})", "a mask that can be read") from None
    if colours:
        if pixels.ndim != 3:
            raise InputError("masks", f"{file.name} of mode {mode}", "an RGB file, as COCO's panoptic masks are")
        values = pixels.astype(np.int64)
        return np.asarray(values[..., 0] + 256 * values[..., 1] + 65536 * values[..., 2])
    if pixels.ndim != 2 or pixels.dtype.kind not in "biu":
        raise InputError(
            "masks", f"{file.name} of mode {mode}", "one whole number a pixel: grey, 16 bits, or a palette"
        )
    return pixels.astype(np.int64)


def read_scenes(
    images: str | Path,
    masks: str | Path,
    names: str | Path,
    *,
    ignore: Sequence[int] = (0, 255),
    instances: Instances = "class",
    progress: Progress = no_progress,
) -> SceneFiles:
    """Labelled images from three paths.

    Parameters
    ----------
    images : a folder of images, of any modes, sizes and depths.
    masks : a folder of masks with the images' names (``cat.png`` or ``cat_mask.png`` for ``cat.jpg``).
    names : a JSON file: id -> name (``{"1": "sofa"}``), a list (ids from 0), or COCO's panoptic JSON, with which masks
        are COCO's PNG files.
    ignore : ids of pixels without a class, unless ``names`` has them.
    instances : see ``MaskFolder``.

    Raises
    ------
    InputError : a path that is not there, no image with a mask, names that are empty or equal after cleaning.
    """
    folder = Path(masks).expanduser()
    if not folder.is_dir():
        raise InputError("masks", f"{masks}, no folder", "a folder of masks with the images' names")
    found = read_images(images, progress=progress)
    content = read_names(names)
    if isinstance(content, dict) and "annotations" in content:
        return _coco(found, folder, content, Path(names).name)
    class_of_id, class_names = _classes(content)
    files = {p.relative_to(folder).with_suffix("").as_posix(): p for p in sorted(folder.rglob("*")) if _is_mask(p)}
    places = [next((files[key] for key in _keys(found.image_name(n)) if key in files), None) for n in range(len(found))]
    rows = [n for n, place in enumerate(places) if place is not None]
    if not rows:
        raise InputError("masks", f"{masks}, without a mask of {found.image_name(0)}", "masks with the images' names")
    ignored = frozenset(int(i) for i in ignore) - class_of_id.keys()
    chosen = [place for place in places if place is not None]
    made = MaskFolder(
        found.subset(rows), class_names, (), _notes(found, places), chosen, class_of_id, ignored, instances
    )
    return made


def _notes(images: ImageDataset, places: Sequence[Path | None]) -> list[str]:
    notes = [images.describe().replace("\nwithout labels", "")]
    without = [images.image_name(n) for n, place in enumerate(places) if place is None]
    if without:
        some = ", ".join(without[:4]) + (" and more" if len(without) > 4 else "")
        notes.append(f"{len(without)} image{'s' * (len(without) > 1)} without a mask left out: {some}")
    return notes


def _is_mask(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _keys(name: str) -> list[str]:
    stem = _stem(name)
    return [stem + ending for ending in MASK_ENDINGS]


def _stem(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


def read_names(path: str | Path) -> Any:
    """The content of a JSON file. Raises InputError for a file that is not there or no JSON."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in found).items() if count > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is there twice")
        return dict(found)

    try:
        return json.loads(Path(path).expanduser().read_text(encoding="utf-8"), object_pairs_hook=pairs)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("names", f"{path} ({error})", 'a JSON file such as {"1": "sofa", "2": "cat"}') from None


def _classes(content: Any) -> tuple[dict[int, int], list[str]]:
    if isinstance(content, list):
        content = dict(enumerate(content))
    if not isinstance(content, dict) or not content:
        raise InputError("names", f"{type(content).__name__} without names", 'JSON such as {"1": "sofa", "2": "cat"}')
    ids: dict[int, int] = {}
    names: list[str] = []
    for key, name in content.items():
        try:
            identity = int(key)
        except ValueError:
            raise InputError("names", f"the id {key!r}", "whole numbers, the values of the masks") from None
        cleaned = clean_name(name) if isinstance(name, str) else ""
        same = [other for other in names if other.lower() == cleaned.lower()]
        if not cleaned:
            raise InputError("names", f"the name {name!r} of id {key}", "a text")
        if same:
            raise InputError("names", f"{cleaned!r} twice after cleaning", "every name once")
        ids[identity] = len(names)
        names.append(cleaned)
    return ids, names


def _coco(images: ImageDataset, folder: Path, content: dict[str, Any], file: str) -> CocoPanoptic:
    try:
        categories = {int(c["id"]): clean_name(c["name"]) for c in content["categories"]}
        stuff_ids = {int(c["id"]) for c in content["categories"] if not c.get("isthing", 1)}
        stems = {int(i["id"]): _stem(i["file_name"]) for i in content.get("images", [])}
        by_image: dict[str, tuple[str, list[dict[str, Any]]]] = {}
        for annotation in content["annotations"]:
            stem = stems.get(int(annotation["image_id"]), _stem(annotation["file_name"]))
            by_image[stem] = (annotation["file_name"], annotation["segments_info"])
        order = list(categories)
        names = list(categories.values())
        if len({name.lower() for name in names}) < len(names) or not names:
            raise InputError("names", f"{file}: categories of one name after cleaning, or none", "different names")
        crowds = 0
        rows, places, info = [], [], []
        for number in range(len(images)):
            found = by_image.get(_stem(images.image_name(number)))
            if found is None:
                continue
            real = [s for s in found[1] if not s.get("iscrowd", 0)]
            crowds += len(found[1]) - len(real)
            rows.append(number)
            places.append(folder / found[0])
            info.append([(int(s["id"]), order.index(int(s["category_id"]))) for s in real])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("names", f"{file} ({error!r})", "COCO's panoptic JSON") from None
    if not rows:
        raise InputError("names", f"{file}, without an annotation of {images.image_name(0)}", "the images' annotations")
    lost = [p for p in places if not p.is_file()]
    if lost:
        raise InputError("masks", f"{folder}, without {lost[0].name}", "every PNG that the JSON names")
    annotated = set(rows)
    notes = _notes(images, [places[0] if n in annotated else None for n in range(len(images))])
    if crowds:
        notes.append(f"{crowds} crowd segments left out")
    stuff = tuple(n for n, identity in enumerate(order) if identity in stuff_ids)
    return CocoPanoptic(images.subset(rows), names, stuff, notes, places, info)


def read_captions(path: str | Path) -> dict[str, list[str]]:
    """Captions of images by their name without its ending: COCO's captions JSON, or ``{"name": "caption"}``.

    Raises InputError for a file of another form.
    """
    content = read_names(path)
    try:
        if "annotations" in content:
            stems = {i["id"]: _stem(i["file_name"]) for i in content["images"]}
            found: dict[str, list[str]] = {}
            for one in content["annotations"]:
                found.setdefault(stems[one["image_id"]], []).append(str(one["caption"]))
            return found
        return {
            _stem(name): [text] if isinstance(text, str) else list(map(str, text)) for name, text in content.items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        form = 'COCO\'s captions JSON, or {"image": "caption"}'
        raise InputError("captions", f"{path} ({error!r})", form) from None
