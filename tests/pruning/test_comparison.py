"""``paperworks compare-methods`` as its user sees it, with faults, a kill and bad input."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest

import forked
from paperworks.comparison import child, methods
from paperworks.comparison.recipe import Config, _Comparison, method_notes, run, summarise
from paperworks.errors import InputError
from paperworks.language import bundled_text, load_model
from paperworks.runs import Run
from paperworks.runs.processes import ChildProcess

SMALL: dict[str, Any] = {
    "target": "0.7p",
    "sequences": 4,
    "length": 64,
    "batch_size": 4,
    "train_steps": 0,
    "recovery_steps": 2,
    "evaluation_sequences": 4,
    "rounds": 1,
    "device": "cpu",
}


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Path]:
    train, held = tmp_path / "train.txt", tmp_path / "held.txt"
    train.write_text(bundled_text("train")[:30_000], encoding="utf-8")
    held.write_text(bundled_text("test")[:5_000], encoding="utf-8")
    return {"text": train, "evaluation": held}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children in this process: starting one takes longer than its work here. (The command's test has real ones.)

    They ask few questions.
    """

    def work(self: _Comparison, folder: Path) -> int:
        child.main(folder)
        return 0

    monkeypatch.setattr(_Comparison, "_wait", work)
    monkeypatch.setattr(child, "CHOICES", 20)


@pytest.mark.usefixtures("at_once")
def test_a_budget_out_of_reach(checkpoint: Path, texts: dict[str, Path], tmp_path: Path) -> None:
    config = Config(model=checkpoint, methods=("magnitude",), **(SMALL | {"target": "0.01p"}), **texts)
    report = run(config, Run(tmp_path / "low"))
    assert report.headline == "No method reached the budget"
    assert set(report.tables[0].rows[1][1:]) == {None}
    report.save(tmp_path)  # what has no figures can be shown
    failures = {row[0]: row[2] for row in report.tables[-1].rows}
    assert "at least" in failures["magnitude"]  # what is reachable is said, and nothing else stops


@pytest.mark.usefixtures("at_once")
def test_a_method_with_two_seeds_and_a_second_look(checkpoint: Path, texts: dict[str, Path], tmp_path: Path) -> None:
    config = Config(model=checkpoint, methods=("random", "random"), seeds=2, **SMALL, **texts)
    work = Run(tmp_path / "run")
    report = run(config, work)
    quality, size, *_, by_seed = report.tables
    assert [row[0] for row in quality.rows] == ["dense", "random"]
    assert [row[:2] for row in by_seed.rows] == [["dense", 0], ["random", 0], ["random", 1]]
    assert size.rows[1][1] < size.rows[0][1]
    assert "<svg" in report.figures[0].to_svg()
    rows = json.loads((work.files / "comparison.json").read_text())
    assert [r["tuning steps"] for r in rows] == [2] * 3
    assert all(r["before"]["perplexity"] > 1 for r in rows)
    with (work.files / "comparison.csv").open() as lines:
        assert [r["method"] for r in csv.DictReader(lines)] == [r["method"] for r in rows]
    for row in rows[1:]:
        model, _ = load_model(work.files / row["folder"], "float32", "cpu")
        assert sum(p.numel() for p in {id(p): p for p in model.parameters()}.values()) == row["parameters"]
    # What is finished is not done again: a task that would fail now is never started.
    again = run(config.model_copy(update={"model": checkpoint}), Run(tmp_path / "run", resumed=True))
    assert again.tables[0].rows == quality.rows


def test_what_methods_say_of_all_seeds_is_said_once() -> None:
    notes = {0: ["no head", "odd"], 1: ["no head", "odd"], 2: ["no head"]}
    rows = [{"method": "a", "seed": seed, "notes": said} for seed, said in notes.items()]
    rows += [{"method": "b", "seed": seed} for seed in notes] + [{"method": "c", "seed": 1, "notes": ["late"]}]
    assert method_notes(rows) == ["a: no head", "a, seeds 0, 1: odd", "c: late"]


@pytest.mark.usefixtures("at_once")
def test_a_run_that_goes_on_tries_failed_methods_again(
    checkpoint: Path, texts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(model=checkpoint, methods=("magnitude", "random"), **(SMALL | {"recovery_steps": 0}), **texts)
    asked: list[str] = []
    load = child.load_method

    def loads(broken: bool) -> Any:
        def load_method(name: str) -> Any:
            asked.append(name)
            if broken and name == "magnitude":
                raise RuntimeError("no room")
            return load(name)

        return load_method

    monkeypatch.setattr(child, "load_method", loads(broken=True))
    first = run(config, Run(tmp_path / "run"))
    assert [row[::2] for row in first.tables[-1].rows] == [["magnitude", "RuntimeError: no room"]]
    assert asked == ["magnitude", "random"]
    monkeypatch.setattr(child, "load_method", loads(broken=False))
    second = run(config, Run(tmp_path / "run", resumed=True))
    assert asked == ["magnitude", "random", "magnitude"]  # what had answered is not asked again
    assert [table.title for table in second.tables] == [table.title for table in first.tables[:-1]]
    assert [row[0] for row in second.tables[0].rows] == ["dense", "magnitude", "random"]
    assert second.tables[0].rows[2] == first.tables[0].rows[2]
    assert second.tables[0].rows[1][2] is not None
    assert len({row[1] for row in second.tables[1].rows[1:]}) == 1  # the methods cut to the same number of parameters


def compare_with_forks(*words: str) -> None:
    """The command, whose children are forks of it in place of interpreters that import torch again."""
    waiting = [forked.Waiting() for _ in range(2)]

    def start(self: ChildProcess, output: Any, errors: Any) -> Any:
        return waiting.pop().begin(self._command, self._environment, output, errors)

    ChildProcess._start = start  # type: ignore[method-assign]
    forked.paperworks(*words)


@pytest.mark.over_budget("a method runs in an interpreter of its own, which imports torch and transformers")
def test_the_command_survives_a_kill_and_resumes(
    checkpoint: Path, texts: dict[str, Path], home: Path, tmp_path: Path
) -> None:
    command = ["compare-methods", "--model", str(checkpoint), "--methods", "random", "--text", str(texts["text"])]
    command += ["--evaluation", str(texts["evaluation"]), "--quiet", "--out", str(tmp_path / "out")]
    command += [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    first = forked.start(compare_with_forks, *command, folder=tmp_path)
    done = lambda: list(home.glob("state/*/dense-0/result.json"))  # noqa: E731
    end = time.monotonic() + 120
    while not done():
        assert first.exitcode is None
        assert time.monotonic() < end
        time.sleep(0.05)
    first.kill()
    first.join()
    stamp = done()[0].stat().st_mtime_ns
    second = forked.run(forked.paperworks, "resume", "last", "--quiet", "--json", timeout=240)
    assert second.code == 0, second.errors
    report = json.loads(second.output)
    assert [row[0] for row in report["tables"][0]["rows"]] == ["dense", "random"]
    assert (tmp_path / "out").is_dir()
    assert not done() or done()[0].stat().st_mtime_ns == stamp


@pytest.mark.usefixtures("at_once")
def test_a_model_of_equal_widths_is_a_stock_one_and_is_tuned_as_well(
    checkpoint: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    model, _ = load_model(checkpoint, "float32", "cpu")
    narrow = sum(p.numel() for p in model.parameters()) - 3 * 3 * 32 * 8  # eight of 48 channels in each of three layers
    config = Config(model=checkpoint, methods=("magnitude",), **(SMALL | {"target": str(narrow)}), **texts)
    work = Run(tmp_path / "run")
    run(config, work)
    row = json.loads((work.files / "comparison.json").read_text())[1]
    assert row.get("error") is None
    saved = json.loads((work.files / row["folder"] / "config.json").read_text())
    assert (saved["model_type"], saved["intermediate_size"]) == ("llama", 40)
    assert row["parameters"] == narrow


def test_means_leave_failures_out() -> None:
    assert summarise("x", [{"error": "no"}])["after"] != summarise("x", [{"error": "no"}])["after"]  # NaN
    row = {
        "before": {"perplexity": 4.0},
        "after": {"perplexity": 2.0},
        "parameters": 1,
        "macs": 1,
        "cache": 1,
        "bytes": 1,
        "seconds": 1,
        "memory": 1,
        "steps": 3,
        "speed": dict.fromkeys(("prefill", "decode", "latency", "prefill ratio", "decode ratio"), 1.0),
    }
    found = summarise("x", [row, {"error": "no"}, row | {"after": {"perplexity": 3.0}}])
    assert (found["after"], found["after spread"], found["steps"]) == (2.5, 1.0, 3)


def test_methods_are_found_and_unknown_ones_are_told() -> None:
    names = methods.method_names()
    assert len(set(names)) == len(names) > len(methods.BASELINES)
    assert names[-5:] == list(methods.BASELINES)
    for name in names:
        assert callable(methods.load_method(name))
    with pytest.raises(InputError, match="magnitude"):
        methods.check_methods(["magnitud"])
    with pytest.raises(InputError, match=r"^methods: found none"):
        methods.check_methods([])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"target": "half"}, "target"),
        ({"target": "2x"}, "target"),
        ({"target": "9B"}, "target"),
        ({"methods": ("nonsense",)}, "methods"),
        ({"model": Path("nowhere")}, "model"),
        ({"text": Path("nowhere.txt")}, "text"),
        ({"evaluation": Path("nowhere.txt")}, "evaluation"),
        ({"choices": Path("nowhere.jsonl")}, "choices"),
        ({"length": 4096}, "length"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    checkpoint: Path, tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError, match=f"^{field}: "):
        run(Config(**({"model": checkpoint} | SMALL | changes)), Run(tmp_path / "run"))


def test_a_bad_file_of_questions_is_told_by_its_line(checkpoint: Path, texts: dict[str, Path], tmp_path: Path) -> None:
    bad = tmp_path / "q.jsonl"
    bad.write_text('{"context": "x"}', encoding="utf-8")
    with pytest.raises(InputError, match="line 1"):
        run(Config(model=checkpoint, methods=("random",), choices=bad, **SMALL, **texts), Run(tmp_path / "run"))
