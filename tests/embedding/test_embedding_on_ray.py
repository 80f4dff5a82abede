"""Encoding and assignment of many files by Ray Data: two nodes on this machine, one of which is killed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

import ray

from paperworks.embedding import assign_shards, encode_shards
from ray_cluster import TwoNodes

pytestmark = pytest.mark.over_budget("starts a cluster")

SITE = """
import os, pathlib, time
import numpy as np
from paperworks.embedding import CallableEncoder

LOG = pathlib.Path(os.environ["SHARD_LOG"])


class Lengths:
    '''A text as its length and its number of spaces. With a gate, it waits at the texts that end with one.'''

    def encode(self, items):
        import ray
        where = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
        with open(LOG, "a") as out:
            out.write(where + "\\n")
        while any(text.endswith("!") for text in items) and not LOG.with_name("open").exists():
            time.sleep(0.05)
        return np.array([[len(text), text.count(" ")] for text in items], np.float32).reshape(-1, 2)
"""


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoNodes]:
    """Two nodes that this process has joined; all can import the encoder."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "slow_lengths.py").write_text(SITE)
    monkeypatch.setenv("SHARD_LOG", str(tmp_path / "log"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    paths = [str(tmp_path / "site"), *(p for p in sys.path if p.endswith("src")), os.environ.get("PYTHONPATH", "")]
    with TwoNodes({"PYTHONPATH": os.pathsep.join(paths), "SHARD_LOG": str(tmp_path / "log")}) as two:
        ray.init(address=two.address, log_to_driver=False)
        try:
            yield two
        finally:
            ray.shutdown()
            sys.modules.pop("slow_lengths", None)


def texts_in(path: Path, gated: bool) -> list[str]:
    texts = ["word " * (i % 7) + ("!" if gated and i % 50 == 49 else ".") for i in range(400)]
    path.mkdir()
    for number in range(4):
        lines = [json.dumps({"text": text}) for text in texts[number * 100 : number * 100 + 100]]
        (path / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    return texts


def test_two_nodes_do_what_one_process_does(nodes: TwoNodes, tmp_path: Path) -> None:
    from slow_lengths import Lengths

    texts = texts_in(tmp_path / "texts", gated=False)
    expected = np.array([[len(text), text.count(" ")] for text in texts], np.float32)
    given = {"engine": "ray", "workers": 2}
    vectors = encode_shards(tmp_path / "texts", Lengths, tmp_path / "vectors", part_bytes=1_000, **given)
    np.testing.assert_array_equal(vectors[:], expected)
    assert len(set((tmp_path / "log").read_text().split())) == 2  # both nodes worked
    centers = np.array([[3.0, 0], [15, 3], [30, 6]], np.float32)
    labels = assign_shards(tmp_path / "vectors", centers, part_bytes=400, **given)
    np.testing.assert_array_equal(labels, assign_shards(tmp_path / "vectors", centers))
    np.testing.assert_array_equal(labels, ((expected[:, None] - centers) ** 2).sum(2).argmin(1))


def test_a_killed_node_loses_no_part(nodes: TwoNodes, tmp_path: Path) -> None:
    """Both nodes wait in the middle of a part until one of them is dead; what had its file is not encoded again."""
    from slow_lengths import Lengths

    texts = texts_in(tmp_path / "texts", gated=True)
    killed: list[set[str]] = []

    def kill_when_both_wait(items, what, total):  # type: ignore[no-untyped-def]
        for done, item in enumerate(items, 1):
            if not killed and done >= 2:
                killed.append({path.name for path in (tmp_path / "vectors").glob("*.npy")})
                nodes.kill(1)
                (tmp_path / "open").touch()
            yield item

    vectors = encode_shards(
        tmp_path / "texts",
        Lengths,
        tmp_path / "vectors",
        part_bytes=500,
        engine="ray",
        workers=2,
        progress=kill_when_both_wait,
    )
    assert killed, "nothing was killed"
    np.testing.assert_array_equal(vectors[:], np.array([[len(t), t.count(" ")] for t in texts], np.float32))
    parts = len(json.loads((tmp_path / "vectors" / "shards.json").read_text())["parts"])
    # Each part once, and those again that were under way on the node that died: one a worker, and one that waited.
    assert parts <= len((tmp_path / "log").read_text().split()) <= parts + 4
