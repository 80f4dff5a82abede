"""Formats of images: arrays and archives, IDX, Parquet, datasets' folders, and data sets by name."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inputs.image_helpers import noise, rng
from paperworks.errors import InputError
from paperworks.inputs.images import (
    fashion_mnist,
    mnist,
    read_idx,
    read_images,
    write_idx,
    write_images,
)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("layout", ["nhw", "nhwc", "nchw"])
def test_arrays(tmp_path: Path, layout: str) -> None:
    images = {"nhw": noise(5, 6, 7), "nhwc": noise(5, 6, 7, 3), "nchw": noise(5, 3, 6, 7)}[layout]
    np.save(tmp_path / "a.npy", images)
    found = read_images(tmp_path / "a.npy", labels=[1, 0, 1, 4, 4])
    expected = images.transpose(0, 2, 3, 1) if layout == "nchw" else images
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert found.class_names == ("0", "1", "4")
    written = write_images(found.subset([3, 1]), tmp_path / "out", lambda i: 255 - found[[3, 1][i]])
    assert written.files == ("a.npy",)
    assert np.array_equal(np.load(tmp_path / "out/a.npy"), 255 - images[[3, 1]])


def test_archives_keep_keys_and_splits(tmp_path: Path) -> None:
    content = {
        "x_train": noise(4, 5, 5),
        "y_train": np.array([0, 1, 1, 0]),
        "x_test": noise(2, 5, 5),
        "y_test": np.array([1, 0]),
    }
    np.savez(tmp_path / "a.npz", **content)
    found = read_images(tmp_path / "a.npz")
    assert found.splits.tolist() == ["train"] * 4 + ["test"] * 2
    assert found.labels.tolist() == [0, 1, 1, 0, 1, 0]
    write_images(found.subset([1, 2, 5]), tmp_path / "out")
    with np.load(tmp_path / "out/a.npz") as written:
        assert {k: v.tolist() for k, v in written.items()} == {
            "x_train": content["x_train"][1:3].tolist(),
            "y_train": [1, 1],
            "x_test": content["x_test"][1:].tolist(),
            "y_test": [0],
        }


def test_ids_of_an_array_follow_the_content() -> None:
    images = noise(4, 3, 3)
    images[2] = images[0]
    ids = read_images(images).ids
    assert ids[2] == f"{ids[0]}-2"
    shuffled = read_images(images[[3, 0, 1]]).ids
    assert shuffled == [ids[3], ids[0], ids[1]]
    assert read_images(images).subset([2, 3]).ids == [ids[2], ids[3]]


def test_idx_with_labels_gzipped(tmp_path: Path) -> None:
    images, labels = noise(5, 4, 4), np.array([3, 1, 3, 0, 1], dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    for source in (tmp_path, tmp_path / "train-images-idx3-ubyte.gz"):
        found = read_images(source)
        assert np.array_equal(np.stack(list(found)), images)
        assert [found.class_names[i] for i in found.labels] == ["3", "1", "3", "0", "1"]
    write_images(found.subset([4, 0]), tmp_path / "out")
    assert np.array_equal(read_idx(tmp_path / "out/train-images-idx3-ubyte.gz"), images[[4, 0]])
    assert np.array_equal(read_idx(tmp_path / "out/train-labels-idx1-ubyte.gz"), labels[[4, 0]])
    write_idx(tmp_path / "more-labels-idx1-ubyte", labels[:2])
    (tmp_path / "more-images-idx3-ubyte").write_bytes(idx(images))
    with pytest.raises(InputError, match=r"\(5,\)"):
        read_images(tmp_path / "more-images-idx3-ubyte")


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_idx_of_every_type(tmp_path: Path, dtype: str) -> None:
    array = (rng().normal(size=(2, 3)) * 50).astype(dtype)
    write_idx(tmp_path / "a", array)
    back = read_idx(tmp_path / "a")
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def encoded(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def test_parquet_as_datasets_writes_it(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"]), "id": datasets.Value("string")}
    )
    images = noise(6, 5, 4)
    rows = {"img": [Image.fromarray(i) for i in images], "label": [0, 1, 1, 0, 1, 0], "id": list("abcdef")}
    made = datasets.Dataset.from_dict(rows, features=features)
    made.to_parquet(tmp_path / "train-00000-of-00001.parquet", batch_size=2)
    made.select([0, 1]).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    found = read_images(tmp_path)
    assert found.splits.tolist() == ["test"] * 2 + ["train"] * 6
    train = found.split("train")
    assert np.array_equal(np.stack([train[i] for i in (5, 0, 3)]), images[[5, 0, 3]])
    assert train.class_names == ("no", "yes")
    assert train.labels.tolist() == rows["label"]
    assert pickle.loads(pickle.dumps(train)).ids == ["a-2", "b-2", "c", "d", "e", "f"]
    write_images(train.subset([1, 2]), tmp_path / "out", 255 - images[1:3])
    back = datasets.load_dataset("parquet", data_files=str(tmp_path / "out/images.parquet"), cache_dir=tmp_path / "c")
    assert np.array_equal(np.asarray(back["train"][1]["img"]), 255 - images[2])
    assert back["train"].features["label"].names == ["no", "yes"]
    assert back["train"]["id"][:] == ["b", "c"]


def test_a_folder_of_datasets(tmp_path: Path) -> None:
    import datasets

    images = noise(5, 4, 4)
    rows = {"image": [{"bytes": encoded(i), "path": None} for i in images], "label": [0, 1, 0, 1, 1]}
    rows["image"][3] = {"bytes": b"nothing", "path": None}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    made = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": made.select(range(4)), "test": made.select([4])}).save_to_disk(tmp_path / "set")
    found = read_images(tmp_path / "set")
    assert found.splits.tolist() == ["train"] * 3 + ["test"]
    assert np.array_equal(np.stack(list(found)), images[[0, 1, 2, 4]])
    assert [b.name for b in found.broken] == ["row 3"]
    assert found.class_names == ("a", "b")
    made.save_to_disk(tmp_path / "single")
    assert len(read_images(tmp_path / "single")) == 4


def test_parquet_of_bytes_only(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = noise(3, 4, 4)
    pq.write_table(pa.table({"photo": [encoded(i) for i in images]}), tmp_path / "a.parquet")
    found = read_images(tmp_path / "a.parquet")
    assert found.labels is None
    assert np.array_equal(np.stack(list(found)), images)
    write_images(found.subset([2, 0]), tmp_path / "out")
    assert np.array_equal(read_images(tmp_path / "out")[0], images[2])


def test_digits_by_name() -> None:
    from sklearn.datasets import load_digits

    found = read_images("digits")
    assert np.allclose(found.array()[:, 0], load_digits().images / 16)
    assert found.n_classes == 10


def test_mnist(tmp_path: Path) -> None:
    arrays = []
    for part, n in (("train", 5), ("t10k", 3)):
        images, labels = noise(n, 28, 28), rng().integers(10, size=n, dtype=np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
        arrays += [images, labels]
    found = mnist(tmp_path)
    assert all(np.array_equal(a, b) and a.dtype == np.uint8 for a, b in zip(found, arrays, strict=True))
    assert read_images(tmp_path).splits.tolist() == ["test"] * 3 + ["train"] * 5


def test_broken_idx(tmp_path: Path) -> None:
    file = tmp_path / "x"
    with pytest.raises(InputError, match="without x"):
        read_idx(file)
    whole = idx(np.zeros((2, 3), dtype=np.uint8))
    for data in (b"", b"\0\0\x0d\x01\0\0\0\1", whole[:-1], whole + b"\0", whole[:6], b"\0\0\x07\x01", b"\x1f\x8bxx"):
        file.write_bytes(data)
        with pytest.raises(InputError, match="x: found"):
            read_idx(file)


def test_fashion_mnist(tmp_path: Path) -> None:
    for label in range(10):
        rows = [[(label * 7 + i) % 256] * 784 for i in range(5)]
        (tmp_path / f"{label}.json").write_text(json.dumps({"data": [*rows, []]}))
    found = fashion_mnist(tmp_path, test_per_class=3)
    assert found.train.shape == (20, 28, 28)
    assert found.test.shape == (30, 28, 28)
    assert np.bincount(found.test_labels).tolist() == [3] * 10
    assert found.test[:, 5, 5].tolist() == [label * 7 + i for label in range(10) for i in (2, 3, 4)]
    with pytest.raises(InputError, match=r"0\.json: found 5 rows"):
        fashion_mnist(tmp_path)
    (tmp_path / "3.json").write_text(json.dumps({"data": [[1] * 783] * 5}))
    with pytest.raises(InputError, match=r"3\.json"):
        fashion_mnist(tmp_path, test_per_class=3)
