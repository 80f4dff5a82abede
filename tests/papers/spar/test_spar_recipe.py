"""Whole runs: a model as actor, refiner and judge; an endpoint; what is refused before the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from papers.spar.server import Server, running
from papers.spar.tiny import options, prompt_rows, write_rows
from paperworks.errors import InputError
from paperworks.papers.spar import read_chats, read_pairs, read_prompts
from paperworks.papers.spar.config import Config
from paperworks.papers.spar.recipe import run
from paperworks.papers.spar.studies import letters
from paperworks.papers.spar.studies.bits import efficiency
from paperworks.papers.spar.studies.exact import loss, sizes
from paperworks.runs import Report, Run, build_config


def go(folder: Path, **values: Any) -> tuple[Report, Path]:
    config = build_config(Config, {"device": "cpu"} | values)
    one = Run(folder, seed=config.seed)
    return run(config, one), one.files


def table(report: Report, title: str) -> list[dict[str, Any]]:
    found = next(t for t in report.tables if t.title.startswith(title))
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_a_model_with_the_editor(tmp_path: Path) -> None:
    report, files = go(tmp_path / "run", **options(tmp_path)[0])
    assert "Instructions obeyed on 2 test prompts" in report.headline
    pairs = read_pairs(files / "round-1" / "dpo.jsonl")
    by_text = {p.text: p for p in read_prompts(files / "prompts.jsonl")}
    for row in pairs:
        prompt = by_text[row["prompt"][0]["content"]]
        assert all(one.follows(row["chosen"][0]["content"]) for one in prompt.instructions)
        assert not all(one.follows(row["rejected"][0]["content"]) for one in prompt.instructions)
    assert report.metrics["pairs"] == sum(len(read_pairs(files / f"round-{n}" / "dpo.jsonl")) for n in (1, 2))
    assert {p.name for p in (files / "actor").iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert len(table(report, "What the actor obeys")) == 3
    assert "share 8 words" in report.notes[0]
    assert [f.title for f in report.figures][-1] == "Search trees"
    assert all(f.figure is not None and f.to_svg() for f in report.figures)


def test_an_endpoint_as_actor_judge_and_refiner(tmp_path: Path) -> None:
    with running() as address:
        values = {
            "prompts": write_rows(
                tmp_path / "p.jsonl",
                [row | {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]} for row in prompt_rows(5)],
            ),
            "endpoint": f"{address},{address}",
            "endpoint_model": "m",
            "rounds": 1,
            "votes": 3,
            "inference": 4,
        }
        report, files = go(tmp_path / "run", **values)
        assert set(Server.asked.values()) == {1}
        assert "cannot be tuned" in " ".join(report.lead)
        assert read_pairs(files / "round-1" / "dpo.jsonl")
        assert read_chats(files / "round-1" / "rft.jsonl")
        assert not (files / "actor").exists()
        # both: what passes the votes has passed the rules
        for row in table(report, "The run's judge beside the rules"):
            assert row["difference"] <= 0
        (tmp_path / "requests.jsonl").write_text(
            json.dumps({"id": "a", "prompt": "Tell a tale"}) + "\n" + json.dumps({"id": "b", "prompt": "a sum"}) + "\n"
        )
        made = {"seeds": str(tmp_path / "requests.jsonl"), "rewrite": True, "test_share": 0.0}
        report, files = go(tmp_path / "made", **{k: v for k, v in values.items() if k != "prompts"}, **made)
        assert "1 of 2 requests were rewritten by the model; 1 dropped: not suitable." in report.lead
        assert [p.text for p in read_prompts(files / "prompts.jsonl")] == ["Rewritten: Tell a tale"]
        with pytest.raises(InputError, match="refiner_start_chats"):
            chats = write_rows(tmp_path / "c.jsonl", [{"messages": [{"role": "user", "content": "a"}]}])
            go(tmp_path / "x", **values, refiner_start_chats=chats)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"endpoint": "http://localhost:1"}, "endpoint_model"),
        ({"endpoint": "http://localhost:1", "endpoint_model": "m", "model": "x"}, "endpoint"),
        ({"refiner_endpoint": "http://localhost:1"}, "refiner_endpoint_model"),
        ({"temperature": 0.0}, "temperature"),
        ({"judge_temperature": 0.0}, "judge_temperature"),
        ({"judge": "model", "refiner": "editor"}, "judge"),
        ({"rewrite": True}, "rewrite"),
        ({"seeds": "a.txt", "prompts": "b.jsonl"}, "seeds"),
    ],
)
def test_options_that_do_not_go_together(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        build_config(Config, values)
    assert caught.value.field == field


def test_bad_templates_and_models_are_named(tmp_path: Path) -> None:
    given = options(tmp_path)[0]
    for text, match in (("{% for %}", "a template that fails"), ("hello", "leaves the messages out")):
        (tmp_path / "bad.jinja").write_text(text)
        with pytest.raises(InputError, match=f"chat_template.*{match}"):
            go(tmp_path / "x", **given | {"chat_template": str(tmp_path / "bad.jinja")})
    without = {k: v for k, v in given.items() if k != "chat_template"}
    with pytest.raises(InputError, match="chat_template: found a tokenizer without one"):
        go(tmp_path / "y", **without)
    with pytest.raises(InputError, match=r"refiner: found .*nowhere"):
        go(tmp_path / "z", **given | {"refiner": str(tmp_path / "nowhere")})
    with pytest.raises(InputError, match="drop_overlaps"):
        go(tmp_path / "w", **given | {"benchmark": given["prompts"], "drop_overlaps": True, "ngram": 3})


def test_small_studies_hold(tmp_path: Path) -> None:
    for study in (loss, sizes, efficiency):
        found = study(Run(tmp_path / study.name), True)
        # in this game depth does best, as a repair rarely breaks what is met
        assert [one.statement for one in found if not one.holds and "one repair after" not in one.statement] == []


def test_letters_begin_with_the_noise_that_the_study_names() -> None:
    rng = np.random.default_rng(0)
    batch = letters.noisy_batch(0, 4000, rng)
    right, upper, off = [], [], set()
    for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        text = "".join(letters.CHARACTERS[i - 1] for i in ids if i)
        prompt, response = text[: letters.PROMPT], text[letters.PROMPT :]
        assert letters.encode(prompt, response)["labels"] == labels[: len(text)]
        right.append(letters.obeys(prompt, response[:-1]))
        upper.append(response[0].isupper())
        off.add(len(response) - 1 - int(prompt[1:3]))
    assert abs(np.mean(right) - 0.45) < 0.03
    assert abs(np.mean(upper) - 0.5) < 0.03
    assert off == {-2, -1, 0, 1, 2}
    for kind, same in (("refinement", True), ("interfering", False)):
        for prompt, chosen, rejected in letters.pairs(kind, 50, rng):
            assert letters.obeys(prompt, chosen[:-1])
            assert not letters.obeys(prompt, rejected[:-1])
            assert (chosen[0] == rejected[0]) == same


def test_without_a_training_there_is_no_after() -> None:
    from types import SimpleNamespace

    from paperworks.papers.spar.play import Scored
    from paperworks.papers.spar.reporting import SCORES, _metrics

    for scores in (dict.fromkeys(SCORES, 0.5), {}):
        one = Scored({"a": "text"}, scores, 0.5)
        game: Any = SimpleNamespace(scored=[one], results=[], comparison=None)
        found, labels = _metrics(game, 3)
        assert not [name for name in (*found, *labels) if name.endswith("after")]
        game.scored.append(one)
        found, labels = _metrics(game, 3)
        assert any(name.endswith("after") for name in found)
        assert any(name.endswith("after") for name in labels)
