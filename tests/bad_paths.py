"""Files and folders that few readers can use, and whole ones of kinds that most readers do not expect."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

GARBAGE = bytes(range(256)) * 24


def png(width: int, height: int, *, whole: bool = False) -> bytes:
    """A grey image; unless ``whole``, its pixels are cut off after the header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    if not whole:
        return head + b"\x00\x00"
    rows = b"".join(b"\x00" + bytes((x * 7 + y * 3) % 256 for x in range(width)) for y in range(height))
    return head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def safetensors(header: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def numpy_header(shape: tuple[int, ...]) -> bytes:
    """An .npy file that promises an array and holds none of it."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return out.getvalue() + bytes(64)


def zipped(names: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return out.getvalue()


def tables() -> dict[str, bytes]:
    """Text tables: too little in them, odd columns, odd encodings, something else under their name."""
    rows = [f"{i},{i}.5,c{i % 3}" for i in range(30)]
    body = "\n".join(rows) + "\n"
    texts = {
        "empty.csv": "",
        "blank.csv": "\n\n \n",
        "header.csv": "a,b,y\n",
        "one-line.csv": "1,2,3",
        "one-row.csv": "a,b,y\n1,2,u\n",
        "one-column.csv": "y\n1\n2\n3\n",
        "ragged.csv": "a,b,y\n1,2,u\n1,2\n1,2,3,4\n",
        "quote.csv": 'a,b,y\n1,"2,u\n3,4,v\n',
        "huge.csv": "x,y\n1e400,1\n-1e308,2\n1e308,3\nnan,4\ninf,5\n",
        "float32.csv": "a,b,y\n" + "".join(f"1e{30 + i},-{i}e38,c{i % 2}\n" for i in range(20)),
        "constant.csv": "a,b,y\n" + "".join(f"{i},{i * i},u\n" for i in range(30)),
        "same-rows.csv": "a,b,y\n" + "1,2,u\n" * 30,
        "different.csv": "a,b,y\n" + "".join(f"{i},{i}.5,c{i}\n" for i in range(30)),
        "same-names.csv": f"a,a,y\n{body}",
        "no-names.csv": f",,\n{body}",
        "missing-column.csv": "a,b,y\n" + "".join(f"{i},,c{i % 3}\n" for i in range(30)),
        "missing-label.csv": "a,b,y\n" + "".join(f"{i},{i},\n" for i in range(30)),
        "mixed.csv": "a,b,y\n" + "".join(f"{i if i % 2 else 'x' + str(i)},{i},{i % 2}\n" for i in range(30)),
        "wide.csv": ",".join(f"c{i}" for i in range(400)) + ",y\n" + ",".join(["1"] * 400) + ",u\n",
        "whole.csv": f"a,b,y\n{body}",
        "page.csv": "<!DOCTYPE html>\n<html><body>404: Not Found</body></html>\n",
        "pointer.csv": "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123\n",
        "long.txt": "word " * 100_000,
        "whole.txt": "one line\nand another, of words\n" * 20,
    }
    files = {name: text.encode() for name, text in texts.items()}
    packed = gzip.compress("".join(f"{i},{i * i % 997},c{i % 3}\n" for i in range(60_000)).encode(), 1)
    return files | {
        "cut.csv.gz": packed[: len(packed) // 2],
        "damaged.csv.gz": packed[:2000] + bytes(500) + packed[2500:],
        "damaged.txt.gz": packed[:100] + bytes(500) + packed[600:],
        "damaged.jsonl.gz": packed[:100] + bytes(500) + packed[600:],
        "bom.csv": b"\xef\xbb\xbf" + f"a,b,y\n{body}".encode(),
        "crlf.csv": f"a,b,y\n{body}".replace("\n", "\r\n").encode(),
        "cr.csv": f"a,b,y\n{body}".replace("\n", "\r").encode(),
        "utf16.csv": f"a,b,y\n{body}".encode("utf-16"),
        "latin.csv": "a,b,y\n1,2,\u00e4\n3,4,u\n".encode("latin-1"),
        "nul.csv": b"a,b,y\n1,\x00,u\n2,3,v\n",
        "parquet.csv": b"PAR1" + bytes(40),
        "image.csv": png(8, 8, whole=True),
        "packed.csv": gzip.compress(b"a,b,y\n1,2,u\n")[:-9],
        **{f"garbage{end}": GARBAGE for end in (".csv", ".txt", ".npy", ".npz", ".parquet", ".json", ".jsonl", ".bin")},
    }


def records() -> dict[str, bytes]:
    """JSON and JSON lines: of other types than expected, cut, deep."""
    texts = {
        "empty.json": "",
        "empty.jsonl": "\n\n",
        "null.json": "null",
        "list.json": "[1, 2, 3]",
        "object.json": "{}",
        "cut.json": '{"a": [1, 2',
        "deep.json": "[" * 100_000,
        "digits.json": "9" * 5000,
        "list.jsonl": '[1]\n{"a": NaN}\nnonsense\n',
        "types.jsonl": '{"id": null, "text": 7, "prompt": [], "response": {}, "image": 1, "label": 1e999}\n' * 3,
        "object.jsonl": "{}\n{}\n",
        "same.jsonl": '{"id": "a", "prompt": "p", "response": "r", "text": "t", "instruction": "i", "output": "o"}\n'
        * 9,
    }
    return {name: text.encode() for name, text in texts.items()}


def arrays() -> Iterator[tuple[str, bytes]]:
    """numpy's files, whole and not."""
    rng = np.random.default_rng(0)
    kinds: dict[str, Any] = {
        "nan": np.full((4, 3), np.nan),
        "infinite": np.full((12, 3), np.inf),
        "huge": np.full((12, 3), 1e300),
        "nothing": np.zeros((0, 3)),
        "no-columns": np.zeros((5, 0)),
        "scalar": np.float64(3.0),
        "constant": np.zeros((12, 3)),
        "texts": np.array(["a", "b", "c"]),
        "complex": np.ones((12, 3), dtype=complex),
        "truth": np.eye(6, dtype=bool),
        "dates": np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"),
        "fields": np.zeros(4, dtype=[("a", "f8"), ("b", "i4")]),
        "five": rng.normal(size=(2, 3, 2, 3, 2)),
        "whole": rng.normal(size=(24, 5)),
    }
    for name, value in kinds.items():
        plain, packed = io.BytesIO(), io.BytesIO()
        np.save(plain, value)
        yield f"{name}.npy", plain.getvalue()
        np.savez(packed, images=value, labels=value, embeddings=value, x=value)
        yield f"{name}.npz", packed.getvalue()
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    yield "objects.npy", objects.getvalue()
    yield "objects.npz", zipped({"images.npy": objects.getvalue(), "labels.npy": objects.getvalue()})
    yield "promise.npy", numpy_header((10**6, 10**6))
    yield "negative.npy", numpy_header((-3, 2))
    for name in ("empty.npy", "empty.npz"):
        yield name, b""
    for name in ("cut.npy", "cut.npz", "cut.zip"):
        yield name, b"PK\x03\x04" + GARBAGE
    yield "no-arrays.npz", zipped({"readme.txt": b"words"})
    yield "pickle.pt", pickle.dumps({"a": [1, 2]})
    yield "whole.zip", zipped({"a.png": png(8, 8, whole=True), "b.txt": b"words"})


def media() -> dict[str, bytes]:
    """Images and other media, most of them cut; and weights."""
    return {
        "none.safetensors": safetensors({}),
        "cut.safetensors": safetensors({})[:6],
        "long.safetensors": b"\xff" * 64,
        "empty.png": b"",
        "cut.png": png(8, 8),
        "bomb.png": png(60_000, 60_000),
        "text.png": b"a text\n",
        "one.png": png(1, 1, whole=True),
        "whole.png": png(16, 12, whole=True),
        "cut.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01",
        "cut.mp4": b"\x00\x00\x00\x18ftypmp42" + bytes(64),
        "cut.mid": b"MThd\x00\x00\x00\x06\x00\x01\x00\x01",
        "cut.nii": struct.pack("<i", 348) + bytes(40),
        "cut.gz": b"\x1f\x8b\x08\x00",
        "cut.dcm": bytes(128) + b"DICM" + b"\x02\x00",
    }


def folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Folders: of nothing, of other things than expected, of damaged checkpoints; links that go round."""

    def folder(name: str, files: dict[str, bytes]) -> tuple[str, Path]:
        for file, data in files.items():
            (root / name / file).parent.mkdir(parents=True, exist_ok=True)
            (root / name / file).write_bytes(data)
        (root / name).mkdir(exist_ok=True)
        return name, root / name

    yield folder("nothing", {})
    yield folder("texts", {"a.txt": b"words\n", "b.txt": b""})
    yield folder("cut-images", {"u/a.png": png(8, 8), "v/b.png": png(8, 8)})
    yield folder("one-image", {"u/a.png": png(8, 8, whole=True)})
    yield folder("mixed-images", {f"{c}/{i}.png": png(8 + i, 8, whole=True) for c in "uv" for i in range(3)})
    llama: dict[str, Any] = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 8,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    tensor = {"model.norm.weight": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}
    whole, cut = safetensors(tensor, bytes(32)), safetensors(tensor, bytes(7))
    configs: dict[str, tuple[Any, bytes | None]] = {
        "listed": ([1, 2], GARBAGE),
        "unnamed": ({}, whole),
        "unknown": ({"model_type": "no-such-model"}, whole),
        "wrong-type": ({"model_type": 7, "architectures": "x"}, whole),
        "negative": (llama | {"hidden_size": -8}, GARBAGE),
        "text-size": (llama | {"hidden_size": "eight"}, whole),
        "no-size": (llama | {"hidden_size": None}, whole),
        "enormous": (llama | {"hidden_size": 2**40, "vocab_size": 2**40}, whole),
        "no-heads": (llama | {"num_attention_heads": 0}, whole),
        "odd-heads": (llama | {"num_attention_heads": 3}, whole),
        "no-weights": (llama, None),
        "cut-weights": (llama, cut),
        "garbage-weights": (llama, GARBAGE),
        "few-weights": (llama, whole),
        "resnet": ({"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}, whole),
        "bert": (
            {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8, "num_attention_heads": 3},
            whole,
        ),
    }
    for name, (config, weights) in configs.items():
        files = {"config.json": json.dumps(config).encode()}
        if weights is not None:
            files["model.safetensors"] = weights
        yield folder(f"model-{name}", files)
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    shards = {"config.json": json.dumps(llama).encode(), "model.safetensors.index.json": json.dumps(index).encode()}
    yield folder("model-no-shard", shards)
    yield folder("model-listed-index", {**shards, "model.safetensors.index.json": b"[]"})
    yield folder("model-cut-config", {"config.json": b'{"model_type": ', "model.safetensors": whole})
    yield folder(
        "model-pickle", {"config.json": json.dumps(llama).encode(), "pytorch_model.bin": pickle.dumps({"a": 1})}
    )
    words = {"tokenizer.json": b"{}", "tokenizer_config.json": b"[]"}
    yield folder("model-tokenizer", {"config.json": json.dumps(llama).encode(), "model.safetensors": whole, **words})
    (root / "loop").symlink_to("loop")
    yield "loop", root / "loop"
    _, inside = folder("round", {"a.txt": b"words\n"})
    (inside / "again").symlink_to(inside, target_is_directory=True)
    yield "round", inside
    folder("under", {"data.csv/a.txt": b"words\n"})
    yield "folder.csv", root / "under" / "data.csv"


def others(root: Path) -> Iterator[tuple[str, Path]]:
    """Paths that are no file or folder of the usual kinds, and names that are hard to print."""
    yield "absent.csv", root / "absent.csv"
    yield "below-a-file", root / "whole.csv" / "x"
    yield "device", Path("/dev/zero")
    yield "null", Path("/dev/null")
    os.mkfifo(root / "pipe.csv")
    yield "pipe", root / "pipe.csv"
    odd = os.fsdecode(b"na\xffme.csv")
    for name in (odd, "line\nbreak.csv", "[bold]x.csv", "a,b.csv"):
        (root / name).write_bytes(b"\x00garbage")
        yield ascii(name), root / name


def bad_paths(root: Path) -> Iterator[tuple[str, Path]]:
    """Names of faults with a path each, made in ``root`` as they are asked for."""
    makers: tuple[Callable[[], Any], ...] = (tables, records, lambda: dict(arrays()), media)
    for make in makers:
        for name, data in make().items():
            (root / name).write_bytes(data)
            yield name, root / name
    yield from folders(root)
    yield from others(root)
