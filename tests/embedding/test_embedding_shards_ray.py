"""Encoding and assignment by Ray Data on two nodes of this machine. Not in ``make test``: ``make cluster`` runs it."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray.data", reason="the extra 'ray' is not installed")

from paperworks.embedding import CallableEncoder, ShardedRows, assign_shards, encode_shards
from paperworks.errors import InputError
from ray_cluster import TwoNodes

pytestmark = pytest.mark.over_budget("starts a cluster")
ENCODER = """
import os
import numpy as np

def encode(texts):
    with open(os.environ["WHO_ENCODED"], "a") as out:
        out.write(f"{os.getpid()}\\n")
    if "bad" in texts:
        raise ValueError("a bad text")
    return np.array([[len(text), text.count("e")] for text in texts], np.float32)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an encoder, from which this process and the nodes import it, in a running cluster."""
    import ray

    root = tmp_path_factory.mktemp("site")
    (root / "lengths_encoder.py").write_text(ENCODER)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    paths = [str(root), *(path for path in sys.path if path.endswith("src")), os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(path for path in paths if path), "WHO_ENCODED": str(root / "who")}
    os.environ["WHO_ENCODED"] = environment["WHO_ENCODED"]
    with TwoNodes(environment) as nodes:
        ray.init(nodes.address, log_to_driver=False)
        yield root
        ray.shutdown()
    sys.path.remove(str(root))


def test_two_workers_write_the_vectors_and_labels_of_one_process(site: Path, tmp_path: Path) -> None:
    encode = importlib.import_module("lengths_encoder").encode
    source = tmp_path / "source"
    source.mkdir()
    texts = [f"{'e' * (i % 11)} text {i}" for i in range(3000)]
    for number, some in enumerate(np.array_split(np.array(texts, object), 3)):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in some)
        (source / f"{number}.jsonl").write_text(lines)
    make = partial(CallableEncoder, encode, 100_000)
    here = encode_shards(source, make, tmp_path / "here", part_bytes=6000)
    (site / "who").unlink()
    there = encode_shards(source, make, tmp_path / "there", part_bytes=6000, engine="ray", workers=2)
    assert len(there.files) > 10
    np.testing.assert_array_equal(there[:], here[:])
    np.testing.assert_array_equal(there[:], encode(texts))
    who = (site / "who").read_text().split()
    assert len(set(who) - {str(os.getpid())}) == 2

    there.files[4].unlink()  # a call that was stopped goes on
    (site / "who").unlink()
    encode_shards(source, make, tmp_path / "there", part_bytes=6000, engine="ray", workers=2)
    assert len((site / "who").read_text().split()) == 1
    np.testing.assert_array_equal(ShardedRows(tmp_path / "there")[:], here[:])

    centers = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32) * 20
    expected = np.square(here[:][:, None] - centers).sum(2).argmin(1)
    for workers in (1, 2):
        found = assign_shards(tmp_path / "there", centers, engine="ray", workers=workers, part_bytes=2000)
        np.testing.assert_array_equal(found, expected)


def test_bad_input_on_a_node_is_an_error_of_the_input_here(site: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
    make = partial(CallableEncoder, importlib.import_module("lengths_encoder").encode)
    with pytest.raises(InputError, match=r"^text: found .*a\.jsonl, line at byte 14: int; expected a text"):
        encode_shards(tmp_path / "a.jsonl", make, tmp_path / "out", engine="ray", workers=1)
