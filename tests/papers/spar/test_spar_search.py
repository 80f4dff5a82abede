"""Trees, votes and parsers: counts, truth tables, and the same tree from the same seed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest

from paperworks.errors import InputError
from paperworks.language.generation import CallableGenerator, GenerationSettings
from paperworks.papers.spar import (
    CompositeJudge,
    FunctionRefiner,
    Instruction,
    InstructionPrompt,
    Judgement,
    ModelRefiner,
    RuleJudge,
    SearchResult,
    Task,
    TreeSearchRefiner,
    VoteJudge,
    judge_chat,
    parse_block,
    parse_judgement,
    refine_chat,
    tally,
)
from paperworks.papers.spar.judges import Item
from paperworks.papers.spar.refiners import RefineRequest, Repair

PROMPT = InstructionPrompt("p", ({"role": "user", "content": "Say it."},), (Instruction("punctuation:no_comma"),))


class Numbers:
    """Repairs that count up: the n-th request of a search gives the text ``n``; what is in ``fail`` gives none."""

    def __init__(self, fail: Sequence[int] = (), same: bool = False) -> None:
        self.fail, self.same, self.asked = fail, same, 0

    def refine(self, requests: Sequence[RefineRequest]) -> list[Repair | None]:
        found: list[Repair | None] = []
        for request in requests:
            text = "same" if self.same else f"{request.response}.{request.number}"
            found.append(None if self.asked in self.fail else Repair(text, text))
            self.asked += 1
        return found


class Values:
    """A judge with a value for each text, by a function; it counts."""

    def __init__(self, value_of) -> None:
        self.value_of, self.seen = value_of, Counter[tuple[str, str]]()

    def judge(self, items: Sequence[Item]) -> list[Judgement]:
        self.seen.update((prompt.id, text) for prompt, text in items)
        return [Judgement(f"of {text}", self.value_of(text), (1,)) for _, text in items]


@pytest.mark.parametrize(("algorithm", "count"), [("bfs", 15), ("dfs", 21)])
def test_node_counts_when_nothing_passes(algorithm, count: int) -> None:
    judge = Values(lambda text: 0.0)
    result = TreeSearchRefiner(Numbers(), judge, algorithm=algorithm).search(PROMPT, "r", "c")
    assert (result.n_generated, len(result.tree) - 1, result.n_judged) == (count, count, count)
    assert not result.success
    assert result.best.number == 0  # all are of value 0: the root stays
    assert sorted(Counter(node.depth for node in result.tree).values()) == sorted(
        {"bfs": [1, 3, 6, 6], "dfs": [1, 3, 6, 12]}[algorithm]
    )
    assert max(judge.seen.values()) == 1


@pytest.mark.parametrize("algorithm", ["bfs", "dfs"])
@pytest.mark.parametrize("budget", range(1, 23))
def test_the_budget_is_never_passed(algorithm, budget: int) -> None:
    refiner = Numbers(fail=(1, 4))
    judge = Values(lambda text: None if text.endswith(".2") else 0.2)
    result = TreeSearchRefiner(refiner, judge, algorithm=algorithm, budget=budget).search(PROMPT, "r", "c")
    assert len(result.tree) - 1 <= budget
    if budget >= 22:
        return
    # what is asked for in batches is what one by one would be: the last request filled the budget, or all were made
    assert len(result.tree) - 1 == budget or refiner.asked < 22


def test_bfs_looks_at_a_whole_level_and_dfs_at_the_children_of_a_node() -> None:
    def value(text: str) -> float:
        return {"r.0": 0.4, "r.1": 0.2, "r.2": 0.3, "r.0.3": 0.6, "r.2.9": 0.8, "r.2.10": 0.8}.get(text, 0.1)

    wide = TreeSearchRefiner(Numbers(), Values(value), algorithm="bfs").search(PROMPT, "r", "c")
    deep = TreeSearchRefiner(Numbers(), Values(value), algorithm="dfs").search(PROMPT, "r", "c")
    assert (wide.best_response, wide.n_generated) == ("r.2.9", 9)  # of equals the first
    assert (deep.best_response, deep.n_generated) == ("r.0.3", 6)
    assert wide.success
    assert deep.parent_of_best is not None
    assert deep.parent_of_best.response == "r.0"
    assert wide.best.critique == "of r.2.9"
    assert SearchResult.from_dict(wide.to_dict()) == wide
    narrow = TreeSearchRefiner(Numbers(), Values(value), max_depth=1, gate=0.3).search(PROMPT, "r", "c")
    assert (narrow.best_response, narrow.success) == ("r.0", True)


def test_the_gate_is_strict_and_ties_go_to_the_later_node() -> None:
    result = TreeSearchRefiner(Numbers(), Values(lambda text: 0.5), max_depth=2).search(PROMPT, "r", "c")
    assert not result.success
    assert result.best.number == len(result.tree) - 1


def test_nothing_but_failures_returns_the_root() -> None:
    result = TreeSearchRefiner(Numbers(fail=range(99)), Values(lambda text: 1.0)).search(PROMPT, "r", "c")
    assert (result.success, result.best_response, result.n_generated, result.parent_of_best) == (False, "r", 0, None)
    dropped = TreeSearchRefiner(Numbers(), Values(lambda text: None)).search(PROMPT, "r", "c")
    assert (dropped.success, dropped.n_generated, len(dropped.tree)) == (False, 3, 1)


def test_equal_repairs_are_judged_once_and_a_good_root_is_returned() -> None:
    judge = Values(lambda text: 0.25)
    result = TreeSearchRefiner(Numbers(same=True), judge).search(PROMPT, "r", "c")
    assert (result.n_generated, result.n_judged, judge.seen[("p", "same")]) == (15, 1, 1)
    good = TreeSearchRefiner(Numbers(), Values(lambda text: 0.9)).search(PROMPT, "r")
    assert (good.success, good.n_generated, good.best_response, good.value) == (True, 0, "r", 0.9)
    bad = TreeSearchRefiner(Numbers(), Values(lambda text: 0.4 if text == "r" else 1.0)).search(PROMPT, "r")
    assert (bad.root.value, bad.root.critique, bad.success) == (0.0, "of r", True)


@pytest.mark.parametrize("algorithm", ["bfs", "dfs"])
@pytest.mark.parametrize("method", ["greedy", "sample"])
def test_the_same_seed_gives_the_same_tree_alone_and_beside_others(algorithm, method) -> None:
    def refine(prompt: InstructionPrompt, response: str, critique: str, seed: int) -> str:
        return f"{response[:6]} {seed % 977}"

    def value(text: str) -> float:
        return (sum(map(ord, text)) % 5) / 10

    def search(seed: int) -> TreeSearchRefiner:
        return TreeSearchRefiner(
            FunctionRefiner(refine), Values(value), algorithm=algorithm, select_method=method, seed=seed
        )

    tasks = [Task(PROMPT, f"root {i}", "c") for i in range(6)]
    together = search(3).search_many(tasks)
    assert [search(3).search(t.prompt, t.response, t.critique) for t in tasks] == together
    if method == "sample":
        assert search(4).search_many(tasks) != together


def test_sampling_copes_with_values_of_zero() -> None:
    for zero in (lambda text: 0.0, lambda text: 0.4 if text.endswith("0") else 0.0):
        result = TreeSearchRefiner(Numbers(), Values(zero), select_method="sample").search(PROMPT, "r", "c")
        assert result.n_generated == 15


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"algorithm": "best"}, "algorithm"),
        ({"branch": 0}, "branch"),
        ({"select": 0}, "select"),
        ({"max_depth": 0}, "max_depth"),
        ({"budget": 0}, "budget"),
        ({"gate": 1.0}, "gate"),
        ({"select_method": "beam"}, "select_method"),
    ],
)
def test_bad_searches_are_named(options: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        TreeSearchRefiner(Numbers(), Values(lambda text: 0.0), **options)
    assert caught.value.field == field
    with pytest.raises(InputError, match="response, number 0"):
        TreeSearchRefiner(Numbers(), Values(lambda text: 0.0)).search(PROMPT, None)  # type: ignore[arg-type]


def test_every_vector_of_five_votes() -> None:
    for votes in itertools.product((1, 0, -1), repeat=5):
        yes, no = votes.count(1), votes.count(0)
        found = tally(votes, [f"c{i}" for i in range(5)])
        if yes == no:
            assert (found.value, found.label, found.critique) == (None, -1, "")
            continue
        majority = 1 if yes > no else 0
        assert found.value == yes / (yes + no)
        assert found.label == majority
        assert found.critique == f"c{votes.index(majority)}"
        assert found.divided == (yes > 0 and no > 0)


@pytest.mark.parametrize(
    ("text", "ours", "official"),
    [
        ("Final Judgement: Yes", 1, 1),
        ("Final Judgement: No", 0, 0),
        ("**Final Judgement:** No.", 0, 0),
        ("final judgment - yes", 1, -1),
        ("Final Judgement (Yes or No): No", 0, 1),
        ("Final Judgement: [Yes/No]\nNo", 0, 1),
        ("I will end with Final Judgement as told.\nFinal Judgement: No", 0, -1),
        ("Final Judgement: None of the constraints is violated. Yes", 1, 0),
        ("Final Judgement: Note that it is short. Yes", 1, 0),
        ("Final Judgement: Not quite", -1, 0),
        ("Final Judgement: there are no faults. Yes", 1, 1),
        ("Yes", -1, -1),
        ("", -1, -1),
        ("Final Judgement: the answer", -1, -1),
    ],
)
def test_judgements_are_read(text: str, ours: int, official: int) -> None:
    assert parse_judgement(text) == ours
    assert parse_judgement(text, strict_official_parser=True) == official


def test_blocks_are_read() -> None:
    assert parse_block("think [[start]]\n a\nb \n[[end]] [[start]]c[[end]]") == "a\nb"
    assert [parse_block(t) for t in ("a", "[[start]]a", "[[end]]a[[start]]", "[[start]] [[end]]")] == [None] * 4


def test_the_judge_chat_holds_texts_as_they_are() -> None:
    odd = InstructionPrompt("1", ({"role": "user", "content": "Write {response} and \\1"},))
    text = judge_chat(odd, "an {instruction}")[0]["content"]
    assert "Write {response} and \\1" in text
    assert "an {instruction}" in text
    roles = [m["role"] for m in refine_chat(odd, "r", "c")]
    assert roles == ["user", "assistant", "user"]
    assert refine_chat(odd, "r", "c")[:1] == judge_chat(odd, "r")


def test_votes_are_asked_again_after_a_tie_and_then_given_up() -> None:
    calls: list[int] = []

    def answer(prompt, settings: GenerationSettings) -> str:
        calls.append(settings.seed)
        return "Final Judgement: " + ("Yes" if len(calls) % 2 else "No")

    judge = VoteJudge(CallableGenerator(answer), votes=2, attempts=3)
    assert judge.judge([(PROMPT, "a")])[0] == Judgement("", None, (1, 0))
    assert len(calls) == len(set(calls)) == 6  # three rounds of different draws
    mute = VoteJudge(CallableGenerator(lambda prompt: "hm"), attempts=2)
    assert mute.judge([(PROMPT, "a")])[0].votes == (-1,) * 5
    with pytest.raises(InputError, match="judge_temperature"):
        VoteJudge(CallableGenerator(lambda prompt: ""), temperature=0.0)
    assert VoteJudge(CallableGenerator(lambda prompt: ""), votes=1, temperature=0.0).judge([]) == []


def test_rules_and_the_composite() -> None:
    asked: list[str] = []

    def answer(prompt) -> str:
        asked.append(prompt[0]["content"])
        return "Final Judgement: No" if "# Answer\nrude" in prompt[0]["content"] else "Final Judgement: Yes"

    free = InstructionPrompt("free", PROMPT.messages)
    judge = CompositeJudge(VoteJudge(CallableGenerator(answer), votes=1))
    found = judge.judge([(PROMPT, "a, b"), (PROMPT, "rude"), (PROMPT, "good"), (free, "a, b")])
    assert [one.label for one in found] == [0, 0, 1, 1]
    assert len(asked) == 3  # what breaks a rule is not asked about
    assert parse_judgement(found[0].critique) == 0
    assert "Violated constraints: 1" in found[0].critique
    assert RuleJudge(loose=True).judge([(PROMPT, "Sure,\nyes")])[0].label == 1
    with pytest.raises(InputError, match="prompt 'free' without instruction_id_list"):
        RuleJudge().judge([(free, "x")])


def test_repairs_that_cannot_be_read_are_asked_for_again() -> None:
    seeds: list[int] = []

    def answer(prompt, settings: GenerationSettings) -> str:
        seeds.append(settings.seed)
        return "hm" if len(seeds) < 3 else "I fix it. [[start]]fixed[[end]]"

    refiner = ModelRefiner(CallableGenerator(answer))
    found = refiner.refine([RefineRequest(PROMPT, "a", "c", 0)])
    assert found == [Repair("fixed", "I fix it. [[start]]fixed[[end]]")]
    assert len(set(seeds)) == 3
    assert ModelRefiner(CallableGenerator(lambda prompt: "hm")).refine([RefineRequest(PROMPT, "a", "c", 0)]) == [None]
    with pytest.raises(InputError, match="refine_temperature"):
        ModelRefiner(CallableGenerator(lambda prompt: ""), temperature=0.0)
    with pytest.raises(InputError, match="refiner: found int"):
        FunctionRefiner(lambda *_: 3).refine([RefineRequest(PROMPT, "a", "c", 0)])  # type: ignore[arg-type, return-value]


def test_plain_functions_texts_and_tuples_will_do() -> None:
    class Plain:
        def judge(self, items):
            return [("said", 1.0 if "," not in text else 0.0, (1,)) for _, text in items]

    search = TreeSearchRefiner(lambda prompt, response, critique: response.replace(",", "", 1), Plain())
    found = search.search("Write without commas.", "a, b, c")
    assert (found.best_response, found.best.depth, found.success) == ("a b c", 2, True)
    votes = TreeSearchRefiner(
        CallableGenerator(lambda chat: "[[start]]a b[[end]]"),
        CallableGenerator(
            lambda chat: f"Final Judgement: {'No' if ',' in chat[0]['content'].split('# Answer')[1] else 'Yes'}"
        ),
    )
    assert votes.search("Write without commas.", "a, b").best_response == "a b"
    for answer, match in (([], "0 judgements of 1"), ([("", 3.0, ())], "a value of 3.0")):
        bad = type("Bad", (), {"judge": lambda self, items, answer=answer: answer})()
        with pytest.raises(InputError, match=match):
            TreeSearchRefiner(Numbers(), bad).search(PROMPT, "a")
    with pytest.raises(InputError, match="an empty text"):
        search.search(" ", "a")
