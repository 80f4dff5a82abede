"""Images with masks on disk: folders, COCO's panoptic format, modes and depths, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paperworks.errors import InputError
from paperworks.papers.gkc.scene_files import read_captions, read_mask, read_names, read_scenes
from paperworks.papers.gkc.shape_world import BASE, COMBINATIONS, EVERY, NOVEL, held_out_name, make_scenes, synonyms_of

IDS = np.zeros((40, 50), np.int64)
IDS[5:15, 5:15], IDS[25:35, 5:15], IDS[:, 40:], IDS[0, 0] = 7, 7, 300, 255
NAMES = {"7": "sofa-other", "300": "wall"}


def write_mask(path: Path, ids: np.ndarray, kind: str) -> None:
    if kind == "palette":
        image = Image.fromarray((ids % 256).astype(np.uint8))
        image = image.convert("P")
        image.putdata((ids % 256).astype(np.uint8).ravel().tolist())
        image.putpalette([n for v in range(256) for n in (v, 255 - v, 7)])
    elif kind == "16":
        image = Image.fromarray(ids.astype(np.uint16))
    elif kind == "32":
        image = Image.fromarray(ids.astype(np.int32))
    else:
        image = Image.fromarray((ids % 256).astype(np.uint8))
    image.save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    images, masks = tmp_path / "images", tmp_path / "masks"
    (images / "sub").mkdir(parents=True)
    (masks / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)).save(images / "a.jpg")
    Image.fromarray(rng.integers(0, 255, (40, 50)).astype(np.uint8)).save(images / "b.png")
    Image.fromarray(rng.integers(0, 60000, (40, 50)).astype(np.uint16)).save(images / "sub" / "c.tif")
    Image.fromarray(rng.integers(0, 255, (40, 50, 4)).astype(np.uint8)).save(images / "alone.png")
    (images / "broken.png").write_bytes(b"no image")
    for name in ("a.png", "b_mask.png", "sub/c.png"):
        write_mask(masks / name, IDS, "16")
    names = tmp_path / "names.json"
    names.write_text(json.dumps(NAMES))
    return images, masks, names


def test_a_folder_of_masks(folders: tuple[Path, Path, Path]) -> None:
    found = read_scenes(*folders)
    assert len(found) == 3
    assert found.class_names == ["sofa", "wall"]
    scene = found.scene(0)
    assert scene.name == "a"
    assert [s.label for s in scene.segments] == [0, 1]
    assert np.array_equal(scene.label_map(ignore=-1), np.where(IDS == 7, 0, np.where(IDS == 300, 1, -1)))
    assert all(found.scene(n).image.shape == (40, 50, 3) for n in range(3))
    assert any("alone.png" in note and "1 image without a mask" in note for note in found.notes)
    assert any("broken.png" in note for note in found.notes)
    parts = read_scenes(*folders, instances="components").scene(0)
    assert [s.label for s in parts.segments] == [0, 0, 1]
    small = scene.resized((20, 25))
    assert small.image.shape == (20, 25, 3)
    assert np.array_equal(small.segments[1].mask, IDS[1::2, 1::2] == 300)


@pytest.mark.parametrize("kind", ["8", "16", "32", "palette"])
def test_depths_of_masks(tmp_path: Path, kind: str) -> None:
    file = tmp_path / ("mask.tif" if kind == "32" else "mask.png")
    ids = IDS if kind in ("16", "32") else IDS % 256
    write_mask(file, ids, kind)
    assert np.array_equal(read_mask(file), ids)


def test_ids_without_a_name_are_named(folders: tuple[Path, Path, Path]) -> None:
    images, masks, names = folders
    names.write_text('{"7": "sofa"}')
    with pytest.raises(InputError, match=r"a\.png with the ids \[300\], which have no name"):
        read_scenes(images, masks, names).scene(0)
    assert len(read_scenes(images, masks, names, ignore=(0, 255, 300)).scene(0).segments) == 1
    with pytest.raises(InputError, match=r"\[0, 255, 300\]"):
        read_scenes(images, masks, names, ignore=()).scene(0)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"x": "sofa"}',
        '{"1": 2}',
        '{"1": "a", "2": "a-other"}',
        '{"1": ""}',
        '{"1": "Sofa", "2": "sofa"}',
        '{"1": "sofa", "1": "wall"}',
    ],
)
def test_bad_names(folders: tuple[Path, Path, Path], content: str) -> None:
    folders[2].write_text(content)
    with pytest.raises(InputError, match="names"):
        read_scenes(*folders)


def test_bad_folders_and_masks(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, masks, names = folders
    with pytest.raises(InputError, match="masks"):
        read_scenes(images, tmp_path / "none", names)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="masks"):
        read_scenes(images, tmp_path / "empty", names)
    with pytest.raises(InputError, match="images"):
        read_scenes(tmp_path / "none", masks, names)
    write_mask(masks / "a.png", IDS[:20], "16")
    with pytest.raises(InputError, match=r"mask of a\.jpg"):
        read_scenes(*folders).scene(0)
    Image.new("RGB", (50, 40)).save(masks / "a.png")
    with pytest.raises(InputError, match="masks"):
        read_scenes(*folders).scene(0)
    (masks / "a.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="masks"):
        read_scenes(*folders).scene(0)


def test_images_of_one_name_and_small_ones(folders: tuple[Path, Path, Path]) -> None:
    images, masks, _ = folders
    Image.new("RGB", (50, 40)).save(images / "a.bmp")
    found = read_scenes(*folders)
    assert [name for name in found.names if name.startswith("a")] == ["a.bmp", "a.jpg"]
    Image.new("L", (31, 40)).save(images / "small.png")
    Image.fromarray(np.full((40, 31), 7, np.uint8)).save(masks / "small.png")
    found = read_scenes(*folders)
    with pytest.raises(InputError, match=r"small, 31 x 40 pixels; expected sides of 32 pixels or more"):
        found.scene(found.names.index("small"))


def test_coco(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, masks, names = folders
    identity = np.where(IDS == 7, 70000, np.where(IDS == 300, 515, 9))
    colours = np.stack([identity % 256, identity // 256 % 256, identity // 65536], -1).astype(np.uint8)
    Image.fromarray(colours).save(masks / "a.png")
    content = {
        "images": [{"id": 5, "file_name": "a.jpg"}],
        "categories": [{"id": 3, "name": "sofa", "isthing": 1}, {"id": 90, "name": "wall-other-merged", "isthing": 0}],
        "annotations": [
            {
                "image_id": 5,
                "file_name": "a.png",
                "segments_info": [
                    {"id": 70000, "category_id": 3, "iscrowd": 0},
                    {"id": 515, "category_id": 90, "iscrowd": 0},
                    {"id": 9, "category_id": 3, "iscrowd": 1},
                ],
            }
        ],
    }
    names.write_text(json.dumps(content))
    found = read_scenes(*folders)
    assert (len(found), found.class_names, found.stuff) == (1, ["sofa", "wall"], (1,))
    assert np.array_equal(found.scene(0).label_map(-1), np.where(IDS == 7, 0, np.where(IDS == 300, 1, -1)))
    assert any("1 crowd" in note for note in found.notes)
    content["annotations"][0]["segments_info"][0]["id"] = 71  # type: ignore[index]
    names.write_text(json.dumps(content))
    with pytest.raises(InputError, match="segment 71"):
        read_scenes(*folders).scene(0)
    del content["categories"]
    names.write_text(json.dumps(content))
    with pytest.raises(InputError, match="names"):
        read_scenes(*folders)


def test_captions(tmp_path: Path) -> None:
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({"a.jpg": "a cat", "b": ["two cats", "a dog"]}))
    assert read_captions(file) == {"a": ["a cat"], "b": ["two cats", "a dog"]}
    coco = {"images": [{"id": 1, "file_name": "x.jpg"}], "annotations": [{"image_id": 1, "caption": "a cat"}]}
    file.write_text(json.dumps(coco))
    assert read_captions(file) == {"x": ["a cat"]}
    file.write_text(json.dumps({"annotations": [{}], "images": []}))
    with pytest.raises(InputError, match="captions"):
        read_captions(file)
    with pytest.raises(InputError, match="names"):
        read_names(tmp_path / "none.json")


def test_the_shape_world() -> None:
    assert len(BASE) == 12
    assert {word for name in NOVEL for word in name.split()} == {word for name in BASE for word in name.split()}
    first, again = make_scenes(4, 3), make_scenes(4, 3)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    labels = {EVERY[s.label] for scene in make_scenes(30, 0) for s in scene.segments}
    assert not labels & set(NOVEL)
    for scene in make_scenes(10, 1, COMBINATIONS):
        assert (sum(s.mask.astype(int) for s in scene.segments) <= 1).all()
    names = [name for cls in EVERY for name in synonyms_of(cls)]
    assert len(set(names)) == len(names)
    held = {held_out_name(name) for name in COMBINATIONS}
    assert len(held) == 16
    assert not held & set(names)
