"""Judges: whether a response obeys its prompt, with a critique and a value from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

from paperworks.errors import InputError
from paperworks.language.generation import GenerationSettings, Generator, SampleRequest, generate_samples
from paperworks.papers.spar.prompts import InstructionPrompt, as_prompt
from paperworks.papers.spar.scores import check_response
from paperworks.papers.spar.wording import MARKER, judge_chat, parse_judgement
from paperworks.parameters import check_seed

Item = tuple[InstructionPrompt, str]
"""A prompt and a response to it."""


class Judgement(NamedTuple):
    """What a judge found.

    critique : the first judgement that agrees with the majority, as text.
    value : share of yes among the votes that could be read; None where there is no majority.
    votes : 1, 0, or -1 for one that could not be read.
    """

    critique: str
    value: float | None
    votes: tuple[int, ...]

    @property
    def label(self) -> int:
        """1 where the majority says yes, 0 where it says no, -1 where there is none."""
        return -1 if self.value is None else int(self.value > 0.5)

    @property
    def divided(self) -> bool:
        """Whether there were votes of both kinds."""
        return 0 in self.votes and 1 in self.votes


@runtime_checkable
class Judge(Protocol):
    """Anything that judges responses."""

    def judge(self, items: Sequence[Item]) -> list[Judgement]:
        """A judgement for each prompt and response."""
        ...


def ask(judge: Judge, items: Sequence[Item]) -> list[Judgement]:
    """The judgements of any judge; plain (critique, value, votes) become ``Judgement``s.

    Raises InputError for another number of them, and a value outside 0 to 1.
    """
    found = [one if isinstance(one, Judgement) else Judgement(*one) for one in judge.judge(items)] if items else []
    if len(found) != len(items):
        raise InputError("judge", f"{len(found)} judgements of {len(items)} responses", "one of each")
    wrong = next((one.value for one in found if one.value is not None and not 0 <= one.value <= 1), None)
    if wrong is not None:
        raise InputError("judge", f"a value of {wrong}", "a share from 0 to 1, or None")
    return found


def tally(votes: Sequence[int], critiques: Sequence[str]) -> Judgement:
    """The majority of votes (1, 0, or -1 for unreadable), and the first critique that agrees with it.

    As many yes as no, or no vote at all, is no majority: the value is None and the critique empty.
    """
    yes, no = list(votes).count(1), list(votes).count(0)
    if yes == no:
        return Judgement("", None, tuple(votes))
    label = int(yes > no)
    return Judgement(critiques[list(votes).index(label)], yes / (yes + no), tuple(votes))


@dataclass(frozen=True)
class VoteJudge:
    """A language model that judges several times; the majority decides (self-consistency).

    Attributes
    ----------
    generator : answers chats.
    votes : judgements of each response (N).
    temperature, top_p, max_new_tokens : of the judgements.
    attempts : rounds of votes until there is a majority; after the last, the value is None.
    strict_official_parser : see ``parse_judgement``.
    seed : of the draws.

    Raises InputError for several votes at temperature 0: they would be the same.
    """

    generator: Generator
    votes: int = 5
    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int = 2048
    attempts: int = 3
    strict_official_parser: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        for name in ("votes", "attempts"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        refuse_greedy(self.votes, self.temperature, "judge_temperature")
        self._settings()

    def judge(self, items: Sequence[Item]) -> list[Judgement]:
        """Votes for every item; those without a majority get another round, ``attempts`` in all."""
        found: dict[int, Judgement] = {}
        open_items = list(range(len(items)))
        for attempt in range(self.attempts):
            requests = [
                SampleRequest(
                    judge_chat(as_prompt(items[i][0], i), items[i][1]), self._settings(), attempt * self.votes + vote
                )
                for i in open_items
                for vote in range(self.votes)
            ]
            texts = generate_samples(self.generator, requests) if requests else []
            for place, i in enumerate(open_items):
                own = texts[place * self.votes : (place + 1) * self.votes]
                labels = [parse_judgement(t, strict_official_parser=self.strict_official_parser) for t in own]
                found[i] = tally(labels, own)
            open_items = [i for i in open_items if found[i].value is None]
        return [found[i] for i in range(len(items))]

    def _settings(self) -> GenerationSettings:
        return GenerationSettings(
            max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_p=self.top_p, seed=self.seed
        )


@dataclass(frozen=True)
class RuleJudge:
    """Checks a prompt's verifiable instructions by program: 1 where all are obeyed, otherwise 0.

    ``loose`` lets the loose variants of IFEval pass, too. Raises InputError for a prompt without such instructions.
    """

    loose: bool = False

    def judge(self, items: Sequence[Item]) -> list[Judgement]:
        """One vote each; the critique names every instruction."""
        return [self._one(as_prompt(prompt, i), response) for i, (prompt, response) in enumerate(items)]

    def _one(self, prompt: InstructionPrompt, response: str) -> Judgement:
        if not prompt.instructions:
            raise InputError(
                "judge", f"rule, and prompt {prompt.id!r} without instruction_id_list", "instructions, or judge model"
            )
        result = check_response(prompt, response)
        met = result.loose if self.loose else result.strict
        lines = [
            f"{n}. {one.describe()} {'Obeyed' if good else 'Violated'}."
            for n, (one, good) in enumerate(zip(prompt.instructions, met, strict=True), 1)
        ]
        violated = [str(n) for n, good in enumerate(met, 1) if not good]
        lines.append(f"Violated constraints: {', '.join(violated) or 'none'}.")
        lines.append(f"{MARKER}: {'No' if violated else 'Yes'}")
        return Judgement("\n".join(lines), float(not violated), (int(not violated),))


@dataclass(frozen=True)
class CompositeJudge:
    """The rule judge for what can be verified, and another judge for responses that pass it.

    A response that breaks a rule has value 0 and the rules' critique; the other judge is not asked. Prompts without
    verifiable instructions go to the other judge alone.
    """

    model: Judge
    rule: RuleJudge = RuleJudge()

    def judge(self, items: Sequence[Item]) -> list[Judgement]:
        """The rules first, then the other judge."""
        items = [(as_prompt(prompt, i), response) for i, (prompt, response) in enumerate(items)]
        by_rule = {i: self.rule.judge([item])[0] for i, item in enumerate(items) if item[0].instructions}
        asked = [i for i in range(len(items)) if i not in by_rule or by_rule[i].label == 1]
        by_model = dict(zip(asked, ask(self.model, [items[i] for i in asked]), strict=True))
        return [by_model.get(i) or by_rule[i] for i in range(len(items))]


def single_attempt(judge: Judge) -> Judge:
    """The judge with one round of votes: stage 1 leaves a response without a majority out, rather than ask again."""
    if isinstance(judge, VoteJudge):
        return replace(judge, attempts=1)
    if isinstance(judge, CompositeJudge):
        return replace(judge, model=single_attempt(judge.model))
    return judge


def refuse_greedy(count: int, temperature: float, field: str) -> None:
    """Raise InputError for several answers at temperature 0, which are all the same."""
    if count > 1 and temperature == 0:
        raise InputError(field, f"0, with {count} answers to the same prompt", "a temperature above 0, or one answer")
