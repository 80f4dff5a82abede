"""The command line as its user meets it: output, exit codes, one-line errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from catalogue_papers import measured_paper
from paperworks import catalog, scaffold
from paperworks.cli import run_command
from paperworks.cli.options import RESERVED, parse_bytes, parse_seconds
from paperworks.errors import InputError
from paperworks.runs import Cancelled


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object, code: int = 0) -> str:
        found = run_command([str(a) for a in arguments])
        streams = capsys.readouterr()
        assert found == code, streams.err
        if code:
            error = [line for line in streams.err.splitlines() if line.startswith("paperworks:")]
            assert len(error) == 1
            return error[0]
        return streams.out

    return call


def test_list(cli) -> None:
    rows = json.loads(cli("list", "--json"))
    assert [r["slug"] for r in rows] == [p.slug for p in catalog.papers()]
    assert {"slug", "title", "works", "claims_held", "claims_total"} <= set(rows[0])
    assert {r["slug"] for r in json.loads(cli("list", "--works", "--json"))} == {r["slug"] for r in rows if r["works"]}
    tag = rows[0]["tags"][0]
    tagged = json.loads(cli("list", "--tag", tag, "--json"))
    assert [r["slug"] for r in tagged] == [r["slug"] for r in rows if tag in r["tags"]]
    assert rows[0]["slug"] in cli("list", "--tag", tag)


def test_show_and_search(cli) -> None:
    paper = measured_paper()
    text = cli("show", paper.slug)
    assert paper.arxiv in text
    assert "What the paper claims" in text
    shown = json.loads(cli("show", paper.arxiv, "--json"))
    assert {"summary", "claims", "findings", "obstacles"} <= set(shown)
    found = json.loads(cli("search", paper.title, "--json"))
    assert (found[0]["slug"], found[0]["ranked_by"]) == (paper.slug, "BM25")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "tiny-papre"], "did you mean 'tiny-paper'"),
        (["run", "tiny-papre"], "did you mean 'tiny-paper'"),
        (["run", "tiny-paper"], "not here yet"),
        (["list", "--tag", "nonsense"], "expected one of"),
        (["lits"], "Unknown command"),
        (["list", "--bogus"], "Unknown option"),
        (["open", "nothing"], "run: found"),
        (["reproduce"], "the slugs of papers, or --all"),
        (["reproduce", "tiny-paper"], "has no study"),
        (["search"], "a few words"),
        (["search", "x", "--limit", "many"], "--limit: found 'many'; expected a whole number"),
        (["new", "Bad Slug"], "lower-case words"),
        (["new", "tiny-paper"], "in the catalogue"),
        (["data", "path", "mnits"], "did you mean 'mnist'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, tiny_paper: Path, arguments: list[str], message: str) -> None:
    for file in ("recipe.py", "study.py"):
        (tiny_paper / file).unlink()
    assert message in cli(*arguments, code=2)


def test_run_open_compare(cli, tiny_paper: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = cli("run", "tiny-paper", "--n", 4, "--out", out)
    assert "Counted 4 things" in text
    assert str(out / "report.html") in text
    assert (out / "count.txt").read_text() == "4"
    report = json.loads(cli("run", "tiny_paper", "--n", 8, "--json"))
    assert report["metrics"]["things"] == 8
    assert "Counted" in cli("open", "last")
    runs = json.loads(cli("runs", "--json"))
    assert [r["status"] for r in runs] == ["finished"] * 2
    comparison = json.loads(cli("compare", runs[1]["id"], runs[0]["id"], "--json"))
    assert comparison["options"] == {"n": [4, 8]} or comparison["options"] == {"n": [8, 4]}
    assert sorted(comparison["figures"]["things"]) == [4, 8]
    assert "things" in cli("compare", runs[1]["id"], runs[0]["id"])
    assert "nothing is overwritten" in cli("run", "tiny-paper", "--out", out, code=2)
    assert len(json.loads(cli("runs", "--json", "--paper", "tiny-paper"))) == 2
    assert "which is finished" in cli("resume", runs[0]["id"], code=2)
    assert "ids of runs" in cli("remove", code=2)
    assert f"would remove {runs[0]['id']}" in cli("remove", "last", "--dry-run")
    assert len(json.loads(cli("runs", "--json"))) == 2
    (removed,) = json.loads(cli("remove", "last", runs[0]["id"], "--json"))
    assert removed["id"] == runs[0]["id"]
    assert removed["bytes"] > 200_000
    assert [r["id"] for r in json.loads(cli("runs", "--json"))] == [runs[1]["id"]]
    assert (out / "count.txt").exists()


def test_options_from_flags_and_file(cli, tiny_paper: Path, tmp_path: Path, home: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text('n = 3\nnames = ["x", "y"]\n')
    cli("run", "tiny-paper", "--config", file, "--names", "p,q,r", "--sizes", "1, 2", "--loud", "--seed", 9)
    config = json.loads(next((home / "runs").glob("*/config.json")).read_text())
    assert (config["n"], config["names"], config["sizes"], config["loud"], config["seed"]) == (
        3,
        ["p", "q", "r"],
        [1, 2],
        True,
        9,
    )
    assert (
        json.loads(cli("run", "tiny-paper", "--config", next((home / "runs").glob("*/config.json")), "--json"))[
            "metrics"
        ]["things"]
        == 3
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "0"], "n: found '0'; expected a whole number, at least 1, at most 1000"),
        (["--n", "1001"], "at most 1000"),
        (["--n", "x"], "n: found 'x'"),
        (["--n", "13"], "expected n other than 13 when counting"),
        (["--pause", "nan"], "pause: found 'nan'"),
        (["--pause", "inf"], "pause: found 'inf'"),
        (["--mode", "dance"], "mode"),
        (["--sizes", "1,x"], "sizes: found 'x'; expected whole numbers separated by commas"),
        (["--seed", "-1"], "seed: found '-1'; expected a whole number, at least 0"),
        (["--colour", "red"], "Unknown option"),
        (["--config", "missing.toml"], "which does not exist"),
        (["--mode", "bad"], "where: found nothing; expected something"),
        (["--time-limit", "soon"], "a duration such as"),
        (["--memory-limit", "much"], "an amount such as"),
        (["--engine", "steam"], "engine"),
        (["--quiet=perhaps"], "--quiet: found 'perhaps'; expected true or false"),
        (["--cpus", "x"], "--cpus: found 'x'; expected a number"),
    ],
)
def test_bad_options(cli, tiny_paper: Path, options: list[str], message: str) -> None:
    assert message in cli("run", "tiny-paper", *options, code=2)


def test_help_tells_units_bounds_and_defaults(cli, tiny_paper: Path) -> None:
    text = " ".join(cli("run", "tiny-paper", "--help").split())
    assert "items to count (at least 1, at most 1000) [default: 5]" in text
    assert "names of the items (separated by commas) [default: a,b]" in text
    for flag in RESERVED:
        if flag not in ("debug", "help"):
            assert f"--{flag}" in text
    assert "Counts things" in cli("run", "--help")


def test_failures_are_one_line_with_code_1(cli, tiny_paper: Path) -> None:
    assert "RuntimeError: it broke (--debug shows where)" in cli("run", "tiny-paper", "--mode", "fail", code=1)
    assert "time limit" in cli("run", "tiny-paper", "--n", 1000, "--pause", 0.1, "--time-limit", "1s", code=1)
    with pytest.raises(RuntimeError, match="it broke"):
        run_command(["run", "tiny-paper", "--mode", "fail"], debug=True)


def test_config_files_that_cannot_be_read(cli, tiny_paper: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    assert "valid JSON" in cli("run", "tiny-paper", "--config", bad, code=2)
    bad.write_text("[1]")
    assert "names with values" in cli("run", "tiny-paper", "--config", bad, code=2)
    assert "a readable" in cli("run", "tiny-paper", "--config", tmp_path, code=2)
    bad.write_text('{"m": 1}')
    assert "m: found an option that this recipe does not have" in cli("run", "tiny-paper", "--config", bad, code=2)


def test_ctrl_c_then_resume(tiny_paper: Path, home: Path, tmp_path: Path, cli) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "paperworks",
        "run",
        "tiny-paper",
        "--n",
        "30",
        "--pause",
        "0.1",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)
    while not list((home / "state").glob("*/2.done")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "paperworks resume tiny-paper-" in errors
    assert not out.exists()
    (record,) = json.loads(cli("runs", "--json"))
    assert record["status"] == "cancelled"
    assert "to go on: paperworks resume" in cli("open", record["id"], code=2)
    cli("resume", record["id"], "--quiet")
    assert (out / "count.txt").read_text() == "30"


def test_kill_9_leaves_nothing_in_out(tiny_paper: Path, home: Path, tmp_path: Path, cli) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "paperworks",
        "run",
        "tiny-paper",
        "--n",
        "40",
        "--pause",
        "0.1",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
    while not list((home / "state").glob("*/2.done")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not out.exists()
    (record,) = json.loads(cli("runs", "--json"))
    assert record["status"] == "interrupted"


def test_a_result_that_was_not_published_is_published_by_resume(cli, tiny_paper: Path, tmp_path: Path) -> None:
    """As after a kill between the end of the run and the copy to --out."""
    out = tmp_path / "out"
    cli("run", "tiny-paper", "--out", out)
    shutil.rmtree(out)
    cli("resume", "last")
    assert (out / "count.txt").exists()
    assert "which is finished" in cli("resume", "last", code=2)
    cli("resume", "last", "--out", tmp_path / "other")
    assert (tmp_path / "other" / "report.html").exists()


@pytest.mark.parametrize("name", ["file/below", "x" * 300, "file"])
def test_out_is_checked_before_the_work(cli, tiny_paper: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    assert "out: found" in cli("run", "tiny-paper", "--mode", "fail", "--out", tmp_path / name, code=2)
    assert json.loads(cli("runs", "--json")) == []


@pytest.mark.parametrize("engine", ["local", "child"])
def test_bad_input_of_a_recipe_leaves_no_run(cli, tiny_paper: Path, engine: str) -> None:
    message = cli("run", "tiny-paper", "--mode", "bad", "--engine", engine, code=2)
    assert message == "paperworks: --where: found nothing; expected something"
    assert json.loads(cli("runs", "--json")) == []


def test_reproduce(cli, tiny_paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = cli("reproduce", "tiny-paper", "--fast", "--quiet")
    assert "1 of 2 findings hold" in text
    assert "DOES NOT HOLD" in text
    assert "a trillion does not fit here" in text
    cli("reproduce", "tiny-paper", "--out", tmp_path / "measured", "--quiet")
    cli("reproduce", "tiny-paper", "--study", "speed", "--fast", "--quiet")
    assert "did you mean 'speed'" in cli("reproduce", "tiny-paper", "--study", "sped", code=2)
    assert "one paper" in cli("reproduce", "tiny-paper", measured_paper().slug, "--study", "speed", code=2)
    (tmp_path / "file").write_text("x")
    assert "cannot be written" in cli("reproduce", "tiny-paper", "--out", tmp_path / "file" / "below", code=2)
    assert (tmp_path / "measured" / "tiny-paper" / "results.json").exists()
    assert (tmp_path / "measured" / "reproductions.md").exists()
    assert json.loads(cli("reproduce", "tiny-paper", "--fast", "--json", "--quiet"))[0]["findings"][0]["holds"] is True


def test_each_paper_is_written_when_it_is_measured(
    cli, tiny_paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paperworks import reproduction

    measure = reproduction.measure

    def stopped_at_the_second(paper, **more):
        if paper.slug != "tiny-paper":
            raise Cancelled
        return measure(paper, **more)

    monkeypatch.setattr(reproduction, "measure", stopped_at_the_second)
    cli("reproduce", "tiny-paper", measured_paper().slug, "--out", tmp_path / "out", "--quiet", code=130)
    assert json.loads((tmp_path / "out" / "tiny-paper" / "results.json").read_text())["paper"] == "tiny-paper"


def test_a_failing_study_fails_the_command(tiny_paper: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("TINY_BREAK", "1")
    monkeypatch.setenv("COLUMNS", "200")
    assert run_command(["reproduce", "tiny-paper", "--fast", "--quiet"]) == 1
    assert "RuntimeError: no clock" in capsys.readouterr().out


def test_a_failing_study_leaves_the_results_of_the_others(
    tiny_paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("TINY_BREAK", "1")
    command = ["reproduce", "tiny-paper", "--out", str(tmp_path / "out"), "--quiet"]
    assert run_command(command) == 1
    assert "Not measured: speed." in capsys.readouterr().out
    path = tmp_path / "out" / "tiny-paper" / "results.json"
    results = json.loads(path.read_text())
    assert [f["study"] for f in results["findings"]] == ["counting"]
    monkeypatch.delenv("TINY_BREAK")
    assert run_command(command) == 0  # takes up what is left
    assert [f["study"] for f in json.loads(path.read_text())["findings"]] == ["counting", "speed"]


def test_lines_in_a_pipe_end_with_their_text(tiny_paper: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert run_command(["run", "tiny-paper", "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("remember this" in line for line in lines)  # a note, which rich fills up to the width
    assert [line for line in lines if line != line.rstrip() or len(line) > 1000] == []


def test_prose_in_a_pipe_is_wrapped_and_rows_are_lines(tiny_paper: Path, monkeypatch, capsys) -> None:
    """Whoever pages through a paper reads lines of a book's width; whoever greps a list gets whole rows."""
    monkeypatch.delenv("COLUMNS", raising=False)
    longest = sorted(catalog.papers(), key=lambda paper: len(paper.findings))[-3:]
    for paper in longest:
        assert run_command(["show", paper.slug]) == 0
        shown = capsys.readouterr().out
        assert [line for line in shown.splitlines() if len(line) > 80 and " " in line.strip()[:60]] == []
        words = " ".join(shown.split())
        statements = [text for claim in paper.claims for text in (claim.statement, claim.value)]
        assert [text for text in (paper.summary, *statements) if " ".join(text.split()) not in words] == []
    assert run_command(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for paper in catalog.papers():
        assert sum(line.startswith(f" {paper.slug} ") and paper.purpose in line for line in lines) == 1
    assert run_command(["reproduce", "tiny-paper", "--fast", "--quiet"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_new(cli, tmp_path: Path) -> None:
    cli("new", "third-paper", "--into", tmp_path)
    folder = tmp_path / "third_paper"
    assert {p.name for p in folder.iterdir()} == set(scaffold.CONTENTS)
    for path in folder.glob("*.py"):
        assert "paperworks.papers" not in path.read_text()  # a package of its own
    # its table has the options that tables have in every paper
    assert "class Config(TableOptions)" in (folder / "config.py").read_text()
    assert 'other_names: ClassVar = {"target": "label"}' in (folder / "config.py").read_text()
    assert "config.read_table(config.data, config.label)" in (folder / "recipe.py").read_text()
    assert "nothing is overwritten" in cli("new", "third-paper", "--into", tmp_path, code=2)


def test_data(cli) -> None:
    rows = json.loads(cli("data", "list", "--json"))
    assert {"digits", "mnist", "adult"} <= {r["name"] for r in rows}
    assert "mnist" in cli("data", "list")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "amount"), [("1024", 1024), ("500MiB", 500 * 2**20), ("8 GB", 8 * 2**30), ("1k", 1024)]
)
def test_amounts(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "s", "-1s", "0", "nan", "inf", "1x", "1e"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(InputError, match="time-limit"):
        parse_seconds(text)
