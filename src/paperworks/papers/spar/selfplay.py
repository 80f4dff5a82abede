"""One round of self-play: responses, judgements, searches, and the files to train on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from paperworks.errors import InputError
from paperworks.language.generation import (
    GenerationSettings,
    Generator,
    SampleRequest,
    generate_samples,
    load_generator,
)
from paperworks.papers.spar.caching import Wrapped, caches
from paperworks.papers.spar.judges import Judge, Judgement, RuleJudge, VoteJudge, ask, refuse_greedy, single_attempt
from paperworks.papers.spar.ledger import Ledger
from paperworks.papers.spar.pairs import (
    Judged,
    RefinerCaps,
    Row,
    independent_pairs,
    prompt_rng,
    refinement_pairs,
    refiner_rows,
)
from paperworks.papers.spar.prompts import InstructionPrompt, check_prompts
from paperworks.papers.spar.refiners import as_refiner
from paperworks.papers.spar.search import Task, TreeSearchRefiner
from paperworks.papers.spar.tree import SearchResult
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import write_text


@dataclass(frozen=True)
class RoundResult:
    """What one round left.

    Attributes
    ----------
    judged : stage 1, by prompt.
    results : the searches, by the prompt's id; only of prompts with a failing response.
    pairs, independent : preference rows from searches; and from independent samples of the same prompts.
    refiner_rows : chats to train the refiner on.
    """

    judged: tuple[Judged, ...]
    results: Mapping[str, SearchResult]
    pairs: tuple[Row, ...]
    independent: tuple[Row, ...]
    refiner_rows: tuple[Row, ...]


@dataclass(frozen=True)
class SelfPlay:
    """Rounds of self-play (section 2.2 and 2.3 of the paper; the defaults are the authors').

    Attributes
    ----------
    actor : a generator, or what ``load_generator`` takes, such as a Hugging Face folder or a function.
    refiner : a generator (then it judges, too), a ``Refiner``, or a function of prompt, response, critique and seed.
    prompts : with unique ids.
    judge : by default votes of the refiner where it is a generator, else the rule judge.
    search : its refiner and judge are replaced by those here; None is breadth-first search with the paper's sizes.
    responses, temperature, top_p, max_new_tokens : of the actor's drafts (K = 5).
    pair_kind : "refinement", or "independent" for the ablation without refinement.
    caps : of the refiner's training examples.
    together : prompts that are worked on at a time; after each such part the files are on disk.
    seed : of all draws. Nothing depends on ``together``.

    Raises InputError for no prompts, prompts that repeat, and several responses at temperature 0.
    """

    actor: Any
    refiner: Any
    prompts: Sequence[InstructionPrompt]
    judge: Judge | None = None
    search: TreeSearchRefiner | None = None
    responses: int = 5
    temperature: float = 0.9
    top_p: float = 0.9
    max_new_tokens: int = 2048
    pair_kind: Literal["refinement", "independent"] = "refinement"
    caps: RefinerCaps = field(default_factory=RefinerCaps)
    together: int = 64
    seed: int = 0
    progress: Progress = no_progress

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        for name in ("responses", "together"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        if self.pair_kind not in ("refinement", "independent"):
            raise InputError("pair_kind", repr(self.pair_kind), "refinement or independent")
        refuse_greedy(self.responses, self.temperature, "temperature")
        self._set("prompts", tuple(check_prompts(self.prompts)))
        self._set("actor", load_generator(self.actor))
        judge = self.judge
        if judge is None:
            judge = VoteJudge(self.refiner, seed=self.seed) if isinstance(self.refiner, Generator) else RuleJudge()
        refiner = as_refiner(self.refiner, seed=self.seed)
        search = self.search
        self._set("judge", judge)
        self._set("refiner", refiner)
        self._set(
            "search",
            TreeSearchRefiner(refiner, judge, seed=self.seed)
            if search is None
            else replace(search, refiner=refiner, judge=judge),
        )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def run_iteration(self, out_dir: str | Path) -> RoundResult:
        """Play one round and write its files.

        ``responses.jsonl``, ``judgements.jsonl`` and ``trees.jsonl`` grow prompt by prompt: what is in them is not done
        again. ``dpo.jsonl`` (prompt, chosen, rejected as chats: TRL's preference format) and ``rft.jsonl`` (messages)
        are written at the end.

        Raises
        ------
        InputError : files of another round in the folder, a response that is no text, or a judge of whom no judgement
            could be read.
        """
        folder = Path(out_dir)
        with caches(folder / "answers.sqlite") as wrapped:
            mine = self._with_caches(wrapped)
            judged = mine._judged(folder)
            results = mine._searched(folder, judged)
        by_id = {prompt.id: prompt for prompt in self.prompts}
        pairs, independent = refinement_pairs(by_id, results), independent_pairs(judged, self.seed)
        chats = refiner_rows(by_id, judged, results, self.caps, self.seed)
        _write_rows(folder / "dpo.jsonl", pairs if self.pair_kind == "refinement" else independent)
        _write_rows(folder / "rft.jsonl", chats)
        return RoundResult(tuple(judged), results, tuple(pairs), tuple(independent), tuple(chats))

    def _with_caches(self, wrapped: Wrapped) -> SelfPlay:
        """These rounds, with every answer of a generator on disk before it is used: a kill loses none."""
        assert self.search is not None
        refiner, judge = (wrapped.inside(one, "refiner") for one in (self.search.refiner, self.judge))
        return replace(
            self,
            actor=wrapped.generator(self.actor, "actor"),
            refiner=refiner,
            judge=judge,
            search=replace(self.search, refiner=refiner, judge=judge),
        )

    def _parts(
        self, ledger: Ledger, names: Iterable[str], description: str, work: Callable[[list[str]], list[dict[str, Any]]]
    ) -> None:
        """Do the work of what is not in a ledger yet, part by part."""
        missing = ledger.missing(names)
        starts = range(0, len(missing), self.together)
        for start in self.progress(starts, description) if missing else ():
            ledger.append(work(missing[start : start + self.together]))

    def _judged(self, folder: Path) -> list[Judged]:
        """Stage 1: responses and their judgements."""
        by_id = {prompt.id: prompt for prompt in self.prompts}
        drafts, verdicts = Ledger(folder / "responses.jsonl"), Ledger(folder / "judgements.jsonl")
        self._check(drafts)
        settings = GenerationSettings(
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_p=self.top_p, seed=self.seed
        )

        def draft(names: list[str]) -> list[dict[str, Any]]:
            requests = [
                SampleRequest(list(by_id[name].messages), settings, k) for name in names for k in range(self.responses)
            ]
            texts = generate_samples(self.actor, requests)
            return [
                {
                    "id": name,
                    "prompt": by_id[name].text,
                    "responses": [_stripped(t) for t in texts[at : at + self.responses]],
                }
                for name, at in zip(names, range(0, len(texts), self.responses), strict=True)
            ]

        self._parts(drafts, by_id, "responses", draft)
        assert self.judge is not None
        judge = single_attempt(self.judge)

        def verdict(names: list[str]) -> list[dict[str, Any]]:
            items = [(by_id[name], text) for name in names for text in drafts.rows[name]["responses"]]
            found = iter(ask(judge, items))
            return [
                {"id": name, "judgements": [_judgement_row(next(found)) for _ in drafts.rows[name]["responses"]]}
                for name in names
            ]

        self._parts(verdicts, by_id, "judgements", verdict)
        judged = [
            Judged(
                prompt,
                tuple(drafts.rows[prompt.id]["responses"]),
                tuple(
                    Judgement(j["critique"], j["value"], tuple(j["votes"]))
                    for j in verdicts.rows[prompt.id]["judgements"]
                ),
            )
            for prompt in self.prompts
        ]
        _refuse_mute(judged)
        return judged

    def _searched(self, folder: Path, judged: Sequence[Judged]) -> dict[str, SearchResult]:
        """Stage 2: a search for every prompt with a failing response, from one of them drawn at random."""
        trees = Ledger(folder / "trees.jsonl")
        by_id = {one.prompt.id: one for one in judged}
        search = self.search
        assert search is not None

        def work(names: list[str]) -> list[dict[str, Any]]:
            tasks, roots = [], {}
            for name in names:
                one = by_id[name]
                failing = one.of_label(0)
                if failing:
                    roots[name] = int(prompt_rng(self.seed, name, "root").choice(failing))
                    critique = one.judgements[roots[name]].critique
                    tasks.append(Task(one.prompt, one.responses[roots[name]], critique))
            found = iter(search.search_many(tasks))
            return [
                {"id": n, "root": roots[n], "search": next(found).to_dict()} if n in roots else {"id": n, "root": None}
                for n in names
            ]

        self._parts(trees, by_id, "searches", work)
        rows = (trees.rows[name] for name in by_id)
        return {row["id"]: SearchResult.from_dict(row["search"]) for row in rows if row["root"] is not None}

    def _check(self, drafts: Ledger) -> None:
        """Raise InputError where the folder holds responses to other prompts of the same ids."""
        for prompt in self.prompts:
            row = drafts.rows.get(prompt.id)
            if row is not None and (row["prompt"] != prompt.text or len(row["responses"]) != self.responses):
                raise InputError(
                    "out_dir", f"{drafts.path} with another prompt {prompt.id!r}", "a folder of this round"
                )


def _stripped(text: Any) -> str:
    if not isinstance(text, str):
        raise InputError("actor", f"a response of type {type(text).__name__}", "a text")
    return text.strip()


def _judgement_row(one: Judgement) -> dict[str, Any]:
    return {"value": one.value, "votes": list(one.votes), "critique": one.critique}


def _refuse_mute(judged: Sequence[Judged]) -> None:
    """Raise InputError for a judge of whom nothing could be read."""
    votes = [vote for one in judged for judgement in one.judgements for vote in judgement.votes]
    if votes and set(votes) == {-1}:
        raise InputError(
            "judge",
            f"no Final Judgement with Yes or No in any of {len(votes)} judgements",
            "a model that follows the judge prompt, or judge rule",
        )


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
