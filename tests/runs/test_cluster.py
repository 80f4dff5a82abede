"""Runs on a Ray cluster: two nodes on this machine, one of which is killed."""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

from installed_paper import write_paper
from paperworks.errors import InputError
from paperworks.runs import Cancelled, RunFailed, Store, load_recipe
from paperworks.runs.cluster import Cluster, RayEngine, Work
from paperworks.runs.limits import RunLimits
from ray_cluster import TwoNodes, free_port

pytestmark = pytest.mark.over_budget("starts a cluster")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the tiny paper, from which this process and all nodes import it."""
    root = tmp_path_factory.mktemp("site")
    write_paper(root)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    yield root
    sys.path.remove(str(root))
    for module in [m for m in sys.modules if m.split(".")[0] == "tiny_paper"]:
        del sys.modules[module]


@pytest.fixture(scope="module")
def nodes(site: Path) -> Iterator[TwoNodes]:
    paths = [str(site), *(path for path in sys.path if path.endswith("src")), os.environ.get("PYTHONPATH", "")]
    with TwoNodes({"PYTHONPATH": os.pathsep.join(path for path in paths if path)}) as nodes:
        yield nodes


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


def create(store: Store, **options: object) -> str:
    recipe = load_recipe("tiny-paper", "tiny_paper.recipe")
    return store.create("tiny-paper", recipe.module, recipe.config(**options))


def test_a_run_comes_back_into_the_store(nodes: TwoNodes, store: Store) -> None:
    events: list[dict] = []
    record = RayEngine(nodes.address).execute(store, create(store, n=4), events.append)
    assert record.status == "finished"
    assert record.headline == "Counted 4 things"
    names = {p.name for p in record.folder.iterdir()}
    assert names == {"run.json", "config.json", "events.jsonl", "report.json", "report.html", "figures", "files"}
    assert (record.folder / "files" / "big.bin").read_bytes() == b"x" * 200_000
    assert [e["done"] for e in events if e["kind"] == "progress"][-1] == 4
    logged = [json.loads(line)["kind"] for line in (record.folder / "events.jsonl").read_text().splitlines()]
    assert (logged[0], logged[-1]) == ("started", "finished")
    assert not store.state(record.id).exists()
    assert [r.id for r in store.records()] == [record.id]


def test_a_killed_node_loses_nothing_and_nothing_finished_is_done_twice(site: Path, store: Store) -> None:
    """Four works on two nodes; the one that dies had done one of them, and was in the middle of another.

    The slow works wait in their middle until the node is dead, so that it dies there however busy the machine is.
    """
    paths = os.pathsep.join([str(site), *(path for path in sys.path if path.endswith("src"))])
    log, dead = store.root / "log", store.root / "dead"
    (site / "counted.py").write_text(
        "import pathlib, sys, time\n"
        "folder, log, dead = map(pathlib.Path, sys.argv[1:4])\n"
        "name, items = sys.argv[4:]\n"
        "for i in range(int(items)):\n"
        "    while i >= 6 and not dead.exists():\n"
        "        time.sleep(0.05)\n"
        "    if not (folder / str(i)).exists():\n"
        "        with open(log, 'a') as out: out.write(f'{name} {i}\\n')\n"
        "        (folder / str(i)).write_text(str(i))\n"
    )
    folders = {name: store.root / name for name in ("quick-1", "quick-2", "slow-1", "slow-2")}
    works = []
    for name, folder in folders.items():
        folder.mkdir()
        items = 3 if name.startswith("quick") else 12
        works.append(Work(name, "counted", ["{root}/here", str(log), str(dead), name, str(items)], {"here": folder}))
    notes: list[str] = []
    finished: list[str] = []
    here: dict[str, set[str]] = {}
    with TwoNodes({"PYTHONPATH": paths}) as two:

        def kill_once() -> None:
            came_back = {name: {path.name for path in folder.glob("[0-9]*")} for name, folder in folders.items()}
            under_way = all(len(came_back[name]) >= 4 for name in ("slow-1", "slow-2"))
            if not here and under_way and len(finished) == 2:
                here.update(came_back)
                two.kill(1)
                dead.touch()

        with Cluster(two.address) as cluster:
            ended = cluster.execute(
                works, kill_once, lambda work, text: notes.append(text), lambda work, how: finished.append(work.name)
            )
    assert here, "nothing was killed"
    assert {name: how.code for name, how in ended.items()} == dict.fromkeys(folders, 0)
    assert sum("was lost" in note for note in notes) == 1
    for name, folder in folders.items():
        assert {path.name for path in folder.iterdir()} == {str(i) for i in range(3 if "quick" in name else 12)}
    lines = log.read_text().splitlines()
    done = {name: [int(line.split()[1]) for line in lines if line.split()[0] == name] for name in folders}
    assert done["quick-1"] == done["quick-2"] == [0, 1, 2]
    # One of the two was on the node that lives. The other went on from what had come back.
    assert min(len(done[name]) for name in ("slow-1", "slow-2")) == 12
    for name in ("slow-1", "slow-2"):
        assert all(done[name].count(int(item)) == 1 for item in here[name])


def test_errors_and_limits_come_back(nodes: TwoNodes, store: Store) -> None:
    with pytest.raises(RunFailed, match="it broke"):
        RayEngine(nodes.address).execute(store, create(store, mode="fail", n=3))
    with pytest.raises(InputError, match="where: found nothing"):
        RayEngine(nodes.address).execute(store, create(store, mode="bad"))
    with pytest.raises(RunFailed, match="time limit"):
        RayEngine(nodes.address, limits=RunLimits(seconds=0.3)).execute(store, create(store, n=1000, pause=0.1))
    # Each item writes something: after some of them the run has passed this, however slowly it counts.
    full = create(store, n=1000, pause=0.1)
    with pytest.raises(RunFailed, match="disk limit"):
        RayEngine(nodes.address, limits=RunLimits(disk_bytes=5_000)).execute(store, full)
    assert {r.status for r in store.records()} == {"failed"}
    kept = len(list(store.state(full).glob("*.done")))
    assert kept > 0
    record = RayEngine(nodes.address).execute(store, shortened(store, full, kept + 2))
    assert record.metrics == {"things": kept + 2, "fresh": 2}


def shortened(store: Store, run_id: str, n: int) -> str:
    """The run, asked to count to ``n`` only."""
    path = store.working / run_id / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n": n, "pause": 0.0}))
    return run_id


def test_a_wish_to_stop_reaches_the_node(nodes: TwoNodes, store: Store) -> None:
    run_id = create(store, n=1000, pause=0.05)

    def stop(event: dict) -> None:
        if event["kind"] == "progress" and event["done"] >= 3:
            store.request_cancel(run_id)

    with pytest.raises(Cancelled):
        RayEngine(nodes.address).execute(store, run_id, stop)
    assert [(r.id, r.status) for r in store.records()] == [(run_id, "cancelled")]
    assert list(store.state(run_id).glob("*.done"))


def test_files_go_to_the_node_where_it_does_not_see_them(
    nodes: TwoNodes, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paperworks.runs.cluster import engine

    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    monkeypatch.setattr(engine, "seen_by_all", lambda paths: dict.fromkeys(paths, False))
    record = RayEngine(nodes.address).execute(store, create(store, n=1, where=tmp_path / "rows.csv"))
    options = json.loads((record.folder / "report.json").read_text())["origin"]["options"]
    assert options["where"] == str(tmp_path / "rows.csv")
    assert (record.folder / "files" / "where.txt").read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "nowhere", "127.0.0.1:99999", "127.0.0.1:x"])
def test_no_address(address: str, store: Store) -> None:
    with pytest.raises(InputError, match="address: found"):
        RayEngine(address).execute(store, create(store))
    assert store.records() == []


def test_an_address_that_nobody_answers_fails_in_seconds(
    site: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paperworks.runs.cluster.address.ANSWER_SECONDS", 3.0)
    started = time.monotonic()
    with pytest.raises(InputError, match="nobody answers"):
        RayEngine(f"127.0.0.1:{free_port()}").execute(store, create(store))
    assert time.monotonic() - started < 5
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(InputError, match="did not answer as Ray does within 3 seconds"):
            RayEngine(f"127.0.0.1:{silent.getsockname()[1]}").execute(store, create(store))
    assert time.monotonic() - started < 20


def test_what_no_node_has_is_refused(nodes: TwoNodes, store: Store) -> None:
    with pytest.raises(InputError, match="gpus: found 1; expected what one node"):
        RayEngine(nodes.address, gpus=1).execute(store, create(store))
    with pytest.raises(InputError, match="cpus: found 64"):
        RayEngine(nodes.address, cpus=64).execute(store, create(store))
    for asked in ({"cpus": 0}, {"cpus": 1.5}, {"gpus": -1}, {"gpus": float("nan")}):
        with pytest.raises(InputError, match=r"or more, above 1 a whole number"):
            RayEngine(nodes.address, **asked)


def test_another_version_is_refused_by_name(nodes: TwoNodes, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paperworks.runs.cluster.address.__version__", "9.9.9")
    with pytest.raises(InputError, match=r"the node [\d.]+ with Paperworks [\d.]+; expected Paperworks 9\.9\.9"):
        RayEngine(nodes.address).execute(store, create(store))
    assert store.records() == []


def test_studies_of_two_papers_side_by_side(nodes: TwoNodes, site: Path, home: Path) -> None:
    from paperworks import catalog, reproduction

    events: list[dict] = []
    measured: list[reproduction.Measured] = []
    paper = catalog.find("tiny-paper")
    with Cluster(nodes.address) as cluster:
        reproduction.measure_on_cluster(cluster, [paper], measured.append, listener=events.append)
    assert [f.holds for f in measured[0].findings] == [True, False]
    assert measured[0].errors == {}
    assert list((home / "reproduce" / "tiny-paper").iterdir()) == [home / "reproduce" / "tiny-paper" / "source.sha256"]
    assert {e["text"] for e in events if e["kind"] == "step"} >= {
        "tiny-paper counting: tiny-paper: Counting (about 0.1 min)",
        "tiny-paper speed: tiny-paper: Speed (about 1 min)",
    }
    local = reproduction.measure(paper)
    assert [f.to_dict() for f in local.findings] == [f.to_dict() for f in measured[0].findings]


def test_methods_side_by_side(nodes: TwoNodes, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from paperworks.comparison.recipe import Config, run
    from paperworks.runs import Run
    from tiny_checkpoint import tiny_inputs

    model, text = tiny_inputs(tmp_path)
    small = {"sequences": 4, "length": 16, "batch_size": 4, "train_steps": 0, "recovery_steps": 1, "rounds": 1}
    config = Config(
        model=Path(model),
        text=Path(text),
        target="0.7p",
        methods=("magnitude", "random"),
        evaluation_sequences=4,
        device="cpu",
        **small,
    )
    work = Run(tmp_path / "run")
    with Cluster(nodes.address) as cluster:
        work.cluster = cluster
        report = run(config, work)
        assert [row[0] for row in report.tables[0].rows] == ["dense", "magnitude", "random"]
        rows = json.loads((work.files / "comparison.json").read_text())
        assert [(row["method"], row["seed"]) for row in rows] == [("dense", 0), ("magnitude", 0), ("random", 0)]
        for row in rows[1:]:
            assert (work.files / row["folder"] / "config.json").exists()
        # What has answered is not asked again.
        before = {path: path.stat().st_mtime_ns for path in work.state.glob("*/result.json")}
        run(config, work)
        assert {path: path.stat().st_mtime_ns for path in work.state.glob("*/result.json")} == before


def test_the_commands(nodes: TwoNodes, store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from paperworks.cli import run_command

    on = ["--engine", "ray", "--address", nodes.address, "--quiet"]
    assert run_command(["run", "tiny-paper", "--n", "3", "--out", str(tmp_path / "mine"), *on]) == 0
    assert "Counted 3 things" in capsys.readouterr().out
    assert (tmp_path / "mine" / "count.txt").read_text() == "3"
    waiting = create(store, n=2)
    assert run_command(["resume", waiting, *on]) == 0
    assert run_command(["reproduce", "tiny-paper", "--fast", *on]) == 0
    assert "1 of 2 findings hold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--address", "127.0.0.1:1"], "--address: found 127.0.0.1:1 with the engine 'local'; expected --engine ray"),
        (["--engine", "child", "--gpus", "1"], "--gpus: found 1.0 with the engine 'child'"),
        (["--engine", "ray", "--cpus", "-1"], "--cpus: found -1; expected 1 or more"),
    ],
)
def test_flags_that_do_not_go_together(
    arguments: list[str], said: str, site: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    from paperworks.cli import run_command

    assert run_command(["run", "tiny-paper", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert store.records() == []
