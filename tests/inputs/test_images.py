"""Image sets in every form: what is read is what was written, broken files are named, and writing loses nothing."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inputs.image_helpers import noise
from paperworks.errors import InputError
from paperworks.inputs.images import (
    as_batch,
    decode_image,
    encode_image,
    read_images,
    write_images,
)
from paperworks.inputs.images.png16 import read_png16, write_png16


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes, three sizes, seven modes, and files that cannot be read."""
    folder = tmp_path / "pets"
    for name, image in {
        "cat/a.png": Image.fromarray(noise(6, 5)),
        "cat/b.jpg": Image.fromarray(noise(6, 5, 3)),
        "cat/deep.png": Image.fromarray(noise(6, 5, dtype="uint16")),
        "dog/alpha.png": Image.fromarray(noise(6, 5, 4)),
        "dog/one.tiff": Image.fromarray(noise(4, 7)).convert("1"),
        "dog/palette.png": Image.fromarray(noise(6, 5, 3)).quantize(16),
        "dog/print.tif": Image.fromarray(noise(6, 5, 3)).convert("CMYK"),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    frames = [Image.fromarray(noise(8, 8)), Image.fromarray(255 - noise(8, 8))]
    frames[0].save(folder / "dog/z.gif", save_all=True, append_images=frames[1:])
    (folder / "cat/broken.png").write_bytes((folder / "cat/a.png").read_bytes()[:40])
    (folder / "dog/text.jpg").write_text("not an image")
    (folder / "readme.txt").write_text("x")
    (folder / ".hidden.png").write_text("x")
    return folder


def test_a_folder_of_classes_names_what_is_broken_and_animated(pets: Path) -> None:
    found = read_images(pets)
    assert len(found) == 8
    assert found.class_names == ("cat", "dog")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert found.ids == [found.image_name(i) for i in range(8)]
    assert [b.name for b in found.broken] == ["cat/broken.png", "dog/text.jpg"]
    assert found.animated == ("dog/z.gif",)
    assert dict(zip(found.ids, found.modes, strict=True)) == {
        "cat/a.png": "L",
        "cat/b.jpg": "RGB",
        "cat/deep.png": "I;16",
        "dog/alpha.png": "RGBA",
        "dog/one.tiff": "1",
        "dog/palette.png": "P",
        "dog/print.tif": "CMYK",
        "dog/z.gif": "P",
    }
    text = found.describe()
    for words in ("8 images", "cat 3, dog 5", "2 left out", "cat/broken.png", "1 with several frames", "1 .txt"):
        assert words in text
    assert np.array_equal(found[0], noise(6, 5))
    assert np.array_equal(found[2], noise(6, 5, dtype="uint16"))
    with pytest.raises(InputError, match=r"cat/broken\.png"):
        read_images(pets, broken="error")


def test_without_verifying_a_broken_image_raises_when_it_is_asked_for(pets: Path) -> None:
    found = read_images(pets, verify=False)
    assert len(found) == 10
    with pytest.raises(InputError, match=r"broken\.png") as error:
        found[found.ids.index("cat/broken.png")]
    assert error.value.field == "cat/broken.png"


def test_mixed_sizes_are_resized_by_the_rule_asked_for(pets: Path) -> None:
    found = read_images(pets)
    with pytest.raises(InputError, match="3 sizes"):
        found.array()
    batch = found.array(size=(8, 8))
    assert batch.shape == (8, 3, 8, 8)
    assert batch.dtype == np.float32
    assert 0 <= batch.min() <= batch.max() <= 1
    wide = noise(4, 8, 3)
    cropped = as_batch([wide], size=(4, 4), fit="crop", dtype="uint8")[0]
    assert np.array_equal(cropped, wide[:, 2:6].transpose(2, 0, 1))
    padded = as_batch([wide], size=(8, 8), fit="pad", dtype="uint8")[0]
    assert np.array_equal(padded[:, 2:6], wide.transpose(2, 0, 1))
    assert not padded[:, [0, 1, 6, 7]].any()
    peer = np.asarray(Image.fromarray(wide[..., 0]).resize((3, 2), Image.Resampling.BILINEAR))
    assert np.array_equal(as_batch([wide[..., 0]], size=(2, 3), dtype="uint8")[0, 0], peer)


def test_depths_and_channels() -> None:
    colour = noise(3, 4, 3)
    grey = as_batch([colour], channels=1, dtype="uint8")[0, 0].astype(int)
    assert abs(grey - np.asarray(Image.fromarray(colour).convert("L")).astype(int)).max() <= 1
    deep = noise(3, 4, dtype="uint16")
    assert np.allclose(as_batch([deep])[0, 0], deep / 65535, atol=1e-7)
    assert as_batch([np.array([[0, 255]], dtype=np.uint8)], channels=3).tolist() == [[[[0, 1]]] * 3]
    clear = np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], dtype=np.uint8)
    assert as_batch([clear], dtype="uint8")[0, :, 0].T.tolist() == [[255, 255, 255], [10, 20, 30]]
    assert as_batch([clear], dtype="uint8", background=0)[0, :, 0, 0].tolist() == [0, 0, 0]
    assert as_batch([np.array([[-3, 5]], dtype=np.int32)], value_range=(-3, 5))[0, 0].tolist() == [[0, 1]]
    for bad in (np.array([[1, 2]], dtype=np.int32), np.array([[0.5, 1.5]]), np.array([[np.nan]])):
        with pytest.raises(InputError) as error:
            as_batch([bad])
        assert error.value.field == "value_range"


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    stored = decode_image(tmp_path / "a.png")
    assert stored.oriented
    assert np.array_equal(stored.pixels, np.rot90(pixels, -1))


@pytest.mark.parametrize("orientation", range(1, 10))
def test_a_deep_photograph_is_turned_as_pillow_turns_a_shallow_one(orientation: int, tmp_path: Path) -> None:
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    shallow = io.BytesIO()
    Image.fromarray(pixels).save(shallow, "PNG", exif=exif)
    raw = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(raw)) + b"eXIf" + raw + struct.pack(">I", zlib.crc32(b"eXIf" + raw))
    deep = write_png16(pixels.astype(np.uint16) * 257)
    found = decode_image(deep[:33] + chunk + deep[33:])
    assert np.array_equal(found.pixels, decode_image(shallow.getvalue()).pixels.astype(np.uint16) * 257)
    assert found.oriented == (2 <= orientation <= 8)


def test_nested_splits_and_flat_folders(tmp_path: Path) -> None:
    for name in ("train/x/0.png", "train/y/0.png", "val/x/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(2, 2)).save(tmp_path / name)
    found = read_images(tmp_path)
    assert found.splits.tolist() == ["train", "train", "validation"]
    assert found.class_names == ("x", "y")
    assert found.split("validation").ids == ["val/x/1.png"]
    with pytest.raises(InputError, match="did you mean 'train'"):
        read_images(tmp_path, split="trian")
    flat = read_images(tmp_path / "train" / "x")
    assert flat.labels is None
    with pytest.raises(InputError) as error:
        flat.require_labels()
    assert error.value.field == "labels"


def test_label_tables(pets: Path, tmp_path: Path) -> None:
    table = pets / "labels.csv"
    table.write_text("file;who;class\ncat/a.png;x;2\ndog/alpha.png;y;10\ncat/gone.png;z;2\ncat/b.jpg;w;\n")
    found = read_images(pets)
    assert found.class_names == ("2", "10")  # as numbers, not as text
    assert found.labels.tolist() == [0, 1, -1]
    assert [(b.name, b.reason) for b in found.broken] == [("cat/gone.png", "no such file")]
    assert "not named in it" in found.describe()
    with pytest.raises(InputError, match="1 images without one"):
        found.require_labels()
    assert read_images(table, label_column="who").class_names == ("w", "x", "y")
    with pytest.raises(InputError) as error:
        read_images(table, label_column="klass")
    assert error.value.field == "label_column"
    written = write_images(found.subset([0, 2]), tmp_path / "out")
    again = read_images(written.folder)
    assert again.ids == ["cat/a.png", "cat/b.png"]
    assert again.labels.tolist() == [0, -1]


def test_writing_a_folder_loses_nothing(pets: Path, tmp_path: Path) -> None:
    found = read_images(pets)
    written = write_images(found, tmp_path / "out")
    again = read_images(written.folder)
    assert len(again) == len(found)
    by_id = {name: i for i, name in enumerate(again.ids)}
    for i, name in enumerate(written.files):
        assert np.array_equal(again[by_id[name]], found[i])
        assert again[by_id[name]].dtype == found[i].dtype
    assert "cat/b.png" in written.files
    assert any("JPEG" in note and "cat/b.jpg" in note for note in written.notes)
    assert again.stored(by_id["dog/one.tiff"]).mode == "1"
    assert again.stored(by_id["cat/deep.png"]).mode == "I;16"
    with pytest.raises(InputError, match="JPEG"):
        write_images(found, tmp_path / "other", format="jpeg")
    with pytest.raises(InputError, match="nothing is overwritten"):
        write_images(found, tmp_path / "out")
    with pytest.raises(InputError, match="7 images"):
        write_images(found, tmp_path / "other", [found[0]] * 7)
    with pytest.raises(InputError, match="float64"):
        write_images(found, tmp_path / "other", lambda i: found[i].astype(float))
    assert not (tmp_path / "other").exists()


def test_two_names_never_become_one_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(noise(3, 3)).save(tmp_path / "in/a.png")
    Image.fromarray(noise(3, 3)).save(tmp_path / "in/a.jpg")
    assert write_images(read_images(tmp_path / "in"), tmp_path / "out").files == ("a.jpg.png", "a.png")


@pytest.mark.parametrize("wanted", ["PNG", "TIFF", "BMP", "WEBP", "PPM", "JPEG"])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((3, 5), "uint8"),
        ((3, 5, 2), "uint8"),
        ((3, 5, 3), "uint8"),
        ((3, 5, 4), "uint8"),
        ((3, 5), "uint16"),
        ((3, 5, 2), "uint16"),
        ((3, 5, 3), "uint16"),
        ((3, 5, 4), "uint16"),
        ((3, 5), "int32"),
    ],
)
def test_every_depth_is_written_so_that_it_reads_back(wanted: str, shape: tuple[int, ...], dtype: str) -> None:
    pixels = noise(*shape, dtype=dtype)
    data, got = encode_image(pixels, wanted)
    back = decode_image(data).pixels
    assert back.dtype == pixels.dtype
    assert np.array_equal(back, pixels)
    assert got != "JPEG"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([2, 3, 4]), st.integers(0, 2**32 - 1), st.booleans())
def test_deep_png_of_every_filter(height: int, width: int, channels: int, seed: int, smooth: bool) -> None:
    import zlib

    draw = np.random.default_rng(seed)
    pixels = draw.integers(65536, size=(height, width, channels), dtype=np.uint16)
    if smooth:
        pixels = np.sort(pixels, axis=1)
    assert np.array_equal(read_png16(write_png16(pixels)), pixels)
    # the five filters, written byte by byte as the PNG specification defines them
    step, raw = 2 * channels, pixels.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    lines = b""
    for y in range(height):
        kind = int(draw.integers(5))
        line = [kind]
        for i in range(raw.shape[1]):
            a = raw[y, i - step] if i >= step else 0
            b = raw[y - 1, i] if y else 0
            c = raw[y - 1, i - step] if y and i >= step else 0
            paeth = min((a, b, c), key=lambda v, p=a + b - c: abs(p - v))
            line.append((raw[y, i] - [0, a, b, (a + b) // 2, paeth][kind]) % 256)
        lines += bytes(int(v) for v in line)
    whole = write_png16(pixels)
    start = whole.index(b"IDAT") - 4
    body = zlib.compress(lines)
    data = whole[:start] + struct.pack(">I", len(body)) + b"IDAT" + body
    data += struct.pack(">I", zlib.crc32(b"IDAT" + body)) + whole[-12:]
    assert np.array_equal(decode_image(data).pixels, pixels)


def test_deep_png_shows_the_same_image_to_others() -> None:
    pixels = noise(4, 5, 3, dtype="uint16")
    with Image.open(io.BytesIO(write_png16(pixels))) as image:
        image.load()
        assert np.array_equal(np.asarray(image), (pixels >> 8).astype(np.uint8))
    for data in (write_png16(pixels)[:-40], write_png16(pixels)[:60]):
        with pytest.raises(OSError, match=r"damaged|bytes of pixels|truncated|cut|image"):
            decode_image(data)


def test_cache_in_memory_and_in_a_file(pets: Path, tmp_path: Path) -> None:
    found = read_images(pets)
    cached = found.cached(size=(6, 6))
    mapped = found.cached(size=(6, 6), file=tmp_path / "cache.npy")
    expected = found.array(size=(6, 6), dtype="uint8")
    for one in (cached, mapped):
        assert np.array_equal(one.array(dtype="uint8"), expected)
        assert one.ids == found.ids
        assert one.labels.tolist() == found.labels.tolist()
    with pytest.raises(InputError, match="864 bytes"):
        found.cached(size=(6, 6), max_bytes=863)
    with pytest.raises(InputError, match="nothing is overwritten"):
        found.cached(size=(6, 6), file=tmp_path / "cache.npy")


@pytest.mark.parametrize(
    ("source", "options", "field"),
    [
        ("digit", {}, "images"),
        ("a.txt", {}, "images"),
        ("empty", {}, "images"),
        ("bad.npz", {}, "images"),
        ("bad.npy", {}, "images"),
        ("two.npz", {}, "image_key"),
        ("two.npz", {"image_column": "c"}, "image_key"),
        ("table.csv", {}, "file_column"),
        ("bad.parquet", {}, "images"),
        ("no-images.parquet", {}, "image_column"),
        (np.zeros((2, 64)), {}, "images"),
        (np.zeros((2, 3, 8, 3)), {}, "layout"),
        (np.zeros((2, 5, 8, 7)), {}, "layout"),
        (np.zeros((2, 5, 8, 7)), {"layout": "channels_last"}, "images"),
        (np.zeros((2, 8, 8)), {"labels": [1]}, "labels"),
        (np.zeros((2, 8, 8)), {"labels": [[1], [2]]}, "labels"),
        (np.array(["a"]), {}, "images"),
        (np.zeros((2, 8, 8)), {"split": "train"}, "split"),
        (np.zeros((2, 8, 8)), {"broken": "skip"}, "broken"),
    ],
)
def test_bad_sources_name_the_field(tmp_path: Path, source: object, options: dict, field: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "empty").mkdir()
    for name in ("a.txt", "bad.npz", "bad.npy", "bad.parquet"):
        (tmp_path / name).write_text("words")
    np.savez(tmp_path / "two.npz", a=np.zeros((1, 2, 2)), b=np.zeros((1, 2, 2)))
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "no-images.parquet")
    with pytest.raises(InputError) as error:
        read_images(tmp_path / source if isinstance(source, str) else source, **options)
    assert error.value.field == field
