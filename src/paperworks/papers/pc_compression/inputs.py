"""The user's arrays, images and tables as rows of codes, and back."""

from __future__ import annotations

import base64
import json
import lzma
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from paperworks import inputs
from paperworks.errors import InputError
from paperworks.inputs import images as image_sets
from paperworks.inputs.images import IMAGE_SUFFIXES
from paperworks.inputs.kinds import require_text, whole_array
from paperworks.papers.pc_compression.codes import BUNDLED, MAX_CATEGORIES
from paperworks.papers.pc_compression.pictures import Picture, read_folder, read_picture, same_pictures, write_pictures

LARGEST_ROW = 3072
"""Values of a row (an image of 32 x 32 in colour); larger images are cut into patches."""
MODELLED_VALUES = 256
"""A column of a table with more different values than this is kept beside the model's code, under xz."""

Content: TypeAlias = np.ndarray | list[Picture] | pd.DataFrame


class Layout(ABC):
    """How content becomes rows of codes. It is kept with the model, so that new content is laid out alike."""

    kind: ClassVar[str]
    categories: int
    image_shape: tuple[int, ...] | None = None

    @abstractmethod
    def encode(self, content: Content) -> tuple[np.ndarray, dict[str, Any]]:
        """Codes [N, D], and what else is needed to put the content back."""

    @abstractmethod
    def decode(self, codes: np.ndarray, rest: dict[str, Any]) -> Content:
        """The content."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""

    def raw(self, content: Content) -> bytes:
        """The plain bytes that general coders are given."""
        return self.encode(content)[0].astype(np.uint8 if self.categories <= 256 else np.uint16).tobytes()

    def text(self, codes: np.ndarray) -> bytes | None:
        """The rows as the text of a file, for general coders; None where the codes themselves are what they get."""
        return None

    def variable_names(self, n: int) -> list[str]:
        """Names of the variables, for tables and figures."""
        return [str(i) for i in range(n)]


@dataclass
class ArrayLayout(Layout):
    """An integer array [N, ...]: a row per entry of the first axis, or the patches of each entry."""

    shape: tuple[int, ...]
    lowest: int
    categories: int
    patch: int
    kind: ClassVar[str] = "array"

    @classmethod
    def of(cls, content: np.ndarray, patch: int) -> ArrayLayout:
        if not np.issubdtype(content.dtype, np.integer) and content.dtype != bool:
            raise InputError("input", f"values of type {content.dtype}", "whole numbers: quantise first")
        if content.ndim < 2 or 0 in content.shape:
            raise InputError("input", f"an array of shape {content.shape}", "rows: [N, D] or [N, height, width]")
        lowest, highest = int(content.min()), int(content.max())
        if content.dtype == np.uint8 and highest > 127:
            lowest, highest = 0, 255
        lowest = min(lowest, 0)
        if highest - lowest >= MAX_CATEGORIES:
            raise InputError("input", f"values from {lowest} to {highest}", f"at most {MAX_CATEGORIES}: quantise first")
        shape = tuple(content.shape[1:])
        if not patch and content[0].size > LARGEST_ROW:
            if content.ndim < 3:
                raise InputError("input", f"{content[0].size} values per row", f"at most {LARGEST_ROW}, or images")
            patch = 8
        if patch and content.ndim < 3:
            raise InputError(
                "patch", f"{patch} for rows of {shape}", "images: [N, height, width] or [N, h, w, channels]"
            )
        return cls((patch, patch, *shape[2:]) if patch else shape, lowest, highest - lowest + 1, patch)

    @property
    def image_shape(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return self.shape if len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[2] == 3) else None

    def encode(self, content: Content) -> tuple[np.ndarray, dict[str, Any]]:
        assert isinstance(content, np.ndarray)
        rest = {"shape": list(content.shape), "dtype": str(content.dtype)}
        if content.ndim < 2 or (not self.patch and content.shape[1:] != self.shape):
            raise InputError("input", f"rows of shape {content.shape[1:]}", f"{self.shape}, as the model has")
        if self.patch and (content.ndim != len(self.shape) + 1 or content.shape[3:] != self.shape[2:]):
            raise InputError("input", f"rows of shape {content.shape[1:]}", f"patches of {self.shape} fit into them")
        if not np.issubdtype(content.dtype, np.integer) and content.dtype != bool:
            raise InputError("input", f"values of type {content.dtype}", "whole numbers")
        values = content.astype(np.int64) - self.lowest
        bad = (values < 0) | (values >= self.categories)
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            span = f"{self.lowest} to {self.lowest + self.categories - 1}, as the model has"
            raise InputError(f"input{list(where)}", content[where], span)
        if self.patch:
            values = np.concatenate([cut(image, self.patch) for image in values])
        return values.reshape(len(values), -1).astype(np.uint16), rest

    def decode(self, codes: np.ndarray, rest: dict[str, Any]) -> Content:
        shape = tuple(rest["shape"])
        values = codes.astype(np.int64) + self.lowest
        if self.patch:
            pieces = values.reshape(shape[0], -1, *self.shape)
            values = np.stack([join(p, shape[1:3]) for p in pieces])
        return values.reshape(shape).astype(rest["dtype"])

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "lowest": self.lowest,
            "categories": self.categories,
            "patch": self.patch,
        }


@dataclass
class ImagesLayout(Layout):
    """Images of files: a row per image, or per patch. Grey ones among coloured ones are coded as coloured."""

    shape: tuple[int, ...]
    patch: int
    kind: ClassVar[str] = "images"
    categories: int = 256

    @classmethod
    def of(cls, content: list[Picture], patch: int) -> ImagesLayout:
        pixels = [picture.pixels for picture in content if not picture.kept]
        if not pixels:
            modes = ", ".join(dict.fromkeys(picture.about["mode"] for picture in content))
            found = f"an image of mode {modes}" if len(content) == 1 else f"images of mode {modes}"
            raise InputError(content[0].name, found, "8-bit grey (L) or RGB, without transparency")
        first = max(pixels, key=lambda image: image.ndim)
        same = all(image.shape == first.shape for image in pixels)
        if not patch and (not same or first.size > LARGEST_ROW):
            patch = 8
        return cls((patch, patch, *first.shape[2:]) if patch else first.shape, patch)

    @property
    def image_shape(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return self.shape

    def encode(self, content: Content) -> tuple[np.ndarray, dict[str, Any]]:
        assert isinstance(content, list)
        rows = []
        grey = [i for i, picture in enumerate(content) if 1 < picture.pixels.ndim < len(self.shape)]
        for i, (name, image, _) in enumerate(content):
            if image.ndim == 1:
                continue
            if i in grey:
                image = np.stack([image] * 3, axis=2)
            if image.shape[2:] != self.shape[2:] or (not self.patch and image.shape != self.shape):
                raise InputError(name, f"an image of shape {image.shape}", f"{self.shape}, as the model has")
            rows.append(cut(image, self.patch) if self.patch else image[None])
        if not rows:
            raise InputError("input", "no image that the model codes", "8-bit grey (L) or RGB images among them")
        codes = np.concatenate(rows)
        return codes.reshape(len(codes), -1).astype(np.uint16), {
            "names": [picture.name for picture in content],
            "sizes": [list(picture.pixels.shape[:2]) for picture in content],
            "grey": grey,
            "about": {i: picture.about for i, picture in enumerate(content) if picture.about},
            "kept": {
                i: base64.b64encode(picture.pixels.tobytes()).decode()
                for i, picture in enumerate(content)
                if picture.kept
            },
        }

    def decode(self, codes: np.ndarray, rest: dict[str, Any]) -> Content:
        found: list[Picture] = []
        at = 0
        pieces = codes.astype(np.uint8).reshape(-1, *self.shape)
        kept, abouts = rest.get("kept", {}), rest.get("about", {})
        for i, (name, size) in enumerate(zip(rest["names"], rest["sizes"], strict=True)):
            about = abouts.get(str(i), {})
            if str(i) in kept:
                found.append(Picture(name, np.frombuffer(base64.b64decode(kept[str(i)]), np.uint8), about))
                continue
            height, width = size
            count = -(-height // self.patch) * -(-width // self.patch) if self.patch else 1
            part = pieces[at : at + count]
            image = join(part, (height, width)) if self.patch else part[0]
            found.append(Picture(name, image[..., 0] if i in rest["grey"] else image, about))
            at += count
        return found

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "shape": list(self.shape), "patch": self.patch}


@dataclass
class TableLayout(Layout):
    """A table as text cells: a code per value of a column, the last code for values that training did not have.

    Columns with too many values are kept beside, as are the new values.
    """

    columns: list[str]
    values: dict[str, list[str]]
    kind: ClassVar[str] = "table"

    @classmethod
    def of(cls, content: pd.DataFrame) -> TableLayout:
        values = {}
        for name in content.columns:
            found = sorted(content[name].unique().tolist())
            if len(found) <= MODELLED_VALUES:
                values[name] = found
        if not values:
            raise InputError(
                "input",
                f"no column with at most {MODELLED_VALUES} different values",
                "some columns of categories or small whole numbers; round the others",
            )
        return cls(list(content.columns), values)

    @property
    def categories(self) -> int:  # type: ignore[override]
        return max(len(v) for v in self.values.values()) + 1

    def encode(self, content: Content) -> tuple[np.ndarray, dict[str, Any]]:
        assert isinstance(content, pd.DataFrame)
        if list(content.columns) != self.columns:
            raise InputError(
                "input", f"columns {', '.join(content.columns)}", f"{', '.join(self.columns)}, in this order"
            )
        codes, fresh = [], {}
        for name, known in self.values.items():
            code = pd.Categorical(content[name], categories=known).codes.astype(np.int64)
            unknown = code < 0
            if unknown.any():
                fresh[name] = content[name][unknown].tolist()
            codes.append(np.where(unknown, len(known), code))
        beside = {name: content[name].tolist() for name in self.columns if name not in self.values}
        return np.stack(codes, 1).astype(np.uint16), {"new": fresh, "beside": beside}

    def decode(self, codes: np.ndarray, rest: dict[str, Any]) -> Content:
        cells: dict[str, Any] = dict(rest["beside"])
        for (name, known), code in zip(self.values.items(), codes.T, strict=True):
            column = np.array([*known, ""], dtype=object)[code]
            if name in rest["new"]:
                column[code == len(known)] = rest["new"][name]
            cells[name] = column
        return pd.DataFrame({name: cells[name] for name in self.columns}, dtype=object)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "columns": self.columns, "values": self.values}

    def raw(self, content: Content) -> bytes:
        assert isinstance(content, pd.DataFrame)
        return content.to_csv(index=False).encode()

    def text(self, codes: np.ndarray) -> bytes | None:
        if len(self.columns) > len(self.values):
            return None  # the columns beside the code are not among these rows
        return self.raw(self.decode(codes, {"new": {}, "beside": {}}))

    def variable_names(self, n: int) -> list[str]:
        return list(self.values)


def layout_of(content: Content, patch: int = 0) -> Layout:
    """The layout that fits. ``patch``: side of the squares that images are cut into (0: only large ones, into 8)."""
    if isinstance(content, np.ndarray):
        return ArrayLayout.of(content, patch)
    if isinstance(content, list):
        return ImagesLayout.of(content, patch)
    return TableLayout.of(content)


def layout_from(data: dict[str, Any]) -> Layout:
    """Read back ``to_dict``."""
    match data.get("kind"):
        case "array":
            return ArrayLayout(tuple(data["shape"]), data["lowest"], data["categories"], data["patch"])
        case "images":
            return ImagesLayout(tuple(data["shape"]), data["patch"])
        case "table":
            return TableLayout(data["columns"], data["values"])
    raise InputError("model", "one that does not say how its input was laid out", "a model that the recipe trained")


def read(name: str) -> tuple[Content, Content | None]:
    """Content of a bundled set, an array file, images or a table; and its published test part if it has one."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return load_digits().images.astype(np.uint8), None
    if name in ("mnist", "fashion-mnist"):
        folder = inputs.path(name)
        found = image_sets.mnist(folder) if name == "mnist" else image_sets.fashion_mnist(folder)
        return found.train, found.test
    path = Path(name).expanduser()
    if path.is_dir():
        return read_folder(path), None
    if not path.is_file():
        raise InputError("input", f"{name}, which does not exist", f"a file, a folder, or one of {', '.join(BUNDLED)}")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        try:
            return whole_array(path), None
        except (ValueError, EOFError, OSError, BadZipFile) as error:
            raise InputError("input", f"{path} ({error})", "a .npy file of whole numbers") from None
    if suffix in IMAGE_SUFFIXES:
        return [read_picture(path, path.name)], None
    if suffix in (".csv", ".tsv", ".txt"):
        return _read_table(path), None
    raise InputError("input", path.name, f".npy, .csv, .tsv, or images ({', '.join(IMAGE_SUFFIXES)})")


def write(content: Content, folder: Path, name: str) -> str:
    """Write content that was decoded, in the format it came in (images as PNG, or kept files); returns its name."""
    if isinstance(content, np.ndarray):
        np.save(folder / f"{name}.npy", content)
        return f"{name}.npy"
    if isinstance(content, pd.DataFrame):
        content.to_csv(folder / f"{name}.csv", index=False)
        return f"{name}.csv"
    write_pictures(content, folder / name)
    return name


def same(a: Content, b: Content) -> bool:
    """Whether two contents are equal to the last value."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, pd.DataFrame) and isinstance(b, pd.DataFrame):
        return list(a.columns) == list(b.columns) and bool((a.to_numpy() == b.to_numpy()).all())
    if isinstance(a, list) and isinstance(b, list):
        return same_pictures(a, b)
    return False


def pack(rest: dict[str, Any]) -> bytes:
    """What stands beside the codes, as bytes of the compressed file."""
    return lzma.compress(json.dumps(rest, ensure_ascii=False, separators=(",", ":")).encode(), preset=9)


def unpack(data: bytes) -> dict[str, Any]:
    """Read back ``pack``."""
    return json.loads(lzma.decompress(data))


def cut(image: np.ndarray, side: int) -> np.ndarray:
    """Square patches of an image [h, w, ...], row by row; the edge is repeated where it does not divide."""
    height, width = image.shape[:2]
    rest = ((0, -height % side), (0, -width % side), *((0, 0) for _ in image.shape[2:]))
    padded = np.pad(image, rest, mode="edge")
    rows, columns = padded.shape[0] // side, padded.shape[1] // side
    blocks = padded.reshape(rows, side, columns, side, *image.shape[2:]).swapaxes(1, 2)
    return blocks.reshape(rows * columns, side, side, *image.shape[2:])


def join(patches: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The image that ``cut`` made the patches from."""
    side = patches.shape[1]
    rows, columns = -(-size[0] // side), -(-size[1] // side)
    blocks = patches.reshape(rows, columns, side, side, *patches.shape[3:]).swapaxes(1, 2)
    return blocks.reshape(rows * side, columns * side, *patches.shape[3:])[: size[0], : size[1]]


def _read_table(path: Path) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else None
    with path.open("rb") as stream:
        require_text(path, stream.read(1 << 16), "a table of text in UTF-8 with one line of names")
    try:
        if separator is None:
            first = path.open(encoding="utf-8").readline()
            separator = max(",;\t|", key=first.count)
        found = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, na_filter=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError("input", f"{path.name} ({error})", "a table of text in UTF-8 with one line of names") from None
    if found.empty:
        raise InputError("input", f"{path.name}, without rows", "a table with rows")
    return found.astype(object)
