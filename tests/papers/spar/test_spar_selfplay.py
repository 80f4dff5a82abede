"""Rounds of self-play: files, resume, kills, endpoints, pairs and the refiner's chats."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

import forked
from papers.spar.server import Server, running
from paperworks.errors import InputError
from paperworks.language.generation import CallableGenerator, EndpointGenerator, GenerationSettings
from paperworks.papers.spar import (
    Instruction,
    InstructionPrompt,
    Judgement,
    Node,
    RefinerCaps,
    RuleEditor,
    RuleJudge,
    SearchResult,
    Seed,
    SelfPlay,
    VoteJudge,
    compare_at_inference,
    independent_pairs,
    make_prompts,
    overlaps,
    read_pairs,
    read_prompts,
    refinement_pairs,
    refiner_rows,
    rewrite_prompts,
    write_prompts,
)
from paperworks.papers.spar.ledger import Ledger
from paperworks.papers.spar.pairs import Judged

COMMA = Instruction("punctuation:no_comma")


def prompts(count: int = 6) -> list[InstructionPrompt]:
    return [InstructionPrompt(f"p{i}", ({"role": "user", "content": f"Say {i}."},), (COMMA,)) for i in range(count)]


def draft(prompt, settings: GenerationSettings) -> str:
    return " a, b " if settings.seed % 3 else "a b"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_round_leaves_verified_pairs(tmp_path: Path) -> None:
    game = SelfPlay(draft, RuleEditor(repair=0.5, harm=0.2), prompts(), temperature=0.9)
    result = game.run_iteration(tmp_path)
    assert [row["id"] for row in lines(tmp_path / "responses.jsonl")] == [p.id for p in prompts()]
    rows = read_pairs(tmp_path / "dpo.jsonl")
    assert rows == list(result.pairs)
    assert rows
    assert list(lines(tmp_path / "dpo.jsonl")[0]) == ["prompt", "chosen", "rejected"]
    for row in rows:
        assert COMMA.follows(row["chosen"][0]["content"])
        assert not COMMA.follows(row["rejected"][0]["content"])
        assert row["rejected"][0]["content"] == "a, b"  # the root, stripped
    trees = {row["id"]: row for row in lines(tmp_path / "trees.jsonl")}
    for one in result.judged:
        root = trees[one.prompt.id]["root"]
        assert (root is None) == (not one.of_label(0))
        if root is not None:
            assert one.judgements[root].label == 0


def test_what_is_in_the_files_is_not_done_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def counted(prompt, settings: GenerationSettings) -> str:
        calls.append(prompt[0]["content"])
        return draft(prompt, settings)

    def play(folder: Path, together: int = 2) -> list[bytes]:
        SelfPlay(counted, RuleEditor(), prompts(), together=together).run_iteration(folder)
        return [(folder / name).read_bytes() for name in ("responses.jsonl", "trees.jsonl", "dpo.jsonl", "rft.jsonl")]

    whole = play(tmp_path / "a")
    assert len(calls) == 30
    assert play(tmp_path / "b", together=5) == whole  # the size of the parts decides nothing
    calls.clear()
    assert play(tmp_path / "a") == whole
    for name in ("responses.jsonl", "judgements.jsonl", "trees.jsonl"):
        path = tmp_path / "a" / name
        path.write_bytes(path.read_bytes()[:-25])  # a line that was cut off by a kill
    assert play(tmp_path / "a") == whole
    assert calls == []  # also the answers of the cut line were kept


def _play_slowly(folder: Path) -> None:
    def slow(prompt, settings: GenerationSettings) -> str:
        with (folder / "calls").open("a") as out:
            out.write(f"{settings.seed}\n")
        time.sleep(0.01)
        return draft(prompt, settings)

    def judge(prompt, settings: GenerationSettings) -> str:
        slow(prompt, settings)
        return f"Final Judgement: {'No' if ',' in prompt[0]['content'].rsplit('# Answer', 1)[1] else 'Yes'}"

    judges = VoteJudge(CallableGenerator(judge, "judge"), votes=3)
    SelfPlay(CallableGenerator(slow, "actor"), RuleEditor(), prompts(), judges).run_iteration(folder / "round")


def test_a_kill_makes_no_call_twice(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    for wanted in (12, 60):
        process = forked.start(_play_slowly, tmp_path, folder=tmp_path)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not calls.exists() or len(calls.read_text().split()) < wanted):
            time.sleep(0.005)
        process.kill()
        process.join()
    killed = calls.read_text().split()
    _play_slowly(tmp_path)
    seeds = calls.read_text().split()
    twice = [seed for seed in set(seeds) if seeds.count(seed) > 1]
    assert len(killed) >= 60
    assert len(twice) <= 2  # only what was under way at a kill, and had no answer yet
    assert len(lines(tmp_path / "round" / "trees.jsonl")) == 6


def test_an_endpoint_that_fails_and_limits_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAR_KEY", "sk-very-secret")
    with running() as address:
        Server.key = "sk-very-secret"
        Server.failures = [(429, {"Retry-After": "3"}), (503, {}), (500, {})]
        waits: list[float] = []
        with EndpointGenerator(address, "m", key_variable="SPAR_KEY", sleep=waits.append) as generator:
            game = SelfPlay(generator, generator, prompts(4), responses=3)
            result = game.run_iteration(tmp_path / "round")
            once = Server.asked.copy()
            again = game.run_iteration(tmp_path / "round")
        # From the answer on; where the three failures come without a success between them, the third alone asks for 4.
        assert 2.5 <= max(waits) <= 4.0
        assert len(waits) == 3
        assert set(once.values()) == {1}
        assert Server.asked == once
        assert again.pairs == result.pairs
        assert result.pairs
        assert result.refiner_rows
        for row in result.pairs:
            assert "," not in row["chosen"][0]["content"]
        monkeypatch.setenv("SPAR_KEY", "sk-wrong")
        with (
            EndpointGenerator(address, "m", key_variable="SPAR_KEY") as wrong,
            pytest.raises(InputError, match=r"status 401: refused: Bearer \(the key\)"),
        ):
            SelfPlay(wrong, wrong, prompts(4)).run_iteration(tmp_path / "wrong")
        monkeypatch.setenv("SPAR_KEY", "sk-very-secret")
        with EndpointGenerator(address, "m", key_variable="SPAR_KEY") as generator:
            seeds = [Seed("a", "Tell a story"), Seed("b", "What is the sum of 1 and 2")]
            done = rewrite_prompts(seeds, generator)
        assert done.dropped == {"b": "not suitable"}
        assert [p.text for p in done.prompts] == ["Rewritten: Tell a story"]


def test_bad_rounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"temperature: found 0, with 5 answers"):
        SelfPlay(draft, RuleEditor(), prompts(), temperature=0.0)
    with pytest.raises(InputError, match="prompts: found no prompt"):
        SelfPlay(draft, RuleEditor(), [])
    with pytest.raises(InputError, match="the id 'p0' of prompts 0 and 1"):
        SelfPlay(draft, RuleEditor(), [prompts(1)[0], InstructionPrompt("p0", prompts(2)[1].messages)])
    with pytest.raises(InputError, match="prompts 0 and 1, which are the same"):
        SelfPlay(draft, RuleEditor(), [prompts(1)[0], InstructionPrompt("p1", prompts(1)[0].messages, (COMMA,))])
    for row, match in (({"prompt": "x"}, "number 1, without an id"), ("x", "number 1: found a text without an id")):
        with pytest.raises(InputError, match=match):
            SelfPlay(draft, RuleEditor(), [prompts(1)[0], row])  # type: ignore[list-item]
    with pytest.raises(InputError, match="prompts, number 0: found no id"):
        SelfPlay(draft, RuleEditor(), [InstructionPrompt("", prompts(1)[0].messages)])
    mute = VoteJudge(CallableGenerator(lambda prompt: "I cannot say"))
    with pytest.raises(InputError, match="no Final Judgement with Yes or No in any of 50 judgements"):
        SelfPlay(draft, RuleEditor(), prompts(2), mute).run_iteration(tmp_path / "mute")
    SelfPlay(draft, RuleEditor(), prompts(1)).run_iteration(tmp_path / "one")
    other = [InstructionPrompt("p0", ({"role": "user", "content": "Another"},), (COMMA,))]
    with pytest.raises(InputError, match="with another prompt 'p0'"):
        SelfPlay(draft, RuleEditor(), other).run_iteration(tmp_path / "one")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "responses.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match="which no run wrote"):
        Ledger(tmp_path / "odd" / "responses.jsonl")


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "x"}, "line 1, without an id"),
        ({"id": 1, "prompt": " "}, "an empty prompt"),
        ({"id": 1, "prompt": 3}, "messages of which the last is the user's"),
        ({"id": 1, "prompt": [{"role": "assistant", "content": "x"}]}, "the last is the user's"),
        ({"id": 1, "prompt": "x", "instruction_id_list": ["a:b"], "kwargs": [{}]}, "id 1.*instruction_id_list"),
        ({"id": 1, "prompt": "x", "instruction_id_list": ["punctuation:no_comma"], "kwargs": []}, "of one length"),
        ({"id": [1], "prompt": "x"}, "without an id"),
        ([1], "list; expected an object"),
    ],
)
def test_bad_prompt_files_are_named(tmp_path: Path, row, match: str) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=match):
        read_prompts(tmp_path / "p.jsonl")


def test_prompts_are_read_as_ifeval_writes_them(tmp_path: Path) -> None:
    kwargs = {"num_words": 300, "relation": "at least", "keywords": None}
    row = {
        "key": 1000,
        "prompt": "Write.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, kwargs],
    }
    path = tmp_path / "p.jsonl"
    path.write_text("\ufeff" + json.dumps(row) + "\n\n")
    found = read_prompts(path)
    assert (found[0].id, found[0].text, len(found[0].instructions)) == ("1000", "Write.", 2)
    write_prompts(found, tmp_path / "q.jsonl")
    assert read_prompts(tmp_path / "q.jsonl") == found
    for name, content in (("a.txt", "x"), ("b.jsonl", "{"), ("c.jsonl", "")):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError):
            read_prompts(tmp_path / name)


def node(number: int, parent: int | None, value: float, votes=(1, 1, 0)) -> Node:
    return Node(number, parent, 0 if parent is None else 1, f"r{number}", f"c{number}", value, votes, f"reply {number}")


def test_training_rows_come_from_the_root_the_parent_and_the_unsure() -> None:
    prompt = prompts(1)[0]
    tree = (node(0, None, 0.0), node(1, 0, 0.4), node(2, 0, 0.2), node(3, 1, 0.6), node(4, 1, 1.0), node(5, 1, 0.0))
    found = SearchResult(tree[4], True, 5, 5, tree)
    by_id = {prompt.id: prompt}
    assert refinement_pairs(by_id, {prompt.id: found})[0]["rejected"][0]["content"] == "r0"
    failed = SearchResult(tree[3], False, 5, 5, tree, 0.7)
    assert refinement_pairs(by_id, {prompt.id: failed}) == []
    judged = Judged(
        prompt,
        ("d0", "d1", "d2", "r3"),
        (
            Judgement("good", 0.8, (1, 1, 1, 1, 0)),
            Judgement("bad", 0.2, (0, 0, 0, 0, 1)),
            Judgement("sure", 1.0, (1,) * 5),
            Judgement("again", 0.6, (1, 1, 1, 0, 0)),
        ),
    )
    rows = refiner_rows(by_id, [judged], {prompt.id: found}, seed=1)
    targets = sorted(row["messages"][-1]["content"] for row in rows)
    # the repair; r3 as unsure pass; r1 or r2 as unsure fail; both divided drafts; the repeated r3 once; "sure" left out
    assert targets in (sorted(["reply 4", "c3", f"c{n}", "good", "bad"]) for n in (1, 2))
    repair = next(row for row in rows if len(row["messages"]) == 4)
    assert repair["messages"][1]["content"] == "c1"
    assert repair["messages"][0]["content"].endswith("r1")
    capped = refiner_rows(by_id, [judged], {prompt.id: found}, RefinerCaps(0, 1, 0, 0, 1))
    assert sorted(row["messages"][-1]["content"] for row in capped) == ["c3", "good"]
    independent = independent_pairs([judged])[0]
    assert independent["rejected"][0]["content"] == "d1"
    assert independent["chosen"][0]["content"] in ("d0", "d2", "r3")


def test_overlaps_are_found_by_runs_of_words() -> None:
    def one(name: str, text: str) -> InstructionPrompt:
        return InstructionPrompt(name, ({"role": "user", "content": text},))

    bench = [one("b", "Write a long, long letter to my friend Bob."), one("c", "Short one")]
    found = overlaps(
        [one("x", "please WRITE a long long letter now"), one("y", "a long story"), one("z", "short one!")], bench, 5
    )
    assert [(o.id, o.benchmark_id) for o in found] == [("z", "c"), ("x", "b")]
    assert found[1].share == pytest.approx(1 / 3)
    assert found[1].example == "write a long long letter"


def test_made_prompts_are_of_the_leaves_and_do_not_contradict() -> None:
    seeds = [Seed(str(i), f"Say {i}. {{constraints}} Now.", ("cat",)) for i in range(200)]
    made = make_prompts(seeds, more=(0, 2))
    assert make_prompts(seeds[50:60], more=(0, 2)) == made[50:60]  # each depends on its own id
    assert {len(p.instructions) for p in made} == {1, 2, 3}
    for prompt in made:
        assert prompt.text.startswith("Say")
        assert all(one.describe() in prompt.text for one in prompt.instructions)
    only = make_prompts(seeds[:9], leaves=("punctuation",), instructions=("punctuation:no_comma",))
    assert all(p.instructions == (COMMA,) for p in only)
    for bad in ({"leaves": ("colour",)}, {"leaves": ("genre",)}):
        with pytest.raises(InputError, match="leaves"):
            make_prompts(seeds, **bad)


def test_methods_at_inference_share_the_first_sample() -> None:
    asked: list[int] = []

    def answer(prompt, settings: GenerationSettings) -> str:
        asked.append(settings.seed)
        return "a, b" if settings.seed % 4 else "a b"

    found = compare_at_inference(prompts(30), CallableGenerator(answer), RuleEditor(1.0, 0.0), RuleJudge(), most=6)
    first = found.curve("best-of-N")[0]
    for name in ("iterative refinement", "bfs", "dfs"):
        curve = found.curve(name)
        assert curve[0] == first
        assert curve[1 if name == "iterative refinement" else 3] == 1.0  # a perfect editor needs one level
        assert np.all(np.diff(curve) >= 0)
    assert found.curve("greedy")[0] == found.curve("greedy")[-1]
    assert all(a.generated <= 6 for attempts in found.attempts.values() for a in attempts)
